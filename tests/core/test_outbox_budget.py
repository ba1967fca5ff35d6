"""Bytes that wait for peers are counted wherever they wait, and bounded
for all sessions together."""

import pytest

from hub.core.commands import History, Ping
from hub.core.options import MIB, ChannelOptions, Namespaces
from hub.core.session import outbox_budget
from hub.core.session.outbox_budget import ABORT_FROM_BYTES, OutboxBudget
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
    """Returns a reader whose kernel takes `room` bytes and then no more."""
    reader = Subscriber(node)
    reader.link.room = room
    return reader


def test_a_large_reply_that_the_transport_holds_is_counted() -> None:
    """The reply counts until the peer has taken it, and the session that it belongs to is shown."""
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
    """The session that is owed most is closed, and its bytes no longer count."""
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
def test_bytes_in_the_transport_of_a_closed_session_count_until_it_is_gone(end: str) -> None:
    """The bytes close no other session, because they go by themselves."""
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
    """A reader whose transport holds little, such as a slow subscriber of small
    messages, still gets the goodbye."""
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
    """TLS is such a transport: the bytes that it holds beyond the first slice are known."""
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


class Owing:
    """A session's outbox with one frame, which counts how often its age is asked for."""

    def __init__(self, at_seconds: float | None) -> None:
        self.at_seconds = at_seconds
        self.forgiven_seconds = 0.0
        self.asked = 0

    def oldest_at(self) -> float | None:
        self.asked += 1
        return self.at_seconds


class Reader:
    """A session that is owed so many bytes."""

    handed_bytes = 0

    def __init__(self, budget: OutboxBudget, held_bytes: int, at_seconds: float | None) -> None:
        self.outbox = Owing(at_seconds)
        self.looked_at = 0
        self.closed = False
        self._budget = budget
        self._held_bytes = held_bytes
        budget.bytes += held_bytes
        budget.sessions[self] = None

    @property
    def held_bytes(self) -> int:
        self.looked_at += 1
        return self._held_bytes

    def close_slow(self, reason: str) -> None:
        del reason
        self.closed = True
        self._budget.bytes -= self._held_bytes
        self._budget.leaves(self)

    def abort(self) -> None:
        raise AssertionError("nothing is handed over")


def test_several_sessions_that_are_closed_for_memory_are_found_in_one_look() -> None:
    """The largest go, and no more than it takes. A look for each made 50 closes one step of 59 ms.

    Their bytes: 0 to 99. Those of 90 to 99 are 945 together.
    """
    budget = OutboxBudget(1 << 30)
    readers = [Reader(budget, (number * 37) % 100, 1.0) for number in range(100)]
    budget.max_bytes = budget.bytes - 945 + 90
    budget.relieve()
    assert sorted(reader._held_bytes for reader in readers if reader.closed) == list(range(91, 100))
    assert max(reader.looked_at for reader in readers) == 1


def test_the_age_of_very_many_owed_frames_is_looked_for_in_rounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With 15,000 slow readers, looking at all of them each second took a step of 25 ms."""
    monkeypatch.setattr(outbox_budget, "LOOKED_AT_ONCE", 4)
    budget = OutboxBudget(1 << 30)
    readers = [Reader(budget, 1, 100.0 + number) for number in range(10)]

    def looks() -> int:
        return sum(reader.outbox.asked for reader in readers)

    for _ in range(3):
        before = looks()
        budget.look()
        assert looks() - before <= 4
    assert budget.oldest_at() == 100.0
    assert looks() == 10
    readers[0].outbox.at_seconds = None
    for _ in range(6):
        budget.look()
    assert budget.oldest_at() == 101.0
    for reader in readers[3:]:
        reader.close_slow("gone")
    budget.look()
    assert budget.oldest_at() == 101.0
    for reader in readers[:3]:
        reader.close_slow("gone")
    budget.look()
    assert budget.oldest_at() is None
