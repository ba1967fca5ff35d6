"""Bans and revocations, on every node: said once, kept by the broker, heard by all within moments.

The broker keeps them in a channel of the hub's own, `hub:access`, like any other publications with
history: so they survive nodes, and whatever else the broker survives. Each node listens to the
channel, reads its history when it starts, and has all of it in a table
(`hub.auth.bans.Standings`) that it asks at every door. What order words come in does not
matter there, so reading and listening need no seam.

History loses what is old, too much, or in a Redis that was emptied. So nodes look every ten seconds
or so at what history holds, and say again what is in force and is not in it, or will soon not be.
The ten seconds are another number at each node, so that mostly one of them does. What the memory
broker has is gone when the hub ends: where a file is to keep the words (`HUB_BANS_PATH`), each is
in it before its operator is answered, and nodes begin with what the file has.

Until the history was read nobody knows who is banned: tokens wait for it, and are refused as ones
to try again where it takes long. A node with the memory broker alone keeps its table and needs no
channel; it ends with the process, as everything there does.
"""

import asyncio
import random
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Protocol

import msgspec
from structlog.typing import FilteringBoundLogger

from hub.admin.requests import AdminRequest, Handlers
from hub.auth.bans import MAX_STANDINGS, Kind, Standing, Standings
from hub.auth.waiting import Waiters
from hub.core.identity import Identity
from hub.core.options import ACCESS_CHANNEL, ACCESS_OPTIONS
from hub.core.ports import Broker, PublishRequest, Spawn, UndecidedError
from hub.core.publication import Position, Publication
from hub.core.registry import SessionRegistry
from hub.errors import ConflictError, HubError, NotFoundError

# As long as a token's holder waits for the history to be read.
WAIT_SECONDS = 5.0
_LOOK_SECONDS = 10.0
_RETRY_SECONDS = 0.5
_LAST_RETRY_SECONDS = 5.0
# Said again in one look: the rest has its turn in the next ones.
_RENEWED = 200
_PAGE = 1000
# Beyond this many publications behind the newest, one will soon fall out of history.
_FAR = ACCESS_OPTIONS.history_size // 2
_OLD_MS = int(ACCESS_OPTIONS.history_ttl_seconds * 1000) // 2
_PUBLISHER = "hub"

_READER = msgspec.json.Decoder(Standing)


class Say(AdminRequest[Standing], frozen=True, tag="say"):
    """Have a word about a subject or token hold on every node; the answer is the word.

    Raises `ConflictError` where the hub keeps as many as it may, and what the broker raises.
    """

    kind: Kind
    name: str
    seconds: float
    """How long it holds."""
    reason: str = ""
    before: float = 0.0


class Lift(AdminRequest[None], frozen=True, tag="lift"):
    """Take such a word back; raises `NotFoundError` where none is in force."""

    kind: Kind
    name: str


class GetStanding(AdminRequest[Standing | None], frozen=True, tag="standing"):
    """The word that is in force about a name."""

    kind: Kind
    name: str


class ListStandings(AdminRequest[list[Standing]], frozen=True, tag="standings"):
    """All that are in force, those that end last first."""

    limit: int


class Kept(Protocol):
    """Where the words are kept that no broker keeps on disk; `hub.node.access` has the shape."""

    def read(self) -> list[Standing]:
        """All of them."""
        ...

    async def write(self, words: Iterable[Standing]) -> None:
        """Keep these too; raises `UnavailableError` where that fails."""
        ...


