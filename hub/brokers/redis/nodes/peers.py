"""The nodes of one Redis: who lives, and what only the holder of a connection can do.

Implements `hub.core.peers.Peers`. A connection begins with its node's tag, so it is known
whom to ask without any table.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from structlog.typing import FilteringBoundLogger

from hub.brokers.redis.keys import TAG_LENGTH
from hub.brokers.redis.link.outcomes import CallError, NoAnswerError, public_reason
from hub.brokers.redis.nodes.asking import Answer, Ask
from hub.brokers.redis.nodes.questions import ANSWER_SECONDS, Questions
from hub.brokers.redis.nodes.registry import LEASE_SECONDS, Myself, Registry
from hub.brokers.redis.shard import Shard
from hub.core.commands import Publish
from hub.core.listing import ConnectionPage, ConnectionQuery, Listed, merge
from hub.core.options import KIB
from hub.core.peers import Arguments, Connections, Told
from hub.core.polling import PollRequest
from hub.core.ports import Spawn
from hub.core.records import NodeRecord, SessionRecord
from hub.errors import HubError, NotFoundError, OutcomeUnknownError, UnavailableError
from hub.wire import native

# Of the answer to a poll at another node: Redis cuts a subscriber that is 32 MB behind at once
# (client-output-buffer-limit pubsub), which is 500 of these.
MAX_POLL_BYTES = 64 * KIB


class RedisPeers:
    """One per node. `start` once the broker has begun to connect, `stop` before it stops.

    Args:
        shard: where a name lives; all that is kept here lives with `hub.brokers.redis.keys.NODES`.
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
        self._myself = myself
        self._spawn = spawn
        self._registry = Registry(shard, myself, lease_seconds=lease_seconds)
        self._questions = Questions(
            shard, self._registry, myself, spawn=spawn, log=log, answer_seconds=answer_seconds
        )

    async def start(self) -> None:
        """Be known from now on; as soon as Redis can be reached, where it is away."""
        self._questions.listen()
        await self._registry.register()
        self._spawn(self._registry.stay_known(self._questions.listen))

    async def stop(self) -> None:
        """Be known no more."""
        await self._registry.leave()

    # -- all nodes ---------------------------------------------------------------------------

    async def nodes(self) -> Sequence[NodeRecord]:
        """By name; raise `UnavailableError` when Redis is away."""
        records = (await self.by_tag()).values()
        return sorted(records, key=lambda record: (record.node, record.started_ms))

    async def connections(self, query: ConnectionQuery) -> ConnectionPage:
        """A page over all nodes; what it lacks it names."""
        mine = await self._myself.connections.listed(query)
        try:
            others = await self._registry.others()
        except CallError:
            return merge(query, [mine], all_known=False)
        asked = {t: r.node for t, r in others.items() if query.node in {None, r.node}}
        answers = await asyncio.gather(*(self._listed(tag, query) for tag in asked))
        pairs = zip(asked.values(), answers, strict=True)
        silent = [name for name, answer in pairs if answer is None]
        return merge(query, [mine, *filter(None, answers)], unanswered=silent)

    async def by_tag(self) -> Mapping[str, NodeRecord]:
        try:
            others = await self._registry.others()
        except CallError as error:
            raise UnavailableError(
                f"the other nodes are not known now: {public_reason(error)}"
            ) from None
        return {self._myself.tag: self._myself.record(), **others}

    async def operate(self, tag: str, name: str, arguments: Arguments) -> Told:
        if tag == self._myself.tag:
            return await self._myself.operate(name, arguments)
        make = partial(Ask, what="operate", operation=name, arguments=dict(arguments))
        try:
            answer = await self._questions.ask(tag, make)
        except CallError as error:
            raise UnavailableError(f"the node cannot be asked: {error}") from None
        if answer is None:
            raise NotFoundError("the node lives no more")
        return answer.told

    async def _listed(self, tag: str, query: ConnectionQuery) -> Listed | None:
        """Nothing of a node that has just ended; None of one that does not answer."""
        make = partial(Ask, what="list", query=query)
        try:
            answer = await self._questions.ask(tag, make)
        except (CallError, HubError):
            return None
        return Listed((), 0, more=False) if answer is None else answer.listed

    # -- the holder of a connection ----------------------------------------------------------

    def tag_of(self, connection: str) -> str:
        tag = connection[:TAG_LENGTH]
        return tag if len(tag) == TAG_LENGTH and tag.isalnum() else self._myself.tag

    def holder(self, connection: str) -> Connections:
        foreign = self.tag_of(connection) != self._myself.tag
        return self if foreign else self._myself.connections

    async def command(self, connection: str, secret: str, raw: bytes) -> bytes:
        make = partial(Ask, what="command", connection=connection, secret=secret, raw=raw)
        try:
            answer = await self._questions.ask(connection[:TAG_LENGTH], make)
        except NoAnswerError as error:
            raise _maybe_carried_out(raw, error) from None
        except CallError as error:
            raise _not_asked(error) from None
        if answer is None:
            raise _not_open(connection)
        return answer.raw

    async def check(self, connection: str, secret: str) -> None:
        """Nothing of a command travels before its sender has proved who it is."""
        make = partial(Ask, what="check", connection=connection, secret=secret)
        if await self._ask(connection, make) is None:
            raise _not_open(connection)

    async def poll(self, request: PollRequest) -> bytes:
        """The session stays where it is; its answers come here by way of Redis."""
        connection = request.connection or ""
        asked = replace(request, max_bytes=min(request.max_bytes, MAX_POLL_BYTES))
        make = partial(Ask, what="poll", connection=connection, poll=asked)
        answer = await self._ask(connection, make, wait_seconds=request.wait_seconds)
        if answer is None:
            raise _not_open(connection)
        return answer.raw

    async def connection(self, connection: str) -> SessionRecord | None:
        answer = await self._ask(connection, partial(Ask, what="connection", connection=connection))
        return None if answer is None else answer.record

    async def disconnect(self, connection: str, *, code: int, reason: str) -> bool:
        make = partial(Ask, what="disconnect", connection=connection, code=code, reason=reason)
        answer = await self._ask(connection, make)
        return answer is not None and answer.found

    async def _ask(
        self, connection: str, make: Callable[[int, str], Ask], *, wait_seconds: float = 0.0
    ) -> Answer | None:
        """Of what does no harm when it is asked again."""
        tag = connection[:TAG_LENGTH]
        try:
            return await self._questions.ask(tag, make, wait_seconds=wait_seconds)
        except CallError as error:
            raise _not_asked(error) from None


def _not_open(connection: str) -> NotFoundError:
    return NotFoundError(f"connection {connection[:80]!r} is not open")


def _not_asked(error: CallError) -> UnavailableError:
    return UnavailableError(f"the connection's node cannot be asked: {error}")


def _maybe_carried_out(raw: bytes, error: NoAnswerError) -> HubError:
    """A publish must not look as if it had not been made."""
    try:
        command = native.decode(raw, max_message_bytes=len(raw))
    except HubError:
        return _not_asked(error)
    if isinstance(command, Publish):
        return OutcomeUnknownError(f"it is not known whether it was published: {error}")
    return _not_asked(error)
