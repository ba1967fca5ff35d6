"""Nodes and members that live: each is in Redis under a lease, which its node renews.

`Registry` lists the nodes, in one place whatever the topology (`hub.brokers.redis.keys.NODES`).
`RedisRoster` has the members at all nodes: it implements `hub.core.ports.Roster`. Every node writes
its members of a channel to Redis under a lease (presence.lua), and renews the lease for as long as
it has any there. So the members of a node that was killed are announced as gone by the node that
renews next. If a write did not reach Redis, or Redis lost it, the node writes all its members anew.

For example, members `ada` (nodes 1 and 2) and `bob` (node 1) are in `room`. Node 1 is killed at
second 0, right after it renewed. Its lease ends at second 10; node 2 renews every 2.3 to 3.3 s, and
finds the ended lease at second 13.3 at the latest. `bob` leaves; `ada` stays, at node 2.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import msgspec
from structlog.typing import FilteringBoundLogger

from hub.brokers.redis.channels.messages import decode_member, encode_member
from hub.brokers.redis.keys import NODES, Keys
from hub.brokers.redis.link.library import Argument
from hub.brokers.redis.link.outcomes import RedisCallError, public_reason
from hub.brokers.redis.shard import Shard
from hub.core.node_records import NodeRecord
from hub.core.options import KIB
from hub.core.ports import Spawn
from hub.core.pushes import Change, Leave, Member
from hub.errors import UnavailableError

# A node that is silent for so long is taken for dead; long enough for a stall and a reconnect.
LEASE_SECONDS = 10.0
RENEWALS = 3
"""Renewals in the time of a lease."""
_RECORD = msgspec.json.Decoder(NodeRecord)


class Registry:
    """Keeps this node's record in Redis, and lists those of all; one per node.

    Args:
        shard: returns the shard of a name.
    """

    def __init__(self, shard: Callable[[str], Shard], tag: str, *, lease_seconds: float) -> None:
        self._shard = shard
        self._tag = tag
        self._lease_seconds = lease_seconds
        self._stopped = False
        self.known: Mapping[str, NodeRecord] = {}
        """The other nodes by tag, as Redis had them last."""

    async def stay_known(
        self, record: Callable[[], NodeRecord], each_time: Callable[[], None]
    ) -> None:
        """Renew the lease until `leave`, each time after a call of `each_time`, and read the
        others."""
        while not self._stopped:
            await until_renewal(self._lease_seconds)
            each_time()
            await self.register(record)
            with contextlib.suppress(RedisCallError):
                await self.others()

    async def register(self, record: Callable[[], NodeRecord]) -> None:
        """Make this node known with the record of `record`, unless Redis is away."""
        if self._stopped:
            return
        tag, lease_ms = self._tag, int(self._lease_seconds * 1000)
        encoded = msgspec.json.encode(record())
        names = (self.keys.node(tag), self.keys.nodes())
        with contextlib.suppress(RedisCallError):
            calls = self._shard(NODES).calls
            await calls.run_function("register", names, (encoded, lease_ms, tag))

    async def leave(self) -> None:
        """Make this node known no more."""
        self._stopped = True
        with contextlib.suppress(RedisCallError):
            await self.call("DEL", self.keys.node(self._tag))

    async def others(self) -> Mapping[str, NodeRecord]:
        """Return the other nodes by tag; raise `RedisCallError` when Redis is away."""
        answer = await self.call("SMEMBERS", self.keys.nodes())
        tags = [tag.decode() for tag in answer] if isinstance(answer, list | set) else []
        others = [tag for tag in tags if tag != self._tag]
        if not others:
            self.known = {}
            return self.known
        values = await self.call("MGET", *map(self.keys.node, others))
        held = values if isinstance(values, list) else []
        if ended := [tag for tag, raw in zip(others, held, strict=True) if raw is None]:
            await self.call("SREM", self.keys.nodes(), *ended)
        pairs = zip(others, held, strict=True)
        self.known = {
            tag: record for tag, raw in pairs if raw is not None and (record := _decoded(raw))
        }
        return self.known

    async def lives(self, tag: str) -> bool:
        """Return whether the node lives; raise `RedisCallError` when Redis is away."""
        return await self.call("EXISTS", self.keys.node(tag)) == 1

    @property
    def keys(self) -> Keys:
        return self._shard(NODES).keys

    async def call(self, *command: Argument) -> object:
        return await self._shard(NODES).calls.call(*command)


async def until_renewal(lease_seconds: float) -> None:
    """Return when a lease is to be renewed: not at the same time on all nodes."""
    await asyncio.sleep(lease_seconds / RENEWALS * random.uniform(0.7, 1))


def _decoded(raw: bytes) -> NodeRecord | None:
    try:
        return _RECORD.decode(raw)
    except (ValueError, RecursionError):
        return None


# Channels renewed in one pipeline: 1 ms of work for Redis at some 10 us each (measured).
_BATCH = 100
# Members read in one call, and bytes of them behind which no more are read; 32 members,
# of 4 KiB each at most, may come above that.
_PAGE_MEMBERS = 500
_PAGE_BYTES = 128 * KIB
# Pub/sub that is later than a canary may be is given up, and all members are read anew.
_LAG_SECONDS = 30.0


class RedisRoster:
    """Keeps the members at all nodes; one per node. `start` once the broker has begun to connect.

    Args:
        shard: returns the shard of a channel.
        tag: names this run of the node, and no other.
    """

    lag_seconds = _LAG_SECONDS

    def __init__(
        self,
        shard: Callable[[str], Shard],
        *,
        tag: str,
        spawn: Spawn,
        log: FilteringBoundLogger,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        self._shard = shard
        self._tag = tag
        self._spawn = spawn
        self._log = log
        self._lease_seconds = lease_seconds
        self._lease_ms = int(lease_seconds * 1000)
        self._here: dict[str, dict[str, Member]] = {}
        self._judges_from_seconds = 0.0
        """Before this time of the loop no other node is taken for dead."""
        self._stale: dict[str, int] = {}
        """Channels where Redis may have other members, with their rounds without a member here."""

    # -- hub.core.ports.Roster ---------------------------------------------------------------

    def change(self, channel: str, change: Change) -> None:
        members = self._here.setdefault(channel, {})
        if isinstance(change, Leave):
            members.pop(change.member.id, None)
        else:
            members[change.member.id] = change.member
        if not members:
            del self._here[channel]
        self._spawn(self._tell(channel, change, last=not members))

    async def members(self, channel: str) -> Sequence[Member]:
        """Return the members in the order they came; raise `UnavailableError` when Redis is
        away."""
        found: dict[str, tuple[int, Member]] = {}
        try:
            async for entries in self._pages(channel):
                found |= {each.member.id: (each.came, each.member) for each in entries}
        except RedisCallError as error:
            raise UnavailableError(
                f"cannot tell who is in {channel!r}: {public_reason(error)}"
            ) from None
        return [member for _, member in sorted(found.values(), key=lambda each: each[0])]

    async def _pages(self, channel: str) -> AsyncIterator[Sequence["_Entry"]]:
        """Yield pages with each member that is there all the while, once or more often."""
        place: bytes | None = b"0"
        while place is not None:
            async with self._shard(channel).reads:
                answer = await self._run(
                    "members", channel, place, _PAGE_MEMBERS, self._lease_ms, _PAGE_BYTES
                )
            place, entries = _part(answer)
            yield [each for raw in entries if (each := _entry(raw)) is not None]

    # -- telling Redis -----------------------------------------------------------------------

    async def _run(self, function: str, channel: str, *arguments: Argument) -> object:
        shard = self._shard(channel)
        names = (shard.keys.here(channel), shard.keys.leases(channel))
        return await shard.calls.run_function(function, names, arguments)

    async def _tell(self, channel: str, change: Change, *, last: bool) -> None:
        member = change.member
        try:
            if isinstance(change, Leave):
                await self._run("leave", channel, self._tag, member.id, int(last))
            else:
                arguments = (self._tag, self._lease_ms, member.id, encode_member(member))
                await self._run("join", channel, *arguments)
        except RedisCallError as error:
            self._log.debug("redis_presence_failed", channel=channel, reason=str(error))
            self._stale[channel] = 0

    def refresh(self, channel: str) -> None:
        """Tell Redis the members here again: it may have forgotten them."""
        if channel in self._here:
            self._stale[channel] = 0
            self._spawn(self._assert(channel))

    async def _assert(self, channel: str) -> None:
        """Tell Redis the members here, and that there are no others; retried with the next
        round."""
        if channel not in self._here:
            return
        self._stale.pop(channel, None)
        try:
            for some in self._pieces(channel):
                await self._run("present", channel, self._tag, self._lease_ms, *some)
            async for entries in self._pages(channel):
                here = self._here.get(channel, {})
                gone = [
                    e.member.id for e in entries if self._tag in e.tags and e.member.id not in here
                ]
                if gone:
                    await self._run("absent", channel, self._tag, *gone)
        except RedisCallError:
            self._stale[channel] = 0

    def _pieces(self, channel: str) -> Iterator[Sequence[Argument]]:
        """Yield ids and members in turn, of a page's bytes, without members that have left."""
        piece: list[Argument] = []
        size = 0
        for id_ in tuple(self._here[channel]):
            if (member := self._here.get(channel, {}).get(id_)) is None:
                continue
            encoded = encode_member(member)
            piece += [id_, encoded]
            size += len(encoded)
            if size >= _PAGE_BYTES:
                yield piece
                piece, size = [], 0
        if piece:
            yield piece

    # -- renewing ----------------------------------------------------------------------------

    async def start(self) -> None:
        """Renew the leases from now on."""
        self._spawn(self._run_renewals())

    async def _run_renewals(self) -> None:
        while True:
            await until_renewal(self._lease_seconds)
            names = iter(tuple(self._here))
            while batch := tuple(islice(names, _BATCH)):
                await asyncio.gather(*(self._renew(channel) for channel in batch))
            self._forget_stale()

    def _forget_stale(self) -> None:
        """Forget channels without members here: their lease is not renewed, and ends."""
        for channel in [channel for channel in self._stale if channel not in self._here]:
            self._stale[channel] += 1
            if self._stale[channel] > RENEWALS + 2:
                del self._stale[channel]

    async def _renew(self, channel: str) -> None:
        with contextlib.suppress(RedisCallError):
            now = asyncio.get_running_loop().time()
            judges = int(now >= self._judges_from_seconds)
            found = await self._run("renew", channel, self._tag, self._lease_ms, judges)
            if found != 1:
                # This node was held up, and the others may be too: they get the time of a lease.
                self._judges_from_seconds = now + self._lease_seconds
            if found == 0 or channel in self._stale:
                await self._assert(channel)


def _part(answer: object) -> tuple[bytes | None, list[bytes]]:
    """Return the place to go on at, None at the end, and the entries."""
    match answer:
        case [bytes() as place, list() as entries]:
            return None if place == b"0" else place, entries
    raise RedisCallError(f"not members: {answer!r:.100}")


@dataclass(frozen=True, slots=True)
class _Entry:
    """A member, as Redis has it."""

    tags: Sequence[str]
    """Tags of the nodes where it is."""
    came: int
    member: Member


def _entry(raw: bytes) -> _Entry | None:
    """Return a member; None for one that this version cannot read."""
    try:
        tags, came, member = raw.split(b"\n", 2)
        return _Entry(tags.decode().split(), int(came), decode_member(member))
    except ValueError:
        return None
