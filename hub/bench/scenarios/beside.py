"""A scenario measured once more on another version of the hub, in the same run.

`deliveries` takes turns with its peers, round by round. The scenarios here start a hub in a way of
their own, so all of their rounds come first, and then the peer's.
"""

from collections.abc import Callable
from dataclasses import replace

from hub.bench.plan import BenchError
from hub.bench.scenarios.scenario import Bar, Goal, Result, ScenarioOptions

Measure = Callable[[ScenarioOptions], Result]


def with_peer(measure: Measure) -> Measure:
    """Return `measure`, which a peer follows where one is asked for; the peer has no goals.

    The scenario raises `BenchError` for a peer that is no other version of the hub.
    """

    def measured(request: ScenarioOptions) -> Result:
        if request.peer is None:
            return measure(request)
        if request.peer.command is None:
            raise BenchError("this needs another version of the hub as its peer")
        ours = measure(request)
        theirs = measure(replace(request, command=request.peer.command))
        return Result(
            goals=[
                *ours.goals,
                *(Goal(f"the peer: {each.about}", each.value, unit=each.unit)
                  for each in theirs.goals),
            ],
            bars=[*ours.bars, *(Bar(f"peer: {each.label}", each.value) for each in theirs.bars)],
            bars_about=ours.bars_about,
            sound=ours.sound and theirs.sound,
            disturbed=ours.disturbed or theirs.disturbed,
            details={**ours.details, "peer": theirs.details},
        )  # fmt: skip

    return measured
