"""Where a peer resumes that keeps no positions of its own: it has only what the hub told it last.

A stream of server-sent events with several channels, cut after each step of its beginning.
"""

import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.core.commands import Subscribe
from hub.core.publication import Position
from hub.core.session.places import ByChannel
from hub.core.session.session import Session
from hub.wire.query import parse_event_id
from hub.wire.sse import SseDialect
from tests.core.examples import SEVERAL
from tests.core.fakes import ENDLESS, FakeLink
from tests.core.node_truth import NAMESPACES
from tests.core.small_node import Shape, SmallNode
from tests.core.streams import read_sse
from tests.support.stream import Push

A, B, C = "long", "short:b", "none:c"
STEPS = 40
OLD = Position("elsewhere", 3)


def begun(node: SmallNode, *commands: Subscribe, room: int = ENDLESS) -> tuple[Session, FakeLink]:
    """A stream whose URL asks for these, of which nothing is carried out yet."""
    return node.open(dialect=SEVERAL, transport="sse", room=room, subscriptions=commands)


def asks(channel: str, since: Position | None = None, last: int | None = None) -> Subscribe:
    return Subscribe(None, channel, since, last, in_url=True)


def latent() -> SmallNode:
    """A node whose broker takes a while, with three publications in each channel."""
    node = SmallNode(Shape(NAMESPACES, latent=True))
    for channel in (A, B, C):
        for _ in range(3):
            node.publish(channel)
    return node


def head(node: SmallNode, channel: str) -> Position:
    held = node.memory.held(channel)
    assert held is not None
    return held[0]


def ids(link: FakeLink) -> list[dict[str, Position]]:
    """The places that each id of the stream names."""
    events = read_sse(bytearray(link.received + link.pending))
    return [dict(parse_event_id(str(e["_id"]), (A, B, C))) for e in events if "_id" in e]


def events(link: FakeLink) -> list[Push]:
    return read_sse(bytearray(link.received + link.pending))


@pytest.mark.parametrize("steps", range(STEPS))
def test_each_id_names_all_that_a_resumed_stream_asked_for(steps: int) -> None:
    """An id names every channel while some are still being subscribed to, and so does the
    goodbye of a hub that stops."""
    node = latent()
    since = {name: Position(head(node, name).epoch, 1) for name in (A, B, C)}
    session, link = begun(node, *(asks(name, at) for name, at in since.items()))
    for step in range(steps):
        node.loop.step()
        node.loop.turn()
        if step % 5 == 0:
            node.publish(A)
    session.close(1013, "draining", 1000)
    node.loop.settle()
    told = ids(link)
    assert all(places.keys() == since.keys() for places in told)
    # What came of a channel, the last id has; what did not come, it has not.
    for name, asked in since.items():
        came = [e for e in events(link) if e.get("channel") == name]
        offsets = [int(str(e.get("offset", e.get("to", 0)))) for e in came]
        assert told[-1][name] == Position(asked.epoch, max([1, *offsets]))


@pytest.mark.parametrize("back", [0, 2])
@pytest.mark.parametrize("is_latent", [False, True])
def test_no_place_is_told_twice_in_a_row(back: int, is_latent: bool) -> None:
    """An id ends what is read from history, and another one follows only if more came."""
    node = SmallNode(Shape(NAMESPACES, latent=is_latent))
    for channel in (A, B):
        for _ in range(3):
            node.publish(channel)
    since = {name: Position(head(node, name).epoch, 3 - back) for name in (A, B)}
    _, link = begun(node, *(asks(name, at) for name, at in since.items()))
    node.loop.settle()
    ops = [str(event["op"]) for event in events(link)]
    assert ("positions", "positions") not in pairwise(ops)
    assert ops[-1] == "positions"
    assert ids(link)[-1] == {name: head(node, name) for name in (A, B)}


@pytest.mark.parametrize("steps", range(STEPS))
@pytest.mark.parametrize("last", [None, 2])
def test_each_id_of_a_new_stream_names_all_of_its_channels(steps: int, last: int | None) -> None:
    """There is no `subscribed` before an id that names its channel where it starts."""
    node = latent()
    session, link = begun(node, *(asks(name, last=last) for name in (A, B, C)))
    for _ in range(steps):
        node.loop.step()
        node.loop.turn()
    known: dict[str, Position] = {}
    for event in events(link):
        if event["op"] == "positions":
            known = dict(parse_event_id(str(event["_id"]), (A, B, C)))
            assert known.keys() == {A, B, C}
        elif event["op"] == "subscribed":
            assert str(known[str(event["channel"])]) == event["position"]
    session.close(1013, "draining", 1000)
    node.loop.settle()
    assert all(places.keys() == {A, B, C} for places in ids(link))


