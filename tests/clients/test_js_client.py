"""The browser client's own tests, run by Node's built-in test runner."""

import json
import re
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
def test_the_browser_client_passes_its_tests_in_node(tmp_path: Path) -> None:
    """Reconnecting, resuming and falling back, on a fake wire with a fake clock.

    All in one process, each file a suite with hooks of its own: `node --test` starts one for each.
    """
    assert NODE is not None
    files = sorted(TESTS.glob("*.test.js"))
    imports = [json.dumps(str(file)) for file in files]
    suites = [f"describe({name}, async () => {{ await import({name}); }});" for name in imports]
    program = tmp_path / "all.mjs"
    program.write_text("\n".join(['import { describe } from "node:test";', *suites]))
    done = subprocess.run(
        [NODE, program], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    passed = re.search(r"^# pass (\d+)$", done.stdout, re.MULTILINE)
    written = sum(len(re.findall(r"^ *test\(", file.read_text(), re.MULTILINE)) for file in files)
    assert passed is not None
    assert int(passed[1]) >= written > len(files)


def test_the_served_modules_are_the_packaged_ones() -> None:
    """The hub serves the client's own sources, not a copy that may fall behind."""
    served = ROOT / "hub" / "pages" / "client"
    assert {path.name for path in served.glob("*.js")} == {
        path.name for path in SOURCES.glob("*.js")
    }
    assert all(
        (served / path.name).read_bytes() == path.read_bytes() for path in SOURCES.glob("*.js")
    )
