"""History is read as fast as the peer takes it, and the stream goes live without a seam."""

from typing import cast

import pytest
from msgspec.structs import replace

from hub.core.commands import Subscribe
from hub.core.forensics.answers import Fate
from hub.core.forensics.question import Question
from hub.core.options import ChannelOptions, Namespaces
from hub.core.ports import PAGE_BYTES, HistoryPage, PublishRequest, PublishResult
from hub.core.publication import Position
from hub.core.recovery.replay import SMALL_PAGE_BYTES, Replay
from hub.errors import UnavailableError
from tests.core.small_node import Shape, SmallNode, limits
from tests.core.subscribers import Subscriber
from tests.support.stream import Push

LONG = Namespaces(ChannelOptions(history_size=1000), {"short": ChannelOptions(history_size=3)})


def node_with(count: int, channel: str = "a", *, latent: bool = False) -> SmallNode:
    node = SmallNode(Shape(LONG, limits=limits(outbox_max_messages=5), latent=latent))
    for _ in range(count):
        node.publish(channel)
    return node


def beginning(node: SmallNode, channel: str = "a") -> Position:
    held = node.memory.held(channel)
    assert held is not None
    return Position(held[0].epoch, 0)


def stream(pushes: list[Push]) -> list[object]:
    """Offsets, and the ranges of gaps."""
    return [
        push["offset"] if push["op"] == "message" else (push["from"], push["to"], push["reason"])
        for push in pushes
        if push["op"] in {"message", "gap"}
    ]


def test_a_replay_larger_than_the_outbox_is_paged_not_dropped() -> None:
    """A peer that takes little at a time gets all of it, and next to nothing is queued."""
    node = node_with(500)
    reader = Subscriber(node)
    reader.link.room = 300
    reader.subscribe("a", since=beginning(node))
    seen: list[Push] = []
    for _ in range(1000):
        assert reader.session.owed_bytes == 0
        assert len(reader.link.pending) < 200
        reader.link.drain(90)
        node.loop.settle()
        seen += reader.read()
    assert stream(seen) == list(range(1, 501))
    assert node.counters.replayed == 500


def test_publications_during_a_replay_follow_it_once() -> None:
    """The cursor meets the head, wherever that has got to."""
    node = node_with(200, latent=True)
    reader = Subscriber(node)
    node.commands.submit(reader.session, Subscribe(1, "a", since=beginning(node)))
    for _ in range(60):
        node.loop.step()
        node.publish("a")
        node.loop.turn()
    node.loop.settle()
    assert stream(reader.read()) == list(range(1, 261))
    assert reader.session.subscriptions["a"].state == "live"


def test_history_trimmed_under_a_replay_is_announced_as_expired() -> None:
    """The gap has the exact range, and stands where the publications would have stood."""
    node = node_with(3, "short:a")
    reader = Subscriber(node, "b")
    reader.block()
    reader.publish("b", 1)
    reader.subscribe("short:a", since=beginning(node, "short:a"))
    for _ in range(4):
        node.publish("short:a")
    node.loop.settle()
    pushes = [push for push in reader.drain() if push["op"] != "message" or push["offset"] != 1]
    assert stream(pushes) == [(1, 4, "expired"), 5, 6, 7]
    assert node.counters.gaps == {"expired": 1}


def test_a_page_that_was_read_before_more_came_declares_nothing_expired() -> None:
    """An empty page says only that history held nothing then."""
    node = node_with(1, "short:a", latent=True)
    place = beginning(node, "short:a")
    node.clock.advance(301)
    reader = Subscriber(node)
    node.commands.submit(reader.session, Subscribe(1, "short:a", since=place))
    while not reader.session.replay_running:
        node.loop.step()
    node.loop.step()
    node.publish("short:a")
    node.loop.turn()
    node.loop.settle()
    assert stream(reader.read()) == [(1, 1, "expired"), 2]


@pytest.mark.parametrize("read_before", [True, False])
def test_a_page_that_an_epoch_ended_under_is_not_sent(read_before: bool) -> None:
    """The reset was told while it was asked for: its offsets, or the one after which it was
    read, belong to nothing any more."""
    node = node_with(5, latent=True)
    reader = Subscriber(node)
    place = Position(beginning(node).epoch, 3)
    node.commands.submit(reader.session, Subscribe(1, "a", since=place))
    while not reader.session.replay_running:
        node.loop.step()
    if read_before:
        node.loop.step()
    node.begin_epoch("a")
    node.publish("a", b'"new"')
    node.loop.settle()
    pushes = reader.read()
    assert [push["op"] for push in pushes] == ["reply", "gap", "message"]
    assert (pushes[1]["reason"], pushes[2]["data"]) == ("reset", "new")


