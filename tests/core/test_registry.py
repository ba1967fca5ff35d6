"""Sessions are opened, commanded one thing at a time, warned, and ended."""

import pytest

from hub.core.commands import Authenticate, Command, History, Ping, Publish, Subscribe, Unsubscribe
from hub.core.identity import Identity
from hub.core.ports import PublishRequest, PublishResult
from hub.core.pushes import Push, Reply
from hub.core.session.session import Session
from hub.core.time.heartbeats import Heartbeats
from hub.errors import (
    BadRequestError,
    NotFoundError,
    RateLimitedError,
    UnauthorizedError,
    UnavailableError,
)
from hub.node.core import VERSION
from hub.wire.websocket import TextDialect
from tests.core.fakes import FakeLink
from tests.core.small_node import ANYTHING, TEXT, Shape, SmallNode, limits
from tests.core.streams import read_lines
from tests.core.subscribers import Subscriber


def test_a_session_is_welcomed_first() -> None:
    """The welcome has what the session must know of the node and of itself."""
    node = SmallNode()
    session, link = node.open()
    (welcome,) = read_lines(bytearray(link.received))
    secret = welcome.pop("secret")
    assert welcome == {
        "op": "welcome", "connection": session.id, "node": "node-1", "heartbeat_seconds": 25,
        "version": VERSION,
    }  # fmt: skip
    assert node.registry.find(session.id, str(secret)) is session


def test_all_that_a_session_begins_with_is_one_write() -> None:
    """The transport's head, the welcome, each subscription and what history has for it."""
    node = SmallNode()
    node.publish("b", b"1")
    link = FakeLink(node.loop.defer)
    wanted = [Subscribe(None, "a", in_url=True), Subscribe(None, "b", last=1, in_url=True)]
    session = node.registry.open(link, TEXT, ANYTHING, head=b"H\n", subscriptions=wanted)
    assert link.received.startswith(b'H\n{"op":"welcome"')
    assert link.writes == 1
    assert not node.loop.tasks
    ops = [push["op"] for push in read_lines(link.received[2:])]
    assert ops == ["welcome", "subscribed", "subscribed", "message"]
    assert [place.live for place in session.subscriptions.values()] == [True, True]


def test_channels_that_are_open_here_begin_in_the_call_whatever_the_broker() -> None:
    """The broker's answers may take a while; the commands behind them keep their order."""
    node = SmallNode(Shape(latent=True))
    wanted = [Subscribe(None, name, in_url=True) for name in ("a", "b")]
    node.registry.open(FakeLink(node.loop.defer), TEXT, ANYTHING, subscriptions=wanted)
    node.loop.settle()
    assert not node.loop.tasks
    link = FakeLink(node.loop.defer)
    session = node.registry.open(link, TEXT, ANYTHING, head=b"H\n", subscriptions=wanted)
    assert not node.loop.tasks
    assert link.writes == 1
    assert [place.live for place in session.subscriptions.values()] == [True, True]
    ops = [push["op"] for push in read_lines(link.received[2:])]
    assert ops == ["welcome", "subscribed", "subscribed"]
    assert node.counters.commands["subscribe"] == 4


def test_the_answer_to_a_subscription_names_the_head_of_its_moment() -> None:
    """The answer is encoded once for all sessions that come before the next
    publication, and then dropped."""
    node = SmallNode()
    wanted = [Subscribe(None, "a", in_url=True)]
    positions = []
    for publishes in (0, 0, 1, 0):
        for _ in range(publishes):
            node.publish("a")
        link = FakeLink(node.loop.defer)
        node.registry.open(link, TEXT, ANYTHING, subscriptions=wanted)
        positions.append(str(read_lines(bytearray(link.received))[1]["position"]))
        node.loop.settle()
    assert [position.rpartition(":")[2] for position in positions] == ["0", "0", "1", "1"]


