"""Scenarios with one plan: the number of subscribers and publications, and the contestants."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

from hub.bench.contest import Outcome, run
from hub.bench.figures import Figures, known_median
from hub.bench.plan import Contestant, Plan
from hub.bench.scenarios.probe import MeasuredPhase, Waits, watched
from hub.bench.scenarios.scenario import Bar, Goal, Result, ScenarioOptions
from hub.bench.server import own_server

_NAMES = {
    Contestant.WEBSOCKET: "hub, WebSocket",
    Contestant.SSE: "hub, SSE",
    Contestant.COMPRESSED: "hub, WebSocket, compressed",
    Contestant.SEND_LOOP: "send() loop in C",
    Contestant.DESCRIPTOR_LOOP: "os.write loop in Python",
    Contestant.PEER: "peer",
    Contestant.NCHAN: "nchan",
}
ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Measured:
    """A run as its goals read it."""

    outcome: Outcome
    waits: Waits | None
    """The waits of others beside the load, medians of the rounds; None where they were not
    measured."""

    @property
    def hub(self) -> Figures:
        """The medians of the hub's first transport."""
        return next(iter(self.outcome.medians.values()))

    def ratio(self, one: Contestant, other: Contestant) -> float | None:
        return self.outcome.ratios.get(f"{one}/{other}")


@dataclass(frozen=True, slots=True)
class Deliveries:
    """Measure a plan; a row of the table calls it."""

    plan: Plan
    goals: Callable[[Measured], Sequence[Goal]]
    probes: bool = False
    """Whether the longest wait of others meanwhile is measured too."""

    def __call__(self, request: ScenarioOptions) -> Result:
        plan, peer = _scaled(self.plan, request), request.peer
        waits: list[Waits] = []
        phases = MeasuredPhase(request.phases)
        open_server = watched(phases, waits) if self.probes else own_server
        others = {}
        if peer is not None:
            plan = replace(plan, contestants=(*plan.contestants, peer.contestant))
            others[peer.contestant] = peer.open_server
        outcome = run(plan, open_server, phases, others)
        measured = Measured(outcome, _medians(waits) if waits else None)
        return Result(
            goals=[*self.goals(measured), *_beside(measured, request)],
            bars=_bars(outcome),
            bars_about="server CPU per delivery, microseconds",
            sound=outcome.sound,
            disturbed=any(each.disturbed for each in outcome.rounds),
            details={**outcome.as_dict(), "waits": [asdict(each) for each in waits]},
        )


def _medians(waits: Sequence[Waits]) -> Waits:
    return Waits(
        known_median(each.loop_ms for each in waits),
        known_median(each.turn_ms for each in waits),
        known_median(each.answer_ms for each in waits),
    )


def _scaled(plan: Plan, request: ScenarioOptions) -> Plan:
    subscribers = request.subscribers or plan.subscribers
    # As many subscribers of each channel as in the plan.
    channels = max(1, plan.channels * subscribers // plan.subscribers)
    return replace(
        plan,
        subscribers=subscribers,
        channels=channels,
        seconds=request.seconds or plan.seconds,
        rounds=request.rounds or plan.rounds,
        readers=request.readers,
    )


def _bars(outcome: Outcome) -> list[Bar]:
    costs = [(who, each.cpu_us_per_delivery) for who, each in outcome.medians.items()]
    return [Bar(_NAMES[who], cost) for who, cost in costs if cost is not None]


def _beside(measured: Measured, request: ScenarioOptions) -> list[Goal]:
    """Return the figures of a peer, which has no goal."""
    if request.peer is None:
        return []
    who = request.peer.contestant
    name = _NAMES[who]
    figures = measured.outcome.medians[who]
    return [
        Goal(f"CPU per delivery, hub against {name}", measured.ratio(Contestant.WEBSOCKET, who)),
        Goal(f"p99 of {name}", figures.latency_p99_ms, unit="ms"),
        Goal(f"deliveries per second of {name}", figures.deliveries_per_second),
    ]