def test_leaving_during_a_replay_ends_it() -> None:
    """Nothing comes behind the reply, and joining again starts afresh."""
    node = node_with(300, latent=True)
    reader = Subscriber(node)
    node.commands.submit(reader.session, Subscribe(1, "a", since=beginning(node)))
    while not reader.link.received.count(b"message"):
        node.loop.step()
    reader.unsubscribe("a")
    assert reader.read()[-1]["op"] == "reply"
    assert reader.session.replaying == []
    reader.subscribe("a", last=2)
    assert stream(reader.read()) == [299, 300]


def test_a_filled_subscription_gets_everything_a_slow_reader_missed() -> None:
    """They come from history, in order and without a gap, and the outbox holds none of them."""
    node = node_with(0)
    reader = Subscriber(node)
    reader.subscribe("a", fill=True)
    reader.read()
    reader.block()
    reader.publish("a", 50)
    assert reader.session.owed_bytes == 0
    assert reader.session.subscriptions["a"].state == "replaying"
    assert stream(reader.drain()) == list(range(1, 51))
    reader.publish("a", 1)
    assert stream(reader.read()) == [51]


@pytest.mark.parametrize("fill", [False, True])
def test_ones_own_publications_are_not_replayed_either(fill: bool) -> None:
    """They come neither from history nor after congestion, and make no gap."""
    node = node_with(1)
    reader = Subscriber(node)
    reader.subscribe("a", last=0, fill=fill)
    reader.block()
    for own in (None, reader.session.id, None, reader.session.id):
        node.request(PublishRequest("a", b"1", "p", skip_connection=own))
        node.loop.settle()
    assert stream(reader.drain()) == [2, 4]
    reader.unsubscribe("a")
    reader.subscribe("a", last=5)
    assert stream(reader.read()) == [1, 2, 4]


def test_a_broker_that_cannot_be_read_ends_the_session_with_a_code_to_come_back_on() -> None:
    """The peer resumes by position elsewhere or later."""
    node = node_with(100)
    reader = Subscriber(node, "b")
    reader.block()
    reader.publish("b", 1)
    reader.subscribe("a", since=beginning(node))

    async def unavailable(*_: object, **__: object) -> None:
        raise UnavailableError("away")

    node.memory.history = unavailable  # type: ignore[method-assign,assignment]  # a broker that is away
    assert reader.drain()[-1]["code"] == 1013


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_a_reply_counts_what_the_epoch_holds_that_began_meanwhile(steps: int) -> None:
    """The number of publications that history held of the former epoch is not counted."""
    node = node_with(5, "short:a", latent=True)
    place = Position(beginning(node, "short:a").epoch, 4)
    witness, reader = Subscriber(node, "short:a"), Subscriber(node)
    node.commands.submit(reader.session, Subscribe(1, "short:a", since=place))
    for _ in range(steps):
        node.loop.step()
    node.begin_epoch("short:a")
    node.publish("short:a", b'"new"')
    node.loop.settle()
    reply, gap, message = reader.read()
    assert isinstance(reply["ok"], dict)
    assert reply["ok"]["replayed"] == 1
    assert (gap["reason"], message["data"]) == ("reset", "new")
    assert [push["op"] for push in witness.read()] == ["gap", "message"]


