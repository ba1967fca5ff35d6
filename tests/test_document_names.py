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
from tests.support.hub_process import HubProcess

ROOT = Path(__file__).parent.parent
_NAMES = (
    "README.md",
    "clients/PROTOCOL.md",
    "clients/README.md",
    "hub/ARCHITECTURE.md",
    "hub/CHANGELOG.md",
    "hub/RUNBOOK.md",
    "k8s/README.md",
)
DOCUMENTS = tuple(ROOT / name for name in _NAMES)
# What the client commands read, and what names the settings' file: no settings themselves.
BESIDES = {"HUB_CONFIG", "HUB_URL", "HUB_TOKEN", "HUB_PUBLISH_KEY", "HUB_OPERATOR_KEY"}

_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^)#\s]+)\)")
_PATH = re.compile(
    r"(?:\./)?(?:hub|tests|clients|k8s|\.ci|\.readme)/[\w./-]+|Dockerfile|[\w-]+\.(?:toml|lock|md)"
)
_DOTTED = re.compile(r"((?:hub|hub_client)(?:\.\w+)+)(?:\(.*\))?")
_COMMAND = re.compile(r"(?:^|uv run |\| )hub ([a-z]+)([^|\n]*)", re.MULTILINE)
_FLAG = re.compile(r"(?<!\S)--[a-z][a-z-]*")

each = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def inline_code(document: Path) -> set[str]:
    return set(_INLINE.findall(_FENCE.sub("", document.read_text())))


@each
def test_every_file_that_is_named_exists(document: Path) -> None:
    """Paths from the root of the repository in code, and links from the document."""
    text = document.read_text()
    paths = [ROOT / part for part in inline_code(document) if _PATH.fullmatch(part)]
    links = [document.parent / to for to in _LINK.findall(text) if not to.startswith("http")]
    assert paths
    assert [str(path) for path in (*paths, *links) if not path.exists()] == []


@each
def test_every_module_and_every_name_in_one_exists(document: Path) -> None:
    """Such as `hub.serve(app)` or `hub.core.ports.Broker`."""
    found = [match[1] for part in inline_code(document) if (match := _DOTTED.fullmatch(part))]
    assert [name for name in found if not exists(name)] == []


def exists(name: str) -> bool:
    """Whether `name` is a module, or an attribute of one."""
    module, _, attribute = name.rpartition(".")
    try:
        return hasattr(importlib.import_module(module), attribute) or find_spec(name) is not None
    except ModuleNotFoundError:
        return False


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
        return httpx.get(f"{hub.url}/metrics", timeout=5).text


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
