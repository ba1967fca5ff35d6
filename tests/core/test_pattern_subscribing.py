"""Sessions that subscribe by patterns, on the whole core."""

import itertools
import json
from typing import Any

import pytest

from hub.core.commands import Subscribe, SubscribePattern, Unsubscribe, UnsubscribePattern
from hub.core.forensics.answers import Fate
from hub.core.forensics.question import Question
from hub.core.identity import Identity
from hub.core.options import ChannelOptions, Namespaces, Overflow
from hub.core.ports import PublishRequest
from hub.core.publication import ENDS, Position
from hub.core.recovery import pattern_entering
from hub.core.recovery import pattern_subscribing as patterns
from tests.core.fakes import FakeLink
from tests.core.small_node import Shape, SmallNode, limits


def heard(link: FakeLink) -> list[dict[str, Any]]:
    return [json.loads(line) for line in bytes(link.received).splitlines()]


def messages(link: FakeLink) -> list[tuple[str, int]]:
    return [(p["channel"], p["offset"]) for p in heard(link) if p["op"] == "message"]


def reply(link: FakeLink) -> dict[str, Any]:
    return [push for push in heard(link) if push["op"] == "reply"][-1]


@pytest.fixture(params=[False, True], ids=["at once", "latent"])
def node(request: pytest.FixtureRequest) -> SmallNode:
    return SmallNode(Shape(latent=request.param))


def publish(node: SmallNode, *channels: str) -> None:
    for channel in channels:
        node.publish(channel)
        node.loop.settle()


def test_a_pattern_brings_the_channels_that_there_are_and_those_that_appear(
    node: SmallNode,
) -> None:
    """The reply names the ones that there are, and what is published before it does not come."""
    publish(node, "prices:a", "news")
    session, link = node.open()
    node.do(session, SubscribePattern(1, "prices:*"))
    epoch = node.channels["prices:a"].epoch
    assert reply(link)["ok"] == {
        "pattern": "prices:*",
        "channels": ["prices:a"],
        "positions": {"prices:a": f"{epoch}:1"},
    }
    publish(node, "prices:a", "prices:b", "news", "prices:b:c", "prices:b")
    assert messages(link) == [("prices:a", 2), ("prices:b", 1), ("prices:b", 2)]
    [told] = [push for push in heard(link) if push["op"] == "subscribed"]
    assert (told["channel"], told["position"].split(":")[1]) == ("prices:b", "0")


def test_without_history_the_first_message_of_a_channel_comes_all_the_same() -> None:
    """The broker tells of the channel before the message comes."""
    node = SmallNode(Shape(namespaces=Namespaces(ChannelOptions(history_size=0))))
    session, link = node.open()
    node.do(session, SubscribePattern(1, "**"))
    publish(node, "a:b", "c")
    assert messages(link) == [("a:b", 1), ("c", 1)]


def test_a_resume_reads_what_it_does_not_name_from_the_beginning(node: SmallNode) -> None:
    """A channel that the resume does not name has appeared since."""
    publish(node, "p:a", "p:a", "p:b", "p:b")
    node.memory.notes.clear()
    position = Position.parse(f"{node.memory._logs['p:a'].epoch}:1")
    session, link = node.open()
    node.do(session, SubscribePattern(1, "p:*", {"p:a": position}))
    assert sorted(messages(link)) == [("p:a", 2), ("p:b", 1), ("p:b", 2)]


def test_a_resume_in_an_epoch_that_is_over_says_so(node: SmallNode) -> None:
    """A channel that is not known any more says so too."""
    session, link = node.open()
    node.do(session, SubscribePattern(1, "p:*", {"p:a": Position("old", 7)}))
    [gap] = [push for push in heard(link) if push["op"] == "gap"]
    assert (gap["channel"], gap["reason"]) == ("p:a", "reset")


def test_channels_that_nobody_told_of_are_looked_for(node: SmallNode) -> None:
    """After a cut to the broker such channels are read from their beginning, each once."""
    publish(node, "p:a")
    session, link = node.open()
    node.do(session, SubscribePattern(1, "p:*"))
    node.memory.unfollow()
    publish(node, "p:a", "p:b", "p:b", "q:a")
    assert messages(link) == [("p:a", 2)]
    node.patterns.missed()
    node.loop.settle()
    assert messages(link) == [("p:a", 2), ("p:b", 1), ("p:b", 2)]
    node.patterns.missed()
    publish(node, "p:b")
    assert messages(link)[3:] == [("p:b", 3)]


