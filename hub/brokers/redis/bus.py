"""One node asks another, and answers when asked: `hub.admin.rpc.NodeBus` over Redis.

Each node hears questions and answers on a pub/sub channel of its own. A question is bytes here.
Secrets are checked by the node that holds the session, operators' rights by the node that was asked
first.

Any program that may publish in Redis could ask a node to close connections or to drain. So each
message carries a keyed digest of its text, of the node it is for and of the time when it was sent
(`Proof`), by a key that Redis does not know. The key is made from the operators' keys, which all
nodes of a hub share. Without any, nothing is proved: then everybody may operate anyway.

    digest (32 bytes) | milliseconds since 1970 UTC (8 bytes) | message

During a change of keys nodes have different first keys: a proof by any of a node's own keys counts.
"""

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b, sha256

import msgspec

from hub.brokers.questions import ANSWER_SECONDS, UnderWay
from hub.brokers.redis.keys import NODES
from hub.brokers.redis.leases import LEASE_SECONDS, Registry
from hub.brokers.redis.link.outcomes import (
    RedisCallError,
    RedisNotSentError,
    RefusedError,
    public_reason,
)
from hub.brokers.redis.shard import Shard
from hub.core.node_records import NodeRecord
from hub.core.ports import Spawn
from hub.errors import OutcomeUnknownError, UnavailableError

_DIGEST_BYTES = sha256().digest_size
_TIME_BYTES = 8
# How far apart clocks of nodes may be, and how long a recorded message could be sent again: a
# run of a node has a name of its own, so to the same run only.
MAX_APART_SECONDS = 300.0


class Proof:
    """Seals messages between nodes, and opens those of nodes with a key; one per node.

    Args:
        operator_keys: the first one proves this node's messages; each of them proves others'.
        wall_clock: seconds since 1970 UTC.
    """

    def __init__(self, operator_keys: Sequence[str], wall_clock: Callable[[], float]) -> None:
        self._keys = tuple(
            blake2b(key.encode(), person=b"hub nodes", digest_size=32).digest()
            for key in operator_keys
        )
        self._wall_clock = wall_clock

    def seal(self, tag: str, message: bytes) -> bytes:
        """Return `message` as it is sent to the node of this tag."""
        if not self._keys:
            return message
        said = int(self._wall_clock() * 1000).to_bytes(_TIME_BYTES) + message
        return _digest(self._keys[0], tag, said) + said

    def open(self, tag: str, sealed: bytes) -> bytes | None:
        """Return the message to the node of this tag; None where no node with a key has sent it."""
        if not self._keys:
            return sealed
        digest, said = sealed[:_DIGEST_BYTES], sealed[_DIGEST_BYTES:]
        if not any(hmac.compare_digest(digest, _digest(key, tag, said)) for key in self._keys):
            return None
        at_seconds = int.from_bytes(said[:_TIME_BYTES]) / 1000
        if abs(self._wall_clock() - at_seconds) > MAX_APART_SECONDS:
            return None
        return said[_TIME_BYTES:]


def _digest(key: bytes, tag: str, said: bytes) -> bytes:
    return hmac.digest(key, tag.encode() + b"\n" + said, "sha256")


# How often the caller of a long question asks whether the node still lives. Half of the
# lease by which it is known.
_LOOK_SECONDS = LEASE_SECONDS / 2


class _Ask(msgspec.Struct, frozen=True, tag="ask"):
    number: int
    asker: str
    """The tag of the node that waits for the answer."""
    question: bytes
    lasts: bool = False


class _Answer(msgspec.Struct, frozen=True, tag="answer"):
    number: int
    answer: bytes


class _Gone(msgspec.Struct, frozen=True, tag="gone"):
    """Tells that the asker waits for the answer to a question no more."""

    number: int
    asker: str


_Message = _Ask | _Answer | _Gone
_DECODER: msgspec.msgpack.Decoder[_Message] = msgspec.msgpack.Decoder(_Message)


@dataclass(slots=True)
class _Asked:
    """The progress of a question."""

    sent: bool = False


