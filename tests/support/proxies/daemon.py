"""A proxy program of the machine: its own directory, its own port, reloaded by a signal.

    with Nginx(nginx.plain(hub.port)) as proxy:
        ...
        proxy.change(nginx.upgrading(hub.port))

Its methods block for milliseconds.
"""

import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import ClassVar

import pytest

from tests.support.own_process import STOP_SECONDS, OwnProcess
from tests.support.redis_server import free_port
from tests.support.waiting import eventually_blocking

_PROBE_SECONDS = 2.0
GENERATION = "x-generation"
"""A response header that tells which configuration answered."""


class Daemon(OwnProcess):
    """Runs from `with` to its end. Skips the test where the program is not installed.

    Args:
        rules: the part of the configuration that a test is about.
    """

    program: ClassVar[str]
    reload_signal: ClassVar[signal.Signals]
    probe: ClassVar[str] = "/healthz"
    """A path that it leads to the hub."""

    def __init__(self, rules: str) -> None:
        super().__init__(self.program)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._rules = rules
        self._generation = 0

    def configuration(self, rules: str, generation: int) -> str:
        """The whole file; answers carry `generation` in the header `GENERATION`."""
        raise NotImplementedError

    def command(self, program: str, file: Path) -> list[str]:
        """How it is started in the foreground."""
        raise NotImplementedError

    def start(self) -> None:
        # Debian keeps these in /usr/sbin, which is on no ordinary user's path.
        program = shutil.which(self.program) or shutil.which(f"/usr/sbin/{self.program}")
        if program is None:
            pytest.skip(f"{self.program} is not installed")
        self._write()
        self.spawn(*self.command(program, self.path / "configuration"))
        self._wait()

    def change(self, rules: str) -> None:
        """Reloads with other rules; open connections keep the old ones."""
        self._rules = rules
        self._generation += 1
        self._write()
        self.signal(self.reload_signal)
        self._wait()

    def _write(self) -> None:
        text = self.configuration(self._rules, self._generation)
        (self.path / "configuration").write_text(text)

    def _wait(self) -> None:
        eventually_blocking(self._answers, what=f"{self.program}'s configuration")

    def _answers(self) -> bool:
        self.check_alive()
        try:
            with urllib.request.urlopen(
                f"{self.url}{self.probe}", timeout=_PROBE_SECONDS
            ) as answer:
                return bool(answer.headers[GENERATION] == str(self._generation))
        except urllib.error.HTTPError as error:
            error.close()
            return False
        except OSError:
            return False

    def finish(self) -> None:
        # Both programs take it as "now"; their workers end with them.
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
