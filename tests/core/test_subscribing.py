"""Joining and leaving: answers in the stream, seams without repeat or hole."""

import asyncio

import pytest

from hub.core.commands import Subscribe, Unsubscribe
from hub.core.identity import Identity
from hub.core.options import ChannelOptions, Namespaces
from hub.core.ports import Defer, DirectoryBroker, OnOpen, PublishRequest, PublishResult
from hub.core.publication import ENDS, Position
from hub.errors import UnavailableError
from hub.wire.sse import SeveralSseDialect, SseDialect
from tests.core.fakes import LatentBroker, Pause
from tests.core.small_node import Shape, SmallNode, limits
from tests.core.streams import read_sse
from tests.core.subscribers import Subscriber
from tests.support.stream import Push


def offsets(pushes: list[Push]) -> list[object]:
    return [push["offset"] for push in pushes if push["op"] == "message"]


def ok(push: Push) -> dict[str, object]:
    assert push["op"] == "reply"
    found = push["ok"]
    assert isinstance(found, dict)
    return found


def code(push: Push) -> object:
    error = push["error"]
    assert isinstance(error, dict)
    return error["code"]


def test_the_reply_comes_first_and_says_where_the_stream_starts() -> None:
    """The reply comes before the first message; nothing was asked for, so nothing is missing."""
    node = SmallNode()
    node.publish("a")
    reader = Subscriber(node)
    reader.subscribe("a")
    node.publish("a")
    node.loop.settle()
    reply, message = reader.read()
    position = str(node.channels["a"].epoch) + ":1"
    assert ok(reply) == {"channel": "a", "position": position, "recovered": True, "replayed": 0}
    assert message["offset"] == 2


def test_since_replays_exactly_what_was_missed() -> None:
    node = SmallNode()
    places = [node.publish("a").position for _ in range(5)]
    reader = Subscriber(node)
    reader.subscribe("a", since=places[1])
    reply, *rest = reader.read()
    assert ok(reply)["position"] == str(places[1])
    assert (ok(reply)["recovered"], ok(reply)["replayed"]) == (True, 3)
    assert offsets(rest) == [3, 4, 5]


def test_last_replays_the_newest() -> None:
    """They are as many as asked for; if there were fewer ever, that is all."""
    node = SmallNode()
    for _ in range(5):
        node.publish("a")
    reader = Subscriber(node)
    reader.subscribe("a", last=2)
    assert offsets(reader.read()) == [4, 5]
    reader.unsubscribe("a")
    reader.read()
    reader.subscribe("a", last=50)
    reply, *rest = reader.read()
    assert (ok(reply)["recovered"], ok(reply)["replayed"]) == (True, 5)
    assert offsets(rest) == [1, 2, 3, 4, 5]


def test_publications_that_history_no_longer_has_are_announced_before_the_rest() -> None:
    """The reply says that it is not recovered, and the gap names the range."""
    node = SmallNode(Shape(Namespaces(ChannelOptions(history_size=2))))
    first = node.publish("a").position
    for _ in range(4):
        node.publish("a")
    reader = Subscriber(node)
    reader.subscribe("a", since=first)
    reply, gap, *rest = reader.read()
    assert (ok(reply)["recovered"], ok(reply)["replayed"]) == (False, 2)
    assert (gap["reason"], gap["from"], gap["to"]) == ("expired", 2, 3)
    assert offsets(rest) == [4, 5]


def test_without_history_everything_since_is_announced_as_expired() -> None:
    """The subscription is live at once, also for a peer that takes nothing just now."""
    node = SmallNode(Shape(Namespaces(ChannelOptions(history_size=0))))
    first = node.publish("a").position
    node.publish("a")
    reader = Subscriber(node, "b")
    reader.block()
    reader.publish("b", 1)
    reader.subscribe("a", since=first)
    reader.publish("a", 1)
    pushes = [push for push in reader.drain() if push.get("channel") != "b"]
    assert [push["op"] for push in pushes] == ["reply", "gap", "message"]
    assert (pushes[1]["reason"], pushes[1]["from"], pushes[1]["to"]) == ("expired", 2, 2)
    assert pushes[2]["offset"] == 3


