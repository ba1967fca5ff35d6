"""Nodes know each other, and ask the one that holds a connection."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace
from functools import partial

import pytest
import structlog

from hub.brokers.redis.nodes import questions
from hub.brokers.redis.nodes.asking import fitting
from hub.brokers.redis.nodes.peers import MAX_POLL_BYTES, RedisPeers
from hub.brokers.redis.nodes.registry import Myself
from hub.core.identity import Identity
from hub.core.listing import ConnectionPage, ConnectionQuery, Listed, Row
from hub.core.peers import Arguments, Connections, Told
from hub.core.polling import PollRequest
from hub.core.publication import Position
from hub.core.records import NodeRecord, SessionRecord, SubscriptionRecord
from hub.errors import (
    ConflictError,
    NotFoundError,
    OutcomeUnknownError,
    UnauthorizedError,
    UnavailableError,
)
from tests.brokers.redis.nodes import TestNode, node
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

A, B, GONE = "aaaaaaaa", "bbbbbbbb", "cccccccc"
LEASE_SECONDS = 1.5


def session(connection: str) -> SessionRecord:
    subscribed = (SubscriptionRecord("prices", Position("e1", 3), "live", 0, 0),)
    return SessionRecord(
        connection, "websocket", "ann", "127.0.0.1", "", 1, 0.5, 3, 0, 0, 0, 0.0, subscribed
    )


@dataclass
class Held:
    """The connections of one node: those that begin with its tag and end with `1`."""

    tag: str
    closed: list[tuple[str, int, str]] = field(default_factory=list)
    never: bool = False
    polls: list[PollRequest] = field(default_factory=list)
    waiting: int = 0
    """Polls that wait here."""
    holds: int = 2
    """How many connections it lists."""

    async def command(self, connection: str, secret: str, raw: bytes) -> bytes:
        if self.never:
            await asyncio.Event().wait()
        if secret != "right":
            raise UnauthorizedError("the secret does not belong to this connection")
        return self.tag.encode() + b" did " + raw

    async def check(self, connection: str, secret: str) -> None:
        if secret != "right":
            raise UnauthorizedError("the secret does not belong to this connection")

    async def connection(self, connection: str) -> SessionRecord | None:
        return session(connection) if connection == f"{self.tag}1" else None

    async def poll(self, request: PollRequest) -> bytes:
        if request.secret != "right":
            raise UnauthorizedError("the secret does not belong to this connection")
        self.waiting += 1
        try:
            await asyncio.sleep(request.wait_seconds)
        finally:
            self.waiting -= 1
        self.polls.append(request)
        return b"answer"

    async def listed(self, query: ConnectionQuery) -> Listed:
        if self.never:
            await asyncio.Event().wait()
        records = [session(f"{self.tag}{number}") for number in range(self.holds)]
        rows = tuple(Row((r.connection, r.connection), r) for r in records)
        return Listed(rows[: query.limit], len(rows), more=len(rows) > query.limit)

    async def operate(self, name: str, arguments: Arguments) -> Told:
        if name == "refuse":
            raise ConflictError("not now")
        return {"tag": self.tag, "name": name, **arguments}

    async def disconnect(self, connection: str, *, code: int, reason: str) -> bool:
        self.closed.append((connection, code, reason))
        return connection == f"{self.tag}1"


@dataclass
class Place:
    node: TestNode
    held: Held
    peers: RedisPeers

    async def names(self) -> list[str]:
        return [record.node for record in await self.peers.nodes()]


@contextlib.asynccontextmanager
async def place(
    redis: RedisServer, tag: str, *, lives: bool = True, answer_seconds: float = 5.0
) -> AsyncGenerator[Place]:
    tasks: set[asyncio.Task[object]] = set()
    async with node(redis.url) as one:
        held = Held(tag)
        made = RedisPeers(
            one.broker.shard,
            Myself(
                tag,
                lambda: NodeRecord(tag, "1", 1, 2.0, 3, 4, 5, 6, 7, draining=False),
                held,
                held.operate,
            ),
            spawn=lambda work: tasks.add(asyncio.ensure_future(work)),
            log=structlog.get_logger(),
            lease_seconds=LEASE_SECONDS,
            answer_seconds=answer_seconds,
        )
        await one.is_ready()
        await made.start()
        if not lives:
            await _end(tasks)
        yield Place(one, held, made)
        await _end(tasks)


async def _end(tasks: set[asyncio.Task[object]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_nodes_are_listed_while_they_live(redis: RedisServer) -> None:
    """A stop ends that at once, a death when the lease ends; who lives stays listed."""
    async with place(redis, A) as a, place(redis, B) as b, place(redis, GONE, lives=False):
        assert await a.names() == await b.names() == [A, B, GONE]

        async def without_the_dead() -> bool:
            return await a.names() == [A, B]

        await eventually(without_the_dead)
        await b.peers.stop()
        assert await a.names() == [A]
        assert b"bbbb" not in redis.ask("SMEMBERS", "hub:{/nodes}:tags")


async def test_whoever_is_asked_the_holder_answers(redis: RedisServer) -> None:
    """Commands, closing and looking; errors come back as what they are."""
    async with place(redis, A) as a, place(redis, B) as b:
        there = a.peers.holder(f"{B}1")
        assert (
            await there.command(f"{B}1", "right", b"\xff not text") == b"bbbbbbbb did \xff not text"
        )
        with pytest.raises(UnauthorizedError, match="does not belong"):
            await there.command(f"{B}1", "wrong", b"{}")
        assert await there.disconnect(f"{B}1", code=4403, reason="out")
        assert not await there.disconnect(f"{B}2", code=4403, reason="out")
        assert b.held.closed == [(f"{B}1", 4403, "out"), (f"{B}2", 4403, "out")]
        assert await there.connection(f"{B}1") == session(f"{B}1")
        assert await there.connection(f"{B}2") is None


async def test_an_operator_reaches_every_node_from_any(redis: RedisServer) -> None:
    """Itself without Redis; what a node answers with comes back as it is, errors too."""
    async with place(redis, A) as a, place(redis, B):
        assert set(await a.peers.by_tag()) == {A, B}
        for tag in (A, B):
            told = await a.peers.operate(tag, "shed", {"count": 3, "window_seconds": None})
            assert told == {"tag": tag, "name": "shed", "count": 3, "window_seconds": None}
            with pytest.raises(ConflictError, match="not now"):
                await a.peers.operate(tag, "refuse", {})
        with pytest.raises(NotFoundError):
            await a.peers.operate(GONE, "shed", {})


async def test_a_node_asks_itself_without_redis(redis: RedisServer) -> None:
    """Also about what no node's connection looks like."""
    async with place(redis, A) as a:
        for connection in (f"{A}1", "short", "", "--------1"):
            holder: Connections = a.held
            assert a.peers.holder(connection) is holder


