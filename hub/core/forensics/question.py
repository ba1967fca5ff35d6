"""What is asked about one publication and a connection, and what an answer says.

Who answers reads live things through the ports that stand here: a session, its subscriptions and
patterns, and what is remembered of channels. How the answer is found stands in
`hub.core.forensics.explaining`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from hub.core.forensics.answers import Answer
from hub.core.forensics.journal import Noted, Place
from hub.core.forensics.timeline import Timeline
from hub.core.publication import Position


@dataclass(frozen=True, slots=True)
class Question:
    """Which publication, and how far its channel has come."""

    channel: str
    epoch: str
    offset: int
    head: int
    """The channel's newest offset in that epoch, as the broker says."""
    current: bool = True
    """Whether the channel is in that epoch now; of one that is over, `head` is not known."""


@dataclass(frozen=True, slots=True)
class Explanation:
    answer: Answer
    detail: str
    """One sentence for a human."""
    at_seconds: float | None = None
    """Monotonic: when, at the earliest."""
    until_seconds: float | None = None
    """When, at the latest."""
    by: int | None = None
    """Of `conflated`: the offset that replaced it."""


class OpenPlace(Place, Protocol):
    """A subscription as it stands now."""

    @property
    def position(self) -> Position: ...

    @property
    def state(self) -> str: ...

    def holds_back(self, offset: int) -> bool: ...


class OpenPatterns(Protocol):
    """The patterns of a session as they stand now."""

    @property
    def by_text(self) -> Mapping[str, object]: ...

    def covers(self, channel: str) -> bool: ...


class OpenSession(Noted, Protocol):
    """A session as it stands now."""

    @property
    def subscriptions(self) -> Mapping[str, OpenPlace]: ...

    @property
    def patterns(self) -> OpenPatterns | None: ...


class Remembers(Protocol):
    """What is remembered of channels: the `Journal` of a node, or what was read of its past."""

    @property
    def keeps(self) -> bool: ...

    def timeline(self, channel: str, epoch: str) -> Timeline | None: ...