def test_a_url_of_too_many_open_channels_ends_the_session() -> None:
    """The session is told of the channels that began, and then why it ends."""
    node = SmallNode(Shape(limits=limits(max_subscriptions=1)))
    for name in ("a", "b"):
        first = [Subscribe(None, name, in_url=True)]
        node.registry.open(FakeLink(node.loop.defer), TEXT, ANYTHING, subscriptions=first)
    wanted = [Subscribe(None, name, in_url=True) for name in ("a", "b")]
    link = FakeLink(node.loop.defer)
    session = node.registry.open(link, TEXT, ANYTHING, subscriptions=wanted)
    assert session.closing
    ops = [push["op"] for push in read_lines(bytearray(link.received))]
    assert ops == ["welcome", "subscribed", "goodbye"]
    assert node.counters.command_errors.total() == 1


def test_a_peer_that_takes_only_a_part_of_the_beginning_gets_the_rest_later() -> None:
    """Publications meanwhile come behind the rest of the beginning."""
    node = SmallNode()
    link = FakeLink(node.loop.defer, room=40)
    wanted = [Subscribe(None, "a", in_url=True)]
    session = node.registry.open(link, TEXT, ANYTHING, subscriptions=wanted)
    assert not session.writable
    node.publish("a")
    node.loop.settle()
    link.drain()
    ops = [push["op"] for push in read_lines(bytearray(link.received))]
    assert ops == ["welcome", "subscribed", "message"]


def test_a_session_that_is_turned_away_is_told_why_in_one_write() -> None:
    node = SmallNode()
    link = FakeLink(node.loop.defer)
    session = node.registry.turn_away(link, TEXT, UnauthorizedError("no"), head=b"H\n")
    (goodbye,) = read_lines(bytearray(link.received[2:]))
    assert (goodbye["op"], goodbye["code"], goodbye["reason"]) == ("goodbye", 4401, "no")
    assert (link.writes, link.closed) == (1, (4401, "no"))
    assert session.id not in node.registry.sessions


class _FaultyWheel(Heartbeats):
    def add(self, session: Session) -> None:
        raise RuntimeError("internals")


class _FaultyDialect(TextDialect):
    def encode(self, push: Push, epoch: str) -> bytes:
        raise RuntimeError("internals")


@pytest.mark.parametrize("where", ["wheel", "dialect", "subscription"])
def test_a_fault_while_a_session_opens_ends_it_and_leaves_nothing_of_it(where: str) -> None:
    """The peer is told, where that can still be done; the connection is aborted in the end."""
    node = SmallNode()
    dialect = _FaultyDialect() if where == "dialect" else TEXT
    if where == "wheel":
        node.heartbeats.__class__ = _FaultyWheel
    if where == "subscription":
        node.journal.began = _fail  # type: ignore[method-assign,assignment]
    link = FakeLink(node.loop.defer)
    wanted = [Subscribe(None, "a", in_url=True)]
    session = node.registry.open(link, dialect, ANYTHING, head=b"H\n", subscriptions=wanted)
    assert session.closing
    assert not node.registry.sessions
    assert node.registry.by_transport["websocket"] == 0
    assert node.faults
    assert all(not slot for slot in node.heartbeats._slots)
    assert not node.channels
    if where == "dialect":
        assert link.aborted
    else:
        assert link.closed == (4500, "internal error")
        assert b"internals" not in link.received
        node.wait(6)
        assert link.aborted


def _fail(*_: object) -> None:
    raise RuntimeError("internals")


def test_a_session_is_found_only_with_its_own_secret() -> None:
    """A session that has ended is not found."""
    node = SmallNode()
    (first, _), (second, _) = node.open(), node.open()
    secret = node.registry.welcome(first).secret
    with pytest.raises(UnauthorizedError):
        node.registry.find(second.id, secret)
    with pytest.raises(UnauthorizedError):
        node.registry.find(first.id, "é")
    first.lost(1006, "gone")
    with pytest.raises(NotFoundError):
        node.registry.find(first.id, secret)


def test_no_more_sessions_than_allowed_and_none_while_draining() -> None:
    node = SmallNode(Shape(max_connections=2))
    node.open()
    session, _ = node.open()
    with pytest.raises(UnavailableError, match="2 connections"):
        node.registry.check_open("")
    session.lost(1006, "gone")
    node.registry.check_open("")
    node.registry.draining = True
    with pytest.raises(UnavailableError, match="draining"):
        node.registry.check_open("")


