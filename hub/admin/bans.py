"""Bans and revocations on every node: set once, kept by the broker, known to all within moments.

Each ban or revocation, and the end of one, is a record (`hub.auth.bans.Standing`). The broker keeps
the records in a channel of the hub's own, `hub:access`, like any other publications with history.
So they survive the end of any node. Each node subscribes to the channel, reads its history when it
starts, and keeps all records in a table (`hub.auth.bans.Standings`), which every check of
credentials asks. The order of records does not matter there, so the reading of history and the
subscription may overlap.

History loses old records, records above its bound, and all records in a Redis that was emptied. So
each node compares its table with history every ten seconds or so, and publishes again the records
in force that history lacks, or will soon lack. The interval differs between nodes, so that mostly
one of them publishes. The history of the memory broker is gone when the hub ends. Where a file
keeps the records (`HUB_BANS_PATH`), a record is in it before its operator gets the answer, and
nodes begin with the records of the file.

A node does not know the bans until it has read the history. Until then tokens wait; where it takes
long, they are refused with an error that may be retried. A node with the memory broker alone keeps
its table and needs no channel; the table ends with the process.
"""

import asyncio
import random
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Protocol

import msgspec
from structlog.typing import FilteringBoundLogger

from hub.admin.requests import AdminRequest, Handlers
from hub.auth.bans import MAX_STANDINGS, Standing, StandingKind, Standings
from hub.auth.waiting import Waiters
from hub.core.each_session import each_session_soon
from hub.core.identity import Identity
from hub.core.options import ACCESS_CHANNEL, ACCESS_OPTIONS
from hub.core.ports import Broker, PublishRequest, Spawn, UndecidedError
from hub.core.publication import Position, Publication
from hub.core.registry import SessionRegistry
from hub.core.session.session import Session
from hub.errors import ConflictError, HubError, NotFoundError

# As long as a token's holder waits for the history to be read.
WAIT_SECONDS = 5.0
_LOOK_SECONDS = 10.0
_RETRY_SECONDS = 0.5
_LAST_RETRY_SECONDS = 5.0
# Words published again in one look: the rest has its turn in the next ones.
_RENEWED = 200
_PAGE = 1000
# Beyond this many publications behind the newest, one will soon fall out of history.
_FAR = ACCESS_OPTIONS.history_size // 2
_OLD_MS = int(ACCESS_OPTIONS.history_ttl_seconds * 1000) // 2
_PUBLISHER = "hub"

_READER = msgspec.json.Decoder(Standing)


class SetStanding(AdminRequest[Standing], frozen=True, tag="say"):
    """Puts a ban or revocation in force on every node; the answer is its record.

    Raises `ConflictError` where the hub keeps as many as it may, and the broker's errors.
    """

    kind: StandingKind
    name: str
    seconds: float
    """The time for which it holds."""
    reason: str = ""
    before: float = 0.0


class LiftStanding(AdminRequest[None], frozen=True, tag="lift"):
    """Ends a ban or revocation; raises `NotFoundError` where none is in force."""

    kind: StandingKind
    name: str


class GetStanding(AdminRequest[Standing | None], frozen=True, tag="standing"):
    """Asks for the record in force about a name."""

    kind: StandingKind
    name: str


class ListStandings(AdminRequest[list[Standing]], frozen=True, tag="standings"):
    """Asks for all records in force, those that end last first."""

    limit: int


class StandingStore(Protocol):
    """Keeps records on disk where no broker does; `hub.node.bans_file.BansFile` has the format."""

    def read(self) -> list[Standing]:
        """Return all records."""
        ...

    async def write(self, records: Iterable[Standing]) -> None:
        """Keep these too; raises `UnavailableError` where that fails."""
        ...


