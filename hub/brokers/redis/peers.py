"""The nodes of one Redis: who lives, and what only the holder of a connection can do.

Implements `hub.core.ports.Peers`. A connection begins with its node's tag, so it is known
whom to ask without any table. Each node hears questions and answers on a pub/sub channel of
its own. Whoever may write to Redis is trusted to ask; secrets are checked by the holder,
operators' rights by the node that they asked.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
from structlog.typing import FilteringBoundLogger

from hub.brokers.redis import keys
from hub.brokers.redis.asking import Answer, Ask, decode, encode
from hub.brokers.redis.failures import CallError
from hub.brokers.redis.library import Argument
from hub.brokers.redis.shard import Shard
from hub.core.ports import Connections, Spawn
from hub.core.records import NodeRecord, SessionRecord
from hub.errors import HubError, NotFoundError, UnavailableError

# A node that is killed is listed for so long at most.
LEASE_SECONDS = 10.0
_RENEWALS = 3
# Above what a call to Redis may take, below what an operator waits for.
ANSWER_SECONDS = 2.0
# Questions without an answer yet, and answers being made; each is a few KB. Guess, not measured.
MAX_PENDING = 1000
TAG_LENGTH = 8
_RECORD = msgspec.json.Decoder(NodeRecord)


@dataclass(frozen=True, slots=True)
class Myself:
    """This node, as the others know it."""

    tag: str
    record: Callable[[], NodeRecord]
    connections: Connections


class RedisPeers:
    """One per node. `start` once the broker has begun to connect, `stop` before it stops.

    Args:
        shard: where a name lives; all that is kept here lives with `keys.NODES`.
    """

    def __init__(
        self,
        shard: Callable[[str], Shard],
        myself: Myself,
        *,
        spawn: Spawn,
        log: FilteringBoundLogger,
        lease_seconds: float = LEASE_SECONDS,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._shard = shard
        self._myself = myself
        self._spawn = spawn
        self._log = log
        self._lease_seconds = lease_seconds
        self._answer_seconds = answer_seconds
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._number = 0
        self._answering = 0
        self._stopped = False
        self._listens_at: Shard | None = None

    # -- the registry ------------------------------------------------------------------------

    async def start(self) -> None:
        """Be known from now on; as soon as Redis can be reached, where it is away."""
        self._listen()
        with contextlib.suppress(CallError):
            await self._register()
        self._spawn(self._stay_known())

    async def _stay_known(self) -> None:
        while not self._stopped:
            await asyncio.sleep(self._lease_seconds / _RENEWALS * random.uniform(0.7, 1))
            self._listen()
            with contextlib.suppress(CallError):
                await self._register()

    async def stop(self) -> None:
        """Be known no more."""
        self._stopped = True
        with contextlib.suppress(CallError):
            await self._call("DEL", keys.node(self._myself.tag))

    def _listen(self) -> None:
        # Each time: another server may own the name by now. Two would ask everything twice.
        name, shard = keys.asked(self._myself.tag).encode(), self._shard(keys.NODES)
        if self._listens_at is not None and self._listens_at is not shard:
            self._listens_at.listeners.ignore(name)
        shard.listeners.listen(name, self._hear)
        self._listens_at = shard

    async def _register(self) -> None:
        if self._stopped:
            return
        tag, lease_ms = self._myself.tag, int(self._lease_seconds * 1000)
        record = msgspec.json.encode(self._myself.record())
        await self._call("SET", keys.node(tag), record, "PX", lease_ms)
        await self._call("SADD", keys.nodes(), tag)
        await self._call("PEXPIRE", keys.nodes(), 10 * lease_ms)

    async def _call(self, *command: Argument) -> object:
        return await self._shard(keys.NODES).commands.call(*command)

    async def nodes(self) -> Sequence[NodeRecord]:
        """By name; raise `UnavailableError` when Redis is away."""
        try:
            found = await self._records()
        except CallError as error:
            raise UnavailableError(f"the other nodes are not known now: {error}") from None
        mine = self._myself.record()
        return sorted([mine, *found], key=lambda record: (record.node, record.started_ms))

    async def _records(self) -> list[NodeRecord]:
        answer = await self._call("SMEMBERS", keys.nodes())
        tags = [tag.decode() for tag in answer] if isinstance(answer, list | set) else []
        others = [tag for tag in tags if tag != self._myself.tag]
        if not others:
            return []
        values = await self._call("MGET", *map(keys.node, others))
        held = values if isinstance(values, list) else []
        if ended := [tag for tag, raw in zip(others, held, strict=True) if raw is None]:
            await self._call("SREM", keys.nodes(), *ended)
        return [record for raw in held if raw is not None and (record := _decoded(raw))]

    # -- asking ------------------------------------------------------------------------------

    def holder(self, connection: str) -> Connections:
        tag = connection[:TAG_LENGTH]
        foreign = len(tag) == TAG_LENGTH and tag.isalnum() and tag != self._myself.tag
        return self if foreign else self._myself.connections

    async def command(self, connection: str, secret: str, raw: bytes) -> bytes:
        """Raises `UnavailableError` too, when no answer comes: it may have been carried out."""
        ask = Ask(self._next(), self._myself.tag, "command", connection, secret=secret, raw=raw)
        if (answer := await self._ask(ask)) is None:
            raise NotFoundError(f"connection {connection!r} is not open")
        return answer.raw

    async def connection(self, connection: str) -> SessionRecord | None:
        answer = await self._ask(Ask(self._next(), self._myself.tag, "connection", connection))
        return None if answer is None else answer.record

    async def disconnect(self, connection: str, *, code: int, reason: str) -> bool:
        tag = self._myself.tag
        ask = Ask(self._next(), tag, "disconnect", connection, code=code, reason=reason)
        answer = await self._ask(ask)
        return answer is not None and answer.found

    def _next(self) -> int:
        self._number += 1
        return self._number

    async def _ask(self, ask: Ask) -> Answer | None:
        """None where the node that had the connection lives no more."""
        if len(self._waiting) >= MAX_PENDING:
            raise UnavailableError(f"{MAX_PENDING:,} questions to other nodes wait for answers")
        waiting: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[ask.number] = waiting
        tag = ask.connection[:TAG_LENGTH]
        try:
            async with asyncio.timeout(self._answer_seconds):
                if not await self._lives(tag):
                    return None
                await self._call("PUBLISH", keys.asked(tag), encode(ask))
                answer = await waiting
        except (CallError, TimeoutError) as error:
            why = str(error) or "it does not answer"
            raise UnavailableError(f"the connection's node cannot be asked: {why}") from None
        finally:
            self._waiting.pop(ask.number, None)
        answer.check()
        return answer

    async def _lives(self, tag: str) -> bool:
        return await self._call("EXISTS", keys.node(tag)) == 1

    # -- answering ---------------------------------------------------------------------------

    def _hear(self, raw: bytes) -> None:
        message = decode(raw)
        if isinstance(message, Ask):
            if self._answering < MAX_PENDING:
                self._answering += 1
                self._spawn(self._serve(message))
        elif isinstance(message, Answer):
            waiting = self._waiting.get(message.number)
            if waiting is not None and not waiting.done():
                waiting.set_result(message)

    async def _serve(self, ask: Ask) -> None:
        try:
            answer = await self._answer(ask)
            with contextlib.suppress(CallError):
                await self._call("PUBLISH", keys.asked(ask.asker), encode(answer))
        finally:
            self._answering -= 1

    async def _answer(self, ask: Ask) -> Answer:
        here = self._myself.connections
        try:
            if ask.what == "command":
                return Answer(
                    ask.number, raw=await here.command(ask.connection, ask.secret, ask.raw)
                )
            if ask.what == "connection":
                return Answer(ask.number, record=await here.connection(ask.connection))
            found = await here.disconnect(ask.connection, code=ask.code, reason=ask.reason)
            return Answer(ask.number, found=found)
        except HubError as error:
            return Answer(ask.number, error=error.code, message=error.message)
        except Exception:  # noqa: BLE001 - the border: logged with traceback, neutral to the peer
            self._log.exception("peer_question_failed", what=ask.what)
            return Answer(ask.number, error=HubError.code, message="internal error")


def _decoded(raw: bytes) -> NodeRecord | None:
    try:
        return _RECORD.decode(raw)
    except ValueError:
        return None
