"""The time for which a hub lets others wait, seen from inside its loop, and by a small request.

The length of a turn without the time in which it had no core (`hub.bench.loop_watch`) is the hub's
own doing. The longest answer to a request every few milliseconds bounds it from above, because it
also holds the part of the machine and of the load's own core.
"""

import contextlib
import http.client
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Self

from hub.bench.cores import Cores
from hub.bench.loop_watch import FILE_VARIABLE, WATCHED_COMMAND, stalls_between
from hub.bench.phases import PhaseListener
from hub.bench.plan import ServerAddress
from hub.bench.scenarios.scenario import Goal
from hub.bench.server import NO_SETTINGS, BenchServer, own_server

EVERY_SECONDS = 0.01
_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Waits:
    """The longest of each measured time, in milliseconds."""

    loop_ms: float | None
    """The longest turn of the hub's loop by its own doing; 0 where it was shorter than a slice.
    None where the loop is not watched, because another version of the hub is measured."""
    turn_ms: float | None
    """The longest turn with the machine's part."""
    answer_ms: float | None
    """The longest wait of a request beside the load; None where none was answered."""


class Probe:
    """Send requests for as long as the block lasts."""

    def __init__(self, target: ServerAddress) -> None:
        self._target = target
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="probe", daemon=True)
        self.longest_ms: float | None = None

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
                took_ms = (time.perf_counter() - began) * 1000
                self.longest_ms = max(self.longest_ms or 0.0, took_ms)


def stall_goals(waits: Waits | None, *, at_most_ms: float) -> Sequence[Goal]:
    """Return the goal for the hub's longest turn, and the figures beside it."""
    own, turn, answer = (None,) * 3 if waits is None else astuple(waits)
    return (
        Goal("the longest that the hub held its loop up", own, at_most=at_most_ms, unit="ms"),
        Goal("the longest turn, with what the machine did", turn, unit="ms"),
        Goal("the longest that a request beside it waited", answer, unit="ms"),
    )


class WatchedServer:
    """A hub whose loop is watched from inside, and asked from outside."""

    def __init__(self, server: BenchServer, probe: Probe, notes: Path | None) -> None:
        self.server = server
        self._probe = probe
        self._notes = notes
        self._began_seconds = 0.0

    def begin(self) -> None:
        """Forget all that was before."""
        self._began_seconds = time.monotonic()
        self._probe.longest_ms = None

    def waits(self) -> Waits:
        """Return the longest waits since the beginning."""
        if self._notes is None:
            return Waits(None, None, self._probe.longest_ms)
        stalls = stalls_between(self._notes, self._began_seconds, time.monotonic())
        own = max((stall.own_ms for stall in stalls), default=0.0)
        turn = max((stall.seconds * 1000 for stall in stalls), default=0.0)
        return Waits(own, turn, self._probe.longest_ms)


class MeasuredPhase:
    """Passes phases on; the server is watched from the last one on, which is measured."""

    def __init__(self, phases: PhaseListener) -> None:
        self._phases = phases
        self.hub: WatchedServer | None = None

    def phase(self, name: str, total: float) -> None:
        """Pass it on."""
        if self.hub is not None:
            self.hub.begin()
        self._phases.phase(name, total)

    def reached(self, done: float) -> None:
        """Pass it on."""
        self._phases.reached(done)


@contextlib.contextmanager
def watched_server(
    cores: Cores,
    settings: Mapping[str, str] = NO_SETTINGS,
    command: Sequence[str] | None = None,
) -> Iterator[WatchedServer]:
    """Start a fresh hub as `own_server` does; with another `command` its loop is not watched."""
    with tempfile.TemporaryDirectory() as folder:
        notes = Path(folder) / "stalls"
        watched = {**settings, FILE_VARIABLE: str(notes)}
        with (
            own_server(cores, command=command or WATCHED_COMMAND, settings=watched) as server,
            Probe(server.target) as probe,
        ):
            yield WatchedServer(server, probe, None if command else notes)


def watched(
    phases: MeasuredPhase, found: list[Waits]
) -> Callable[[Cores], AbstractContextManager[BenchServer]]:
    """Start a hub as `own_server` does; `found` gets the longest waits of each one's last phase."""

    @contextlib.contextmanager
    def opened(cores: Cores) -> Iterator[BenchServer]:
        with watched_server(cores) as hub:
            phases.hub = hub
            yield hub.server
            phases.hub = None
            found.append(hub.waits())

    return opened
