"""Turn Markdown into HTML: the pages, their order, and the text for a search.

Links in the Markdown work in a folder of files, such as `react.md#options`. A page on the web has
no suffix, so that link becomes `react#options`. All links are relative: the pages stand below any
base path, and where the hub is mounted in another application.
"""

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from string import Template

from markdown_it import MarkdownIt
from markdown_it.token import Token

INDEX = "README"
"""The page at the site's own address."""
TEMPLATE = "page.html"
_GROUP = re.compile(r"## (.+)")
_ENTRY = re.compile(r"- \[(.+?)\]\(([^)]+)\)")
# Marks between which a test writes a table.
_COMMENT = re.compile(r"^<!--.*?-->\n", re.MULTILINE)
# GitHub's rule for the anchor of a heading, so that one link works here and there.
_NOT_IN_ANCHOR = re.compile(r"[^\w\- ]")
_SITE = "Broadcast hub"
# Where a line may end within code that stands in a sentence: a path and a long name fit into a
# narrow column, and no word of them is cut. The name of a setting stays whole, because it fits.
_LINE_MAY_END = re.compile(r"([/=?&,|])")
_LINE_MAY_END_IN_LONG = re.compile(r"(::|[/_=?&,|])")
_LONG = 34
# What may be wider than the page scrolls by itself, also by keyboard.
_WRAPPED = {
    "<table>": '<div class="table" role="region" aria-label="Table" tabindex="0"><table>',
    "</table>": "</table></div>",
    "<pre>": '<pre tabindex="0">',
}


@dataclass(frozen=True, slots=True)
class ContentsEntry:
    """A line of the table of contents."""

    name: str
    title: str


@dataclass(frozen=True, slots=True)
class Heading:
    level: int
    anchor: str
    text: str


@dataclass(slots=True)
class Section:
    """The text below a heading: a search finds sections."""

    heading: Heading
    texts: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Document:
    """A document, read and parsed."""

    title: str
    tokens: Sequence[Token]
    sections: Sequence[Section]


class Site:
    """The documents of a folder. It reads all of them now, and parses each at its first request.

    Args:
        directory: Holds `README.md`, the other documents, and the template.
    """

    def __init__(self, directory: Path) -> None:
        self._texts = {path.stem: path.read_text() for path in sorted(directory.glob("*.md"))}
        self._template = Template((directory / TEMPLATE).read_text())
        self._markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
        self._markdown.add_render_rule("code_inline", _code_inline)
        self.groups = dict(_contents(self._texts[INDEX]))
        self.order = [
            ContentsEntry(INDEX, "Contents"),
            *(e for each in self.groups.values() for e in each),
        ]

    def text(self, name: str) -> str:
        """Return the Markdown of a document; raise `KeyError` where there is none."""
        return self._texts[name]

    def page(self, name: str, *, below: str = "") -> str:
        """Return the HTML of a document.

        Args:
            name: The name of its file, without the suffix.
            below: The beginning of relative links. It is empty where the page's address ends
                behind the site's slash, `docs/` where it ends before it.

        Raises:
            KeyError: There is no such document.
        """
        page = self._parsed(name)
        self._adapt(page.tokens, below)
        body = self._markdown.renderer.render(page.tokens, self._markdown.options, {})
        for plain, ours in _WRAPPED.items():
            body = body.replace(plain, ours)
        return self._template.substitute(
            title=html.escape(f"{page.title} · {_SITE}" if name != INDEX else page.title),
            below=below,
            home=self._address(INDEX, below),
            dashboard="dashboard" if below else "../dashboard",
            sidebar=self._sidebar(name, below),
            on_this_page=_on_this_page(page.sections),
            body=body,
            neighbours=self._neighbours(name, below),
        )

    def sections(self, name: str) -> list[dict[str, str]]:
        """Return the sections of one document, for the search."""
        page = self._parsed(name)
        title = next(entry.title for entry in self.order if entry.name == name)
        return [
            {
                "page": "" if name == INDEX else name,
                "title": title,
                "anchor": section.heading.anchor if section.heading.level > 1 else "",
                "heading": section.heading.text if section.heading.level > 1 else title,
                "text": " ".join(section.texts),
            }
            for section in page.sections
        ]

    def _parsed(self, name: str) -> Document:
        tokens = self._markdown.parse(_COMMENT.sub("", self._texts[name]))
        sections = list(_sections(tokens))
        return Document(sections[0].heading.text, tokens, sections)

    def _adapt(self, tokens: Sequence[Token], below: str) -> None:
        """Change links and pictures to the site's addresses."""
        _label_cells(tokens)
        for token in tokens:
            for child in token.children or ():
                if child.type == "link_open":
                    child.attrs["href"] = self._target(str(child.attrs["href"]), below)
                elif child.type == "image":
                    child.attrs["src"] = below + str(child.attrs["src"])

    def _target(self, link: str, below: str) -> str:
        to, hash_sign, anchor = link.partition("#")
        name = page_name(to)
        if "://" in to or name not in self._texts:
            return link
        return self._address(name, below) + hash_sign + anchor

    def _address(self, name: str, below: str) -> str:
        if name == INDEX:
            return below.rstrip("/") or "../docs"
        return below + name

    def _sidebar(self, name: str, below: str) -> str:
        parts = []
        for group, entries in self.groups.items():
            items = "".join(
                f"<li>{_link(self._address(each.name, below), each.title, each.name == name)}</li>"
                for each in entries
            )
            parts.append(f"<h2>{html.escape(group)}</h2><ul>{items}</ul>")
        return "\n".join(parts)

    def _neighbours(self, name: str, below: str) -> str:
        """Return the page before and the next one."""
        at = [each.name for each in self.order].index(name)
        parts = []
        for index, rel, says in ((at - 1, "prev", "Before"), (at + 1, "next", "Next")):
            if 0 <= index < len(self.order):
                entry = self.order[index]
                address = self._address(entry.name, below)
                title = html.escape(entry.title)
                parts.append(f'<a rel="{rel}" href="{address}"><small>{says}</small>{title}</a>')
        return "".join(parts)


