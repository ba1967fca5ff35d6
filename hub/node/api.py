"""What the HTTP API and the application in this process ask of a node.

Implements `hub.transports.http.ports.Engine`: each question goes to the part that knows, here
or at another node.
"""

from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from hub.admin.channel_lists import ChannelLists
from hub.core.channel_listing import ChannelPage, ChannelQuery
from hub.core.eager import begin
from hub.core.executor import Executor
from hub.core.listing import ConnectionPage, ConnectionQuery
from hub.core.peers import Peers
from hub.core.polling import PollRequest
from hub.core.ports import HistoryPage, PublishRequest, PublishResult
from hub.core.publication import Position
from hub.core.pushes import Member
from hub.core.records import ChannelRecord, NodeRecord, SessionRecord
from hub.core.subscribing import Subscribing
from hub.errors import HubError, UnavailableError
from hub.node.broker import NodeBroker
from hub.node.stats import Reporter
from hub.transports.poll import PollTransport
from hub.transports.waiting_polls import WaitingPolls


@dataclass(frozen=True, slots=True)
class KnownChannels:
    """The channels that this node knows, as operators see them."""

    broker: NodeBroker
    subscribing: Subscribing

    def names(self) -> Sequence[str]:
        return self.broker.names()

    async def count_held(self, record: ChannelRecord) -> int | None:
        """How many publications history holds; None where the broker is away."""
        try:
            page = await self.broker.history(record.channel, record.position.offset, 1)
        except HubError:
            return None
        return page.head.offset - page.oldest + 1

    def one(self, name: str) -> ChannelRecord | None:
        if (held := self.broker.held(name)) is None:
            return None
        here = self.subscribing.channels.get(name)
        presence = self.subscribing.options(name).presence
        return ChannelRecord(name, held[0], 0 if here is None else len(here), held[1], presence)


@dataclass(frozen=True, slots=True)
class NodeApi:
    """One per node; keeps nothing of its own."""

    executor: Executor
    subscribing: Subscribing
    peers: Peers
    polling: PollTransport
    waiting_polls: WaitingPolls
    known: KnownChannels
    lists: ChannelLists
    reporter: Reporter
    tag: str
    """What connections of this node begin with."""

    def publish(self, request: PublishRequest) -> Coroutine[Any, Any, PublishResult]:
        return self.executor.publish(request)

    async def history(self, channel: str, since: Position | None, limit: int) -> HistoryPage:
        return await self.executor.history(channel, since, limit)

    async def presence(self, channel: str) -> Sequence[Member]:
        return await self.subscribing.members(channel)

    def check_secret(self, connection: str, secret: str) -> Coroutine[Any, Any, None] | None:
        """At once for a session of this node, else by asking the one that holds it."""
        work = self.peers.holder(connection).check(connection, secret)
        if self.peers.tag_of(connection) != self.tag:
            return _unless_silent(work)
        begin(work)
        return None

    async def command(self, connection: str, secret: str, raw: bytes) -> bytes:
        return await self.peers.holder(connection).command(connection, secret, raw)

    async def poll(self, request: PollRequest) -> bytes:
        """Begin a session here, or go on with one wherever it is."""
        if request.connection is None:
            return await self.polling.poll(request)
        return await self.waiting_polls.poll(self.peers.holder(request.connection), request)

    async def channels(self, wanted: Callable[[str], bool]) -> Sequence[ChannelRecord]:
        return await self.lists.here(wanted)

    async def channel(self, name: str) -> ChannelRecord | None:
        """Also one that no session of this node subscribes to, where a broker outside has it."""
        record = self.known.one(name)
        if record is not None or not self.known.broker.record().servers:
            return record
        page = await self.executor.history(name, None, 1)
        if not page.head.offset:
            return None
        held = page.head.offset - page.oldest + 1
        presence = self.subscribing.options(name).presence
        return ChannelRecord(name, page.head, 0, held, presence)

    async def all_channels(self, query: ChannelQuery) -> ChannelPage:
        return await self.lists.everywhere(query)

    async def connections(self, query: ConnectionQuery) -> ConnectionPage:
        return await self.peers.connections(query)

    async def connection(self, connection: str) -> SessionRecord | None:
        return await self.peers.holder(connection).connection(connection)

    async def disconnect(self, connection: str, *, code: int, reason: str) -> bool:
        holder = self.peers.holder(connection)
        return await holder.disconnect(connection, code=code, reason=reason)

    def node(self) -> NodeRecord:
        return self.reporter.record()

    async def nodes(self) -> Sequence[NodeRecord]:
        return await self.peers.nodes()


async def _unless_silent(check: Coroutine[Any, Any, None]) -> None:
    """A node that does not answer is no refusal: what the command itself meets there says more."""
    with suppress(UnavailableError):
        await check
