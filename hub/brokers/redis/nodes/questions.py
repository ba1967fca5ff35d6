"""Asking another node about a connection, and answering when asked.

Each node hears questions and answers on a pub/sub channel of its own. Whoever may write to
Redis is trusted to ask; secrets are checked by the holder, operators' rights by the node that
they asked.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from structlog.typing import FilteringBoundLogger

from hub.brokers.redis.keys import NODES
from hub.brokers.redis.link.outcomes import (
    CallError,
    NoAnswerError,
    NotSentError,
    RefusedError,
    public_reason,
)
from hub.brokers.redis.nodes.asking import Answer, Ask, Gone, decode, encode, fitting
from hub.brokers.redis.nodes.registry import LEASE_SECONDS, Myself, Registry
from hub.brokers.redis.shard import Shard
from hub.core.ports import Spawn
from hub.errors import BadRequestError, HubError

# Above what a call to Redis may take, below what an operator waits for.
ANSWER_SECONDS = 2.0
# How often it is asked whether the node still lives, where an answer takes long. Half of the
# lease by which it is known.
_LOOK_SECONDS = LEASE_SECONDS / 2
# Questions without an answer yet, and answers being made; each is a few KB. Guess, not measured.
MAX_PENDING = 1000
# Polls that wait at, or for, another node; they take long, and each is a task of a few KB.
MAX_POLLS = 5000


@dataclass(slots=True)
class _Asked:
    """How far a question has come."""

    sent: bool = False


class _Bounded:
    """How many questions are under way; polls do not take the room of others."""

    def __init__(self) -> None:
        self._polls = self._others = 0

    @staticmethod
    def most(ask: Ask) -> int:
        return MAX_PENDING if ask.poll is None else MAX_POLLS

    def enter(self, ask: Ask) -> bool:
        """Count it, if there is room."""
        if (self._others if ask.poll is None else self._polls) >= self.most(ask):
            return False
        self._count(ask, 1)
        return True

    def leave(self, ask: Ask) -> None:
        self._count(ask, -1)

    def _count(self, ask: Ask, change: int) -> None:
        if ask.poll is None:
            self._others += change
        else:
            self._polls += change


class Questions:
    """One per node. `listen` again and again: another server may own the name by then."""

    def __init__(
        self,
        shard: Callable[[str], Shard],
        registry: Registry,
        myself: Myself,
        *,
        spawn: Spawn,
        log: FilteringBoundLogger,
        answer_seconds: float,
    ) -> None:
        self._shard = shard
        self._registry = registry
        self._tag = myself.tag
        self._here = myself.connections
        self._operate = myself.operate
        self._spawn = spawn
        self._log = log
        self._answer_seconds = answer_seconds
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._number = 0
        self._asked = _Bounded()
        self._answering = _Bounded()
        self._polls: dict[tuple[str, int], asyncio.Future[Answer]] = {}
        """Polls of other nodes that wait here, by who asks and the question's number."""
        self._listens_at: Shard | None = None

    def listen(self) -> None:
        """Hear what is asked and answered."""
        shard = self._shard(NODES)
        name = shard.keys.asked(self._tag).encode()
        if self._listens_at is not None and self._listens_at is not shard:
            # Two would hear everything twice.
            self._listens_at.listeners.ignore(name)
        shard.listeners.listen(name, self._hear)
        self._listens_at = shard

    # -- asking ------------------------------------------------------------------------------

    async def ask(
        self, tag: str, make: Callable[[int, str], Ask], *, wait_seconds: float = 0.0
    ) -> Answer | None:
        """The answer of the node `tag`; None where it lives no more.

        Args:
            make: the question, given its number and this node's tag.
            wait_seconds: how long the node may wait before it begins to answer.

        Raises:
            NotSentError: the node has not seen the question.
            NoAnswerError: it may have done what was asked.
            HubError: what the node itself answered with.
        """
        self._number += 1
        ask, asked = make(self._number, self._tag), _Asked()
        if not self._asked.enter(ask):
            raise NotSentError(f"{self._asked.most(ask):,} questions to other nodes wait already")
        waiting: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[ask.number] = waiting
        try:
            async with asyncio.timeout(wait_seconds + self._answer_seconds):
                if not await self._registry.lives(tag):
                    return None
                asked.sent = True
                await self._registry.call("PUBLISH", self._registry.keys.asked(tag), encode(ask))
                answer = await self._answered(tag, waiting)
        except (CallError, TimeoutError) as error:
            raise _unanswered(error, asked) from None
        except asyncio.CancelledError:
            if asked.sent and ask.poll is not None:
                # Its session would wait on, for a peer that is not there any more.
                self._spawn(self._tell_gone(tag, ask.number))
            raise
        finally:
            self._waiting.pop(ask.number, None)
            self._asked.leave(ask)
        if answer is not None:
            answer.check()
        return answer

    async def _answered(self, tag: str, waiting: asyncio.Future[Answer]) -> Answer | None:
        """None when the node is killed meanwhile: a poll would wait for it to its end."""
        while not waiting.done():
            await asyncio.wait({waiting}, timeout=_LOOK_SECONDS)
            if not waiting.done() and not await self._registry.lives(tag):
                return None
        return waiting.result()

    async def _tell_gone(self, tag: str, number: int) -> None:
        gone = encode(Gone(number, self._tag))
        with suppress(CallError):
            await self._registry.call("PUBLISH", self._registry.keys.asked(tag), gone)

    # -- answering ---------------------------------------------------------------------------

    def _hear(self, raw: bytes) -> None:
        message = decode(raw)
        if isinstance(message, Ask):
            if self._answering.enter(message):
                self._spawn(self._serve(message))
        elif isinstance(message, Gone):
            if (waiting := self._polls.get((message.asker, message.number))) is not None:
                waiting.cancel()
        elif isinstance(message, Answer):
            waiting = self._waiting.get(message.number)
            if waiting is not None and not waiting.done():
                waiting.set_result(message)

    async def _serve(self, ask: Ask) -> None:
        try:
            answer = await (self._answer(ask) if ask.poll is None else self._answer_poll(ask))
            if answer is not None:
                name = self._registry.keys.asked(ask.asker)
                with suppress(CallError):
                    await self._registry.call("PUBLISH", name, encode(answer))
        finally:
            self._answering.leave(ask)

    async def _answer_poll(self, ask: Ask) -> Answer | None:
        """None where the asking node says that its peer is gone."""
        waiting = asyncio.ensure_future(self._answer(ask))
        self._polls[ask.asker, ask.number] = waiting
        try:
            # The wait ends without an error, also where the poll is cancelled.
            await asyncio.wait({waiting})
            return None if waiting.cancelled() else waiting.result()
        finally:
            waiting.cancel()
            del self._polls[ask.asker, ask.number]

    async def _answer(self, ask: Ask) -> Answer:
        try:
            return await self._found(ask)
        except HubError as error:
            return Answer(ask.number, error=error.code, message=error.message)
        except Exception:  # noqa: BLE001 - the border: logged with traceback, neutral to the peer
            self._log.exception("peer_question_failed", what=ask.what)
            return Answer(ask.number, error=HubError.code, message="internal error")

    async def _found(self, ask: Ask) -> Answer:
        here, number, connection = self._here, ask.number, ask.connection
        match ask.what:
            case "command":
                return Answer(number, raw=await here.command(connection, ask.secret, ask.raw))
            case "check":
                await here.check(connection, ask.secret)
                return Answer(number, found=True)
            case "connection":
                return Answer(number, record=await here.connection(connection))
            case "disconnect":
                found = await here.disconnect(connection, code=ask.code, reason=ask.reason)
                return Answer(number, found=found)
            case "poll" if ask.poll is not None:
                return Answer(number, raw=await here.poll(ask.poll))
            case "operate":
                return Answer(number, told=dict(await self._operate(ask.operation, ask.arguments)))
            case "list" if ask.query is not None:
                return Answer(number, listed=fitting(await here.listed(ask.query)))
        raise BadRequestError("the question lacks what it is about")


def _unanswered(error: CallError | TimeoutError, asked: _Asked) -> CallError:
    """What went wrong, by whether the node may have seen the question."""
    why = public_reason(error) if isinstance(error, CallError) else "it does not answer"
    refused = isinstance(error, RefusedError) and error.nothing_done
    if not asked.sent or refused or isinstance(error, NotSentError):
        return NotSentError(why)
    return NoAnswerError(why)
