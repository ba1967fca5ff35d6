"""Nodes of one Redis know each other, answer each other, and prove their messages by a key."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.brokers import questions
from hub.brokers.redis.bus import MAX_APART_SECONDS, Proof, RedisNodeBus
from hub.brokers.redis.keys import NODES
from hub.errors import OutcomeUnknownError, UnavailableError
from tests.admin.network import node_record
from tests.brokers.redis.nodes import TestNode, node
from tests.core.fakes import FakeClock
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

A, B, GONE = "aaaaaaaa", "bbbbbbbb", "cccccccc"
LEASE_SECONDS = 1.5
QUESTION = b"\xff not text"


@dataclass
class Asked:
    """One node's answers: its tag and the question."""

    tag: str
    never: bool = False
    seconds: float = 0.0
    """How long it takes."""
    waiting: int = 0
    """How many questions wait here."""

    async def serve(self, question: bytes) -> bytes:
        self.waiting += 1
        try:
            await (asyncio.Event().wait() if self.never else asyncio.sleep(self.seconds))
        finally:
            self.waiting -= 1
        return self.tag.encode() + b" heard " + question


@dataclass
class Place:
    node: TestNode
    asked: Asked
    bus: RedisNodeBus
    unproved: list[None]
    """One for each message that nobody with a key has sent."""

    async def names(self) -> list[str]:
        """Of the other nodes."""
        return sorted(record.node for record in (await self.bus.others()).values())


@contextlib.asynccontextmanager
async def place(
    redis: RedisServer,
    tag: str,
    *,
    lives: bool = True,
    answer_seconds: float = 5.0,
    keys: Sequence[str] = ("the operators' key",),
) -> AsyncGenerator[Place]:
    unproved: list[None] = []
    tasks: set[asyncio.Task[object]] = set()
    async with node(redis.url) as one:
        asked = Asked(tag)
        bus = RedisNodeBus(
            one.broker.shard,
            tag=tag,
            spawn=lambda work: tasks.add(asyncio.ensure_future(work)),
            proof=Proof(keys, time.time),
            unproved=lambda: unproved.append(None),
            lease_seconds=LEASE_SECONDS,
            answer_seconds=answer_seconds,
        )
        await one.is_ready()
        await bus.start(asked.serve, lambda: node_record(tag))
        if not lives:
            await _end(tasks)
        yield Place(one, asked, bus, unproved)
        await _end(tasks)