def test_commands_of_a_session_are_carried_out_in_their_order() -> None:
    """A command waits for an earlier one that takes longer."""
    node = SmallNode(Shape(latent=True))
    reader = Subscriber(node)
    commands: list[Command] = [Publish(1, "a", b"1"), Subscribe(2, "a", last=1), Ping(3)]
    for command in commands:
        node.commands.submit(reader.session, command)
    assert reader.read() == []
    node.loop.settle()
    pushes = reader.read()
    assert [push["id"] for push in pushes if push["op"] == "reply"] == [1, 2, 3]
    assert reader.session.inbox is None


def test_a_command_that_has_nothing_to_wait_for_is_carried_out_as_it_comes() -> None:
    """The reply is in the stream when the call returns, and no task was made."""
    node = SmallNode()
    reader = Subscriber(node)
    commands: list[Command] = [
        Subscribe(1, "a"), Publish(2, "a", b"1"), History(3, "a"), Ping(4), Unsubscribe(5, "a"),
    ]  # fmt: skip
    for command in commands:
        node.commands.submit(reader.session, command)
    assert not node.loop.tasks
    pushes = reader.read()
    assert [push["id"] for push in pushes if push["op"] == "reply"] == [1, 2, 3, 4, 5]
    # What was published before the unsubscribe still came before its answer.
    assert [push["op"] for push in pushes].index("message") < len(pushes) - 1


def test_a_command_that_asks_no_broker_does_not_wait_for_a_slow_one() -> None:
    """Only a command that came before and has to wait holds it up."""
    node = SmallNode(Shape(latent=True))
    reader = Subscriber(node)
    node.commands.submit(reader.session, Ping(1))
    assert [push["id"] for push in reader.read()] == [1]
    node.commands.submit(reader.session, Publish(2, "a", b"1"))
    node.commands.submit(reader.session, Ping(3))
    assert reader.read() == []
    node.loop.settle()
    assert [push["id"] for push in reader.read()] == [2, 3]


def test_a_command_that_waits_after_it_began_goes_on_in_a_task_and_the_next_wait_for_it() -> None:
    """A long page of history lets others have their turn."""
    node = SmallNode()
    reader = Subscriber(node)
    for _ in range(70):
        node.publish("a")
    node.commands.submit(reader.session, History(1, "a", limit=64))
    node.commands.submit(reader.session, Publish(2, "a", b"1"))
    assert reader.read() == []
    assert len(node.loop.tasks) == 1
    node.loop.settle()
    assert [push["id"] for push in reader.read()] == [1, 2]
    assert reader.session.inbox is None


def test_a_command_of_a_closing_session_is_not_done() -> None:
    node = SmallNode()
    reader = Subscriber(node)
    reader.session.close(1012, "draining")
    node.do(reader.session, Publish(1, "a", b"1"))
    assert node.counters.publications == 0


def test_a_peer_that_asks_too_fast_is_not_read_from_until_it_was_answered() -> None:
    """Reading stops when as many commands wait as are allowed, or as many bytes to be published."""
    node = SmallNode(Shape(limits=limits(inbox_max_commands=3, inbox_max_bytes=100), latent=True))
    reader = Subscriber(node)
    for data in ([b"1"] * 3, [b"1" * 99, b"1"]):
        for one in data:
            assert reader.link.reading
            node.commands.submit(reader.session, Publish(1, "a", one))
        assert not reader.link.reading
        node.loop.settle()
        assert reader.link.reading
        assert len(reader.read()) == len(data)


def test_tokens_that_wait_to_be_judged_count_as_bytes() -> None:
    """One may be as long as a message: 256 of them would be 64 MiB."""
    node = SmallNode(Shape(limits=limits(inbox_max_bytes=100), latent=True))
    reader = Subscriber(node)
    node.commands.submit(reader.session, Publish(1, "a", b"1"))
    node.commands.submit(reader.session, Authenticate(2, "t" * 98))
    assert reader.link.reading
    node.commands.submit(reader.session, Authenticate(3, "t"))
    assert not reader.link.reading
    node.loop.settle()
    assert reader.link.reading
    assert [push["id"] for push in reader.read()] == [1, 2, 3]


