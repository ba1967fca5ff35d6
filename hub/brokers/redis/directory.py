"""The names of all channels on all servers: `hub.core.ports.Directory` over Redis.

Names are kept only while this node has patterns. library.lua announces a channel's first
publication on a pub/sub channel of its own (`hub.brokers.redis.keys.Keys.born`), right before it,
and each server's names are read by SCAN. A server's names are read after it has confirmed that it
tells of new ones, so no channel falls between the two; and again after each cut, because
announcements in it are lost.

From time to time all names are read anew: for channels that were begun by a publisher who did not
tell (a node of a version before, a user who may not publish there), and to let go of names that
Redis has forgotten. Such a channel comes late, and its sessions read it from its beginning.

Redis was not asked by PSUBSCRIBE, which compares each publication with every pattern of every
node and would bring most of them twice; nor by an index in Redis, for which a cluster has no place.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from structlog.typing import FilteringBoundLogger

from hub.brokers.name_tree import NameTree
from hub.brokers.redis.link.outcomes import RedisCallError, public_reason
from hub.brokers.redis.options import RedisOptions, Tasks
from hub.brokers.redis.shard import Shard
from hub.brokers.tracker import TrackerState
from hub.core.eager import NEXT_TURN
from hub.core.ports import Appearances, Monotonic, Spawn
from hub.core.publication import check_channel
from hub.errors import HubError, UnavailableError

# Keys that Redis scans in one call: 0.2 ms of its time, measured on 7.0.15.
_SCANNED_AT_ONCE = 1000
# Names told to patterns in one turn: each may begin a task that joins sessions.
_APPEAR_AT_ONCE = 64
# Heads read together.
_ASKED_AT_ONCE = 100
# Servers come and go, and calls fail: how often the directory looks for that.
_LOOK_SECONDS = 0.5
# Between two readings of all names. 200,000 keys take Redis 50 ms, so a thousandth of its time.
_ROUND_SECONDS = 60.0
# How long names are kept up behind the last pattern: a page that is loaded again comes back.
_LINGER_SECONDS = 60.0
# Until all names are known for the first time, or the subscription is refused for now.
_PATIENCE_SECONDS = 10.0
MAX_NAMES = 1_000_000
"""About 200 bytes each. Where there are more channels, patterns are refused."""


@dataclass(eq=False, slots=True)
class _Server:
    """The state of one server."""

    shard: Shard
    unread: bool = False
    """Whether it announces new names, and may have others that it did not announce."""
    was_read: bool = False


@dataclass(slots=True)
class _Known:
    """Names while they are kept."""

    names: NameTree = field(default_factory=NameTree)
    fresh: NameTree | None = None
    """Names of a round of reading that is under way."""
    empty: set[str] = field(default_factory=set)
    """Names without a publication, left out of answers."""
    asking: int = 0
    """The number of callers that ask now whether names have a publication."""
    born: set[str] = field(default_factory=set)
    """Names that had their first publication meanwhile: an answer may be older."""
    servers: dict[Shard, _Server] = field(default_factory=dict)
    whole: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once all servers were read."""
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, name: str) -> None:
        _add(self.names, name)
        if self.fresh is not None:
            _add(self.fresh, name)


def _add(names: NameTree, name: str) -> None:
    """Add a name, unless they are too many: one more than `MAX_NAMES` shows that."""
    if len(names) <= MAX_NAMES:
        names.add(name)


