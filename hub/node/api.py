"""Calls of the HTTP API and of the application in this process to a node.

Implements `hub.transports.http.ports.NodeCalls`: each call goes to the part that can answer, here
or at another node. Requests of operators are `hub.admin`'s.
"""

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from hub.admin.channels import ChannelHandlers, OneChannel
from hub.admin.listing import Page, Query
from hub.admin.requests import AtConnection
from hub.admin.rpc import AdminRpc
from hub.admin.sessions import CheckSecret, Poll, SendCommand
from hub.core.commands import PollRequest
from hub.core.eager import begin
from hub.core.fanout.open_channels import OpenChannels
from hub.core.fanout.presence import PresenceCommands
from hub.core.node_records import NodeRecord
from hub.core.options import STATS_CHANNEL
from hub.core.ports import (
    HistoryPage,
    PublishNow,
    PublishRequest,
    PublishResult,
    PublishSoon,
    StatePage,
)
from hub.core.publication import Position
from hub.core.publishing import Publishing
from hub.core.pushes import Member
from hub.core.reading import ChannelReading, Found, LookBack
from hub.core.records import ChannelRecord, LiveChannel, channel_record
from hub.errors import HubError, UnavailableError
from hub.node.broker import NodeBroker
from hub.node.stats import Reporter
from hub.transports.poll import PollTransport, WaitingPolls


@dataclass(frozen=True, slots=True)
class KnownChannels:
    """The channels that this node knows: `hub.admin.channels.ChannelLookup`."""

    broker: NodeBroker
    channels: OpenChannels
    ask: Callable[[], Awaitable[None]] | None = None
    """See `hub.node.broker.Brokerage.look`."""

    async def look(self) -> None:
        if self.ask is not None:
            await self.ask()

    def names(self) -> Sequence[str]:
        return self.broker.names()

    async def count_held(self, record: ChannelRecord) -> int | None:
        """Return how many publications history holds; None while the broker is away."""
        try:
            page = await self.broker.history(record.channel, record.position.offset, 1)
        except HubError:
            return None
        return page.head.offset - page.oldest + 1

    def one(self, name: str) -> LiveChannel | None:
        if (held := self.broker.held(name)) is None:
            return None
        return self.live(name, *held)

    def live(self, name: str, head: Position, held: int | None) -> LiveChannel:
        """Return the channel with the broker's head and count."""
        here = self.channels.get(name)
        members = () if here is None else here
        watchers = 0 if here is None else self._watchers(name)
        options = self.channels.options(name)
        rows = self.broker.rows_held(name) if options.keyed else None
        return LiveChannel(name, head, held, members, options, watchers, rows)

    def _watchers(self, name: str) -> int:
        """Return how many dashboards are in the channel: each reads the nodes' figures too."""
        dashboards = self.channels.get(STATS_CHANNEL) or ()
        return sum(name in each.session.subscriptions for each in dashboards)


@dataclass(frozen=True, slots=True)
class NodeApi:
    """Carries calls to the part that can answer; one per node. It keeps nothing of its own."""

    publishing: Publishing
    reading: ChannelReading
    presence_commands: PresenceCommands
    rpc: AdminRpc
    polling: PollTransport
    waiting_polls: WaitingPolls
    known: KnownChannels
    lists: ChannelHandlers
    reporter: Reporter

    def publish(
        self, request: PublishRequest
    ) -> PublishResult | Coroutine[Any, Any, PublishResult]:
        return self.publishing.publish(request)

    @property
    def publish_now(self) -> PublishNow | None:
        return self.publishing.publish_now

    @property
    def publish_soon(self) -> PublishSoon | None:
        return self.publishing.publish_soon

    def publish_many_now(
        self, requests: Sequence[PublishRequest]
    ) -> Sequence[PublishResult | HubError] | None:
        return self.publishing.publish_many_now(requests)

    @property
    def publishes_many(self) -> bool:
        return self.publishing.publishes_many

    async def publish_many(
        self, requests: Sequence[PublishRequest]
    ) -> Sequence[PublishResult | HubError]:
        return await self.publishing.publish_many(requests)

    async def history(self, channel: str, since: Position | None, limit: int) -> HistoryPage:
        return await self.reading.history(channel, since, limit)

    async def state(self, channel: str, after: str, limit: int) -> StatePage:
        return await self.reading.state(channel, after, limit)

    def check_keyed(self, channel: str) -> None:
        self.reading.check_keyed(channel)

    async def look_back(self, channel: str, asked: LookBack) -> Found:
        return await self.reading.look_back(channel, asked)

    async def clear_history(self, channel: str) -> None:
        await self.reading.clear_history(channel)

    async def presence(self, channel: str) -> Sequence[Member]:
        return await self.presence_commands.members(channel)

    def check_secret(self, connection: str, secret: str) -> Coroutine[Any, Any, None] | None:
        """Check at once for a session of this node, else by a request to the node that holds it."""
        work = self.rpc.call(CheckSecret(connection, secret), AtConnection(connection))
        if not self.rpc.holds(connection):
            return _unless_silent(work)
        begin(work)
        return None

    async def command(self, connection: str, secret: str, raw: bytes) -> bytes:
        asked = SendCommand(connection, secret, raw)
        return await self.rpc.call(asked, AtConnection(connection))

    async def poll(self, request: PollRequest) -> bytes:
        """Begin a session here, or go on with one at its node."""
        if request.connection is None:
            return await self.polling.poll(request)
        return await self.waiting_polls.poll(self._go_on, request)

    async def _go_on(self, request: PollRequest) -> bytes:
        return await self.rpc.call(Poll(request), AtConnection(request.connection or ""))

    async def channels(self, wanted: Callable[[str], bool]) -> Sequence[ChannelRecord]:
        return await self.lists.here(wanted)

    async def channel(self, name: str) -> OneChannel | None:
        """Return a channel, also one without a session here that a broker outside has."""
        here, stored = self.lists.one(name), None
        if here is None and self.known.broker.record().servers:
            stored = await self._stored(name)
        if self.reporter.worker:
            return await self.lists.added_up(self.rpc, name, stored)
        found = here or stored
        return None if found is None else OneChannel(found)

    async def _stored(self, name: str) -> ChannelRecord | None:
        """Return a channel as history has it; None for one without any."""
        page = await self.reading.history(name, None, 1)
        if not page.head.offset:
            return None
        held = page.head.offset - page.oldest + 1
        return channel_record(self.known.live(name, page.head, held), self.lists.origin)

    async def all_channels(self, query: Query) -> Page[ChannelRecord]:
        return await self.lists.everywhere(self.rpc, query)

    def node(self) -> NodeRecord:
        return self.reporter.record()


async def _unless_silent(check: Coroutine[Any, Any, None]) -> None:
    """Run `check`; a silent node is no refusal: the command itself will meet the fault."""
    with suppress(UnavailableError):
        await check
