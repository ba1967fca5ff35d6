"""The packages install where README says so, and depend on nothing that they do not import."""

import ast
import os
import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.support.programs import asked_of_an_index

ROOT = Path(__file__).parents[1]
HUB, CLIENT = ROOT / "pyproject.toml", ROOT / "clients" / "python" / "pyproject.toml"
LOCK = ROOT / "uv.lock"
SOURCES = {HUB: ROOT / "hub", CLIENT: ROOT / "clients" / "python" / "hub_client"}
# Where a package's module has another name than the package.
MODULES = {
    "broadcast-hub-client": "hub_client",
    "markdown-it-py": "markdown_it",
    "prometheus-client": "prometheus_client",
    "pydantic-settings": "pydantic_settings",
    "pyjwt": "jwt",
}
# redis-py takes it by itself where it is installed.
TAKEN_BY_OTHERS = {"hiredis"}
PATIENCE_SECONDS = 50.0


def required(project: Path) -> list[str]:
    asked: list[str] = tomllib.loads(project.read_text())["project"]["dependencies"]
    return asked


def resolved(project: Path, platform: str, version: str) -> set[str]:
    """The packages that uv would install there, all of them as wheels."""
    command = ("uv", "pip", "compile", "-q", "--no-header", "--no-annotate")
    wanted = ("--only-binary", ":all:", "--python-platform", platform, "--python-version", version)
    output = asked_of_an_index(
        *command, *wanted, project, cwd=ROOT, seconds=PATIENCE_SECONDS, environment=os.environ
    )
    return {line.split("==")[0] for line in output.splitlines() if "==" in line}


def imported(folder: Path) -> set[str]:
    found: set[str] = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
    return found


@pytest.mark.skipif(shutil.which("uv") is None, reason="no uv here")
@pytest.mark.parametrize("platform", ["linux", "macos", "windows"])
@pytest.mark.parametrize("version", ["3.11", "3.14"])
def test_the_client_resolves_on_every_platform(platform: str, version: str) -> None:
    """The client runs wherever Python does, so it depends on no package of one platform."""
    assert "httpx2" in resolved(CLIENT, platform, version)


@pytest.mark.skipif(shutil.which("uv") is None, reason="no uv here")
@pytest.mark.parametrize("platform", ["linux", "macos", "windows"])
def test_the_hub_resolves_and_takes_uvloop_only_where_uvloop_exists(platform: str) -> None:
    """A developer of the client on Windows installs the whole workspace."""
    assert ("uvloop" in resolved(HUB, platform, "3.13")) == (platform != "windows")


@pytest.mark.parametrize("project", [HUB, CLIENT], ids=["hub", "client"])
def test_every_dependency_is_imported(project: Path) -> None:
    """A dependency that nothing imports is needless upkeep."""
    names = {re.split(r"[<>=!~;\[ ]", asked)[0] for asked in required(project)} - TAKEN_BY_OTHERS
    assert {MODULES.get(name, name) for name in names} <= imported(SOURCES[project])


@pytest.mark.parametrize("project", [HUB, CLIENT], ids=["hub", "client"])
def test_a_newer_python_is_not_kept_out(project: Path) -> None:
    """An upper bound is never true on the day of a release, and pip takes an old version then."""
    version = tomllib.loads(project.read_text())["project"]["requires-python"]
    assert version == ">=3.11"
    assert "Python 3.11 or newer" in (project.parent / "README.md").read_text()


def runtime() -> dict[str, list[str]]:
    """The wheels that the lock has of each package that a node needs."""
    packages = {each["name"]: each for each in tomllib.loads(LOCK.read_text())["package"]}
    seen: dict[str, list[str]] = {}
    waiting: list[dict[str, Any]] = [{"name": "broadcast-hub"}]
    while waiting:
        asked = waiting.pop()
        package = packages[asked["name"]]
        for extra in asked.get("extra", ()):
            waiting += package["optional-dependencies"][extra]
        if package["name"] not in seen:
            files = [wheel["url"].rpartition("/")[2] for wheel in package.get("wheels", ())]
            seen[package["name"]] = files
            waiting += package.get("dependencies", ())
    return {name: files for name, files in seen.items() if not name.startswith("broadcast-hub")}


def fits(wheel: str, minor: int, platform: str) -> bool:
    """Whether CPython 3.`minor` takes it there, as its name says (PEP 425)."""
    python, abi, system = wheel.removesuffix(".whl").split("-")[-3:]
    oldest = [int(found) for found in re.findall(r"cp3(\d+)", python)]
    is_abi = f"cp3{minor}" in abi.split(".") or (
        "abi3" in abi.split(".") and any(each <= minor for each in oldest)
    )
    is_pure = abi == "none" and "py3" in python
    return (is_abi or is_pure) and re.search(platform, f".{system}") is not None


@pytest.mark.parametrize("minor", [11, 12, 13, 14])
@pytest.mark.parametrize(
    "platform",
    [
        r"\.any|manylinux\w*x86_64",
        r"\.any|manylinux\w*aarch64",
        r"\.any|musllinux\w*x86_64",
        r"\.any|musllinux\w*aarch64",
        r"\.any|macosx\w*(arm64|universal2)",
    ],
    ids=["glibc-x86_64", "glibc-aarch64", "musl-x86_64", "musl-aarch64", "macos-arm64"],
)
def test_nothing_of_a_node_is_compiled_where_it_is_installed(minor: int, platform: str) -> None:
    """A slim image has no compiler, and a newcomer no Rust."""
    lacking = [
        name
        for name, wheels in runtime().items()
        if not any(fits(each, minor, platform) for each in wheels)
    ]
    assert lacking == []


def test_pyproject_names_the_versions_that_the_lock_has_wheels_for() -> None:
    """Both packages name them, for readers of the classifiers."""
    for project in (HUB, CLIENT):
        classifiers = tomllib.loads(project.read_text())["project"]["classifiers"]
        named = [text.rpartition(" :: ")[2] for text in classifiers if " :: 3." in text]
        assert named == ["3.11", "3.12", "3.13", "3.14"]
        assert "Programming Language :: Python :: Implementation :: CPython" in classifiers
