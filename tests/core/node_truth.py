"""Knows what happened on a small node, for tests that check what its peers were told."""

from collections.abc import Iterable

from hub.core.options import ChannelOptions, Namespaces, Overflow
from hub.core.ports import PublishRequest
from hub.core.session.ring import Entry, Ring
from tests.core.small_node import SmallNode

NAMESPACES = Namespaces(
    ChannelOptions(history_size=100),
    {
        "short": ChannelOptions(history_size=3),
        "none": ChannelOptions(history_size=0),
        "key": ChannelOptions(history_size=5, overflow=Overflow.LATEST_PER_KEY),
        "die": ChannelOptions(history_size=4, overflow=Overflow.DISCONNECT),
        "here": ChannelOptions(history_size=4, presence=True),
    },
)


def entries(ring: Ring) -> list[Entry]:
    """Returns the ring's entries without those that a newer publication replaced."""
    waiting = [entry for entry in ring._entries if entry.offset not in ring._conflated]
    return waiting + [entry for _, entry in ring._kept]


class NodeTruth:
    """`tests.core.streams.Truth`, from the broker's notes."""

    def __init__(self, node: SmallNode) -> None:
        self._node = node
        self._notes = node.memory.notes

    def at(self, channel: str, epoch: str, offset: int) -> PublishRequest:
        return self._notes[channel, epoch][offset]

    def later(self, channel: str, epoch: str, offset: int) -> Iterable[PublishRequest]:
        known = self._notes.get((channel, epoch), {})
        return [request for other, request in known.items() if other > offset]

    def lost(self, channel: str, epoch: str, offset: int) -> bool:
        return (channel, epoch, offset) in self._node.lost_offsets

    def oldest(self, channel: str, epoch: str) -> int | None:
        return self._node.memory.oldest(channel, epoch)

    def conflates(self, channel: str) -> bool:
        return NAMESPACES.options(channel).overflow is Overflow.LATEST_PER_KEY