class AccessLog:
    """One per node; owned by the event loop.

    Args:
        kept: has them on disk where the broker has not; None leaves them to the broker.
        broker: keeps the words; None where this node's table is all there is.
        now_ms: milliseconds since 1970 UTC.
    """

    def __init__(
        self,
        broker: Broker | None,
        registry: Callable[[], SessionRegistry],
        *,
        now_ms: Callable[[], int],
        log: FilteringBoundLogger,
        kept: Kept | None = None,
    ) -> None:
        self.standings = Standings()
        self._kept = kept
        for said in () if kept is None else kept.read():
            self.standings.merge(said, now_ms())
        self._broker = broker
        self._registry = registry
        self._now_ms = now_ms
        self._log = log
        self._loaded = broker is None
        self._waiters = Waiters()
        self._epoch = ""
        self._places: dict[tuple[str, str], tuple[str, int, int]] = {}
        """Where the broker has each word: epoch, offset, and when that was published."""
        self._reload = asyncio.Event()

    def handlers(self) -> Handlers:
        return {
            Say: self._say,
            Lift: self._lift,
            GetStanding: self._get,
            ListStandings: self._list,
        }

    # -- asked at every door -------------------------------------------------------------------

    def check(self, identity: Identity) -> None:
        """Raise `HubError` where a token that holds is revoked, or its subject banned.

        An `UndecidedError` until that is known.
        """
        if not self._loaded:
            message = "it is not known yet who is banned: the broker is being asked"
            raise UndecidedError(message, lambda: self._waiters.wait(WAIT_SECONDS))
        self.standings.check(identity, self._now_ms())

    # -- what operators ask --------------------------------------------------------------------

    async def _say(self, asked: Say) -> Standing:
        now = self._now_ms()
        self._forget(now)
        known = self.standings.find(asked.kind, asked.name)
        if known is None and len(self.standings) >= MAX_STANDINGS:
            raise ConflictError(
                f"{MAX_STANDINGS:,} bans and revocations are kept, which is the limit: lift some,"
                " or wait until some end"
            )
        said = Standing(
            asked.kind,
            asked.name,
            at_ms=_later(now, known),
            until_ms=now + int(asked.seconds * 1000),
            reason=asked.reason,
            before=asked.before,
        )
        await self._publish(said)
        await self._keep()
        return said

    async def _lift(self, asked: Lift) -> None:
        now = self._now_ms()
        known = self.standings.in_force(asked.kind, asked.name, now)
        if known is None:
            raise NotFoundError(f"{asked.name[:100]!r} is not banned")
        await self._publish(
            msgspec.structs.replace(known, at_ms=_later(now, known), lifted=True, reason="")
        )
        await self._keep()

    async def _get(self, asked: GetStanding) -> Standing | None:
        return self.standings.in_force(asked.kind, asked.name, self._now_ms())

    async def _list(self, asked: ListStandings) -> list[Standing]:
        found = self.standings.all_in_force(self._now_ms())
        return sorted(found, key=lambda each: -each.until_ms)[: asked.limit]

    async def _publish(self, said: Standing) -> None:
        """Have the broker keep it, and all nodes hear it; here it holds when this returns."""
        if self._broker is not None:
            request = PublishRequest(ACCESS_CHANNEL, msgspec.json.encode(said), _PUBLISHER)
            result = await self._broker.publish(request)
            self._places[said.key] = (result.epoch, result.offset, self._now_ms())
        self._take(said)

    async def _keep(self) -> None:
        if self._kept is not None:
            await self._kept.write(self.standings)

    # -- what the broker brings ----------------------------------------------------------------

    def deliver(self, publication: Publication) -> None:
        """A word, as soon as it is said anywhere."""
        self._read(publication, self._epoch)

    def read_again(self) -> None:
        """Something of the channel was lost, or it began anew."""
        self._reload.set()

    def _read(self, publication: Publication, epoch: str) -> None:
        try:
            said = _READER.decode(publication.data)
        except (msgspec.DecodeError, RecursionError):
            # Of a later version, or of somebody who writes into Redis.
            self._log.warning("access_word_not_read", offset=publication.offset)
            return
        known = self.standings.find(*_key(said))
        if known is None or known.order <= said.order:
            self._places[said.key] = (epoch, publication.offset, publication.time_ms)
        self._take(said)

    def _take(self, said: Standing) -> None:
        if len(self.standings) >= 2 * MAX_STANDINGS or not self.standings.merge(
            said, self._now_ms()
        ):
            return
        if not said.lifted:
            self._close(said)

    def _close(self, said: Standing) -> None:
        """End the sessions that it concerns: at once, also one that polls and waits for no answer.

        The next poll of that one gets 404, a poll that begins a new session the refusal itself.
        """
        closing = [
            (session, error)
            for session in self._registry().sessions.values()
            if (error := said.refusal(session.identity)) is not None
        ]
        for session, error in closing:
            session.close_error(error)
        self._log.info(
            "access_changed", kind=said.kind, reason=said.reason, sessions_closed=len(closing)
        )

    # -- while it runs -------------------------------------------------------------------------

    def start(self, spawn: Spawn) -> None:
        """Begin to listen, where there is a broker that keeps the words."""
        if self._broker is not None:
            spawn(self._run(self._broker))

    async def _run(self, broker: Broker) -> None:
        retry_seconds = _RETRY_SECONDS
        while True:
            try:
                await broker.subscribe(ACCESS_CHANNEL, self._opened)
                await self._load(broker)
                break
            except HubError:
                await asyncio.sleep(retry_seconds)
                retry_seconds = min(retry_seconds * 2, _LAST_RETRY_SECONDS)
        self._loaded = True
        self._waiters.let_go()
        while True:
            await self._wait_for_a_look()
            with suppress(HubError):
                if self._reload.is_set():
                    self._reload.clear()
                    await self._load(broker)
                await self._renew(broker)

    async def _wait_for_a_look(self) -> None:
        try:
            async with asyncio.timeout(_LOOK_SECONDS * random.uniform(0.5, 1.5)):
                await self._reload.wait()
        except TimeoutError:
            return
        # What this node says again, others would too, in the same moment.
        await asyncio.sleep(random.uniform(0.0, 1.0))

    def _opened(self, head: Position) -> None:
        self._epoch = head.epoch

    async def _load(self, broker: Broker) -> None:
        """Read all that history holds."""
        after = 0
        while True:
            page = await broker.history(ACCESS_CHANNEL, after, _PAGE)
            for publication in page.publications:
                self._read(publication, page.head.epoch)
            self._epoch = page.head.epoch
            if not page.publications or page.last >= page.head.offset:
                return
            after = page.last

    async def _renew(self, broker: Broker) -> None:
        """Say again what history has lost, or is about to lose."""
        now = self._now_ms()
        self._forget(now)
        if not self.standings:
            return
        page = await broker.history(ACCESS_CHANNEL, 0, 1)
        for said in _first(self._due(page.head, page.oldest, now)):
            await self._publish(said)

    def _forget(self, now_ms: int) -> None:
        for ended in self.standings.forget(now_ms):
            self._places.pop(ended.key, None)

    def _due(self, head: Position, oldest: int, now_ms: int) -> Iterable[Standing]:
        for said in self.standings:
            epoch, offset, at_ms = self._places.get(said.key, ("", 0, 0))
            held = epoch == head.epoch and offset >= max(oldest, head.offset - _FAR)
            if not held or now_ms - at_ms > _OLD_MS:
                yield said


def _first(due: Iterable[Standing]) -> list[Standing]:
    return [said for _, said in zip(range(_RENEWED), due, strict=False)]


def _key(said: Standing) -> tuple[Kind, str]:
    return said.kind, said.name


def _later(now_ms: int, known: Standing | None) -> int:
    """A time after that of the word before it, whatever the clock of its node said."""
    return now_ms if known is None else max(now_ms, known.at_ms + 1)
