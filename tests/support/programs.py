"""Programs that run beside a test: examples, and snippets of documents."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

END_SECONDS = 10.0


class Ending(Protocol):
    """A process, as `end` sees it; `wait` raises `subprocess.TimeoutExpired`."""

    def terminate(self) -> None: ...

    def kill(self) -> None: ...

    def wait(self, timeout: float) -> int: ...


def outside() -> dict[str, str]:
    """The environment without the caller's own settings of a hub."""
    return {name: text for name, text in os.environ.items() if not name.startswith("HUB_")}


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