@pytest.mark.parametrize("steps", range(STEPS))
def test_a_stream_that_resumes_one_channel_and_begins_another_names_both(steps: int) -> None:
    node = latent()
    at = head(node, A)
    session, link = begun(node, asks(A, at), asks(B))
    for _ in range(steps):
        node.loop.step()
        node.loop.turn()
        node.publish(A)
    session.close(1013, "draining", 1000)
    node.loop.settle()
    assert all(A in places for places in ids(link))
    ops = [e["op"] for e in events(link)]
    assert "subscribed" not in ops or all(len(places) == 2 for places in ids(link))


@pytest.mark.parametrize("steps", range(STEPS))
@pytest.mark.parametrize("room", [ENDLESS, 400, 900])
def test_a_reset_is_named_only_once_it_was_told(steps: int, room: int) -> None:
    """A peer that is cut before its reset resumes in the old epoch, and
    is told of the reset then."""
    node = latent()
    session, link = begun(node, asks(A, OLD), asks(B, OLD), room=room)
    for _ in range(steps):
        node.loop.step()
        node.loop.turn()
    session.close(1013, "draining", 1000)
    node.loop.settle()
    told: set[str] = set()
    for event in events(link):
        if event["op"] == "gap":
            told.add(str(event["channel"]))
        elif event["op"] == "positions":
            places = parse_event_id(str(event["_id"]), (A, B))
            assert {name for name, at in places.items() if at != OLD} <= told
            assert places.keys() == {A, B}


def test_a_reset_on_the_way_to_a_slow_peer_is_named_only_once_it_was_told() -> None:
    """A new epoch begins while the peer takes nothing: its goodbye sends it back before it."""
    node = latent()
    session, link = begun(node, asks(A), asks(B))
    node.loop.settle()
    before = head(node, A)
    link.room = 0
    node.publish(B)
    node.loop.settle()
    node.begin_epoch(A)
    node.loop.settle()
    assert ids(link)[-1][A] == before
    assert session.resume_from()[A] == before
    session.close(1013, "draining", 1000)
    node.loop.settle()
    assert ids(link)[-1][A] == before


def test_a_channel_that_the_peer_left_is_not_resumed() -> None:
    node = latent()
    session, _ = begun(node, asks(A), asks(B), asks(C))
    node.loop.settle()
    node.membership.expel(session, B, "moderation")
    assert session.resume_from().keys() == {A, C}


def test_a_command_that_is_refused_leaves_nothing_to_resume() -> None:
    node = latent()
    session, _ = begun(node, asks(A))
    node.loop.settle()
    node.do(session, Subscribe(1, A, OLD))
    assert session.resume_from() == {A: head(node, A)}


def test_a_stream_of_one_channel_says_where_it_starts_also_where_history_lacks_some() -> None:
    """The peer asked for more than there is, and no message follows that would carry the id."""
    node = latent()
    _, link = node.open(
        dialect=SseDialect(SEVERAL), transport="sse", subscriptions=[asks(C, last=2)]
    )
    node.loop.settle()
    [places] = [parse_event_id(str(e["_id"]), (C,)) for e in events(link) if "_id" in e]
    assert places == {C: head(node, C)}
    assert [e["op"] for e in events(link)] == ["welcome", "positions", "subscribed"]


_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["set", "default", "pop", "delete"]), st.sampled_from(["a", "b", "c"])
    ),
    max_size=20,
)


@given(_STEPS)
def test_by_channel_does_what_a_dictionary_does(steps: list[tuple[str, str]]) -> None:
    ours, theirs = ByChannel[str](), dict[str, str]()
    for number, (step, name) in enumerate(steps):
        if step == "set":
            ours[name] = theirs[name] = f"{name}{number}"
        elif step == "default":
            assert ours.setdefault(name, "x") == theirs.setdefault(name, "x")
        elif step == "pop":
            assert ours.pop(name, None) == theirs.pop(name, None)
        elif name in theirs:
            del ours[name], theirs[name]
        else:
            with pytest.raises(KeyError):
                del ours[name]
        assert list(ours) == list(theirs)
        assert list(ours.values()) == list(theirs.values())
        assert list(ours.items()) == list(theirs.items())
        assert (len(ours), bool(ours)) == (len(theirs), bool(theirs))
        for each in "abc":
            assert (each in ours) == (each in theirs)
            assert ours.get(each) == theirs.get(each)
            assert ours.get(each, 0) == theirs.get(each, 0)
    with pytest.raises(KeyError):
        ours["unknown"]
    with pytest.raises(KeyError):
        ours.pop("unknown")


def test_for_one_it_takes_a_third_of_a_dictionary() -> None:
    ours = ByChannel[int]()
    ours["a"] = 1
    assert sys.getsizeof(ours) * 3 < sys.getsizeof({"a": ours["a"]})