def test_by_name_and_through_a_pattern_is_one_delivery(node: SmallNode) -> None:
    """The order does not matter, and a channel that is left by name still
    comes through the pattern."""
    publish(node, "p:a")
    session, link = node.open()
    node.do(session, Subscribe(1, "p:a"))
    node.do(session, SubscribePattern(2, "p:*"))
    publish(node, "p:b")
    node.do(session, Subscribe(3, "p:b"))
    assert "ok" in reply(link)
    publish(node, "p:a", "p:b")
    assert messages(link) == [("p:b", 1), ("p:a", 2), ("p:b", 2)]
    node.do(session, Unsubscribe(4, "p:a"))
    assert "ok" in reply(link)
    publish(node, "p:a")
    assert messages(link)[-1] == ("p:a", 3)
    node.do(session, UnsubscribePattern(5, "p:*"))
    assert reply(link)["ok"] == {"pattern": "p:*"}
    publish(node, "p:a", "p:b", "p:c")
    assert messages(link)[-1] == ("p:b", 3)


def test_an_answer_to_a_name_says_how_far_the_stream_is_where_it_stands(node: SmallNode) -> None:
    """A client drops what came before the answer, so all of that is counted in it."""
    publish(node, "p:a")
    session, link = node.open()
    node.do(session, SubscribePattern(1, "p:*"))
    node.publish("p:a")
    node.do(session, Subscribe(2, "p:a"))
    before = heard(link)[: heard(link).index(reply(link))]
    newest = [push["offset"] for push in before if push["op"] == "message"][-1]
    assert reply(link)["ok"]["position"].split(":")[-1] == str(newest) == "2"


def test_a_channel_by_name_with_a_position_begins_there(node: SmallNode) -> None:
    """The subscription by name replays what it asked for, and its channel leaves the pattern's."""
    publish(node, "p:a", "p:a")
    session, link = node.open()
    node.do(session, SubscribePattern(1, "p:*"))
    node.do(session, Subscribe(2, "p:a", last=2))
    assert messages(link) == [("p:a", 1), ("p:a", 2)]
    publish(node, "p:a")
    assert messages(link)[-1] == ("p:a", 3)
    assert session.patterns is not None
    assert not session.patterns.channels


def test_a_pattern_that_resumes_further_back_gets_what_it_lacks(node: SmallNode) -> None:
    """Channels that the session has by name begin again too, and go on behind it."""
    publish(node, *["p:a"] * 5, "p:b")
    session, link = node.open()
    node.do(session, Subscribe(1, "p:a"))
    node.do(session, Subscribe(2, "p:b"))
    epoch = node.channels["p:a"].epoch
    node.publish("p:a")
    node.do(session, SubscribePattern(3, "p:*", {"p:a": Position(epoch, 2)}))
    told = reply(link)["ok"]["positions"]
    # What a resume does not name is read from its beginning.
    assert (told["p:a"], told["p:b"].split(":")[-1]) == (f"{epoch}:2", "0")
    publish(node, "p:a")
    after = heard(link)[heard(link).index(reply(link)) :]
    came = [(push["channel"], push["offset"]) for push in after if push["op"] == "message"]
    assert [n for name, n in came if name == "p:a"] == [3, 4, 5, 6, 7]
    assert [n for name, n in came if name == "p:b"] == [1]
    node.do(session, UnsubscribePattern(4, "p:*"))
    assert list(session.subscriptions) == ["p:a", "p:b"]


def test_a_pattern_that_resumes_further_on_changes_nothing(node: SmallNode) -> None:
    """The position in the answer is that of the subscription that goes on."""
    publish(node, *["p:a"] * 3)
    session, link = node.open()
    epoch = node.memory._logs["p:a"].epoch
    node.do(session, Subscribe(1, "p:a", since=Position(epoch, 1)))
    node.do(session, SubscribePattern(2, "p:*", {"p:a": Position(epoch, 3)}))
    publish(node, "p:a")
    assert reply(link)["ok"]["positions"] == {"p:a": f"{epoch}:3"}
    assert messages(link) == [("p:a", 2), ("p:a", 3), ("p:a", 4)]


