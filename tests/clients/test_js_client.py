"""The browser client's own tests, run by Node's built-in test runner."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "clients" / "js" / "src"
TESTS = Path(__file__).parent / "js"
NODE = shutil.which("node")
# It takes four; only a failing test on a busy machine waits this long.
SECONDS = 150.0
pytestmark = pytest.mark.timeout(180)


@pytest.mark.skipif(NODE is None, reason="Node 20 or newer is not installed")
def test_the_browser_client_passes_its_tests_in_node() -> None:
    """Reconnecting, resuming and falling back, on a fake wire with a fake clock."""
    assert NODE is not None
    files = sorted(str(path) for path in TESTS.glob("*.test.js"))
    done = subprocess.run(
        [NODE, "--test", *files], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert "# pass 0" not in done.stdout


def test_the_served_modules_are_the_packaged_ones() -> None:
    """The hub serves the client's own sources, not a copy that may fall behind."""
    served = ROOT / "hub" / "pages" / "client"
    assert {path.name for path in served.glob("*.js")} == {
        path.name for path in SOURCES.glob("*.js")
    }
    assert all(
        (served / path.name).read_bytes() == path.read_bytes() for path in SOURCES.glob("*.js")
    )