@pytest.mark.parametrize("offset", [0, 3, 999])
def test_another_epoch_is_reset_and_what_is_held_follows(offset: int) -> None:
    """The offset in the old epoch does not matter."""
    node = SmallNode()
    for _ in range(2):
        node.publish("a")
    reader = Subscriber(node)
    reader.subscribe("a", since=Position("before", offset))
    reply, reset, *rest = reader.read()
    epoch = node.channels["a"].epoch
    assert ok(reply) == {
        "channel": "a", "position": f"{epoch}:0", "recovered": False, "replayed": 2,
    }  # fmt: skip
    assert (reset["reason"], reset["position"]) == ("reset", f"{epoch}:0")
    assert offsets(rest) == [1, 2]


def test_a_position_that_was_never_given_out_is_reset_to_the_head() -> None:
    node = SmallNode()
    place = node.publish("a").position
    reader = Subscriber(node)
    reader.subscribe("a", since=Position(place.epoch, 7))
    reply, reset = reader.read()
    assert ok(reply)["recovered"] is False
    assert reset["position"] == str(place)


def test_a_position_from_a_node_that_is_ahead_is_not_reset() -> None:
    """A publication that the subscriber already has is still on its way to this node, and
    is skipped when it comes."""
    node = SmallNode()
    Subscriber(node, "a")
    node.publish("a")
    node.loop.settle()
    channel = node.channels["a"]
    node.memory.unsubscribe("a")
    places = [node.publish("a").position for _ in range(2)]
    assert (channel.offset, places[0].offset) == (1, 2)
    reader = Subscriber(node)
    reader.subscribe("a", since=places[0])
    reply, *rest = reader.read()
    assert ok(reply)["position"] == str(places[0])
    assert (ok(reply)["recovered"], ok(reply)["replayed"]) == (True, 1)
    assert offsets(rest) == [3]
    for late in asyncio.run(node.memory.history("a", 1, 2)).publications:
        node.downstream.deliver(late)
    asyncio.run(node.memory.subscribe("a", lambda _head: None))
    node.publish("a")
    node.loop.settle()
    assert [(push["op"], push.get("offset")) for push in reader.read()] == [("message", 4)]


def test_a_congested_session_that_joins_late_is_told_of_no_gap() -> None:
    """Publications from before the session joined were never owed to it."""
    node = SmallNode()
    reader = Subscriber(node, "b")
    for _ in range(9):
        node.publish("a")
    reader.block()
    reader.publish("b", 1)
    reader.subscribe("a")
    reader.publish("a", 1)
    pushes = reader.drain()
    assert [push["op"] for push in pushes] == ["message", "reply", "message"]
    assert pushes[-1]["offset"] == 10


def test_a_newcomer_that_waits_for_history_keeps_the_channel_open() -> None:
    """The last member may leave meanwhile; the newcomer must not be left on a dead channel."""
    node = SmallNode(Shape(latent=True))
    first = Subscriber(node, "a")
    place = node.publish("a").position
    node.loop.settle()
    second = Subscriber(node)
    node.commands.submit(second.session, Subscribe(1, "a", since=place))
    node.loop.step()
    first.session.lost(1006, "gone")
    node.loop.settle()
    node.publish("a")
    node.loop.settle()
    assert offsets(second.read()) == [2]


class UnevenBroker(LatentBroker):
    """The first who asks is answered at once, the second much later."""

    def __init__(self, broker: DirectoryBroker, defer: Defer) -> None:
        super().__init__(broker, defer)
        self._waits = [1, 6]

    async def subscribe(self, channel: str, on_open: OnOpen) -> None:
        for _ in range(self._waits.pop(0)):
            await Pause()
        await self._broker.subscribe(channel, on_open)


