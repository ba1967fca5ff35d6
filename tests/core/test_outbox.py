"""An outbox holds messages for a slow peer, and drops some or closes the
session when they are too many."""

import pytest

from hub.core.options import ChannelOptions, Namespaces, Overflow
from hub.core.publication import Position
from hub.errors import BadRequestError
from tests.core.small_node import Shape, SmallNode, limits
from tests.core.streams import read_lines
from tests.core.subscribers import Subscriber
from tests.support.stream import Push

DIE = ChannelOptions(overflow=Overflow.DISCONNECT)
KEYED = ChannelOptions(overflow=Overflow.LATEST_PER_KEY)
BARE = ChannelOptions(history_size=0)
NAMESPACES = Namespaces(ChannelOptions(), {"die": DIE, "key": KEYED, "bare": BARE})


def node_with(**changes: int) -> SmallNode:
    total = changes.pop("total", 1 << 30)
    shape = Shape(namespaces=NAMESPACES, limits=limits(**changes), outbox_total_bytes=total)
    return SmallNode(shape)


def gaps(pushes: list[Push]) -> list[tuple[object, object, object]]:
    return [(p.get("from"), p.get("to"), p["reason"]) for p in pushes if p["op"] == "gap"]


def offsets(pushes: list[Push], channel: str = "a") -> list[object]:
    return [p["offset"] for p in pushes if p["op"] == "message" and p["channel"] == channel]


def test_a_peer_that_takes_everything_has_no_outbox() -> None:
    """The bytes go straight to its link."""
    node = node_with()
    reader = Subscriber(node, "a")
    reader.publish("a", 5)
    assert reader.session.outbox is None
    assert offsets(reader.read()) == [1, 2, 3, 4, 5]


def test_the_newest_messages_are_kept_and_the_loss_is_announced_before_them() -> None:
    """The peer gets the frame in flight, one gap with the true range, and
    then the newest messages."""
    node = node_with(outbox_max_messages=3)
    reader = Subscriber(node, "a")
    reader.block()
    reader.publish("a", 1)  # in flight: a frame that was begun is finished
    for _ in range(9):
        reader.publish("a", 1)
    assert reader.session.dropped == 6
    pushes = reader.drain()
    assert gaps(pushes) == [(2, 7, "slow")]
    assert offsets(pushes) == [1, 8, 9, 10]
    assert reader.session.outbox is None
    assert node.outbox_budget.bytes == 0
    assert node.counters.dropped == {"drop_oldest": 6}


def test_items_that_are_never_dropped_make_no_message_too_many() -> None:
    """How a subscription starts: a reply, a reset, and what history does not have."""
    node = node_with(outbox_max_messages=1)
    node.publish("bare:a")
    node.publish("bare:a")
    reader = Subscriber(node)
    reader.block()
    reader.ping()  # in flight
    reader.subscribe("bare:a", since=Position("elsewhere", 3))
    reader.publish("bare:a", 1)
    assert not reader.session.closing
    reader.publish("bare:a", 1)
    pushes = reader.drain()
    assert [push["op"] for push in pushes] == ["reply", "reply", "gap", "gap", "gap", "message"]
    assert gaps(pushes)[1:] == [(1, 2, "expired"), (3, 3, "slow")]
    assert offsets(pushes, "bare:a") == [4]


def test_all_messages_that_a_new_epoch_drops_are_counted() -> None:
    """A reply before dropped messages stays owed, and makes the count no smaller."""
    node = node_with(outbox_max_messages=2)
    reader = Subscriber(node)
    reader.block()
    reader.ping()  # in flight
    reader.subscribe("a")
    for _ in range(5):
        reader.publish("a", 1)
    assert reader.session.dropped == 3
    node.begin_epoch("a")
    node.loop.settle()
    assert reader.session.dropped == 5
    assert [push["op"] for push in reader.drain()] == ["reply", "reply", "gap"]


def test_the_largest_ring_gives_way_when_the_sessions_bytes_are_short() -> None:
    """A quiet channel beside a busy one loses nothing."""
    node = node_with(outbox_max_bytes=2000)
    reader = Subscriber(node, "a", "b")
    reader.block()
    reader.publish("a", 1)
    reader.publish("b", 2)
    for _ in range(50):
        reader.publish("a", 1)
    assert reader.session.owed_bytes <= 2000
    pushes = reader.drain()
    assert offsets(pushes, "b") == [1, 2]
    ((first, last, reason),) = gaps(pushes)
    assert (first, reason) == (2, "slow")
    assert isinstance(last, int)
    assert offsets(pushes) == [1, *range(last + 1, 52)]


def test_messages_that_are_too_old_are_dropped_when_the_peer_takes_writes_again() -> None:
    """30 s; the newest are left."""
    node = node_with()
    reader = Subscriber(node, "a")
    reader.block()
    reader.publish("a", 3)
    node.clock.advance(20)
    reader.publish("a", 1)
    node.clock.advance(11)
    pushes = reader.drain()
    assert gaps(pushes) == [(2, 3, "slow")]
    assert offsets(pushes) == [1, 4]


def test_messages_that_are_too_old_are_dropped_when_more_come() -> None:
    """Messages are dropped before the peer takes anything, so memory is bounded by age as well."""
    node = node_with()
    reader = Subscriber(node, "a")
    reader.block()
    reader.publish("a", 3)
    node.clock.advance(31)
    reader.publish("a", 1)
    assert reader.session.dropped == 2


