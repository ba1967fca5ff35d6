"""The parts of a scenario: its request, its result, its goals."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from hub.bench.peers import Peer
from hub.bench.phases import PhaseListener


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure of a scenario beside its goal."""

    about: str
    value: float | None
    """None where the figure is unknown."""
    at_most: float | None = None
    at_least: float | None = None
    unit: str = ""

    @property
    def met(self) -> bool | None:
        """None where the figure is unknown, or has no goal."""
        if self.value is None or (self.at_most is None and self.at_least is None):
            return None
        low = self.at_least is None or self.value >= self.at_least
        return low and (self.at_most is None or self.value <= self.at_most)

    @property
    def asked(self) -> str:
        """Return the goal as text."""
        if self.at_most is not None:
            return f"at most {self.at_most:,g}"
        return "" if self.at_least is None else f"at least {self.at_least:,g}"

    def as_dict(self) -> dict[str, object]:
        return {
            "about": self.about,
            "value": self.value,
            "unit": self.unit,
            "at_most": self.at_most,
            "at_least": self.at_least,
            "met": self.met,
        }


@dataclass(frozen=True, slots=True)
class Bar:
    """A contestant in the figure."""

    label: str
    value: float


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a scenario."""

    goals: Sequence[Goal]
    bars: Sequence[Bar]
    bars_about: str
    """The meaning of the bars, with the unit."""
    sound: bool
    """Whether no connection was lost, and nothing was lost silently or came twice."""
    disturbed: bool
    """Whether other work on the machine was felt."""
    details: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ScenarioOptions:
    """The options of the command line; None stands for the scenario's own."""

    phases: PhaseListener
    readers: int
    peer: Peer | None = None
    rounds: int | None = None
    subscribers: int | None = None
    seconds: float | None = None
    command: Sequence[str] | None = None
    """The command that starts the hub; None starts this version."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A row of the table of scenarios."""

    name: str
    about: str
    measure: Callable[[ScenarioOptions], Result]
    has_subscribers: bool = True
    """Whether `--subscribers` changes its size."""
    against_nchan: bool = False
    """Whether nchan can do its work. Another version of the hub can do all."""