def page_name(link: str) -> str:
    """Return the name of the document that a link to a file leads to.

    Files of other folders have their names in capitals: `../ARCHITECTURE.md` is `architecture`.
    """
    path = Path(link)
    if path.suffix != ".md":
        return ""
    return path.stem if path.parent == Path() else path.stem.lower()


def _contents(readme: str) -> Iterator[tuple[str, list[ContentsEntry]]]:
    """Return the groups of the table of contents with their documents."""
    entries: list[ContentsEntry] = []
    for line in readme.splitlines():
        if group := _GROUP.fullmatch(line):
            entries = []
            yield group[1], entries
        elif entry := _ENTRY.match(line):
            entries.append(ContentsEntry(page_name(entry[2]), entry[1]))


def _sections(tokens: Sequence[Token]) -> Iterator[Section]:
    """Give each heading its anchor and the text below it."""
    section: Section | None = None
    taken: set[str] = set()
    for before, token in pairwise([Token("", "", 0), *tokens]):
        if before.type == "heading_open":
            if section is not None:
                yield section
            text = _plain(token)
            anchor = _anchor(text, taken)
            before.attrs["id"] = anchor
            section = Section(Heading(int(before.tag[1:]), anchor, text))
        elif section is not None and token.type == "inline":
            section.texts.append(_plain(token))
        elif section is not None and token.type == "fence":
            section.texts.append(token.content)
    if section is not None:
        yield section


def _plain(token: Token) -> str:
    """Return the text of an inline token, without marks."""
    return "".join(
        " " if child.type == "softbreak" else child.content for child in token.children or ()
    )


def _anchor(text: str, taken: set[str]) -> str:
    bare = _NOT_IN_ANCHOR.sub("", text.lower()).replace(" ", "-")
    anchor, count = bare, 0
    while anchor in taken:
        count += 1
        anchor = f"{bare}-{count}"
    taken.add(anchor)
    return anchor


def _code_inline(
    _renderer: object, tokens: Sequence[Token], index: int, _options: object, _env: object
) -> str:
    """Render code that stands in a sentence."""
    code = tokens[index].content
    is_long = "/" in code or len(code) > _LONG
    parts = (_LINE_MAY_END_IN_LONG if is_long else _LINE_MAY_END).split(code)
    marked = "".join(
        html.escape(part, quote=False) + ("<wbr>" if number % 2 else "")
        for number, part in enumerate(parts)
    )
    return f"<code>{marked.removesuffix('<wbr>')}</code>"


def _label_cells(tokens: Sequence[Token]) -> None:
    """Give each cell of a table its column's heading, which a narrow screen shows before it."""
    labels: list[str] = []
    column = 0
    for before, token in pairwise(tokens):
        match before.type:
            case "thead_open":
                labels = []
            case "th_open":
                labels.append(_plain(token))
            case "tr_open":
                column = 0
            case "td_open":
                # Of two columns the second needs no name.
                if column and len(labels) > 2 and labels[column]:
                    before.attrs["data-label"] = labels[column]
                column += 1


def _link(address: str, title: str, is_current: bool) -> str:
    current = ' aria-current="page"' if is_current else ""
    return f'<a href="{address}"{current}>{html.escape(title)}</a>'


def _on_this_page(sections: Sequence[Section]) -> str:
    """Return links to the headings of the second level, where there are at least three."""
    found = [each.heading for each in sections if each.heading.level == 2]
    if len(found) < 3:
        return ""
    items = "".join(f'<li><a href="#{h.anchor}">{html.escape(h.text)}</a></li>' for h in found)
    return f'<aside aria-labelledby="here"><h2 id="here">On this page</h2><ul>{items}</ul></aside>'
