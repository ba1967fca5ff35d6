"""The cost of one load on workers beside one process: `hub bench --workers N`.

The same load goes to a single process and to N workers in turn, and each process of the hub is
metered by itself. All of them share the server's core, so that the load has the others. The figures
compare CPU, not durations.
"""

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean, median

import psutil

from hub.bench.bare_loop import BareLoop, command_of
from hub.bench.cores import Cores
from hub.bench.figures import known_median
from hub.bench.hub_round import measure_hub
from hub.bench.meter import Memory, ProcessMeter, Usage
from hub.bench.phases import PhaseListener
from hub.bench.plan import BenchError, Contestant, Plan
from hub.bench.server import SERVE_COMMAND, BenchServer, own_server

_ROLE = "_HUB_ROLE"
_BROKER = 0


@dataclass(frozen=True, slots=True)
class WorkersFigures:
    """Medians over the rounds, of the measured phase."""

    workers: int
    cpu_us_per_delivery: float
    """The CPU of all processes together."""
    worker_us_per_delivery: float
    """The CPU of the busiest worker, over the deliveries of all."""
    even_us_per_delivery: float
    """The same where the kernel had given all workers as many connections: the mean of them."""
    broker_us_per_publication: float | None
    """None where there is no broker process."""
    latency_p50_ms: float | None
    latency_p99_ms: float | None
    frame_bytes: float
    """The length of a frame of the hub's."""
    faults: int
    """The number of lost connections, repeated messages and silent losses."""
    disturbed: bool = False
    """Whether other work on the machine was felt. All processes of the hub have one core, so that
    several wait for each other: only a single one tells by its own waiting."""


class ChildrenMeter(ProcessMeter):
    """Read all children of a supervisor: as one process, and each by itself."""

    def __init__(self, supervisor: int) -> None:
        super().__init__(supervisor)
        self._meters = {number: ProcessMeter(pid) for number, pid in _children(supervisor).items()}
        self._readings: list[Mapping[int, Usage]] = []

    def usage(self) -> Usage:
        reading = {number: meter.usage() for number, meter in self._meters.items()}
        self._readings.append(reading)
        waited = [each.waited_seconds or 0.0 for each in reading.values()]
        return Usage(sum(each.cpu_seconds for each in reading.values()), sum(waited))

    def memory(self) -> Memory:
        all_of_them = [meter.memory() for meter in self._meters.values()]
        return Memory(
            rss_bytes=sum(each.rss_bytes for each in all_of_them),
            uss_bytes=sum(each.uss_bytes for each in all_of_them),
        )

    def last_phase(self) -> Mapping[int, float]:
        """The CPU seconds of each process between the last two readings."""
        before, after = self._readings[-2:]
        return {number: after[number].since(before[number]).cpu_seconds for number in after}


def run(
    plan: Plan, workers: int, phases: PhaseListener, command: Sequence[str] = SERVE_COMMAND
) -> Sequence[WorkersFigures]:
    """Measure a single process and `workers` in turn, over all rounds of the plan.

    Raises:
        BenchError: A round could not be run.
    """
    cores = Cores.divide()
    counts = (1, workers)
    found: dict[int, list[WorkersFigures]] = {count: [] for count in counts}
    with cores.as_load():
        for _ in range(plan.rounds):
            for count in counts:
                settings = {"HUB_WORKERS": str(count)}
                with own_server(cores, command=command, settings=settings) as server:
                    found[count].append(_measure(plan, server, count, phases))
    return [_medians(found[count]) for count in counts]


def bare_share(plan: Plan, loops: int, frame_bytes: int, phases: PhaseListener) -> float | None:
    """Return the busiest of so many bare loops that share the load, of what one alone takes.

    All run on the server's core, and divide the connections evenly. None without the loop's source.
    """
    cores = Cores.divide()
    costs: list[list[float]] = []
    with contextlib.ExitStack() as stack:
        try:
            command = stack.enter_context(command_of(Contestant.DESCRIPTOR_LOOP))
        except BenchError:
            return None
        stack.enter_context(cores.as_load())
        for _ in range(plan.rounds):
            made = [
                BareLoop(Contestant.DESCRIPTOR_LOOP, command, cores, processes=processes)
                for processes in (1, loops)
            ]
            figures = [loop.measure(plan, frame_bytes, phases) for loop in made]
            costs.append([each.cpu_us_per_delivery or 0.0 for each in figures])
    return median(shared / alone for alone, shared in costs if alone)


def _measure(
    plan: Plan, server: BenchServer, workers: int, phases: PhaseListener
) -> WorkersFigures:
    if server.meter is None:
        raise BenchError("the hub is not on this machine")
    group = ChildrenMeter(server.meter.pid) if workers > 1 else None
    metered = replace(server, meter=group or server.meter)
    figures = measure_hub(plan, metered, Contestant.WEBSOCKET, phases)
    each = group.last_phase() if group is not None else {}
    deliveries, total = max(1, figures.deliveries), figures.cpu_us_per_delivery or 0.0
    spent = [s * 1e6 / deliveries for n, s in each.items() if n != _BROKER] or [total]
    broker = each.get(_BROKER)
    return WorkersFigures(
        workers=workers,
        cpu_us_per_delivery=total,
        worker_us_per_delivery=max(spent),
        even_us_per_delivery=mean(spent),
        broker_us_per_publication=None if broker is None else broker * 1e6 / figures.published,
        latency_p50_ms=figures.latency_p50_ms,
        latency_p99_ms=figures.latency_p99_ms,
        frame_bytes=figures.frame_bytes,
        faults=figures.failed + figures.silently_missing + figures.duplicates,
        disturbed=figures.is_late if workers > 1 else figures.disturbed,
    )


def _medians(rounds: Sequence[WorkersFigures]) -> WorkersFigures:
    def middle(name: str) -> float | None:
        return known_median(getattr(each, name) for each in rounds)

    return WorkersFigures(
        workers=rounds[0].workers,
        cpu_us_per_delivery=middle("cpu_us_per_delivery") or 0.0,
        worker_us_per_delivery=middle("worker_us_per_delivery") or 0.0,
        even_us_per_delivery=middle("even_us_per_delivery") or 0.0,
        broker_us_per_publication=middle("broker_us_per_publication"),
        latency_p50_ms=middle("latency_p50_ms"),
        latency_p99_ms=middle("latency_p99_ms"),
        frame_bytes=middle("frame_bytes") or 0.0,
        faults=sum(each.faults for each in rounds),
        disturbed=any(each.disturbed for each in rounds),
    )


def _children(supervisor: int) -> Mapping[int, int]:
    """Return pids by number; the broker process is 0 (`hub.node.supervisor.roles`)."""
    found: dict[int, int] = {}
    for child in psutil.Process(supervisor).children():
        try:
            found[int(json.loads(child.environ()[_ROLE])["number"])] = child.pid
        except (psutil.Error, KeyError, ValueError):
            continue
    return found