def test_latest_per_key_keeps_the_newest_of_each_key() -> None:
    """The other messages are announced as conflated, and are never filled."""
    node = node_with()
    reader = Subscriber(node, "key:a")
    reader.block()
    for key in (None, "x", "y", "x", "x", "y"):
        reader.publish("key:a", 1, key)
    pushes = reader.drain()
    assert gaps(pushes) == [(2, 4, "conflated")]
    assert offsets(pushes, "key:a") == [1, 5, 6]
    assert node.counters.dropped == {"latest_per_key": 3}


def test_disconnect_closes_with_4508_instead_of_dropping() -> None:
    """The frame in flight is finished; then comes a goodbye, and no gap."""
    node = node_with(outbox_max_messages=2)
    reader = Subscriber(node, "die:a")
    reader.block()
    for _ in range(4):
        reader.publish("die:a", 1)
    assert reader.session.closing
    pushes = reader.drain()
    assert offsets(pushes, "die:a") == [1]
    assert gaps(pushes) == []
    assert pushes[-1]["op"] == "goodbye"
    assert pushes[-1]["code"] == 4508
    assert "die:a does not drop" in str(pushes[-1]["reason"])


def test_replies_overtake_data_and_are_bounded() -> None:
    """A peer that asks and does not read is closed with 4508."""
    node = node_with(control_max_bytes=300)
    reader = Subscriber(node, "a")
    reader.block()
    reader.publish("a", 2)
    reader.ping()
    early = reader.drain()
    assert [p["op"] for p in early] == ["message", "reply", "message"]
    reader.block()
    reader.publish("a", 1)
    while not reader.session.closing:
        assert reader.session.owed_bytes <= 300
        reader.ping()
    assert reader.drain()[-1]["code"] == 4508


def test_errors_are_brief_while_the_peer_takes_nothing() -> None:
    """Errors for 256 commands that were sent before anything is read close no session.

    Each is brief, however much of the command it repeats; a peer that reads is told more.
    """
    node = SmallNode()
    reader = Subscriber(node)
    long = BadRequestError("é" * 2000, command_id="c" * 20)
    reader.block()
    for _ in range(256):
        node.commands.refuse(reader.session, long)
    assert not reader.session.closing
    replies = [push for push in reader.drain() if push["op"] == "reply"]
    assert len(replies) == 256
    for reply in replies[1:]:  # the first finds out that the peer takes nothing
        error = reply["error"]
        assert isinstance(error, dict)
        assert error["message"] == "é" * 48 + "..."
        assert (error["code"], reply["id"]) == ("bad_request", "c" * 20)
    node.commands.refuse(reader.session, long)
    (whole,) = reader.read()
    assert isinstance(whole["error"], dict)
    assert len(str(whole["error"]["message"])) > 1000


def test_at_the_process_bound_the_session_owed_most_is_closed() -> None:
    """The other session loses nothing."""
    node = node_with(total=3000)
    small, large = Subscriber(node, "a"), Subscriber(node, "a", "b")
    small.block()
    large.block()
    small.publish("a", 5)
    while not large.session.closing:
        large.publish("b", 1)
    assert not small.session.closing
    assert node.outbox_budget.bytes == small.session.owed_bytes <= 3000
    assert large.drain()[-1]["code"] == 4508
    assert offsets(small.drain()) == [1, 2, 3, 4, 5]


def test_replies_count_towards_the_process_bound() -> None:
    """Heartbeats and replies to peers that do not read are memory too."""
    node = node_with(total=400)
    reader = Subscriber(node, "a")
    reader.block()
    reader.publish("a", 1)
    for _ in range(30):
        reader.ping()
        assert node.outbox_budget.bytes <= 400
    assert reader.session.closing


@pytest.mark.parametrize("step", [1, 7, 100])
def test_a_frame_is_never_cut_in_two_however_slowly_the_peer_reads(step: int) -> None:
    """The rest of a started frame goes out before anything else, whatever is dropped."""
    node = node_with(outbox_max_messages=2)
    reader = Subscriber(node, "a")
    reader.block()
    for _ in range(30):
        reader.publish("a", 1)
        reader.link.drain(step)
        reader.link.room = 0
    reader.drain()
    assert read_lines(bytearray(reader.link.received))[-1]["offset"] == 30
    assert reader.link.received.endswith(b"\n")


def test_channels_take_turns_when_much_is_owed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One channel's backlog does not hold up another's for long."""
    monkeypatch.setattr("hub.core.session.outbox.CHUNK_BYTES", 1)
    node = node_with()
    reader = Subscriber(node, "a", "b")
    reader.block()
    reader.publish("a", 4)
    reader.publish("b", 3)
    channels = [p["channel"] for p in reader.drain()]
    assert channels == ["a", "a", "b", "a", "b", "a", "b"]


def test_a_channel_joined_again_stays_behind_what_its_first_time_is_owed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The new reply comes after the old one, also where other channels take turns."""
    monkeypatch.setattr("hub.core.session.outbox.CHUNK_BYTES", 1)
    node = node_with()
    reader = Subscriber(node, "a")
    reader.block()
    reader.publish("a", 4)
    reader.unsubscribe("a")
    reader.subscribe("a")
    reader.publish("a", 2)
    ops = [p["op"] for p in reader.drain()]
    assert ops == ["message"] * 4 + ["reply"] * 2 + ["message"] * 2
