"""Why did a connection not get a publication: what is asked, and what there is to answer.

How the answer is found stands in `hub.core.explaining`.
"""

from dataclasses import dataclass
from enum import StrEnum


class Answer(StrEnum):
    """What became of one publication on its way to one connection."""

    WRITTEN = "written"
    QUEUED = "queued"
    DROPPED = "dropped"
    CONFLATED = "conflated"
    OWN = "own"
    LOST = "lost"
    EXPIRED = "expired"
    NOT_SUBSCRIBED = "not_subscribed"
    FORBIDDEN = "forbidden"
    CLOSED = "closed"
    NOT_PUBLISHED = "not_published"
    UNKNOWN = "unknown"


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
