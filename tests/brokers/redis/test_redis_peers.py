"""Nodes know each other, and ask the one that holds a connection."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

import pytest
import structlog

from hub.brokers.redis import peers
from hub.brokers.redis.peers import Myself, RedisPeers
from hub.core.publication import Position
from hub.core.records import NodeRecord, SessionRecord, SubscriptionRecord
from hub.errors import NotFoundError, UnauthorizedError, UnavailableError
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

    async def command(self, connection: str, secret: str, raw: bytes) -> bytes:
        if self.never:
            await asyncio.Event().wait()
        if secret != "right":
            raise UnauthorizedError("the secret does not belong to this connection")
        return self.tag.encode() + b" did " + raw

    async def connection(self, connection: str) -> SessionRecord | None:
        return session(connection) if connection == f"{self.tag}1" else None

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
            Myself(tag, lambda: NodeRecord(tag, "1", 1, 2.0, 3, 4, 5, 6, 7, draining=False), held),
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


async def test_a_node_asks_itself_without_redis(redis: RedisServer) -> None:
    """Also about what no node's connection looks like."""
    async with place(redis, A) as a:
        for connection in (f"{A}1", "short", "", "--------1"):
            assert a.peers.holder(connection) is a.held


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
        monkeypatch.setattr(peers, "MAX_PENDING", 1)
        first = asyncio.ensure_future(a.peers.command(f"{B}1", "right", b"{}"))
        await asyncio.sleep(0)
        with pytest.raises(UnavailableError, match="wait for answers"):
            await a.peers.command(f"{B}1", "right", b"{}")
        with pytest.raises(UnavailableError, match="does not answer"):
            await first


async def test_without_redis_the_others_are_unavailable(redis: RedisServer) -> None:
    """Not absent: nobody can tell."""
    async with place(redis, A) as a:
        redis.kill()
        await eventually(lambda: a.node.broker.problems())
        with pytest.raises(UnavailableError):
            await a.peers.nodes()
        with pytest.raises(UnavailableError):
            await a.peers.disconnect(f"{B}1", code=4403, reason="")


async def test_nonsense_is_not_answered(redis: RedisServer) -> None:
    """And harms nobody."""
    async with place(redis, A) as a, place(redis, B):
        for nonsense in (b"", b"\xc1", b"{}", b"x" * 1000):
            redis.ask("PUBLISH", f"hub:{{/nodes}}:ask:{A}", nonsense)
            redis.ask("PUBLISH", f"hub:{{/nodes}}:ask:{B}", nonsense)
        assert await a.peers.connection(f"{B}1") is not None