class AccessLog:
    """Keeps the bans and revocations of a node in step with those of all; one per node.

    Args:
        kept: keeps the records on disk where the broker does not; None leaves them to the broker.
        ends_with_hub: nothing keeps the records on disk, so that a restart of the hub forgets them.
        broker: keeps the records; None where this node alone needs them.
        now_ms: milliseconds since 1970 UTC.
    """

    def __init__(
        self,
        broker: Broker | None,
        registry: Callable[[], SessionRegistry],
        *,
        now_ms: Callable[[], int],
        log: FilteringBoundLogger,
        kept: StandingStore | None = None,
        ends_with_hub: bool = False,
    ) -> None:
        self.standings = Standings()
        self._kept = kept
        self._must_warn = ends_with_hub
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
        """The broker's epoch, offset and time of each record."""
        self._reload = asyncio.Event()

    def handlers(self) -> Handlers:
        return {
            SetStanding: self._set,
            LiftStanding: self._lift,
            GetStanding: self._get,
            ListStandings: self._list,
        }

    # -- at every door -------------------------------------------------------------------------

    def check(self, identity: Identity) -> None:
        """Raise `HubError` where a token that holds is revoked, or its subject banned.

        An `UndecidedError` until that is known.
        """
        if not self._loaded:
            message = "it is not known yet who is banned: the broker is being asked"
            raise UndecidedError(message, lambda: self._waiters.wait(WAIT_SECONDS))
        self.standings.check(identity, self._now_ms())

    # -- requests of operators -----------------------------------------------------------------

    async def _set(self, asked: SetStanding) -> Standing:
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
        if self._must_warn:
            self._must_warn = False
            why = "a restart of the hub forgets bans and revocations: set HUB_BANS_PATH"
            self._log.warning("access_not_kept", message=why)
        return said

    async def _lift(self, asked: LiftStanding) -> None:
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
        """Have the broker keep the record and send it to all nodes; here it holds on return."""
        if self._broker is not None:
            request = PublishRequest(ACCESS_CHANNEL, msgspec.json.encode(said), _PUBLISHER)
            result = await self._broker.publish(request)
            self._places[said.key] = (result.epoch, result.offset, self._now_ms())
        if (closed := self._take(said)) is not None:
            await closed.wait()

    async def _keep(self) -> None:
        if self._kept is not None:
            await self._kept.write(self.standings)

    # -- publications of the broker ------------------------------------------------------------

    def deliver(self, publication: Publication) -> None:
        """Take a record that any node has published."""
        self._read(publication, self._epoch)

    def read_again(self) -> None:
        """Read the history again: a record was lost, or the channel began anew."""
        self._reload.set()

    def _read(self, publication: Publication, epoch: str) -> None:
        try:
            said = _READER.decode(publication.data)
        except (ValueError, RecursionError):
            # A record of a later version, or of another program that writes into Redis.
            self._log.warning("access_word_not_read", offset=publication.offset)
            return
        known = self.standings.find(*_key(said))
        if known is None or known.order <= said.order:
            self._places[said.key] = (epoch, publication.offset, publication.time_ms)
        self._take(said)

    def _take(self, said: Standing) -> asyncio.Event | None:
        """Have the record hold; return the end of the sessions that it concerns."""
        known = self.standings.find(said.kind, said.name)
        if known is None and len(self.standings) >= 2 * MAX_STANDINGS:
            return None
        if not self.standings.merge(said, self._now_ms()) or said.lifted:
            return None
        return self._close(said)

    def _close(self, said: Standing) -> asyncio.Event:
        """End the sessions that the record concerns, also one that polls and waits for no answer.

        Where they are many, they end in turns. The record holds at every door meanwhile. The next
        poll of a session that polls gets 404, a poll that begins a new session the refusal itself.
        """
        closed = asyncio.Event()

        def close(session: Session) -> bool:
            if (error := said.refusal(session.identity)) is not None:
                session.close_error(error)
            return error is not None

        def done(count: int) -> None:
            self._log.info(
                "access_changed", kind=said.kind, reason=said.reason, sessions_closed=count
            )
            closed.set()

        each_session_soon(self._registry(), close, done)
        return closed

    # -- while it runs -------------------------------------------------------------------------

    def start(self, spawn: Spawn) -> None:
        """Begin to listen, where there is a broker that keeps the records."""
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
        # Another node would publish the same records again in the same moment.
        await asyncio.sleep(random.uniform(0.0, 1.0))

    def _opened(self, head: Position) -> None:
        self._epoch = head.epoch

    async def _load(self, broker: Broker) -> None:
        """Read all of history."""
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
        """Publish records again that history has lost, or is about to lose."""
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


def _key(said: Standing) -> tuple[StandingKind, str]:
    return said.kind, said.name


def _later(now_ms: int, known: Standing | None) -> int:
    """Return a time after that of the record before it, whatever the clock of its node."""
    return now_ms if known is None else max(now_ms, known.at_ms + 1)