async def test_no_node_no_connection(redis: RedisServer) -> None:
    async with place(redis, A) as a:
        with pytest.raises(NotFoundError):
            await a.peers.command(f"{GONE}1", "right", b"{}")
        assert await a.peers.connection(f"{GONE}1") is None
        assert not await a.peers.disconnect(f"{GONE}1", code=4403, reason="")


async def test_a_node_that_does_not_answer_is_not_waited_for(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A time-out says that it is unavailable, and so does a bound on how many wait."""
    async with place(redis, A, answer_seconds=0.5) as a, place(redis, B) as b:
        b.held.never = True
        with pytest.raises(UnavailableError, match="does not answer"):
            await a.peers.command(f"{B}1", "right", b"{}")
        monkeypatch.setattr(questions, "MAX_PENDING", 1)
        first = asyncio.ensure_future(a.peers.command(f"{B}1", "right", b"{}"))
        await asyncio.sleep(0)
        with pytest.raises(UnavailableError, match="wait already"):
            await a.peers.command(f"{B}1", "right", b"{}")
        with pytest.raises(UnavailableError, match="does not answer"):
            await first


PUBLISH = b'{"op":"publish","id":1,"channel":"a","data":1}'


async def test_a_publish_without_an_answer_may_have_been_made(redis: RedisServer) -> None:
    """`outcome_unknown`, so that nobody repeats it as if it had not been; of others, no harm."""
    async with place(redis, A, answer_seconds=0.5) as a, place(redis, B) as b:
        b.held.never = True
        with pytest.raises(OutcomeUnknownError, match="does not answer"):
            await a.peers.command(f"{B}1", "right", PUBLISH)
        for other in (b'{"op":"ping","id":1}', b'{"op":"publish","id":1}', b"\xff"):
            with pytest.raises(UnavailableError, match="does not answer"):
                await a.peers.command(f"{B}1", "right", other)


async def test_a_publish_that_no_node_has_seen_was_not_made(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It never left: too much waits already, or Redis is away."""
    async with place(redis, A) as a, place(redis, B):
        with monkeypatch.context() as patch:
            patch.setattr(questions, "MAX_PENDING", 0)
            with pytest.raises(UnavailableError, match="wait already"):
                await a.peers.command(f"{B}1", "right", PUBLISH)
        redis.kill()
        await eventually(lambda: a.node.broker.problems())
        with pytest.raises(UnavailableError, match="cannot be asked"):
            await a.peers.command(f"{B}1", "right", PUBLISH)


async def test_a_frozen_redis_before_the_question_left_did_not_publish(redis: RedisServer) -> None:
    """Whether the node lives is asked first: what fails there was not sent."""
    async with place(redis, A, answer_seconds=0.2) as a, place(redis, B):
        redis.freeze()
        with pytest.raises(UnavailableError):
            await a.peers.command(f"{B}1", "right", PUBLISH)
        redis.thaw()


def poll(connection: str, *, secret: str = "right", wait_seconds: float = 0.0) -> PollRequest:
    return PollRequest(
        channels=("a", "b"),
        since={"a": Position("e1", 3)},
        last=2,
        wait_seconds=wait_seconds,
        fill=True,
        connection=connection,
        secret=secret,
        session=True,
        identity=Identity(),
        address="192.0.2.1",
        user_agent="test",
    )


async def test_a_poll_is_answered_by_the_node_of_its_session(redis: RedisServer) -> None:
    """It arrives as it was asked, but for how much it may bring; other time-outs do not hold."""
    async with place(redis, A, answer_seconds=1.0) as a, place(redis, B) as b:
        request = poll(f"{B}1", wait_seconds=1.5)
        assert await a.peers.holder(f"{B}1").poll(request) == b"answer"
        assert b.held.polls == [replace(request, max_bytes=MAX_POLL_BYTES)]
        with pytest.raises(UnauthorizedError):
            await a.peers.poll(poll(f"{B}1", secret="wrong"))
        with pytest.raises(NotFoundError):
            await a.peers.poll(poll(f"{GONE}1"))


async def test_polls_that_wait_leave_room_for_commands(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has a bound of its own."""
    monkeypatch.setattr(questions, "MAX_POLLS", 1)
    async with place(redis, A) as a, place(redis, B):
        waiting = asyncio.ensure_future(a.peers.poll(poll(f"{B}1", wait_seconds=0.5)))
        await asyncio.sleep(0)
        with pytest.raises(UnavailableError, match="wait already"):
            await a.peers.poll(poll(f"{B}1"))
        assert await a.peers.command(f"{B}1", "right", b"x") == b"bbbbbbbb did x"
        assert await waiting == b"answer"
        assert await a.peers.poll(poll(f"{B}1")) == b"answer"


async def test_a_poll_whose_peer_is_gone_waits_at_no_node(redis: RedisServer) -> None:
    """The node that was asked tells the one that holds the session; others wait on."""
    async with place(redis, A) as a, place(redis, B) as b:
        polls = [
            asyncio.ensure_future(a.peers.poll(poll(f"{B}1", wait_seconds=30.0))) for _ in range(3)
        ]
        await eventually(lambda: b.held.waiting == 3)
        for each in polls[:2]:
            each.cancel()
        await eventually(lambda: b.held.waiting == 1)
        polls[2].cancel()
        await eventually(lambda: b.held.waiting == 0)
        assert await asyncio.gather(*polls, return_exceptions=True)
        assert await a.peers.poll(poll(f"{B}1")) == b"answer"


def listed(found: ConnectionPage) -> list[str]:
    return [row.record.connection for row in found.rows]


async def test_connections_of_all_nodes_make_one_page(redis: RedisServer) -> None:
    """In one order, whichever is asked; only those of the named node, where one is named."""
    async with place(redis, A) as a, place(redis, B) as b:
        for asked in (a, b):
            found = await asked.peers.connections(ConnectionQuery(limit=3))
            assert listed(found) == [f"{A}0", f"{A}1", f"{B}0"]
            assert (found.total, found.more, found.complete) == (4, True, True)
        b.held.never = True
        of_a = await a.peers.connections(ConnectionQuery(node=A))
        assert (listed(of_a), of_a.complete) == ([f"{A}0", f"{A}1"], True)


async def test_a_node_that_does_not_answer_is_named(redis: RedisServer) -> None:
    """What the others have is shown all the same; a node that has left is none."""
    async with place(redis, A, answer_seconds=0.5) as a, place(redis, B) as b:
        b.held.never = True
        found = await a.peers.connections(ConnectionQuery())
        assert (listed(found), found.unanswered) == ([f"{A}0", f"{A}1"], (B,))
        assert not found.complete
        await b.peers.stop()
        assert (await a.peers.connections(ConnectionQuery())).complete


async def test_a_large_part_of_a_page_comes_in_several(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a node says at once is bounded in bytes; the pages together are still everything."""
    monkeypatch.setattr(questions, "fitting", partial(fitting, max_bytes=1500))
    async with place(redis, A) as a, place(redis, B) as b:
        a.held.holds, b.held.holds = 0, 30
        found = await a.peers.connections(ConnectionQuery())
        assert 1 <= len(found.rows) < 30
        assert (found.total, found.more) == (30, True)


async def test_without_redis_it_is_told_that_others_may_be_missing(redis: RedisServer) -> None:
    """A node's own connections can be seen whatever happens to Redis."""
    async with place(redis, A) as a:
        redis.kill()
        await eventually(lambda: a.node.broker.problems())
        found = await a.peers.connections(ConnectionQuery())
        assert (listed(found), found.complete) == ([f"{A}0", f"{A}1"], False)


async def test_without_redis_the_others_are_unavailable(redis: RedisServer) -> None:
    """Not absent: nobody can tell."""
    async with place(redis, A) as a:
        redis.kill()
        await eventually(lambda: a.node.broker.problems())
        with pytest.raises(UnavailableError) as of_all:
            await a.peers.nodes()
        with pytest.raises(UnavailableError) as of_one:
            await a.peers.disconnect(f"{B}1", code=4403, reason="")
        for refused in (of_all, of_one):
            assert str(redis.port) not in str(refused.value), "peers need not know where Redis is"


async def test_nonsense_is_not_answered(redis: RedisServer) -> None:
    """And harms nobody."""
    async with place(redis, A) as a, place(redis, B):
        for nonsense in (b"", b"\xc1", b"{}", b"x" * 1000):
            redis.ask("PUBLISH", f"hub:{{/nodes}}:ask:{A}", nonsense)
            redis.ask("PUBLISH", f"hub:{{/nodes}}:ask:{B}", nonsense)
        assert await a.peers.connection(f"{B}1") is not None


async def test_nodes_stay_listed_while_redis_is_full(redis: RedisServer) -> None:
    """Also one that comes meanwhile: a record takes little, and is wanted most then."""
    async with place(redis, A) as a:
        redis.ask("CONFIG", "SET", "maxmemory", "1")

        record = f"hub:{{/nodes}}:node:{A}"
        redis.ask("DEL", record)
        await eventually(lambda: redis.ask("EXISTS", record) == b":1\r\n", what="renewal")
        async with place(redis, B):
            assert await a.names() == [A, B]
