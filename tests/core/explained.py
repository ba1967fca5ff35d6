"""What a small node explains, asked as an operator asks."""

from hub.core.forensics.question import Explanation, Question
from hub.core.publication import Position
from tests.core.subscribers import Subscriber


def head(reader: Subscriber, channel: str) -> Position:
    """Where the channel is now, at the broker."""
    held = reader.node.memory.held(channel)
    assert held is not None
    return held[0]


def why(reader: Subscriber, channel: str, offset: int) -> Explanation:
    """What the hub says of one publication of the channel's epoch of now."""
    now = head(reader, channel)
    return reader.node.explain(reader.session, Question(channel, now.epoch, offset, now.offset))
