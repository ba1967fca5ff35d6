"""A reader knows the room from the tree: what stands where, and what must not."""

import ast
import re
from pathlib import Path

import pytest

HUB = Path(__file__).parents[1] / "hub"
PACKAGES = sorted(path for path in HUB.rglob("__init__.py") if path.parent != HUB)
PYTHON = [
    path
    for path in [*HUB.rglob("*.py"), *(HUB.parent / "clients" / "python").rglob("*.py")]
    if ".venv" not in path.parts
]
TESTS = Path(__file__).parent
NO_SUBJECT = re.compile(r"def (test_(?:what|who|whoever|it|its|they|those|one_that|one_who)_\w+)")
SAYS_NOT = re.compile(r"(?i)\b(not|nothing|nobody|never|only|alone)\b")


def test_no_more_than_six_modules_stand_loose() -> None:
    """Whatever has a room stands in it."""
    loose = sorted(path.name for path in HUB.glob("*.py"))
    assert loose == [
        "__init__.py", "__main__.py", "app.py", "errors.py", "healthcheck.py", "main.py",
    ]  # fmt: skip


@pytest.mark.parametrize("path", PACKAGES, ids=lambda path: str(path.parent.relative_to(HUB)))
def test_every_folder_says_what_belongs_there_and_what_does_not(path: Path) -> None:
    """In the docstring of its package, in the first sentence and beside it."""
    about = ast.get_docstring(ast.parse(path.read_text())) or ""
    first = about.partition("\n")[0]
    assert "." in first or first.endswith(","), "it begins with a sentence"
    assert SAYS_NOT.search(about), "it does not say what does not belong there"


def test_no_file_has_over_400_lines() -> None:
    """One idea is as much as a reader finishes in one sitting."""
    lines = {path: path.read_text().count("\n") for path in PYTHON}
    assert lines
    assert [str(path) for path, count in lines.items() if count > 400] == []


def test_names_of_tests_have_a_subject() -> None:
    """They read as sentences, such as `test_a_worker_that_dies_is_restarted`."""
    found = {
        str(path.relative_to(TESTS)): names
        for path in TESTS.rglob("*.py")
        if (names := NO_SUBJECT.findall(path.read_text()))
    }
    assert found == {}


SAME_IN_HUB_AND_CLIENT = {
    # Pushes, answers and errors that travel: the hub and its client mean the same.
    "Gap", "HistoryPage", "Member", "NotPublishedError", "OutcomeUnknownError", "Position", "State",
    "UnauthorizedError",
    # One subscription, and one connection of it, from both ends.
    "SseConnection", "Subscription", "WebSocketConnection",
    # The same standard device; the client stands alone and imports nothing from the hub.
    "Backoff", "Breaker",
}  # fmt: skip


def test_a_class_name_stands_once() -> None:
    """One word, one meaning: a search for a class finds one."""
    rooms: dict[str, list[str]] = {}
    for path in PYTHON:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                rooms.setdefault(node.name, []).append(str(path.relative_to(HUB.parent)))
    several = {name: paths for name, paths in rooms.items() if len(paths) > 1}
    assert several.keys() == SAME_IN_HUB_AND_CLIENT, several
    for name, paths in several.items():
        parts = [path.partition("/")[0] for path in sorted(paths)]
        assert parts == ["clients", "hub"], f"{name} stands in {paths}"


ARCHITECTURE = (HUB / "ARCHITECTURE.md").read_text()
WAYS = dict(
    re.findall(r"^## (The way of .+?)\n(.*?)(?=^## |\Z)", ARCHITECTURE, re.MULTILINE | re.DOTALL)
)
STEP = re.compile(r"^  (\w+)(?:\.(\w+))?[ ,].*?(hub/\S+\.py)$", re.MULTILINE)


def test_the_architecture_is_two_pages() -> None:
    """A longer text belongs to the documents."""
    assert len(ARCHITECTURE.splitlines()) <= 120
    assert len(WAYS) == 3


@pytest.mark.parametrize("way", WAYS)
def test_each_way_names_at_most_five_files_and_who_acts_in_each(way: str) -> None:
    """A step is a class, and a method of it, that stands in the file beside it."""
    drawn = re.search(r"```text\n(.*?)```", WAYS[way], re.DOTALL)
    assert drawn
    steps = STEP.findall(drawn[1])
    assert 3 <= len(steps) == len(set(re.findall(r"hub/\S+\.py", drawn[1]))) <= 5
    for name, method, path in steps:
        classes = {
            each.name: {part.name for part in each.body if hasattr(part, "name")}
            for each in ast.parse((HUB.parent / path).read_text()).body
            if isinstance(each, ast.ClassDef)
        }
        assert name in classes, path
        assert not method or method in classes[name], path
