"""How long a server lets somebody else wait meanwhile: a small request every few milliseconds.

The longest answer bounds the longest stall of the server's loop from above: what the load's own
core took is in it too.
"""

import contextlib
import http.client
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Self

from hub.bench.cores import Cores
from hub.bench.plan import Target
from hub.bench.server import Server
from hub.bench.watch import Watch

EVERY_SECONDS = 0.01
_TIMEOUT_SECONDS = 10.0


class Probe:
    """Asks for as long as the block lasts."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="probe", daemon=True)
        self.longest_ms = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(_TIMEOUT_SECONDS)

    def _run(self) -> None:
        target = self._target
        connection = http.client.HTTPConnection(target.host, target.port, timeout=_TIMEOUT_SECONDS)
        with (
            contextlib.closing(connection),
            contextlib.suppress(OSError, http.client.HTTPException),
        ):
            while not self._ended.wait(EVERY_SECONDS):
                began = time.perf_counter()
                connection.request("GET", f"{target.base_path}/healthz")
                connection.getresponse().read()
                self.longest_ms = max(self.longest_ms, (time.perf_counter() - began) * 1000)


class MeasuredPhase:
    """Tells somebody of phases, and a probe to forget what was before the measured one."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self.probe: Probe | None = None

    def phase(self, name: str, total: float) -> None:
        """Pass it on."""
        if self.probe is not None:
            self.probe.longest_ms = 0.0
        self._watch.phase(name, total)

    def reached(self, done: float) -> None:
        """Pass it on."""
        self._watch.reached(done)


def probed(
    open_server: Callable[[Cores], AbstractContextManager[Server]],
    phases: MeasuredPhase,
    longest: list[float],
) -> Callable[[Cores], AbstractContextManager[Server]]:
    """The same servers, each with a probe; `longest` gets the longest answer of each, in ms.

    Of the last phase that `phases` is told of, which is the measured one.
    """

    @contextlib.contextmanager
    def opened(cores: Cores) -> Iterator[Server]:
        with open_server(cores) as server:
            with Probe(server.target) as probe:
                phases.probe = probe
                yield server
            phases.probe = None
            longest.append(probe.longest_ms)

    return opened
