"""Where the hub itself cannot run, `hub serve` says so; other commands need no server."""

import subprocess
import sys

import pytest

from tests.support.programs import outside
from tests.support.waiting import DEADLINE_SECONDS

_PROGRAM = """
import sys
sys.modules[sys.argv.pop(1)] = None
from hub.cli import main
main()
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _PROGRAM, *arguments],
        env=outside(),
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )


def test_a_python_that_cannot_run_the_hub_is_told_in_one_line() -> None:
    """There is no uvloop for Windows or PyPy; a traceback would name an import of ours."""
    done = run("uvloop", "serve")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "has no uvloop" in line
    assert "CPython on Linux or macOS" in line


@pytest.mark.parametrize("missing", ["resource", "uvloop", "fcntl"])
def test_a_command_that_asks_a_hub_runs_there(missing: str) -> None:
    """The commands fail only because no hub is there."""
    done = run(missing, "history", "prices", "--url", "http://127.0.0.1:1")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "127.0.0.1" in done.stderr
