"""Sessions are opened, commanded one thing at a time, warned, and ended."""

from dataclasses import replace

import pytest

from hub.core.commands import Command, Ping, Publish, Subscribe
from hub.core.identity import Identity
from hub.core.pushes import Reply
from hub.errors import BadRequestError, NotFoundError, UnauthorizedError, UnavailableError
from tests.core.small_node import ANYTHING, OPTIONS, Shape, SmallNode, limits
from tests.core.streams import read_lines
from tests.core.subscribers import Subscriber


def test_a_session_is_welcomed_first() -> None:
    """With what it needs to know of the node and of itself."""
    node = SmallNode()
    session, link = node.open()
    (welcome,) = read_lines(bytearray(link.received))
    secret = welcome.pop("secret")
    assert welcome == {
        "op": "welcome", "connection": session.id, "node": "node-1", "heartbeat_seconds": 25,
        "version": "1.2.3",
    }  # fmt: skip
    assert node.engine.find(session.id, str(secret)) is session


def test_the_transports_head_goes_out_with_the_welcome() -> None:
    """One write, in that order."""
    node = SmallNode()
    _, link = node.open()
    plain = len(link.received)
    link.received.clear()
    session = node.engine.open(link, node.engine.sessions.popitem()[1].dialect, ANYTHING, head=b"H")
    assert link.received.startswith(b'H{"op":"welcome"')
    assert len(link.received) == plain + 1
    assert session.id in node.engine.sessions


def test_a_session_is_found_only_with_its_own_secret() -> None:
    """And no more when it has ended."""
    node = SmallNode()
    (first, _), (second, _) = node.open(), node.open()
    secret = node.engine.welcome(first).secret
    with pytest.raises(UnauthorizedError):
        node.engine.find(second.id, secret)
    with pytest.raises(UnauthorizedError):
        node.engine.find(first.id, "é")
    first.lost(1006, "gone")
    with pytest.raises(NotFoundError):
        node.engine.find(first.id, secret)


def test_no_more_sessions_than_allowed_and_none_while_draining() -> None:
    node = SmallNode(Shape(options=replace(OPTIONS, max_connections=2)))
    node.open()
    session, _ = node.open()
    with pytest.raises(UnavailableError, match="2 connections"):
        node.engine.check_open()
    session.lost(1006, "gone")
    node.engine.check_open()
    node.engine.draining = True
    with pytest.raises(UnavailableError, match="draining"):
        node.engine.check_open()


def test_commands_of_a_session_are_carried_out_in_their_order() -> None:
    """Also where an earlier one takes longer."""
    node = SmallNode(Shape(latent=True))
    reader = Subscriber(node)
    commands: list[Command] = [Publish(1, "a", b"1"), Subscribe(2, "a", last=1), Ping(3)]
    for command in commands:
        node.engine.submit(reader.session, command)
    assert len(node.loop.tasks) == 1
    node.loop.settle()
    pushes = reader.read()
    assert [push["id"] for push in pushes if push["op"] == "reply"] == [1, 2, 3]
    assert reader.session.inbox is None


def test_a_peer_that_asks_too_fast_is_not_read_from_until_it_was_answered() -> None:
    """With as many commands waiting as are allowed."""
    node = SmallNode(Shape(limits=limits(inbox_max_commands=3)))
    reader = Subscriber(node)
    for number in range(3):
        assert reader.link.reading
        node.engine.submit(reader.session, Ping(number))
    assert not reader.link.reading
    node.loop.settle()
    assert reader.link.reading
    assert len(reader.read()) == 3


def test_a_reply_may_go_another_way() -> None:
    """Then the stream of a new subscription says `subscribed` instead."""
    node = SmallNode()
    reader = Subscriber(node)
    replies: list[Reply] = []
    node.engine.submit(reader.session, Subscribe(7, "a"), replies.append)
    node.engine.submit(reader.session, Subscribe(8, "a"), replies.append)
    node.loop.settle()
    (push,) = reader.read()
    assert (push["op"], push["recovered"]) == ("subscribed", True)
    done, refused = replies
    assert (done.id, dict(done.ok or {})["channel"]) == (7, "a")
    assert refused.error is not None
    assert refused.error.code == "conflict"


def test_a_subscription_of_the_url_that_is_refused_ends_the_session() -> None:
    """There is no command to reply to."""
    node = SmallNode()
    reader = Subscriber(node, identity=Identity())
    node.do(reader.session, Subscribe(None, "a", in_url=True))
    assert reader.link.closed is not None
    assert reader.link.closed[0] == 4403
    assert [push["op"] for push in reader.read()] == ["goodbye"]


def test_a_fault_of_the_hub_is_reported_and_the_peer_gets_a_neutral_error() -> None:
    """The session lives on."""
    node = SmallNode()
    reader = Subscriber(node)

    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("internals")

    node.memory.publish = broken  # type: ignore[method-assign,assignment]  # a faulty broker
    node.do(reader.session, Publish(1, "a", b"1"))
    (push,) = reader.read()
    assert isinstance(push["error"], dict)
    assert push["error"]["code"] == "internal"
    assert "internals" not in str(push)
    assert len(node.faults) == 1
    reader.ping()
    assert len(reader.read()) == 1


def test_what_cannot_be_read_as_a_command_is_answered() -> None:
    node = SmallNode()
    reader = Subscriber(node)
    node.engine.refuse(reader.session, BadRequestError("no op", command_id=5))
    (push,) = reader.read()
    assert push["id"] == 5
    assert node.tally.command_errors == {"bad_request": 1}


def test_an_operator_may_disconnect_a_session() -> None:
    node = SmallNode()
    reader = Subscriber(node)
    assert node.engine.disconnect(reader.session.id, code=4403, reason="bye")
    assert not node.engine.disconnect(reader.session.id, code=4403, reason="bye")
    assert reader.read()[-1] == {"op": "goodbye", "code": 4403, "reason": "bye"}
    assert node.engine.by_transport["websocket"] == 0


def test_a_connection_that_ended_needs_no_abort() -> None:
    """The close time-out is let go of with it."""
    node = SmallNode()
    reader = Subscriber(node)
    reader.session.close(1012, "draining")
    assert list(node.engine.leaving) == [reader.session]
    reader.session.lost(1006, "gone")
    assert not node.engine.leaving
    node.wait(60)
    assert not reader.link.aborted