class RedisDirectory:
    """Knows the names of all channels while this node has patterns; one per node.

    Args:
        shard: returns the shard of a channel.
        shards: returns the shards of now, one per server.
    """

    def __init__(
        self,
        *,
        shard: Callable[[str], Shard],
        shards: Callable[[], Sequence[Shard]],
        options: RedisOptions,
        clock: Monotonic,
        spawn: Spawn,
        log: FilteringBoundLogger,
    ) -> None:
        self._shard = shard
        self._shards = shards
        self._keys = options.keys
        self._born = options.keys.born().encode()
        self._clock = clock
        self._tasks = Tasks(spawn)
        self._log = log
        self._appearances: Appearances | None = None
        self._known: _Known | None = None
        self._end: asyncio.TimerHandle | None = None

    def follow(self, appearances: Appearances) -> None:
        self._appearances = appearances
        if self._end is not None:
            self._end.cancel()
            self._end = None
        if self._known is None:
            self._known = _Known()
            self._tasks.spawn(self._keep(self._known))

    def unfollow(self) -> None:
        self._appearances = None
        if self._known is not None and self._end is None:
            loop = asyncio.get_running_loop()
            self._end = loop.call_later(_LINGER_SECONDS, self._let_go)

    async def stop(self) -> None:
        self._let_go()
        await self._tasks.stop()

    def _let_go(self) -> None:
        if self._end is not None:
            self._end.cancel()
            self._end = None
        known, self._known = self._known, None
        if known is not None:
            for server in known.servers.values():
                server.shard.listeners.ignore(self._born)
            known.wake.set()

    # -- names -------------------------------------------------------------------------------

    async def matching(self, pattern: str, most: int) -> Sequence[str]:
        """Return names that match; raise `UnavailableError` before all servers were read."""
        known = self._known
        if known is None:
            raise UnavailableError("no list of channels: nobody follows it")
        try:
            await self._until_whole(known)
            asked = most
            while True:
                if len(known.names) > MAX_NAMES:
                    raise UnavailableError(f"there are more than {MAX_NAMES:,} channels")
                found = await known.names.find(pattern, asked)
                some = [name for name in found if name not in known.empty]
                published = await self._published(known, some)
                if len(found) < asked or len(published) >= most:
                    return published[:most]
                asked += len(found) - len(published)
        except RedisCallError as error:
            raise UnavailableError(f"no list of channels: {public_reason(error)}") from None

    async def _until_whole(self, known: _Known) -> None:
        if known.whole.is_set():
            return
        for shard in self._shards():
            shard.calls.check_up()
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await known.whole.wait()
        except TimeoutError:
            raise UnavailableError("no list of channels: Redis is too slow") from None

    async def _published(self, known: _Known, names: Sequence[str]) -> Sequence[str]:
        """Return those of them that have a publication; note the others."""
        doubtful = [name for name in names if not self._is_open(name)]
        none: set[str] = set()
        known.asking += 1
        try:
            for start in range(0, len(doubtful), _ASKED_AT_ONCE):
                some = doubtful[start : start + _ASKED_AT_ONCE]
                offsets = await asyncio.gather(*map(self._offset, some))
                none |= {name for name, offset in zip(some, offsets, strict=True) if not offset}
            none -= known.born
        finally:
            known.asking -= 1
            if not known.asking:
                known.born.clear()
        known.empty.difference_update(names)
        known.empty |= none
        return [name for name in names if name not in none]

    def _is_open(self, name: str) -> bool:
        """Return whether this node knows of a publication there."""
        tracker = self._shard(name).channels.tracker(name)
        return (
            tracker is not None and tracker.state is not TrackerState.OPENING and tracker.offset > 0
        )

    async def _offset(self, name: str) -> int:
        answer = await self._shard(name).calls.call("HGET", self._keys.meta(name), "offset")
        return int(answer) if isinstance(answer, bytes) and answer.isdigit() else 0

    # -- keeping up --------------------------------------------------------------------------

    async def _keep(self, known: _Known) -> None:
        """Read names that may have been missed, until the names are wanted no more."""
        round_at = self._clock() + _ROUND_SECONDS
        while known is self._known:
            self._attend(known)
            if known.whole.is_set() and self._clock() >= round_at:
                await self._read_all(known)
                round_at = self._clock() + _ROUND_SECONDS
            else:
                unread = [server for server in known.servers.values() if server.unread]
                await asyncio.gather(*(self._read(known, server) for server in unread))
            if all(server.was_read for server in known.servers.values()):
                known.whole.set()
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    await known.wake.wait()
            except TimeoutError:
                continue
            known.wake.clear()

    def _attend(self, known: _Known) -> None:
        """Have all servers announce new names; a cluster may have other servers than before."""
        now = self._shards()
        for shard in tuple(known.servers):
            if shard not in now:
                del known.servers[shard]
        for shard in now:
            if shard not in known.servers:
                server = known.servers[shard] = _Server(shard)

                def on_heard(server: _Server = server) -> None:
                    server.unread = True
                    known.wake.set()

                shard.listeners.listen(self._born, self._hear, on_heard=on_heard)

    def _hear(self, raw: bytes) -> None:
        known = self._known
        if known is None or (name := self._name(raw)) is None:
            return
        known.add(name)
        known.empty.discard(name)
        if known.asking:
            known.born.add(name)
        if self._appearances is not None:
            self._appearances.appeared(name)

    async def _read_all(self, known: _Known) -> None:
        """Read all names anew, and drop those that are gone."""
        fresh = known.fresh = NameTree()
        servers = tuple(known.servers.values())
        done = await asyncio.gather(*(self._read(known, server) for server in servers))
        known.fresh = None
        if all(done) and servers == tuple(known.servers.values()):
            known.names = fresh
            known.empty = {name for name in known.empty if name in fresh}

    async def _read(self, known: _Known, server: _Server) -> bool:
        """Read all names of a server; return whether that succeeded. A failure is tried again."""
        behind_a_cut = server.unread and server.was_read
        server.unread = False
        try:
            cursor = b"0"
            while True:
                answer = await server.shard.calls.call(
                    "SCAN", cursor, "MATCH", self._keys.meta("*"), "COUNT", _SCANNED_AT_ONCE
                )
                cursor, found = _page(answer)
                names = [name for raw in found if (name := self._name(raw)) is not None]
                await self._take(known, names)
                if cursor == b"0":
                    break
        except RedisCallError as error:
            server.unread = True
            self._log.debug("redis_names_failed", reason=str(error))
            return False
        server.was_read = True
        if behind_a_cut and self._appearances is not None:
            # A publication behind the end of a known channel shows in no name.
            self._appearances.missed()
        return True

    async def _take(self, known: _Known, names: Sequence[str]) -> None:
        """Take names that a server has."""
        if known.fresh is not None:
            for name in names:
                _add(known.fresh, name)
        if not known.whole.is_set():
            # `matching` asks whether the names it needs have a publication.
            for name in names:
                _add(known.names, name)
            return
        untold = [name for name in names if name not in known.names or name in known.empty]
        published = await self._published(known, untold)
        for name in untold:
            _add(known.names, name)
        for number, name in enumerate(published, 1):
            if self._appearances is not None:
                self._appearances.appeared(name)
            if number % _APPEAR_AT_ONCE == 0:
                await NEXT_TURN

    def _name(self, raw: object) -> str | None:
        """Return the channel of a name or of a head's key; None for anything else."""
        try:
            text = raw.decode("ascii") if isinstance(raw, bytes) else ""
            return check_channel(self._keys.channel(text))
        except (HubError, UnicodeDecodeError):
            return None


def _page(answer: object) -> tuple[bytes, Sequence[object]]:
    match answer:
        case [bytes() as cursor, list() as found]:
            return cursor, found
    raise RedisCallError(f"no page of keys: {answer!r:.100}")
