"""Asks a small node what became of a publication, as an operator asks."""

from hub.core.forensics.question import Explanation, Question
from hub.core.publication import Position
from tests.core.subscribers import Subscriber


def head(reader: Subscriber, channel: str) -> Position:
    """Returns the head of the channel at the broker."""
    held = reader.node.memory.held(channel)
    assert held is not None
    return held[0]


def why(reader: Subscriber, channel: str, offset: int) -> Explanation:
    """Returns the hub's answer for one publication of the channel's present epoch."""
    now = head(reader, channel)
    return reader.node.explain(reader.session, Question(channel, now.epoch, offset, now.offset))
