"""What the packages ask for: installable where README says so, and nothing that nobody imports."""

import ast
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HUB, CLIENT = ROOT / "pyproject.toml", ROOT / "clients" / "python" / "pyproject.toml"
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
    done = subprocess.run(
        [*command, *wanted, str(project)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    if done.returncode and re.search("connect|fetch|dns|offline", done.stderr, re.IGNORECASE):
        pytest.skip("no package index is reached")
    assert done.returncode == 0, done.stderr
    return {line.split("==")[0] for line in done.stdout.splitlines() if "==" in line}


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
    """It runs wherever Python does, so nothing of what it needs is of one platform."""
    assert "httpx2" in resolved(CLIENT, platform, version)


@pytest.mark.skipif(shutil.which("uv") is None, reason="no uv here")
@pytest.mark.parametrize("platform", ["linux", "macos", "windows"])
def test_the_hub_resolves_and_takes_uvloop_only_where_uvloop_exists(platform: str) -> None:
    """Who works on the client on Windows installs the whole workspace."""
    assert ("uvloop" in resolved(HUB, platform, "3.13")) == (platform != "windows")


@pytest.mark.parametrize("project", [HUB, CLIENT], ids=["hub", "client"])
def test_every_dependency_is_imported(project: Path) -> None:
    """What nobody imports is one more thing to keep up."""
    names = {re.split(r"[<>=!~;\[ ]", asked)[0] for asked in required(project)} - TAKEN_BY_OTHERS
    assert {MODULES.get(name, name) for name in names} <= imported(SOURCES[project])


@pytest.mark.parametrize("project", [HUB, CLIENT], ids=["hub", "client"])
def test_a_newer_python_is_not_kept_out(project: Path) -> None:
    """An upper bound is never true on the day of a release, and pip takes an old version then."""
    version = tomllib.loads(project.read_text())["project"]["requires-python"]
    assert version == ">=3.11"
    assert "Python 3.11 or newer" in (project.parent / "README.md").read_text()