def test_a_pattern_that_resumes_in_an_epoch_that_is_over_is_told_beside_a_name(
    node: SmallNode,
) -> None:
    """The subscriber gets all publications of the new epoch."""
    publish(node, "p:a", "p:a")
    session, link = node.open()
    node.do(session, Subscribe(1, "p:a"))
    node.do(session, SubscribePattern(2, "p:*", {"p:a": Position("old", 7)}))
    [gap] = [push for push in heard(link) if push["op"] == "gap"]
    assert (gap["channel"], gap["reason"]) == ("p:a", "reset")
    assert messages(link) == [("p:a", 1), ("p:a", 2)]


def test_a_pattern_joins_its_channels_in_slices_and_misses_nothing(
    node: SmallNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Publications between two slices are read from history, also where an epoch ends meanwhile."""
    monkeypatch.setattr(pattern_entering, "SLICE_CHANNELS", 10)
    names = [f"p:{number:02}" for number in range(45)]
    publish(node, *names)
    session, link = node.open()
    node.commands.submit(session, SubscribePattern(1, "p:*"))
    joined = [0]
    while node.loop.tasks or node.loop.callbacks:
        if (now := len(session.subscriptions.keys() & names)) > joined[-1]:
            joined.append(now)
            if len(joined) == 3:
                node.publish(names[1])
                node.publish(names[40])
                node.publish("p:new")
                node.begin_epoch(names[41])
                node.publish(names[41])
        node.loop.turn()
        node.loop.step()
    assert max(after - before for before, after in itertools.pairwise(joined)) == 10
    assert reply(link)["ok"]["channels"] == names
    publish(node, *names)
    reset = [push["channel"] for push in heard(link) if push["op"] == "gap"]
    assert reset == [names[41]]
    came = sorted(messages(link))
    twice = [names[1], names[40]]
    wanted = [(name, 2) for name in names if name != names[41]] + [(name, 3) for name in twice]
    assert came == sorted([*wanted, (names[41], 1), (names[41], 2), ("p:new", 1)])


def test_a_pattern_that_ends_between_two_slices_leaves_nothing(
    node: SmallNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether its session ends or is taken out of it."""
    monkeypatch.setattr(pattern_entering, "SLICE_CHANNELS", 2)
    publish(node, *(f"p:{number}" for number in range(9)))
    session, _ = node.open()
    node.commands.submit(session, SubscribePattern(1, "p:*"))
    while len(session.subscriptions) < 2:
        node.loop.step()
    session.close(1000, "over")
    node.loop.settle()
    assert not node.channels
    assert node.membership.held == 0


def test_channels_over_the_bound_end_the_pattern_and_say_so(node: SmallNode) -> None:
    """At the beginning the pattern ends by an error, and later by a push."""
    node = SmallNode(
        Shape(latent=node.shape.latent, limits=limits(max_pattern_channels=2, max_patterns=1))
    )
    publish(node, "p:a", "p:b")
    session, link = node.open()
    node.do(session, SubscribePattern(1, "p:*"))
    node.do(session, SubscribePattern(2, "q:*"))
    assert reply(link)["error"]["code"] == "too_many_subscriptions"
    publish(node, "p:c", "p:a")
    assert heard(link)[-1] == {
        "op": "unsubscribed", "pattern": "p:*", "reason": "too_many_channels",
    }  # fmt: skip
    assert not session.subscriptions
    node.do(session, SubscribePattern(3, "p:*"))
    assert reply(link)["error"]["code"] == "too_many_subscriptions"
    assert not session.patterns


def test_channels_of_the_hub_come_only_to_operators_who_name_them() -> None:
    """The pattern `**` never matches a channel of the hub."""
    node = SmallNode()
    stranger, link = node.open(identity=Identity(subscribe=("*",)))
    operator, operators = node.open(identity=Identity(subscribe=("*",), operator=True))
    node.do(stranger, SubscribePattern(1, "**"))
    node.do(stranger, SubscribePattern(2, "hub:*"))
    assert reply(link)["error"]["code"] == "forbidden"
    node.do(operator, SubscribePattern(1, "**"))
    publish(node, "hub:stats")
    node.do(operator, SubscribePattern(2, "hub:*"))
    publish(node, "hub:stats", "hub:access")
    assert not messages(link)
    assert messages(operators) == [("hub:stats", 2)]


def test_a_subscriber_by_a_pattern_is_not_present(node: SmallNode) -> None:
    """Presence is of those who name the channel."""
    node = SmallNode(
        Shape(latent=node.shape.latent, namespaces=Namespaces(ChannelOptions(presence=True)))
    )
    session, _ = node.open()
    publish(node, "p:a")
    node.do(session, SubscribePattern(1, "p:*"))
    publish(node, "p:b")
    assert not node.members("p:a")
    assert not node.members("p:b")
    node.do(session, Subscribe(2, "p:a"))
    assert [member.id for member in node.members("p:a")] == [session.id]
    node.do(session, Unsubscribe(3, "p:a"))
    assert not node.members("p:a")


def test_a_session_that_ends_leaves_nothing_behind(node: SmallNode) -> None:
    """The session leaves no channel behind, and no pattern that is looked up."""
    session, _ = node.open()
    publish(node, "p:a")
    node.do(session, SubscribePattern(1, "p:*"))
    session.close(1000, "over")
    assert not node.channels
    assert node.membership.held == 0
    publish(node, "p:b", "p:a")


def test_many_sessions_join_a_channel_in_slices_and_miss_nothing(
    node: SmallNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of later slices read from history what was published meanwhile."""
    monkeypatch.setattr(patterns, "SLICE_SESSIONS", 2)
    links = []
    for _ in range(5):
        session, link = node.open()
        node.do(session, SubscribePattern(1, "p:*"))
        links.append(link)
    node.publish("p:a")
    node.publish("p:a")
    node.loop.settle()
    publish(node, "p:a")
    for link in links:
        assert messages(link) == [("p:a", 1), ("p:a", 2), ("p:a", 3)]


def test_a_channel_that_a_pattern_brought_is_explained_like_any_subscription(
    node: SmallNode,
) -> None:
    """Written where it came, not subscribed before the pattern began."""
    publish(node, "p:a")
    session, _ = node.open()
    node.do(session, SubscribePattern(1, "p:*"))
    publish(node, "p:a", "p:b")

    def answer(channel: str, offset: int) -> Fate:
        head = node.memory._logs[channel].head
        asked = Question(channel, head.epoch, offset, head.offset)
        return node.explain(session, asked).answer

    assert answer("p:a", 1) is Fate.NOT_SUBSCRIBED
    assert answer("p:a", 2) is Fate.WRITTEN
    assert answer("p:b", 1) is Fate.WRITTEN


@pytest.mark.parametrize("steps", range(14))
@pytest.mark.parametrize("is_open", [False, True], ids=["opened for it", "open before"])
def test_a_channel_that_a_resume_does_not_name_begins_without_a_reset(
    steps: int, is_open: bool
) -> None:
    """The channel's epoch may end while it is being opened: its peer was in no epoch before."""
    node = SmallNode(Shape(latent=True))
    publish(node, "p:a", "p:b", "p:b")
    known = Position.parse(f"{node.memory._logs['p:a'].epoch}:1")
    if is_open:
        other, _ = node.open()
        node.do(other, Subscribe(1, "p:b"))
    session, link = node.open()
    node.commands.submit(session, SubscribePattern(1, "p:*", {"p:a": known}))
    for _ in range(steps):
        node.loop.turn()
        node.loop.step()
    node.begin_epoch("p:b")
    publish(node, "p:b")
    begun = Position.parse(reply(link)["ok"]["positions"]["p:b"])
    resets = [Position.parse(p["position"]) for p in heard(link) if p.get("reason") == "reset"]
    assert begun.epoch not in {at.epoch for at in resets}
    assert messages(link)[-1] == ("p:b", 1)


# -- channels with an end ----------------------------------------------------------------------


def end(node: SmallNode, channel: str = "p:a") -> None:
    node.request(PublishRequest(channel, b"1", "backend", marks=ENDS))


def told_of_ends(link: FakeLink) -> list[object]:
    """Offsets of messages, and the reason where the session left the channel."""
    ops = {"message": "offset", "unsubscribed": "reason"}
    return [push[ops[push["op"]]] for push in heard(link) if push["op"] in ops]


@pytest.mark.parametrize("at_once", [False, True], ids=["later", "before members have left"])
def test_publications_that_follow_an_end_come_through_the_pattern(
    node: SmallNode, at_once: bool
) -> None:
    """A publication behind an end begins the channel anew, and the pattern matches it as before."""
    publish(node, "p:a")
    session, link = node.open()
    node.do(session, SubscribePattern(1, "p:*"))
    for last in (4, 7):
        publish(node, "p:a")
        end(node)
        if not at_once:
            node.loop.settle()
        node.publish("p:a")
        node.loop.settle()
        assert last in told_of_ends(link)
    publish(node, "p:a")
    came = told_of_ends(link)
    assert [each for each in came if each != "ended"] == [2, 3, 4, 5, 6, 7, 8]
    assert came.count("ended") == 2
    assert list(session.subscriptions) == ["p:a"]


def test_a_channel_that_has_ended_is_not_sent_again(node: SmallNode) -> None:
    """The channel is not sent again where channels are looked for, nor where
    it is told of once more."""
    session, link = node.open()
    node.do(session, SubscribePattern(1, "p:*"))
    publish(node, "p:a")
    end(node)
    node.loop.settle()
    node.patterns.missed()
    node.loop.settle()
    node.patterns.appeared("p:a")
    node.loop.settle()
    assert told_of_ends(link) == [1, 2, "ended"]
    node.memory.unfollow()
    publish(node, "p:a")
    assert told_of_ends(link) == [1, 2, "ended"]
    node.patterns.missed()
    node.loop.settle()
    assert told_of_ends(link) == [1, 2, "ended", 3]


def test_an_epoch_that_follows_an_end_is_a_reset(node: SmallNode) -> None:
    """Its first publication tells of the channel."""
    session, link = node.open()
    node.do(session, SubscribePattern(1, "p:*"))
    publish(node, "p:a")
    end(node)
    node.loop.settle()
    node.begin_epoch("p:a")
    publish(node, "p:a")
    assert told_of_ends(link) == [1, 2, "ended", 1]
    assert [push["reason"] for push in heard(link) if push["op"] == "gap"] == ["reset"]


def test_a_resume_behind_an_end_is_told_nothing_of_it(node: SmallNode) -> None:
    """Otherwise each poll that resumes would be answered at once, until something follows."""
    publish(node, "p:a", "p:b")
    end(node)
    node.loop.settle()
    places = {name: node.memory._logs[name].head for name in ("p:a", "p:b")}
    session, link = node.open()
    node.do(session, SubscribePattern(1, "p:*", places))
    assert reply(link)["ok"]["positions"] == {name: str(at) for name, at in places.items()}
    publish(node, "p:b")
    assert told_of_ends(link) == [2]
    publish(node, "p:a")
    assert told_of_ends(link) == [2, 3]


def test_a_session_that_ends_as_a_resume_goes_back_is_noted_to_have_ended_then() -> None:
    """The publications under way to the session are more than its outbox holds, so
    its resume does not begin."""
    options = ChannelOptions(history_size=10, overflow=Overflow.DISCONNECT)
    shape = Shape(Namespaces(options), limits(outbox_max_messages=1), slice_sessions=1)
    node = SmallNode(shape)
    sessions = [node.open() for _ in range(3)]
    for each, _ in sessions:
        node.do(each, Subscribe(1, "a"))
    publish(node, "a", "a")
    session, link = sessions[-1]
    link.room = 0
    for _ in range(3):
        node.publish("a")
    node.loop.turn()
    epoch = node.channels["a"].epoch
    node.commands.submit(session, SubscribePattern(2, "*", {"a": Position(epoch, 1)}))
    publish(node, "a")
    assert session.closing
    assert not session.replaying
    assert node.explain(session, Question("a", epoch, 6, 6)).answer is Fate.CLOSED


@pytest.mark.parametrize(
    "options", [{"state": True}, {"presence": b"1", "last": 1}, {"presence": b"1"}]
)
def test_a_refused_subscription_by_name_leaves_the_one_through_the_pattern(
    node: SmallNode, options: dict[str, Any]
) -> None:
    """The channel keeps no rows and no members, and its messages still come."""
    publish(node, "p:a")
    session, link = node.open()
    node.do(session, SubscribePattern(1, "p:*"))
    node.do(session, Subscribe(2, "p:a", **options))
    assert "error" in heard(link)[-1]
    publish(node, "p:a")
    node.loop.settle()
    assert heard(link)[-1]["op"] == "message"
