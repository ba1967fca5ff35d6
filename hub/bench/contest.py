"""Rounds of all contestants, interleaved, so that a noisy minute meets each of them."""

import contextlib
import dataclasses
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import MappingProxyType

from hub.bench.bare_loop import BareLoop, command_of
from hub.bench.cores import Cores
from hub.bench.figures import Figures, medians
from hub.bench.hub_round import measure_hub
from hub.bench.phases import PhaseListener
from hub.bench.plan import FLOORS, Contestant, Plan
from hub.bench.server import BenchServer

_RATIOS = (
    (Contestant.WEBSOCKET, Contestant.SEND_LOOP),
    (Contestant.WEBSOCKET, Contestant.DESCRIPTOR_LOOP),
    (Contestant.SSE, Contestant.SEND_LOOP),
    (Contestant.SSE, Contestant.DESCRIPTOR_LOOP),
    (Contestant.SSE, Contestant.WEBSOCKET),
    (Contestant.DESCRIPTOR_LOOP, Contestant.SEND_LOOP),
    (Contestant.COMPRESSED, Contestant.WEBSOCKET),
    (Contestant.WEBSOCKET, Contestant.PEER),
    (Contestant.WEBSOCKET, Contestant.NCHAN),
)
NOBODY: Mapping[Contestant, "OpenServer"] = MappingProxyType({})
OpenServer = Callable[[Cores], AbstractContextManager[BenchServer]]
"""A function that starts a hub for one round, or hands out one that runs already."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A whole run."""

    plan: Plan
    rounds: tuple[Figures, ...]

    @property
    def medians(self) -> Mapping[Contestant, Figures]:
        """Return every contestant's median figures, in the order they were run."""
        return {
            contestant: medians([each for each in self.rounds if each.contestant is contestant])
            for contestant in self.plan.contestants
        }

    @property
    def ratios(self) -> Mapping[str, float]:
        """Return CPU per delivery of one against another: the median of every round's own ratio.

        Rounds in which either was disturbed count only where there are no others.
        """
        found = {
            f"{one}/{other}": list(self._round_ratios(one, other, disturbed=False))
            or list(self._round_ratios(one, other, disturbed=True))
            for one, other in _RATIOS
        }
        return {name: statistics.median(column) for name, column in found.items() if column}

    def _round_ratios(
        self, one: Contestant, other: Contestant, *, disturbed: bool
    ) -> Iterator[float]:
        for start in range(0, len(self.rounds), len(self.plan.contestants)):
            group = self.rounds[start : start + len(self.plan.contestants)]
            pair = {each.contestant: each for each in group if each.contestant in {one, other}}
            costs = [pair[who].cpu_us_per_delivery for who in (one, other) if who in pair]
            if any(each.disturbed for each in pair.values()) is disturbed and len(costs) == 2:
                cost, floor = costs
                if cost and floor:
                    yield cost / floor

    @property
    def sound(self) -> bool:
        """Whether every round was sound."""
        return all(figures.sound for figures in self.rounds)

    def as_dict(self) -> dict[str, object]:
        """Return the run for `--json`."""
        return {
            "plan": dataclasses.asdict(self.plan),
            "sound": self.sound,
            "disturbed_rounds": sum(figures.disturbed for figures in self.rounds),
            "medians": {who: dataclasses.asdict(each) for who, each in self.medians.items()},
            "ratios": dict(self.ratios),
            "rounds": [dataclasses.asdict(figures) for figures in self.rounds],
        }


def run(
    plan: Plan,
    open_server: OpenServer,
    phases: PhaseListener,
    others: Mapping[Contestant, OpenServer] = NOBODY,
) -> Outcome:
    """Run all rounds: in each, every contestant once, each hub a fresh process.

    `others` opens the contestants that are no hub of this version.

    Raises:
        BenchError: A round could not be run; there is no compiler for the baseline.
    """
    cores = Cores.divide()
    rounds: list[Figures] = []
    with contextlib.ExitStack() as stack:
        asked = [each for each in FLOORS if each in plan.contestants]
        loops = {each: BareLoop(each, stack.enter_context(command_of(each)), cores)
                 for each in asked}  # fmt: skip
        stack.enter_context(cores.as_load())
        for _ in range(plan.rounds):
            for contestant in plan.contestants:
                if (loop := loops.get(contestant)) is not None:
                    rounds.append(loop.measure(plan, _frame_bytes(rounds), phases))
                else:
                    with others.get(contestant, open_server)(cores) as server:
                        rounds.append(measure_hub(plan, server, contestant, phases))
    return Outcome(plan, tuple(rounds))


def _frame_bytes(rounds: Sequence[Figures]) -> int:
    """Return the length of the frames in the hub's round just before."""
    return round(rounds[-1].frame_bytes)
