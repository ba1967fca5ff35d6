"""Every file, name, command, flag, setting and metric that a document mentions exists."""

import importlib
import re
import subprocess
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import httpx2 as httpx
import pytest
from typer.testing import CliRunner

from hub.cli import build
from hub.settings.catalog import declared
from hub_client import HubClient
from tests.support.hub_process import HubProcess
from tests.support.snippets import GUIDES

ROOT = Path(__file__).parent.parent
_NAMES = (
    "clients/PROTOCOL.md",
    "hub/ARCHITECTURE.md",
    "hub/CHANGELOG.md",
)
DOCUMENTS = (*(ROOT / name for name in _NAMES), *GUIDES)
# What the client commands read, and what names the settings' file: no settings themselves.
BESIDES = {"HUB_CONFIG", "HUB_URL", "HUB_TOKEN", "HUB_PUBLISH_KEY", "HUB_OPERATOR_KEY"}

_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_PATH = re.compile(
    r"(?:\./)?(?:hub|tests|clients|k8s|\.ci)/[\w./-]+|Dockerfile|[\w-]+\.(?:toml|lock|md)"
)
_DOTTED = re.compile(r"((?:hub|hub_client)(?:\.\w+)+)(?:\(.*\))?")
_COMMAND = re.compile(r"(?:^|uv run |\| )hub ([a-z]+)([^|\n]*)", re.MULTILINE)
_FLAG = re.compile(r"(?<!\S)--[a-z][a-z-]*")

each = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def inline_code(document: Path) -> set[str]:
    return set(_INLINE.findall(_FENCE.sub("", document.read_text())))


@each
def test_every_file_that_is_named_exists(document: Path) -> None:
    """Paths from the root of the repository, in code."""
    paths = [ROOT / part for part in inline_code(document) if _PATH.fullmatch(part)]
    assert [str(path) for path in paths if not path.exists()] == []


@each
def test_every_link_leads_somewhere(document: Path) -> None:
    """To a file beside the document, and to a heading of it where the link names one."""
    text = _FENCE.sub("", document.read_text())
    wrong = []
    for link in _LINK.findall(text):
        if link.startswith("http"):
            continue
        to, _, anchor = link.partition("#")
        file = document.parent / to if to else document
        if not file.exists() or (anchor and anchor not in anchors(file)):
            wrong.append(link)
    assert wrong == []


def anchors(document: Path) -> set[str]:
    """Of its headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", document.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


@each
def test_every_module_and_every_name_in_one_exists(document: Path) -> None:
    """Such as `hub.serve(app)` or `hub.core.ports.Broker`."""
    found = [match[1] for part in inline_code(document) if (match := _DOTTED.fullmatch(part))]
    assert [name for name in found if not exists(name)] == []


def exists(name: str) -> bool:
    """Whether `name` is a module, or an attribute of one."""
    module, _, attribute = name.rpartition(".")
    if module == "hub" and attribute in client_methods():
        return True
    try:
        return hasattr(importlib.import_module(module), attribute) or find_spec(name) is not None
    except ModuleNotFoundError:
        return False


@lru_cache
def client_methods() -> frozenset[str]:
    """Of what documents call `hub` in a program: the hub's clients in Python and JavaScript."""
    source = (ROOT / "clients" / "js" / "src" / "hub.js").read_text()
    return frozenset({*dir(HubClient), *re.findall(r"^  (?:async )?(\w+)\(", source, re.MULTILINE)})


@each
def test_every_command_and_every_flag_exists(document: Path) -> None:
    """In fenced blocks as well as in the text; asked of the command's own help."""
    text = document.read_text()
    code = "\n".join([*inline_code(document), *_FENCE.findall(text)])
    for command, rest in _COMMAND.findall(code):
        known = help_of(command)
        assert [flag for flag in _FLAG.findall(rest) if flag not in known] == [], command


@lru_cache
def help_of(command: str) -> frozenset[str]:
    """The flags of a command; fails where there is no such command."""
    asked = CliRunner().invoke(build(), [command, "--help"], env={"COLUMNS": "300"})
    assert asked.exit_code == 0, f"hub {command}: {asked.output}"
    return frozenset(re.findall(r"--[a-z][a-z-]*", asked.output))


@each
def test_every_setting_exists(document: Path) -> None:
    """By its environment variable."""
    named = set(re.findall(r"\bHUB_[A-Z_]+\b", document.read_text()))
    assert named - {info.env for info in declared()} - BESIDES == set()


@each
def test_every_metric_exists(document: Path, metrics: str) -> None:
    """As `/metrics` shows it, before anything has happened."""
    named = {part for part in inline_code(document) if re.fullmatch(r"hub_(?!client)[a-z_]+", part)}
    assert [name for name in named if f"# TYPE {name} " not in metrics] == []


@pytest.fixture(scope="module")
def metrics() -> str:
    with HubProcess() as hub:
        return httpx.get(f"{hub.url}/metrics", timeout=30).text


# What a comment may name, wherever it stands: a document beside it, or one from the root.
_DOCUMENT = re.compile(r"(?<![\w./-])((?:[\w.-]+/)*[A-Z][A-Z_-]*\.md)\b")
# Trackers number their issues; whoever reads the file cannot look them up.
_ISSUE = re.compile(r"(?<![\w-])[Ii]ssues? #?[0-9]+\b")
_SOURCES = ("*.py", "*.lua", "*.js", "*.mjs", "*.ts", "*.css", "*.html", "*.yaml", "*.toml", "*.md")


def test_no_file_names_a_document_or_an_issue_that_is_not_here() -> None:
    """A comment says the fact itself, or names what a reader of this repository can open."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", *_SOURCES, "tests/run", "Dockerfile"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    names = listed.stdout.decode().split("\0")
    known = {Path(name).name for name in names if name.endswith(".md")}
    wrong = []
    for name in names:
        path = ROOT / name
        if not name or not path.is_file() or path == Path(__file__):
            continue
        text = path.read_text()
        for found in _DOCUMENT.findall(text):
            beside, rooted = path.parent / found, ROOT / found
            if not (beside.exists() or rooted.exists() or ("/" not in found and found in known)):
                wrong.append(f"{name}: {found}")
        wrong += [f"{name}: {found}" for found in _ISSUE.findall(text)]
    assert wrong == []
