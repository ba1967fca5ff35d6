"""Programs that run beside a test: examples, and snippets of documents."""

import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import pytest

END_SECONDS = 10.0


class Ending(Protocol):
    """A process, as `end` sees it; `wait` raises `subprocess.TimeoutExpired`."""

    def terminate(self) -> None: ...

    def kill(self) -> None: ...

    def wait(self, timeout: float) -> int: ...


def outside() -> dict[str, str]:
    """Returns the environment without the caller's own settings of a hub."""
    return {name: text for name, text in os.environ.items() if not name.startswith("HUB_")}


def _run(
    command: Sequence[str | Path],
    cwd: Path,
    seconds: float,
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, in the caller's environment unless another one is given."""
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def completed(*command: str | Path, cwd: Path, seconds: float) -> str:
    """Run a program that has to succeed to its end; return its output."""
    done = _run(command, cwd, seconds)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def asked_of_an_index(
    *command: str | Path, cwd: Path, seconds: float, environment: Mapping[str, str]
) -> str:
    """The same for a program that asks a package index; the test is skipped without one."""
    done = _run(command, cwd, seconds, environment)
    if done.returncode and re.search("connect|fetch|dns|offline", done.stderr, re.IGNORECASE):
        pytest.skip("no package index is reached")
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def running(
    log: Path, *command: str, cwd: Path | None = None, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A program that is asked to end with the block; all it prints is in `log`."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, env=outside() | environment, cwd=cwd, stdout=out, stderr=out
        )
    try:
        yield process
    finally:
        end(process)


def end(process: Ending) -> None:
    """Ask a process to end, and kill it where it does not."""
    process.terminate()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(END_SECONDS)
