"""A program that a test starts, in a directory of its own; its output is kept there.

Begins with `with` and ends with it, also where its start fails. Its methods block. Only
processes started here are ever ended, by their pid.
"""

import contextlib
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Self

from tests.support.fork_server import Forked

STOP_SECONDS = 10.0


class OwnProcess:
    """Runs from `with` to its end.

    Args:
        name: what its directory's name begins with.
    """

    def __init__(self, name: str) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix=f"{name}-")
        self.path = Path(self._directory.name)
        self._process: subprocess.Popen[bytes] | Forked | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    @property
    def process(self) -> subprocess.Popen[bytes] | Forked:
        assert self._process is not None, "it was not started"
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        """Returns the output of all its runs."""
        return (self.path / "log").read_text(errors="replace")

    def start(self) -> None:
        """Spawn it, and wait until it answers; raise with its log when it does not get there."""
        raise NotImplementedError

    def spawn(self, *command: str) -> None:
        with (self.path / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.path
            )

    def check_alive(self) -> None:
        """Raise `AssertionError` with its log when it has ended."""
        assert self.process.poll() is None, f"{self.process.args!r} ended: {self.log}"

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it at once, as a crash does."""
        self.signal(signal.SIGKILL)
        self.process.wait(STOP_SECONDS)

    def finish(self) -> None:
        """How it ends with the test, where it runs then."""
        self.kill()

    def _end(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.finish()
        with contextlib.suppress(OSError):
            self._directory.cleanup()
