"""The client is a package of its own: it builds, installs without the hub, and is typed."""

import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.support.hub_process import HubProcess
from tests.support.programs import completed

PROJECT = Path(__file__).parents[3] / "clients" / "python"
PATIENCE_SECONDS = 50.0

pytestmark = pytest.mark.skipif(shutil.which("uv") is None, reason="no uv here")


def run(*command: str | Path, cwd: Path) -> str:
    return completed(*command, cwd=cwd, seconds=PATIENCE_SECONDS)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: a build must not depend on what lies beside the project."""
    folder = tmp_path_factory.mktemp("package")
    shutil.copytree(PROJECT, folder / "project", ignore=shutil.ignore_patterns("__pycache__"))
    run("uv", "build", "--wheel", "--out-dir", folder / "dist", cwd=folder / "project")
    (built,) = (folder / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path) -> Path:
    """A fresh environment with the wheel; what it depends on is lent by this one."""
    environment = wheel.parent / "environment"
    run("uv", "venv", "--python", sys.executable, environment, cwd=wheel.parent)
    interpreter = environment / "bin" / "python"
    run("uv", "pip", "install", "--no-deps", "--python", interpreter, wheel, cwd=wheel.parent)
    (site_packages,) = environment.glob("lib/python*/site-packages")
    # Path files inside a folder that came by a path file are not read: the project's own
    # editable installation stays outside.
    (site_packages / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return interpreter


def test_the_wheel_holds_every_module_the_type_marker_and_nothing_else(wheel: Path) -> None:
    """The metadata names the client's dependencies, and the hub is not one of them."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (name for name in names if name.endswith("/METADATA"))
        head = archive.read(metadata).decode()
    modules = {f"hub_client/{path.name}" for path in (PROJECT / "hub_client").glob("*.py")}
    assert {name for name in names if ".dist-info/" not in name} == modules | {
        "hub_client/py.typed"
    }
    asked = [line for line in head.splitlines() if "Requires-D" in line and "extra ==" not in line]
    required = {line.split()[1].split(">")[0] for line in asked}
    assert required == {"httptools", "httpx2", "msgspec", "websockets"}


USE = """
import asyncio, sys
import hub_client
from hub_client import HubClient, SyncPublisher

async def newest(url):
    async with HubClient(url) as hub:
        async for message in hub.subscribe("a", last=1):
            return message.data

with SyncPublisher(sys.argv[1]) as publisher:
    publisher.publish("a", "hello")
print(asyncio.run(newest(sys.argv[1])), hub_client.__file__)
try:
    import hub
except ModuleNotFoundError:
    print("alone")
"""


def test_the_package_works_in_a_fresh_environment_without_the_hub(
    python: Path, tmp_path: Path
) -> None:
    """Publishes and subscribes; `-I` keeps this checkout out of its path."""
    with HubProcess() as hub:
        said = run(python, "-I", "-W", "error", "-c", USE, hub.url, cwd=tmp_path)
        assert httpx.get(f"{hub.url}/api/channels/a/history").json()["publications"]
    first, last = said.splitlines()
    assert first.startswith("hello ")
    assert str(python.parent.parent) in first
    assert last == "alone"


TYPED = """
from hub_client import HubClient, Message, Published, SyncPublisher

def publish(publisher: SyncPublisher) -> Published:
    return publisher.publish("a", 1)

async def read(hub: HubClient) -> Message:
    async for message in hub.subscribe("a"):
        return message
    raise EOFError

wrong: int = publish(SyncPublisher("http://127.0.0.1:8000"))
"""


def test_the_types_of_the_package_are_seen_by_whoever_installs_it(
    python: Path, tmp_path: Path
) -> None:
    """mypy finds the marker and the one mistake, nothing else."""
    pytest.importorskip("mypy")
    (tmp_path / "use.py").write_text(TYPED)
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--python-executable", python, "use.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    errors = [line for line in checked.stdout.splitlines() if ": error: " in line]
    assert len(errors) == 1, checked.stdout
    assert '"Published", variable has type "int"' in errors[0]