def test_commands_that_come_another_way_are_refused_while_the_inbox_is_full() -> None:
    """Such a command cannot be left unread, so its sender is told when to try again.

    Commands of the stream wait, and no accepted command is lost.
    """
    node = SmallNode(Shape(limits=limits(inbox_max_commands=5), latent=True))
    reader = Subscriber(node)
    replies: list[Reply] = []
    for number in range(5):
        node.commands.submit(reader.session, Publish(number, "a", b"1"), replies.append)
    for number in range(595):
        with pytest.raises(RateLimitedError, match="5 commands of this session wait already"):
            node.commands.submit(reader.session, Publish(number, "a", b"1"), replies.append)
    node.commands.submit(reader.session, Publish("own", "a", b"1"))
    node.loop.settle()
    assert [reply.id for reply in replies] == [0, 1, 2, 3, 4]
    assert [push["id"] for push in reader.read()] == ["own"]
    node.commands.submit(reader.session, Publish(7, "a", b"1"), replies.append)
    node.loop.settle()
    assert replies[-1].id == 7


def test_a_reply_may_go_another_way() -> None:
    """The stream of a new subscription then says `subscribed` instead."""
    node = SmallNode()
    reader = Subscriber(node)
    replies: list[Reply] = []
    node.commands.submit(reader.session, Subscribe(7, "a"), replies.append)
    node.commands.submit(reader.session, Subscribe(8, "a"), replies.append)
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
    """The session stays open."""
    node = SmallNode()
    reader = Subscriber(node)

    def broken(_request: PublishRequest) -> PublishResult:
        raise RuntimeError("internals")

    node.memory.publish_now = broken  # type: ignore[method-assign,assignment]  # a faulty broker
    node.do(reader.session, Publish(1, "a", b"1"))
    (push,) = reader.read()
    assert isinstance(push["error"], dict)
    assert push["error"]["code"] == "internal"
    assert "internals" not in str(push)
    assert len(node.faults) == 1
    reader.ping()
    assert len(reader.read()) == 1


def test_a_text_that_cannot_be_read_as_a_command_is_answered() -> None:
    node = SmallNode()
    reader = Subscriber(node)
    node.commands.refuse(reader.session, BadRequestError("no op", command_id=5))
    (push,) = reader.read()
    assert push["id"] == 5
    assert node.counters.command_errors == {"bad_request": 1}


def test_an_operator_may_disconnect_a_session() -> None:
    node = SmallNode()
    reader = Subscriber(node)
    assert node.registry.disconnect(reader.session.id, code=4403, reason="bye")
    assert not node.registry.disconnect(reader.session.id, code=4403, reason="bye")
    assert reader.read()[-1] == {"op": "goodbye", "code": 4403, "reason": "bye"}
    assert node.registry.by_transport["websocket"] == 0


def test_a_connection_that_ended_needs_no_abort() -> None:
    """The close time-out is let go of with it."""
    node = SmallNode()
    reader = Subscriber(node)
    reader.session.close(1012, "draining")
    assert list(node.registry.leaving) == [reader.session]
    reader.session.lost(1006, "gone")
    assert not node.registry.leaving
    node.wait(60)
    assert not reader.link.aborted


def test_a_farewell_that_fails_ends_its_session_all_the_same() -> None:
    """The session ends once, and closing it again does nothing."""
    node = SmallNode()
    session, link = node.open()

    def fail(data: bytes) -> int:
        raise RuntimeError("a fault")

    link.send = fail  # type: ignore[method-assign]  # a link that breaks its promise
    with pytest.raises(RuntimeError, match="a fault"):
        session.close(1012, "draining")
    assert not node.registry.sessions
    session.close(1012, "draining")


def test_a_connection_whose_end_nobody_tells_is_waited_for_no_longer_than_the_time_out() -> None:
    """The connection may have gone before its session was known."""
    node = SmallNode()
    session, link = node.open()
    session.close(1012, "draining")
    assert node.registry.leaving
    node.wait(6)
    assert link.aborted
    assert not node.registry.leaving
    assert session.gone
