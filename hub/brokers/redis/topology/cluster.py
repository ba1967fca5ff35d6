"""Redis Cluster: a shard for each master, channels by the slot of their keys.

The map of slots is looked at again and again, and at once when a server points elsewhere or is
lost. A channel whose slot has another owner moves to that one's shard with its position, so
that what happened in between is read from history or announced, and a master that was promoted
begins new epochs as anywhere. Meanwhile calls follow where servers point (`moves`).

Ordinary pub/sub is used, not sharded: Redis sends every publication to every server of the
cluster, which costs its bus n times the traffic; SSUBSCRIBE would need one command per channel
and an answer to every slot that is taken away. Deployments that this limits spread channels
over independent servers (`hub.brokers.redis.topology.topology`).
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence

from redis.asyncio.connection import AbstractConnection
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from hub.brokers.redis.link import urls
from hub.brokers.redis.link.calls import CallConnection
from hub.brokers.redis.link.connection import FixedServer
from hub.brokers.redis.link.outcomes import LostError, RedisCall, RefusedError
from hub.brokers.redis.options import ShardContext, Tasks
from hub.brokers.redis.shard import Shard
from hub.brokers.redis.topology.discovery import Discovery
from hub.brokers.redis.topology.moves import OriginCheck, Redirects, Stray
from hub.brokers.redis.topology.slots import NOBODY, HostNames, View, owners, parse_nodes, slot
from hub.core.eager import NEXT_TURN

# Their answers are laid over each other; more would only be more work for a large cluster.
_ASKED = 5
# A guess: as often as servers pointing elsewhere may make a node look.
_MIN_SECONDS_BETWEEN_LOOKS = 0.1
# Channels that one turn of the loop looks at, or moves, when the map has changed: 10 us each.
MOVED_AT_ONCE = 256


class ClusterNode(FixedServer):
    """A server of a cluster; its channels may have come from any other server.

    Args:
        url: returns the URL that reaches it now.
        on_doubt: called where it seems to have lost what it had.
        is_replaced: returns whether the others now see it without any of its slots.
        redirects: takes the calls that this server refuses.
    """

    has_lines = False
    may_be_replaced = True

    def __init__(
        self,
        url: Callable[[], str],
        address: str,
        *,
        on_doubt: Callable[[], None],
        is_replaced: Callable[[str], Awaitable[bool]],
        redirects: Redirects,
    ) -> None:
        super().__init__(url())
        self._is_replaced = is_replaced
        self._url_now = url
        self._address = address
        self._on_doubt = on_doubt
        self._redirects = redirects

    async def connection(self, client_name: str) -> AbstractConnection:
        """Return a connection by its present name: others may have learned of it only lately."""
        return FixedServer(self._url_now()).make(client_name)

    async def confirm(self, connection: AbstractConnection) -> None:  # noqa: ARG002 - only one place
        if await self._is_replaced(self._address):
            self._on_doubt()
            raise LostError("another server has taken over from it")

    def doubt(self) -> None:
        self._on_doubt()

    def follow(self, call: RedisCall, refused: RefusedError) -> bool:
        return self._redirects.take(call, refused, self._address)


class UnownedSlots(FixedServer):
    """Stands for the owner of slots without a known owner; its shard is never started."""

    has_lines = False

    def __init__(self, seed: str) -> None:
        super().__init__(seed)
        self.name = f"cluster of {self.name}: no server is known to own some slots"


class ClusterTopology:
    """A `hub.brokers.redis.topology.Topology`.

    Raises:
        SettingsError: `url` is not that of a cluster.
    """

    def __init__(self, url: str, context: ShardContext) -> None:
        self._url = urls.parse_cluster(url)
        self._seeds = [FixedServer(seed) for seed in self._url.seeds]
        self._context = context
        self._options = context.options
        self._discovery = Discovery(
            client_name=context.options.client_name("cluster"),
            timeout_seconds=context.options.connect_timeout_seconds,
            patience_seconds=context.options.locate_timeout_seconds,
            clock=context.clock,
        )
        tls = urls.scheme(url) in urls.ENCRYPTED
        # See `hub.brokers.redis.topology.slots`: with TLS the preferred form is not needed.
        self._questions = (("CLUSTER", "NODES"), *(() if tls else (("CLUSTER", "SLOTS"),)))
        self._names = HostNames(tls=tls)
        self._members: Sequence[str] = ()
        self._owners: Sequence[str] = (NOBODY,) * REDIS_CLUSTER_HASH_SLOTS
        self._shards: dict[str, Shard] = {}
        """Shards by address."""
        self._guests: dict[str, Shard] = {}
        """Shards of servers that were pointed to and own no slot yet, as far as is known."""
        self._left: list[Shard] = []
        """Shards that own no slot any more, and are being stopped."""
        self._nowhere = Shard(UnownedSlots(self._url.seeds[0]), context)
        self._formers: Sequence[Shard] = ()
        """The shards of the map before, while channels move from them to others."""
        self._former: dict[int, str] = {}
        """The server that had a slot before, as far back as this node has looked."""
        self._origin_check = OriginCheck(discovery=self._discovery, members=self._servers)
        self._redirects = Redirects(
            calls_at=self._calls_at,
            address_of=self._names.address,
            came_in_order=self._came_in_order,
            options=context.options,
            clock=context.clock,
            spawn=context.spawn,
        )
        self._doubted = asyncio.Event()
        self._silence: Sequence[str] = ()
        """Why no server answers with the map; empty when one does."""
        self._tasks = Tasks(context.spawn)

    # -- hub.brokers.redis.topology.Topology -------------------------------------------------

    async def start(self) -> None:
        looked = asyncio.Event()
        self._tasks.spawn(self._keep_looking(looked))
        await looked.wait()

    async def stop(self) -> None:
        await self._tasks.stop()
        await self._redirects.stop()
        all_of_them = (*self._shards.values(), *self._guests.values(), *self._left)
        await asyncio.gather(*(shard.stop() for shard in all_of_them))

    def shard(self, channel: str) -> Shard:
        found = self._shards.get(self._owners[slot(channel)], self._nowhere)
        for former in self._formers:
            if former is not found and (tracker := former.channels.tracker(channel)) is not None:
                # It goes on at its new server from now on, also where its turn is still to come.
                position = former.channels.give(tracker)
                if position is not None:
                    found.channels.take(channel, position)
        return found

    def shards(self) -> Sequence[Shard]:
        """Return a shard per master, and one that is never ready where slots have none."""
        shards = tuple(self._shards.values())
        return (*shards, self._nowhere) if NOBODY in self._owners else shards

    # -- the map -----------------------------------------------------------------------------

    def _doubt(self) -> None:
        self._doubted.set()

    async def _keep_looking(self, looked: asyncio.Event) -> None:
        """Look at the map again and again; set `looked` after the first time."""
        try:
            await self._look_safely()
        finally:
            looked.set()
        while True:
            await asyncio.sleep(_MIN_SECONDS_BETWEEN_LOOKS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._options.cluster_seconds * random.uniform(0.5, 1)):
                    await self._doubted.wait()
            self._doubted.clear()
            await self._look_safely()

    async def _look_safely(self) -> None:
        try:
            await self._look()
        except Exception:
            # A node that looks no more would follow no failover.
            self._context.log.exception("redis_cluster_look_failed")

    async def _look(self) -> None:
        """Ask for the map and follow it; keep the old one without an answer."""
        some = random.sample(self._members, min(_ASKED, len(self._members)))
        views = await self._ask_all([self._server(address) for address in some])
        views = views or await self._ask_all(self._seeds, last=True)
        if not views:
            return
        self._members = sorted({address for view in views for address in view.members})
        self._names.learn(views)
        await self._settle_guests()
        found = owners(views)
        if found != self._owners:
            self._context.log.info("redis_cluster_map", masters=sorted(set(found)))
            await self._follow(found)

    async def _is_replaced(self, address: str) -> bool:
        """Return whether some others see it replaced; `_look` follows the map."""
        others = [member for member in self._members if member != address]
        some = random.sample(others, min(_ASKED, len(others)))
        views: Sequence[View] = ()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._options.confirm_timeout_seconds):
                views = await self._ask_all([self._server(other) for other in some])
        return bool(views) and address in self._owners and address not in owners(views)

    async def _ask_all(
        self, servers: Sequence[FixedServer], *, last: bool = False
    ) -> Sequence[View]:
        """Return the views of servers that answer; with `last` no others will be asked."""
        found = await self._discovery.ask_all(servers, *self._questions)
        answers = [_view(server, each) for server, each in zip(servers, found, strict=True)]
        views = [answer for answer in answers if isinstance(answer, View)]
        if views or last:
            self._note([] if views else [str(answer) for answer in answers])
        return views

    def _note(self, silence: Sequence[str]) -> None:
        """Log once why no server answers, not every second."""
        if silence and not self._silence:
            self._context.log.warning("redis_cluster_silent", reasons=silence)
        self._silence = silence

    # -- the shards --------------------------------------------------------------------------

    async def _follow(self, found: Sequence[str]) -> None:
        """Start new masters, move channels, and stop those that own no slot any more."""
        masters = set(found) - {NOBODY}
        known = self._guests.keys() & masters
        new = {
            address: self._make_shard(address) for address in masters - set(self._shards) - known
        }
        self._note_former(found)
        before, self._owners = tuple(self._shards.values()), found
        self._shards |= new | {address: self._guests.pop(address) for address in known}
        await self._move_channels((*before, self._nowhere))
        self._left += [self._shards.pop(address) for address in set(self._shards) - masters]
        await asyncio.gather(*(shard.stop() for shard in self._left))
        self._left.clear()
        await asyncio.gather(*(shard.start() for shard in new.values()))

    def _note_former(self, found: Sequence[str]) -> None:
        pairs = enumerate(zip(self._owners, found, strict=True))
        self._former |= {slot: had for slot, (had, has) in pairs if had not in (has, NOBODY)}

    async def _came_in_order(self, key: str, refused: RefusedError, address: str) -> bool:
        """See `Redirects`."""
        history, run = refused.counted_by or ("", "")
        number = key_slot(key.encode())
        known = self._owners[number]
        former = self._former.get(number, NOBODY) if known == address else known
        return await self._origin_check.came_in_order(Stray(history, run, address, former))

    def _servers(self) -> Mapping[str, FixedServer]:
        return {address: self._server(address) for address in self._members}

    def _server(self, address: str) -> FixedServer:
        return FixedServer(self._url_of(address))

    def _url_of(self, address: str) -> str:
        return self._url.node(self._names.endpoint(address))

    def _make_shard(self, address: str) -> Shard:
        node = ClusterNode(
            lambda: self._url_of(address),
            address,
            on_doubt=self._doubt,
            is_replaced=self._is_replaced,
            redirects=self._redirects,
        )
        return Shard(node, self._context)

    async def _settle_guests(self) -> None:
        """File servers that were pointed to by an unknown name under their address, once known."""
        for place in tuple(self._guests):
            if (address := self._names.address(place)) == place:
                continue
            shard = self._guests.pop(place)
            if address in self._shards or address in self._guests:
                await shard.stop()
            else:
                self._guests[address] = shard

    def _calls_at(self, address: str) -> CallConnection:
        """Return the calls of any server: a new one is pointed to before it owns a slot."""
        shard = self._shards.get(address) or self._guests.get(address)
        if shard is None:
            shard = self._guests[address] = self._make_shard(address)
            self._tasks.spawn(shard.start())
        return shard.calls

    async def _move_channels(self, formers: Sequence[Shard]) -> None:
        """Have each channel at its server, in turns; `shard` moves one that is asked for before."""
        self._formers = formers
        try:
            for shard in formers:
                for number, tracker in enumerate(tuple(shard.channels.trackers()), 1):
                    self.shard(tracker.channel)
                    if number % MOVED_AT_ONCE == 0:
                        await NEXT_TURN
        finally:
            self._formers = ()


def _view(server: FixedServer, found: Sequence[object] | str) -> View | str:
    """Return the view of a server, or why there is none."""
    if isinstance(found, str):
        return found
    try:
        return parse_nodes(found[0], server.host, found[1] if len(found) > 1 else None)
    except ValueError as error:
        return f"{server.name}: {error}"
