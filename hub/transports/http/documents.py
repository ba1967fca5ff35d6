"""`/docs`: the hub's own documents.

They are made from Markdown when somebody asks for one, in a thread, one at a time, and kept. So
a start costs nothing, the event loop does not wait, and whoever asks for the same page again
and again has it made once. As with the other pages, no path from a request reaches the file
system: names are looked up among the documents there are.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any

import orjson

from hub.docs import DIRECTORY
from hub.docs.site import INDEX, TEMPLATE, Site
from hub.errors import NotFoundError
from hub.transports.http.answer import JSON, Answer
from hub.transports.http.pages import FRESH, File, answer_file, asset_names, file_of, read_file
from hub.transports.http.routes import Access, Handler, Route
from hub.transports.request import Request

_HTML = "text/html; charset=utf-8"
_MARKDOWN = "text/markdown; charset=utf-8"
_CONTENTS = "/"
"""Stands for the contents at an address without a slash at its end; no file has this name."""
SEARCH = "search.json"


class Documents:
    """Answers with documents, which everybody may read."""

    def __init__(self) -> None:
        pages = [path.stem for path in DIRECTORY.glob("*.md")]
        self._pages = frozenset(pages) - {INDEX}
        self._texts = {f"{name}.md": name for name in pages}
        self._assets = asset_names(DIRECTORY) - {TEMPLATE}
        self._site: Site | None = None
        self._made: dict[str, File] = {}
        self._making = asyncio.Lock()

    def routes(self) -> tuple[Route, ...]:
        return (
            _route("/docs", lambda request: self._answer(request, _CONTENTS)),
            _route("/docs/{file:path}", self._named),
        )

    def _named(self, request: Request) -> Answer | Coroutine[Any, Any, Answer]:
        return self._answer(request, request.params["file"])

    def _answer(self, request: Request, name: str) -> Answer | Coroutine[Any, Any, Answer]:
        file = self._made.get(name)
        if file is not None:
            return answer_file(request, file, FRESH)
        known = name in self._pages or name in self._texts or name in self._assets
        if not known and name not in {_CONTENTS, "", SEARCH}:
            raise NotFoundError(f"no document {name[:80]!r} here")
        return self._made_now(request, name)

    async def _made_now(self, request: Request, name: str) -> Answer:
        async with self._making:
            if name not in self._made:
                self._made[name] = await asyncio.to_thread(self._make, name)
        return answer_file(request, self._made[name], FRESH)

    def _make(self, name: str) -> File:
        """In a thread of its own, alone."""
        if name in self._assets:
            return read_file(DIRECTORY / name)
        if self._site is None:
            self._site = Site(DIRECTORY)
        site = self._site
        if name in self._texts:
            return file_of(site.text(self._texts[name]).encode(), _MARKDOWN)
        if name == SEARCH:
            found = [section for entry in site.order for section in site.sections(entry.name)]
            return file_of(orjson.dumps(found), JSON)
        below = "docs/" if name == _CONTENTS else ""
        page = site.page(name if name in self._pages else INDEX, below=below)
        return file_of(page.encode(), _HTML)


def _route(path: str, handler: Handler) -> Route:
    return Route(
        method="GET", path=path, access=Access.ANYBODY, handler=handler, summary="A document"
    )
