"""A proxy program of the machine: its own directory, its own port, reloaded by a signal.

    with Nginx(nginx.plain(hub.port)) as proxy:
        ...
        proxy.change(nginx.upgrading(hub.port))

Its methods block for milliseconds. Only processes started here are ever ended, by their pid.
"""

import contextlib
import shutil
import signal
import subprocess
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

import pytest

from tests.support.redis_server import free_port
from tests.support.waiting import eventually_blocking

STOP_SECONDS = 10.0
_PROBE_SECONDS = 2.0
GENERATION = "x-generation"
"""A response header that tells which configuration answered."""


class Daemon:
    """Runs from `with` to its end. Skips the test where the program is not installed.

    Args:
        rules: the part of the configuration that a test is about.
    """

    program: ClassVar[str]
    reload_signal: ClassVar[signal.Signals]

    def __init__(self, rules: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._directory = tempfile.TemporaryDirectory(prefix=f"{self.program}-")
        self.path = Path(self._directory.name)
        self._rules = rules
        self._generation = 0
        self._process: subprocess.Popen[bytes] | None = None

    def configuration(self, rules: str, generation: int) -> str:
        """The whole file; answers carry `generation` in the header `GENERATION`."""
        raise NotImplementedError

    def command(self, program: str, file: Path) -> list[str]:
        """How it is started in the foreground."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        # Debian keeps these in /usr/sbin, which is on no ordinary user's path.
        program = shutil.which(self.program) or shutil.which(f"/usr/sbin/{self.program}")
        if program is None:
            pytest.skip(f"{self.program} is not installed")
        self._write()
        with (self.path / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command(program, self.path / "configuration"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.path,
            )
        try:
            self._wait()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    @property
    def log(self) -> str:
        return (self.path / "log").read_text(errors="replace")

    def change(self, rules: str) -> None:
        """Reload with other rules; what is connected stays so under the old ones."""
        assert self._process is not None
        self._rules = rules
        self._generation += 1
        self._write()
        self._process.send_signal(self.reload_signal)
        self._wait()

    def _write(self) -> None:
        text = self.configuration(self._rules, self._generation)
        (self.path / "configuration").write_text(text)

    def _wait(self) -> None:
        eventually_blocking(self._answers, what=f"{self.program}'s configuration")

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log
        try:
            with urllib.request.urlopen(f"{self.url}/healthz", timeout=_PROBE_SECONDS) as answer:
                return bool(answer.headers[GENERATION] == str(self._generation))
        except urllib.error.HTTPError as error:
            error.close()
            return False
        except OSError:
            return False

    def _end(self) -> None:
        if self._process is not None and self._process.poll() is None:
            # Both programs take it as "now"; their workers end with them.
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(STOP_SECONDS)
        with contextlib.suppress(OSError):
            self._directory.cleanup()
