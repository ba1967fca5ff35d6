"""The real hub as a process of its own: `python -m hub serve` on a free port.

    with HubProcess(HUB_HISTORY_SIZE="5") as hub:
        httpx.post(f"{hub.url}/api/publish/news", json={"hello": 1})

Its methods block; inside an event loop that has other work call them through
`asyncio.to_thread`. Only processes started here are ever ended.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.fork_server import Forked, fork_server
from tests.support.programs import outside
from tests.support.waiting import eventually_blocking

# Only a failing test waits this long, and the machine may be busy.
START_SECONDS = 90.0
STOP_SECONDS = 20.0
_PROBE_SECONDS = 2.0
# In JSON, and as a person reads it.
_STARTED = re.compile(r'"?url"?[:=] ?"?(?P<url>http://[^"\s]+)')
_PROGRAM = ("-m", "hub", "serve")
# Loopback and any port; short drains, because a test waits for each.
_DEFAULTS = {"HUB_LOG_FORMAT": "json", "HUB_DRAIN_SECONDS": "0.2", "HUB_NODE": "test-node"}


class HubProcess:
    """Runs from `with` to its end; `stop`, `kill` and `restart` in between as needed.

    Args:
        arguments: what follows `hub serve`, such as `--demo`.
        allow_tracebacks: otherwise one in the log fails the test at the end of `with`.
        environment: `HUB_...` settings; those of the caller's environment are left out.
    """

    program: tuple[str, ...] = _PROGRAM
    """The arguments of the interpreter; a subclass may run a program that calls `hub.serve`."""

    is_forked = True
    """Whether it comes from a process that has imported the hub (`tests.support.fork_server`).

    Only a program that begins with `-m` or `-c` can.
    """

    def __init__(self, *arguments: str, allow_tracebacks: bool = False, **environment: str) -> None:
        self._arguments = arguments
        self._allow_tracebacks = allow_tracebacks
        self._environment = outside() | _DEFAULTS | {"HUB_PORT": "0"} | environment
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `__exit__`
        self._log_from = 0
        self._process: subprocess.Popen[bytes] | Forked | None = None
        self.url = ""
        """Without a slash at its end; the base path is part of it."""

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            self._log.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        log = self.stderr
        self._log.close()
        if kind is None and not self._allow_tracebacks:
            assert "Traceback" not in log, log

    # -- what it is ------------------------------------------------------------------------

    @property
    def ws_url(self) -> str:
        """Returns the WebSocket endpoint, such as `ws://127.0.0.1:40001/ws`."""
        return f"ws{self.url.removeprefix('http')}/ws"

    @property
    def port(self) -> int:
        match = re.match(r"http://[^/]+:(\d+)", self.url)
        assert match is not None, self.url
        return int(match.group(1))

    @property
    def pid(self) -> int:
        assert self._process is not None, "the hub was not started"
        return self._process.pid

    @property
    def memory_bytes(self) -> int:
        """Returns the bytes of anonymous memory; the hub's code is a file's, and is
        read when it is first used."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"^RssAnon:\s+(\d+) kB$", status, re.MULTILINE)
        assert found is not None, status
        return int(found.group(1)) * 1024

    @property
    def stderr(self) -> str:
        """Returns everything that all runs have logged so far."""
        return os.pread(self._log.fileno(), 1 << 26, 0).decode(errors="replace")

    # -- what it does ----------------------------------------------------------------------

    def start(self) -> None:
        """Start and wait until it is ready; raises with its log when it does not get there."""
        self._log_from = len(self.stderr)
        self._process = self._spawn()
        eventually_blocking(self._is_ready, seconds=START_SECONDS, what="the hub's readiness")

    def _spawn(self) -> subprocess.Popen[bytes] | Forked:
        if self.is_forked and self.program[0] in {"-m", "-c"}:
            return fork_server().start(
                [*self.program, *self._arguments], self._environment, stderr=self._log.fileno()
            )
        return subprocess.Popen(
            [sys.executable, *self.program, *self._arguments],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._log,
        )

    def _is_ready(self) -> bool:
        assert self._process is not None
        log = self.stderr[self._log_from :]
        if self._process.poll() is not None:
            raise AssertionError(f"the hub ended with {self._process.returncode}: {log}")
        if (started := _STARTED.search(log)) is None:
            return False
        self.url = started["url"]
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=_PROBE_SECONDS) as answer:
                return bool(answer.status == 200)
        except urllib.error.HTTPError as error:
            error.close()
            return False
        except OSError:
            return False

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self, seconds: float = STOP_SECONDS) -> int:
        """Wait for the end that a signal asked for; return the exit code."""
        assert self._process is not None
        return self._process.wait(seconds)

    def stop(self) -> int:
        """End it in order, by force when it takes too long; return the exit code."""
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
        return self._process.wait(STOP_SECONDS)

    def kill(self) -> None:
        """End it at once, as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(STOP_SECONDS)

    def restart(self, **environment: str) -> None:
        """Stop it unless it has ended, and start it again on the same port, so changed."""
        self.stop()
        self._environment |= {"HUB_PORT": str(self.port)} | environment
        self.start()