@pytest.mark.parametrize("first_leaves", [False, True])
def test_two_who_open_a_channel_at_once_are_both_served(first_leaves: bool) -> None:
    """The broker's answer to the second must not replace the channel that the first is in, nor
    may the first close it under the second."""
    node = SmallNode()
    node.channels._broker = UnevenBroker(node.memory, node.loop.defer)
    first, second = Subscriber(node), Subscriber(node)
    node.commands.submit(first.session, Subscribe(1, "a"))
    node.commands.submit(second.session, Subscribe(1, "a"))
    while not first.session.subscriptions:
        node.loop.step()
    assert not second.session.subscriptions
    if first_leaves:
        node.commands.submit(first.session, Unsubscribe(2, "a"))
    node.loop.settle()
    assert [push["op"] for push in second.read()] == ["reply"]
    first.read()
    node.publish("a")
    node.loop.settle()
    assert offsets(first.read()) == ([] if first_leaves else [1])
    assert offsets(second.read()) == [1]


def test_a_channel_nobody_needs_is_closed() -> None:
    """The channel is closed also if subscribing failed, and the broker is told."""
    node = SmallNode()
    reader = Subscriber(node, "a")
    reader.unsubscribe("a")
    assert node.channels == {}
    assert not node.memory._logs["a"].subscribed

    async def unavailable(*_: object, **__: object) -> None:
        raise UnavailableError("away")

    node.memory.history = unavailable  # type: ignore[method-assign,assignment]  # a broker that is away
    reader.subscribe("a", last=3)
    assert code(reader.read()[-1]) == "unavailable"
    assert node.channels == {}


def test_refusals_change_nothing_and_name_the_reason() -> None:
    """A command is refused if its channel is not granted, subscribed to already, one too
    many, or not subscribed to."""
    node = SmallNode(Shape(limits=limits(max_subscriptions=2)))
    reader = Subscriber(node, identity=Identity(subscribe=("a", "b", "c")))
    for channel in ("a", "x", "a", "b", "c"):
        reader.subscribe(channel)
    reader.unsubscribe("c")
    pushes = reader.read()
    failures = [code(push) for push in pushes if "error" in push]
    assert failures == ["forbidden", "conflict", "too_many_subscriptions", "bad_request"]
    assert set(reader.session.subscriptions) == {"a", "b"}
    assert set(node.channels) == {"a", "b"}


def test_an_event_stream_that_gets_its_second_channel_in_a_broadcast_ends_with_all_positions() -> (
    None
):
    """The rest of the broadcast still comes with the id of one channel, which resumes only one."""
    node = SmallNode(Shape(slice_sessions=1))
    dialect = SseDialect(SeveralSseDialect())
    first, _, reader = (
        Subscriber(node, "a", dialect=dialect, read=read_sse, transport="sse") for _ in range(3)
    )
    node.publish("a")
    node.loop.turn()
    assert first.read()
    assert not reader.read(), "the broadcast is over"
    node.commands.submit(reader.session, Subscribe(9, "b"))
    node.loop.step()
    node.loop.settle()
    ids = [push.get("_id", push.get("id")) for push in reader.read() if push["op"] != "reply"]
    epoch_a, epoch_b = (node.channels[name].epoch for name in "ab")
    assert ids[-1] == f"a={epoch_a}:1,b={epoch_b}:0"


def test_an_event_stream_changes_its_ids_with_its_second_channel() -> None:
    """From then on the positions of all channels stand at the end of each tick."""
    node = SmallNode()
    dialect = SseDialect(SeveralSseDialect())
    reader = Subscriber(node, "a", dialect=dialect, read=read_sse, transport="sse")
    reader.publish("a", 1)
    epoch_a = node.channels["a"].epoch
    assert reader.read()[0]["_id"] == f"{epoch_a}:1"
    reader.subscribe("b")
    node.publish("a")
    node.publish("b")
    node.loop.settle()
    epoch_b = node.channels["b"].epoch
    pushes = reader.read()
    assert all("_id" not in push for push in pushes if push["op"] == "message")
    assert pushes[-1] == {"op": "positions", "_id": f"a={epoch_a}:2,b={epoch_b}:1"}


# -- a channel with an end ---------------------------------------------------------------------


def end(node: SmallNode) -> PublishResult:
    """Publishes the last publication of channel a."""
    return node.request(PublishRequest("a", b"1", "backend", marks=ENDS))