async def _end(tasks: set[asyncio.Task[object]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_nodes_are_listed_while_they_live(redis: RedisServer) -> None:
    """A node that stops leaves the list at once, and one that dies when its lease ends; a
    living node stays listed."""
    async with place(redis, A) as a, place(redis, B) as b, place(redis, GONE, lives=False):
        assert (await a.names(), await b.names()) == ([B, GONE], [A, GONE])

        async def without_the_dead() -> bool:
            return await a.names() == [B]

        await eventually(without_the_dead)
        await b.bus.stop()
        assert await a.names() == []
        assert b"bbbb" not in redis.ask("SMEMBERS", "hub:{/nodes}:tags")


async def test_a_question_is_answered_by_the_node_it_is_put_to(redis: RedisServer) -> None:
    """Bytes go and bytes come back; a node that lives no more has no answer."""
    async with place(redis, A) as a, place(redis, B):
        assert await a.bus.ask(B, QUESTION) == b"bbbbbbbb heard " + QUESTION
        assert await a.bus.ask(GONE, QUESTION) is None


async def test_a_sender_without_the_operators_key_is_not_heard(redis: RedisServer) -> None:
    """Otherwise any client that may write to Redis could operate."""
    async with place(redis, A) as a, place(redis, B, keys=["another"], answer_seconds=0.5) as b:
        with pytest.raises(OutcomeUnknownError):
            await b.bus.ask(A, QUESTION)
        assert len(a.unproved) == 1
        redis.ask("PUBLISH", a.node.broker.shard(NODES).keys.asked(A), "ask")
        await eventually(lambda: len(a.unproved) == 2)


async def test_a_node_that_does_not_answer_is_not_waited_for(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An asked node may have acted, so the error is `outcome_unknown`; a question that
    finds no room was not sent."""
    async with place(redis, A, answer_seconds=0.5) as a, place(redis, B) as b:
        b.asked.never = True
        with pytest.raises(OutcomeUnknownError, match="does not answer"):
            await a.bus.ask(B, QUESTION)
        monkeypatch.setattr(questions, "MAX_PENDING", 1)
        first = asyncio.ensure_future(a.bus.ask(B, QUESTION))
        await asyncio.sleep(0)
        with pytest.raises(UnavailableError, match="wait already"):
            await a.bus.ask(B, QUESTION)
        with pytest.raises(OutcomeUnknownError, match="does not answer"):
            await first


async def test_a_question_that_never_left_was_not_seen(redis: RedisServer) -> None:
    """Redis is away: nobody can have done what was asked."""
    async with place(redis, A) as a, place(redis, B):
        redis.kill()
        await eventually(lambda: a.node.broker.problems())
        with pytest.raises(UnavailableError) as of_one:
            await a.bus.ask(B, QUESTION)
        with pytest.raises(UnavailableError, match="not known now") as of_all:
            await a.bus.others()
        for refused in (of_all, of_one):
            assert str(redis.port) not in str(refused.value), "peers need not know where Redis is"


async def test_a_frozen_redis_before_the_question_left_has_not_shown_it(
    redis: RedisServer,
) -> None:
    """The bus first asks whether the node lives, so a failure there means that
    the question was not sent."""
    async with place(redis, A, answer_seconds=0.2) as a, place(redis, B):
        redis.freeze()
        with pytest.raises(UnavailableError):
            await a.bus.ask(B, QUESTION)
        redis.thaw()


async def test_a_question_may_wait_as_long_as_it_says(redis: RedisServer) -> None:
    """Beside what an answer may take."""
    async with place(redis, A, answer_seconds=1.0) as a, place(redis, B) as b:
        b.asked.seconds = 1.5
        assert await a.bus.ask(B, QUESTION, wait_seconds=1.5, lasts=True) is not None


async def test_questions_that_last_leave_room_for_others(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each kind has a bound of its own."""
    monkeypatch.setattr(questions, "MAX_LASTING", 1)
    async with place(redis, A) as a, place(redis, B) as b:
        b.asked.seconds = 0.5
        lasting = asyncio.ensure_future(a.bus.ask(B, QUESTION, wait_seconds=0.5, lasts=True))
        await asyncio.sleep(0)
        with pytest.raises(UnavailableError, match="wait already"):
            await a.bus.ask(B, QUESTION, lasts=True)
        assert await a.bus.ask(B, QUESTION) is not None
        assert await lasting is not None
        assert await a.bus.ask(B, QUESTION, lasts=True) is not None


async def test_an_answer_that_lasts_ends_with_its_asker(redis: RedisServer) -> None:
    """The node that was asked tells the one that answers; others wait on."""
    async with place(redis, A) as a, place(redis, B) as b:
        b.asked.seconds = 30.0
        waiting = [
            asyncio.ensure_future(a.bus.ask(B, QUESTION, wait_seconds=30.0, lasts=True))
            for _ in range(3)
        ]
        await eventually(lambda: b.asked.waiting == 3)
        for each in waiting[:2]:
            each.cancel()
        await eventually(lambda: b.asked.waiting == 1)
        waiting[2].cancel()
        await eventually(lambda: b.asked.waiting == 0)
        assert await asyncio.gather(*waiting, return_exceptions=True)
        b.asked.seconds = 0.0
        assert await a.bus.ask(B, QUESTION, lasts=True) is not None


async def test_nonsense_is_not_answered(redis: RedisServer) -> None:
    """A node ignores messages that it cannot read, and still answers questions."""
    async with place(redis, A) as a, place(redis, B):
        for nonsense in (b"", b"\xc1", b"{}", b"x" * 1000):
            redis.ask("PUBLISH", f"hub:{{/nodes}}:ask:{A}", nonsense)
            redis.ask("PUBLISH", f"hub:{{/nodes}}:ask:{B}", nonsense)
        assert await a.bus.ask(B, QUESTION) is not None


async def test_nodes_stay_listed_while_redis_is_full(redis: RedisServer) -> None:
    """A node that comes meanwhile is listed too: a record takes little, and is wanted most then."""
    async with place(redis, A) as a:
        redis.ask("CONFIG", "SET", "maxmemory", "1")

        record = f"hub:{{/nodes}}:node:{A}"
        redis.ask("DEL", record)
        await eventually(lambda: redis.ask("EXISTS", record) == b":1\r\n", what="renewal")
        async with place(redis, B):
            assert await a.names() == [B]


def proof(*keys: str) -> Proof:
    return Proof(keys, FakeClock())


def test_only_senders_with_the_key_are_heard() -> None:
    sealed = proof("k").seal("a", b"drain")
    assert proof("k").open("a", sealed) == b"drain"
    assert proof("other").open("a", sealed) is None
    assert proof("k").open("b", sealed) is None, "it was for another node"
    assert proof("k").open("a", b"drain") is None


def test_while_keys_change_each_of_ones_own_counts() -> None:
    old, both, new = proof("old"), proof("new", "old"), proof("new")
    assert both.open("a", old.seal("a", b"x")) == b"x"
    assert both.open("a", new.seal("a", b"x")) == b"x"
    assert old.open("a", both.seal("a", b"x")) is None


def test_without_keys_nothing_is_proved() -> None:
    assert proof().open("a", proof().seal("a", b"x")) == b"x"


@pytest.mark.parametrize("seconds", [-MAX_APART_SECONDS - 1, MAX_APART_SECONDS + 1])
def test_a_recorded_question_is_not_heard_again_for_long(seconds: float) -> None:
    clock = FakeClock()
    one = Proof(["k"], clock)
    sealed = one.seal("a", b"x")
    clock.advance(seconds / 2)
    assert one.open("a", sealed) == b"x"
    clock.advance(seconds / 2)
    assert one.open("a", sealed) is None


@given(st.binary(max_size=100), st.integers(0, 99), st.integers(1, 255))
def test_no_bit_may_differ(message: bytes, at: int, change: int) -> None:
    sealed = bytearray(proof("k").seal("a", message))
    sealed[at % len(sealed)] ^= change
    assert proof("k").open("a", bytes(sealed)) is None
    assert proof("k").open("a", bytes(sealed[:-1])) is None
