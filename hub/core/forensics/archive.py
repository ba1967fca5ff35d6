"""The border to where notes go that are to stay longer than memory keeps them.

The journal hands on what it notes (`Archive`), in calls that append to a list and do nothing else.
Who explains asks for what was handed on (`Recall`). Where it is kept, and how, is not known here.
"""

from collections.abc import Sequence
from typing import Protocol

from hub.core.forensics.noted import ClosedSession, Event, Notes
from hub.core.forensics.timeline import Timeline


class Archive(Protocol):
    """Is told by the journal; none of it waits, or costs more than an append."""

    def noted(self, connection: str, event: Event) -> None:
        """A new event, which may grow for a second."""
        ...

    def sent(self, timeline: Timeline) -> None:
        """The timeline has a new mark, or a loss."""
        ...

    def ended(self, gone: ClosedSession) -> None: ...


class Recall(Protocol):
    """What was handed on. What cannot be read is not there: nothing here raises."""

    async def visits(
        self, subject: str, *, from_seconds: float, to_seconds: float, limit: int
    ) -> Sequence[ClosedSession]:
        """The subject's connections that were open in that time and have ended, newest last."""
        ...

    async def visit(self, connection: str) -> ClosedSession | None:
        """A connection that has ended."""
        ...

    async def notes(self, connection: str, since_seconds: float) -> Notes | None:
        """All that was noted of a connection that opened at that time; None where that cannot be
        read."""
        ...

    async def sending(
        self, channel: str, epoch: str, *, from_seconds: float, to_seconds: float
    ) -> Timeline | None:
        """When what was sent in that time was sent."""
        ...

    async def sending_of(self, channel: str, epoch: str, offset: int) -> Timeline | None:
        """When a publication was sent, with what was sent around it."""
        ...