class RedisNodeBus:
    """Carries questions between nodes. `start` behind the broker's start, `stop` before its stop.

    Args:
        shard: returns the shard of a name; all keys here are on that of
        `hub.brokers.redis.keys.NODES`.
        unproved: is called for each message that no node with a key has sent.
    """

    alone = False

    def __init__(
        self,
        shard: Callable[[str], Shard],
        *,
        tag: str,
        spawn: Spawn,
        proof: Proof,
        unproved: Callable[[], None],
        lease_seconds: float = LEASE_SECONDS,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._shard = shard
        self._tag = tag
        self._registry = Registry(shard, tag, lease_seconds=lease_seconds)
        self._spawn = spawn
        self._proof = proof
        self._unproved = unproved
        self._answer_seconds = answer_seconds
        self._serve_question: Callable[[bytes], Awaitable[bytes]] | None = None
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._number = 0
        self._asked = UnderWay()
        self._answering = UnderWay()
        self._lasting: dict[tuple[str, int], asyncio.Future[bytes]] = {}
        """Answers being made that last, by the asker's tag and the question's number."""
        self._listens_at: Shard | None = None

    async def start(
        self, serve: Callable[[bytes], Awaitable[bytes]], record: Callable[[], NodeRecord]
    ) -> None:
        """Make this node known, as soon as Redis can be reached."""
        self._serve_question = serve
        self._listen()
        await self._registry.register(record)
        self._spawn(self._registry.stay_known(record, self._listen))

    async def stop(self) -> None:
        """Make this node known no more."""
        await self._registry.leave()

    def _listen(self) -> None:
        """Listen for questions and answers; repeated, because another server may own the name."""
        shard = self._shard(NODES)
        name = shard.keys.asked(self._tag).encode()
        if self._listens_at is not None and self._listens_at is not shard:
            # Two listeners would take each message twice.
            self._listens_at.listeners.ignore(name)
        shard.listeners.listen(name, self._hear)
        self._listens_at = shard

    # -- asking ------------------------------------------------------------------------------

    async def others(self) -> Mapping[str, NodeRecord]:
        try:
            return await self._registry.others()
        except RedisCallError as error:
            raise UnavailableError(
                f"the other nodes are not known now: {public_reason(error)}"
            ) from None

    def known_others(self) -> Mapping[str, NodeRecord]:
        return self._registry.known

    async def ask(
        self, tag: str, question: bytes, *, wait_seconds: float = 0.0, lasts: bool = False
    ) -> bytes | None:
        self._number += 1
        ask, asked = _Ask(self._number, self._tag, question, lasts), _Asked()
        self._asked.check(lasts=lasts)
        waiting: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[ask.number] = waiting
        try:
            async with asyncio.timeout(wait_seconds + self._answer_seconds):
                if not await self._registry.lives(tag):
                    return None
                asked.sent = True
                await self._tell(tag, ask)
                return await self._answered(tag, waiting)
        except (RedisCallError, TimeoutError) as error:
            raise _unanswered(error, asked) from None
        except asyncio.CancelledError:
            if asked.sent and lasts:
                # The other node would wait on, for a peer that has gone.
                self._spawn(self._tell_gone(tag, ask.number))
            raise
        finally:
            self._waiting.pop(ask.number, None)
            self._asked.leave(lasts=lasts)

    async def _answered(self, tag: str, waiting: asyncio.Future[bytes]) -> bytes | None:
        """Return the answer; None where the node is killed meanwhile, so that no long wait goes
        on."""
        while not waiting.done():
            await asyncio.wait({waiting}, timeout=_LOOK_SECONDS)
            if not waiting.done() and not await self._registry.lives(tag):
                return None
        return waiting.result()

    async def _tell(self, tag: str, message: _Message) -> None:
        name, raw = self._registry.keys.asked(tag), msgspec.msgpack.encode(message)
        await self._registry.call("PUBLISH", name, self._proof.seal(tag, raw))

    async def _tell_gone(self, tag: str, number: int) -> None:
        with suppress(RedisCallError):
            await self._tell(tag, _Gone(number, self._tag))

    # -- answering ---------------------------------------------------------------------------

    def _hear(self, raw: bytes) -> None:
        if (said := self._proof.open(self._tag, raw)) is None:
            self._unproved()
            return
        try:
            message = _DECODER.decode(said)
        except (ValueError, RecursionError):
            return  # A message of a newer version that cannot be read gets no answer.
        if isinstance(message, _Ask):
            if self._answering.enter(lasts=message.lasts):
                self._spawn(self._serve(message))
        elif isinstance(message, _Gone):
            if (lasting := self._lasting.get((message.asker, message.number))) is not None:
                lasting.cancel()
        else:
            waiting = self._waiting.get(message.number)
            if waiting is not None and not waiting.done():
                waiting.set_result(message.answer)

    async def _serve(self, ask: _Ask) -> None:
        assert self._serve_question is not None  # noqa: S101 - set by `start`, which listens
        try:
            if ask.lasts:
                answer = await self._answer_lasting(ask, self._serve_question(ask.question))
            else:
                answer = await self._serve_question(ask.question)
            if answer is not None:
                with suppress(RedisCallError):
                    await self._tell(ask.asker, _Answer(ask.number, answer))
        finally:
            self._answering.leave(lasts=ask.lasts)

    async def _answer_lasting(self, ask: _Ask, work: Awaitable[bytes]) -> bytes | None:
        """Return the answer; None where the asking node tells that its peer is gone."""
        waiting = asyncio.ensure_future(work)
        self._lasting[ask.asker, ask.number] = waiting
        try:
            # The wait ends without an error, also where the work is cancelled.
            await asyncio.wait({waiting})
            return None if waiting.cancelled() else waiting.result()
        finally:
            waiting.cancel()
            del self._lasting[ask.asker, ask.number]


def _unanswered(
    error: RedisCallError | TimeoutError, asked: _Asked
) -> UnavailableError | OutcomeUnknownError:
    """Return the error of a question, by whether the node may have seen it."""
    why = public_reason(error) if isinstance(error, RedisCallError) else "it does not answer"
    refused = isinstance(error, RefusedError) and error.nothing_done
    if not asked.sent or refused or isinstance(error, RedisNotSentError):
        return UnavailableError(why)
    return OutcomeUnknownError(why)
