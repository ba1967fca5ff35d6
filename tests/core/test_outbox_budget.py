"""What waits for peers is counted wherever it waits, and bounded for all together."""

import pytest

from hub.core.commands import History, Ping
from hub.core.options import MIB, ChannelOptions, Namespaces
from hub.core.session.outbox import ABORT_FROM_BYTES
from tests.core.small_node import Shape, SmallNode
from tests.core.subscribers import Subscriber

LONG = Namespaces(ChannelOptions(history_size=1000))


def node_with_history(total_bytes: int) -> SmallNode:
    """A megabyte can be asked for."""
    node = SmallNode(Shape(LONG, outbox_total_bytes=total_bytes))
    for _ in range(30):
        node.publish("a", b'"' + b"x" * 50_000 + b'"')
    return node


def deaf(node: SmallNode, room: int = 20_000) -> Subscriber:
    """Its kernel takes `room` bytes and then no more."""
    reader = Subscriber(node)
    reader.link.room = room
    return reader


def test_a_large_reply_that_the_transport_holds_is_counted() -> None:
    """Until the peer has taken it; of whom it is shows as well."""
    node = node_with_history(100 * MIB)
    readers = [deaf(node) for _ in range(5)]
    for reader in readers:
        node.do(reader.session, History(1, "a", limit=1000))
    waiting = sum(len(reader.link.pending) for reader in readers)
    assert waiting > 4_500_000
    assert node.outbox_budget.total_bytes == waiting
    assert readers[0].session.held_bytes == len(readers[0].link.pending)
    for reader in readers:
        reader.drain()
    assert node.outbox_budget.total_bytes == 0
    assert not node.outbox_budget.sessions


def test_replies_that_nobody_reads_are_bounded_for_all_together() -> None:
    """Whoever is owed most is closed; what it held is held no longer."""
    node = node_with_history(5 * MIB)
    small = deaf(node)
    node.do(small.session, Ping(1))
    readers = [deaf(node) for _ in range(20)]
    for reader in readers:
        node.do(reader.session, History(1, "a", limit=1000))
        for other in readers:
            if other.link.aborted:
                other.session.lost(1006, "gone")
        assert node.outbox_budget.total_bytes <= 5 * MIB
    ended = [reader for reader in readers if reader.session.closing]
    assert len(ended) >= 15
    assert all(reader.link.aborted for reader in ended)
    assert not small.session.closing
    assert node.counters.closed == {"4508": len(ended)}


@pytest.mark.parametrize("end", ["lost", "closed"])
def test_what_a_closed_session_has_in_its_transport_counts_until_it_is_gone(end: str) -> None:
    """But closes nobody else: it goes by itself."""
    node = node_with_history(3 * MIB)
    reader = deaf(node)
    node.do(reader.session, History(1, "a", limit=1000))
    held = node.outbox_budget.total_bytes
    if end == "closed":
        reader.session.close(1012, "draining")
        assert node.outbox_budget.leaving_bytes == held == node.outbox_budget.total_bytes
        assert node.outbox_budget.handed_bytes == 0
    reader.session.lost(1006, "gone")
    assert node.outbox_budget.total_bytes == 0
    assert not node.outbox_budget.sessions


def test_a_reader_that_is_closed_for_others_sake_hears_why() -> None:
    """Where its transport holds little: a slow subscriber of small messages."""
    node = SmallNode(Shape(LONG, outbox_total_bytes=20_000))
    reader = Subscriber(node, "a")
    reader.block()
    reader.publish("a", 1)
    for _ in range(60):
        node.publish("a", b'"' + b"x" * 500 + b'"')
        node.loop.settle()
    assert reader.session.closing
    assert not reader.link.aborted
    assert reader.drain()[-1]["code"] == 4508


def test_a_transport_that_takes_all_at_once_is_given_slices() -> None:
    """As TLS does: what it holds beyond the first slice is known."""
    node = node_with_history(100 * MIB)
    reader = Subscriber(node)
    link, taken = reader.link, list[int]()
    send = link.send

    def takes_whole_frames_while_it_owes_nothing(data: bytes) -> int:
        if sum(taken) > 0 and data:
            return 0
        taken.append(len(data))
        return send(data)

    link.send = takes_whole_frames_while_it_owes_nothing  # type: ignore[method-assign]  # like TLS
    link.room = 1 << 30
    pending: list[int] = []
    link.finish = lambda rest: pending.append(len(rest))  # type: ignore[method-assign]  # it waits
    node.do(reader.session, History(1, "a", limit=1000))
    assert taken == [64 * 1024]
    assert node.outbox_budget.total_bytes == sum(pending) > ABORT_FROM_BYTES