def test_a_publication_in_history_that_was_never_valid_is_not_called_expired(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The gap is `invalid`, as for members that were there; publications that history
    let go of are `expired`."""
    node = node_with(5, "short:a")
    read = node.memory.history

    async def history(
        channel: str, after: int, limit: int, *, max_bytes: int = PAGE_BYTES
    ) -> HistoryPage:
        page = await read(channel, after, limit, max_bytes=max_bytes)
        valid = tuple(item for item in page.publications if item.offset not in {4, 5})
        return replace(page, publications=valid, invalid=(4, 5))

    monkeypatch.setattr(node.memory, "history", history)
    reader = Subscriber(node)
    reader.subscribe("short:a", since=beginning(node, "short:a"))
    assert stream(reader.read()) == [(1, 2, "expired"), 3, (4, 5, "invalid")]
    held = node.memory.held("short:a")
    assert held is not None
    question = Question("short:a", held[0].epoch, 4, 5)
    assert node.explain(reader.session, question).answer is Fate.LOST


def count_read(node: SmallNode) -> list[int]:
    """The bytes of data that each page of history had, as they are read."""
    read, sizes = node.memory.history, []

    async def history(
        channel: str, after: int, limit: int, *, max_bytes: int = PAGE_BYTES
    ) -> HistoryPage:
        page = await read(channel, after, limit, max_bytes=max_bytes)
        sizes.append(sum(len(publication.data) for publication in page.publications))
        return page

    node.memory.history = history  # type: ignore[method-assign]  # what is read, counted
    return sizes


def read_slowly(node: SmallNode, reader: Subscriber, *, at_a_time: int) -> list[object]:
    """The stream of a peer that takes so many bytes at a time, to its end."""
    reader.link.room = at_a_time
    reader.subscribe("a", since=beginning(node))
    seen: list[Push] = []
    while reader.session.subscriptions["a"].state != "live":
        reader.link.drain(at_a_time)
        node.loop.settle()
        seen += reader.read()
    return stream(seen + reader.drain())


@pytest.mark.parametrize("at_a_time", [90, 1500, 20_000])
def test_a_slow_reader_costs_the_broker_no_more_than_a_fast_one(at_a_time: int) -> None:
    """The part of a page that the peer has not taken is kept and not read again."""
    node = node_with(0)
    for number in range(300):
        node.publish("a", b'"%0998d"' % number)
    sizes = count_read(node)
    assert read_slowly(node, Subscriber(node), at_a_time=at_a_time) == list(range(1, 301))
    assert sum(sizes) <= 300 * 1000
    assert max(sizes) <= PAGE_BYTES
    assert node.replay.kept_bytes == 0


def test_pages_kept_for_slow_readers_are_bounded_for_all_together() -> None:
    """Above the bound small pages are read again, and no reader misses anything."""
    node = node_with(0)
    node.replay = Replay(node.broker, node.counters, node.journal, max_kept_bytes=60_000)
    for number in range(100):
        node.publish("a", b'"%0998d"' % number)
    sizes = count_read(node)
    readers = [Subscriber(node) for _ in range(20)]
    for reader in readers:
        reader.link.room = 100
        reader.subscribe("a", since=beginning(node))
    assert node.replay.kept_bytes <= 60_000 + PAGE_BYTES
    assert sizes[-1] <= SMALL_PAGE_BYTES
    for reader in readers:
        assert stream(reader.drain()) == list(range(1, 101))
    assert node.replay.kept_bytes == 0


@pytest.mark.parametrize("end", ["close", "unsubscribe", "reset"])
def test_pages_kept_for_a_replay_go_when_it_ends(end: str) -> None:
    """They go however the replay ends, and later publications come as if nothing had been kept."""
    node = node_with(0)
    for number in range(50):
        node.publish("a", b'"%0998d"' % number)
    reader = Subscriber(node)
    reader.link.room = 2500
    reader.subscribe("a", since=beginning(node))
    assert node.replay.kept_bytes > 0
    if end == "close":
        reader.session.close(1000, "enough")
    elif end == "unsubscribe":
        reader.unsubscribe("a")
    else:
        node.begin_epoch("a")
        node.loop.settle()
    assert node.replay.kept_bytes == 0
    if end == "reset":
        node.publish("a", b'"new"')
        node.loop.settle()
        reset, message = reader.drain()[-2:]
        assert (reset["reason"], message["data"]) == ("reset", "new")


@pytest.mark.parametrize("latent", [False, True])
def test_the_newest_n_of_a_channel_that_keeps_n_begin_at_the_oldest_that_is_there(
    *, latent: bool
) -> None:
    """History goes on between two questions to the broker: no gap, and the answer says where."""
    node = node_with(10, "short:a", latent=latent)
    read = node.memory.history
    gone_on: list[PublishResult] = []

    async def history(
        channel: str, after: int, limit: int, *, max_bytes: int = PAGE_BYTES
    ) -> HistoryPage:
        if limit > 1 and not gone_on:
            gone_on.append(node.publish("short:a"))
        return await read(channel, after, limit, max_bytes=max_bytes)

    node.memory.history = history  # type: ignore[method-assign]  # what happens meanwhile
    reader = Subscriber(node)
    reader.subscribe("short:a", last=3)
    pushes = reader.drain()
    [answer] = [cast("Push", push["ok"]) for push in pushes if push["op"] == "reply"]
    assert stream(pushes) == [9, 10, 11]
    assert (str(answer["position"]).rpartition(":")[2], answer["replayed"]) == ("8", 2)


def test_the_newest_n_wait_for_their_turn_without_a_gap() -> None:
    """A second channel is replayed when the peer has taken the first; its history goes on."""
    node = node_with(60, "long:a")
    for _ in range(10):
        node.publish("short:b")
    reader = Subscriber(node)
    reader.link.room = 300
    reader.subscribe("long:a", last=60)
    reader.subscribe("short:b", last=3)
    node.publish("short:b")
    node.publish("short:b")
    pushes = reader.drain()
    theirs = [push for push in pushes if push.get("channel") == "short:b"]
    assert stream(theirs) == [8, 9, 10, 11, 12]