def told(pushes: list[Push]) -> list[object]:
    """Offsets of messages, and the reason where the subscription ended."""
    return [p["offset"] if p["op"] == "message" else p["reason"] for p in pushes
            if p["op"] in {"message", "unsubscribed"}]  # fmt: skip


def test_the_last_one_of_a_channel_is_followed_by_unsubscribed() -> None:
    """Each member gets `unsubscribed` behind the message, and its other channels go on."""
    node = SmallNode()
    readers = [Subscriber(node) for _ in range(500)]
    for reader in readers:
        reader.subscribe("a")
        reader.subscribe("b")
        reader.read()
    node.publish("a")
    end(node)
    node.loop.settle()
    node.publish("b")
    node.loop.settle()
    for reader in readers:
        assert told(reader.read()) == [1, 2, "ended", 1]
        assert list(reader.session.subscriptions) == ["b"]
    assert "a" not in node.channels


@pytest.mark.parametrize("latent", [False, True])
def test_a_subscriber_after_the_end_gets_history_and_the_end(latent: bool) -> None:
    """The end comes whether history was asked for or not, because nothing else will come.

    A peer that has the end already is only told so.
    """
    node = SmallNode(Shape(latent=latent))
    places = [node.publish("a").position for _ in range(3)]
    places.append(end(node).position)
    for expected, asked in (
        ([1, 2, 3, 4, "ended"], {}),
        ([3, 4, "ended"], {"since": places[1]}),
        ([4, "ended"], {"last": 1}),
        (["ended"], {"since": places[3]}),
        (["ended"], {"last": 0}),
    ):
        reader = Subscriber(node)
        reader.subscribe("a", **asked)
        node.loop.settle()
        pushes = reader.read()
        assert told(pushes) == expected
        assert pushes[0]["op"] == "reply"
        assert ok(pushes[0])["replayed"] == len(expected) - 1
        assert not reader.session.subscriptions


def test_a_publication_after_the_end_begins_the_channel_anew() -> None:
    """The offsets go on, and a subscriber that comes then follows the channel as ever."""
    node = SmallNode()
    end(node)
    node.publish("a")
    reader = Subscriber(node)
    reader.subscribe("a", last=5)
    node.publish("a")
    node.loop.settle()
    assert told(reader.read()) == [1, 2, 3]


def test_a_member_that_reads_slowly_gets_the_end_before_it_leaves() -> None:
    """The messages that the member is owed go out before the end."""
    node = SmallNode()
    reader = Subscriber(node)
    reader.subscribe("a")
    reader.read()
    reader.block()
    node.publish("a")
    end(node)
    node.loop.settle()
    assert told(reader.drain()) == [1, 2, "ended"]


def test_a_resume_from_before_history_was_let_go_of_gets_expired() -> None:
    """Later publications come behind the gap."""
    node = SmallNode()
    places = [node.publish("a").position for _ in range(3)]
    asyncio.run(node.memory.clear("a"))
    node.publish("a")
    reader = Subscriber(node)
    reader.subscribe("a", since=places[0])
    reply, gap, message = reader.read()
    assert ok(reply)["recovered"] is False
    assert (gap["reason"], gap["from"], gap["to"], message["offset"]) == ("expired", 2, 3, 4)


def test_a_resume_past_publications_that_were_not_kept_gets_expired_in_their_place() -> None:
    """The gap comes also at the end of history, and live members get the publications as usual."""
    node = SmallNode()
    live = Subscriber(node)
    live.subscribe("a")
    live.read()
    start = node.channels["a"].head
    for keep_ms in (None, 0, 0, None, 0):
        node.request(PublishRequest("a", b"1", "backend", keep_ms=keep_ms))
    node.loop.settle()
    assert offsets(live.read()) == [1, 2, 3, 4, 5]
    late = Subscriber(node)
    late.subscribe("a", since=start)
    _, *stream = late.read()
    seen = [push.get("offset") or (push["reason"], push["from"], push["to"]) for push in stream]
    assert seen == [1, ("expired", 2, 3), 4, ("expired", 5, 5)]
