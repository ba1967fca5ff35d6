"""One load on a single process and on two workers, each process metered by itself.

Three loads: 1,000 subscribers at 100/s, where workers share the deliveries; 10 at 1,000/s, where
each publication wakes the broker process; and 10 flat out, where many are under way. Bare loops
that share the first load show how much of a worker's share is the machine's.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace

from hub.bench import workers
from hub.bench.plan import Plan
from hub.bench.scenarios.scenario import Bar, Goal, Result, ScenarioOptions
from hub.bench.server import SERVE_COMMAND
from hub.bench.workers import WorkersFigures

WORKERS = 2
_SECONDS = 10.0


def measure(request: ScenarioOptions) -> Result:
    """Run both loads; raises `BenchError` where that cannot be done."""
    rounds, seconds = request.rounds or 1, request.seconds or _SECONDS
    readers = request.readers
    many = Plan(
        subscribers=request.subscribers or 1000, seconds=seconds, rounds=rounds, readers=readers
    )
    paced = Plan(subscribers=10, rate=1000, seconds=seconds, rounds=rounds, readers=readers)
    phases, command = request.phases, request.command or SERVE_COMMAND
    one, several = workers.run(many, WORKERS, phases, command)
    floor = workers.bare_share(many, WORKERS, round(several.frame_bytes), phases)
    alone, shared = workers.run(paced, WORKERS, phases, command)
    _, busy = workers.run(replace(paced, rate=0), WORKERS, phases, command)
    rows = (one, several, alone, shared, busy)
    whole = one.worker_us_per_delivery or 1.0
    return Result(
        goals=(
            Goal(
                "busiest worker, of what one process takes",
                several.worker_us_per_delivery / whole,
                at_most=1 / 1.8,
            ),
            Goal("the same at an even split", several.even_us_per_delivery / whole),
            Goal("the busiest of as many bare loops, of what one takes", floor),
            Goal(
                "broker process, each publication at 1,000/s",
                shared.broker_us_per_publication,
                at_most=8.0,
                unit="us",
            ),
            Goal("the same flat out", busy.broker_us_per_publication, at_most=8.0, unit="us"),
            Goal("p50 at 1,000/s", shared.latency_p50_ms, at_most=1.0, unit="ms"),
        ),
        bars=_bars(one, several),
        bars_about="CPU per delivery of the busiest process, us",
        sound=not any(row.faults for row in rows),
        disturbed=any(row.disturbed for row in rows),
        details={"rounds": [asdict(row) for row in rows]},
    )


def _bars(one: WorkersFigures, several: WorkersFigures) -> Sequence[Bar]:
    return (
        Bar("one process", one.worker_us_per_delivery),
        Bar(f"{several.workers} workers", several.worker_us_per_delivery),
    )
