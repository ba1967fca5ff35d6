"""Passes the journal's notes in batches to the writer's thread, and reads them again.

The event loop owns it. A note costs an append when it is made. Notes become rows in the node's
ticks, a part at a time. Times in the file are those of the wall clock, because a monotonic clock
begins anew with the machine.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import MISSING, fields
from typing import Any

import msgspec

from hub.archive.store import CLOSED, EVENT, OPENED, SENT, NoteRow, Store
from hub.archive.writer import Writer
from hub.core.forensics.noted import ClosedSession, Event, Notes, What
from hub.core.forensics.timeline import Timeline
from hub.core.ports import Monotonic
from hub.core.records import SessionRecord, session_record
from hub.core.registry import SessionRegistry
from hub.core.session.session import Session

# An event grows for a second (`hub.core.forensics.noted`).
_GROWS_SECONDS = 1.0
# A channel's marks become a row this often, with at most one mark a second.
_ROW_SECONDS = 5.0
_MARK_SECONDS = 1.0
_FLUSH_SECONDS = 1.0
# The accuracy with which the end of a crashed process is known.
_ALIVE_SECONDS = 10.0
_LOST_CODE = 1006
_LOST_REASON = "its node ended without a word"
# In one tick, twenty times a second. A note takes about 2 us, an opened connection 10 us, a channel
# 20 us.
_NOTES_AT_ONCE = 500
_OPENED_AT_ONCE = 100
_TIMELINES_AT_ONCE = 50
# With more, notes come faster than they can be written. 100 bytes each beside the journal's own.
MAX_PENDING = 50_000
# Events of one connection that are read, ten times as many as memory keeps.
_MOST_EVENTS = 10_000
# Rows of a channel that are read, one for every five seconds.
_MOST_SENT = 20_000
# Rows that are read for one offset.
_MOST_AROUND = 3

_FIELDS = tuple(each.name for each in fields(SessionRecord) if each.name != "subscriptions")
_DEFAULTS = {
    each.name: each.default for each in fields(SessionRecord) if each.default is not MISSING
}

_encode = msgspec.msgpack.encode
_decode = msgspec.msgpack.decode


class DiskJournal:
    """The archive of a node: `hub.core.forensics.journal.Archive` and `Recall`.

    Args:
        wall_offset_seconds: from the clock to seconds since 1970 UTC.
    """

    def __init__(self, writer: Writer, *, clock: Monotonic, wall_offset_seconds: float) -> None:
        self._writer = writer
        self._clock = clock
        self._offset = wall_offset_seconds
        self._pending: deque[tuple[str, Event] | ClosedSession] = deque()
        self._touched: dict[Timeline, float] = {}
        """Timelines with marks that are not handed over, each with since when; oldest first."""
        self._rows: list[NoteRow] = []
        self._flush_at = float("-inf")
        self._alive_at = float("-inf")
        self._registry: SessionRegistry | None = None
        self._opened: deque[Session] = deque()
        """Connections that are not handed over yet."""
        self._seen_seconds = float("-inf")
        """Opening time of the newest connection that was noted."""

    @property
    def bytes(self) -> int:
        """Bytes on disk."""
        return self._writer.bytes

    def start(self, registry: SessionRegistry | None = None) -> None:
        """Begin to write; note the connections of `registry` as they open.

        So connections of a process that is killed are known afterwards.
        """
        self._registry = registry
        self._writer.start()

    async def stop(self) -> None:
        """Write all notes, and end."""
        while self._pending:
            self._rows.append(self._row_of(self._pending.popleft()))
        for timeline in self._touched:
            self._rows += self._sent_row(timeline)
        self._touched.clear()
        self._flush()
        await self._writer.stop()

    # -- hub.core.forensics.journal.Archive ---------------------------------------------------

    def noted(self, connection: str, event: Event) -> None:
        self._pending.append((connection, event))

    def sent(self, timeline: Timeline) -> None:
        self._touched.setdefault(timeline, self._clock())

    def ended(self, gone: ClosedSession) -> None:
        self._pending.append(gone)

    # -- in the node's ticks -------------------------------------------------------------------

    def tick(self) -> None:
        """Make rows of a part of the notes, and hand them over once a second."""
        now = self._clock()
        if len(self._pending) > MAX_PENDING:
            self._lose(now)
        for _ in range(min(_NOTES_AT_ONCE, len(self._pending))):
            if not self._is_settled(self._pending[0], now):
                break
            self._rows.append(self._row_of(self._pending.popleft()))
        for _ in range(min(_TIMELINES_AT_ONCE, len(self._touched))):
            timeline, since = next(iter(self._touched.items()))
            if now - since < _ROW_SECONDS:
                break
            del self._touched[timeline]
            self._rows += self._sent_row(timeline)
            if timeline.is_growing(now):
                self._touched[timeline] = now
        self._see_opened()
        is_quiet = now - self._alive_at >= _ALIVE_SECONDS
        if (self._rows or is_quiet) and now >= self._flush_at:
            self._flush_at = now + _FLUSH_SECONDS
            self._alive_at = now
            self._flush()

    def _see_opened(self) -> None:
        if self._registry is None:
            return
        newest = self._seen_seconds
        found = []
        for session in reversed(self._registry.sessions.values()):
            if session.opened_at_seconds <= newest:
                break
            found.append(session)
        if found:
            self._seen_seconds = found[0].opened_at_seconds
            self._opened.extend(reversed(found))
        for _ in range(min(_OPENED_AT_ONCE, len(self._opened))):
            record = session_record(
                self._opened.popleft(), self._registry.origin, subscriptions=False
            )
            self._rows.append(_row_of_record(OPENED, record.opened_ms, record, (_plain(record),)))

    def _flush(self) -> None:
        rows, self._rows = self._rows, []
        self._writer.put(rows)

    def _lose(self, now: float) -> None:
        """Drop the oldest half of the notes. With fewer, the next tick would drop notes again."""
        lost = [self._pending.popleft() for _ in range(len(self._pending) // 2)]
        begin = min(
            each[1].at_seconds if isinstance(each, tuple) else each.closed_at_seconds
            for each in lost
        )
        self._writer.lose(self._ms(begin), self._ms(now), len(lost))

    @staticmethod
    def _is_settled(item: tuple[str, Event] | ClosedSession, now: float) -> bool:
        """Return whether the note grows no more. An ended connection has no later events."""
        return not isinstance(item, tuple) or now - item[1].at_seconds >= _GROWS_SECONDS

    def _row_of(self, item: tuple[str, Event] | ClosedSession) -> NoteRow:
        if isinstance(item, ClosedSession):
            return self._closed_row(item)
        connection, event = item
        times = self._ms(event.at_seconds), self._ms(event.until_seconds)
        return NoteRow(
            EVENT,
            times[1],
            connection=connection,
            channel=event.channel,
            epoch=event.epoch,
            first=event.first,
            last=event.last,
            body=_encode((event.what.value, *times, event.detail, event.by)),
        )

    @staticmethod
    def _closed_row(gone: ClosedSession) -> NoteRow:
        body = (_plain(gone.record), int(gone.code), gone.reason)
        return _row_of_record(CLOSED, gone.closed_ms, gone.record, body)

    def _sent_row(self, timeline: Timeline) -> Iterator[NoteRow]:
        base = max(timeline.kept_offset, timeline.began_offset)
        marks = list(_thinned(timeline.marks(base)))
        if not marks:
            return
        channel, epoch = timeline.name
        last = timeline.kept_offset = marks[-1][2]
        losses = [loss for loss in timeline.losses if base < loss[1] and loss[0] <= last]
        times = [(self._ms(since), self._ms(at), offset) for since, at, offset in marks]
        yield NoteRow(
            SENT,
            times[-1][1],
            channel=channel,
            epoch=epoch,
            first=base + 1,
            last=last,
            body=_encode((times, losses)),
        )

    def _ms(self, at_seconds: float) -> int:
        return round((at_seconds + self._offset) * 1000)

    def _seconds(self, at_ms: int) -> float:
        return at_ms / 1000 - self._offset

    # -- hub.core.forensics.journal.Recall ----------------------------------------------------

    async def visits(
        self, subject: str, *, from_seconds: float, to_seconds: float, limit: int
    ) -> Sequence[ClosedSession]:
        begin, end = self._bounded_ms(from_seconds), self._bounded_ms(to_seconds)

        def read(store: Store) -> list[ClosedSession]:
            closed = store.closed_of(subject, from_ms=begin, to_ms=end, limit=limit)
            cut = store.left_open(subject, to_ms=end, limit=limit)
            return [
                *(self._visit(store, row) for row in closed),
                *(self._cut(store, row, until) for row, until in cut if until >= begin),
            ]

        return await self._ask(read) or ()

    async def visit(self, connection: str) -> ClosedSession | None:
        def read(store: Store) -> ClosedSession | None:
            if (row := store.closed(connection)) is not None:
                return self._visit(store, row)
            cut = store.cut(connection)
            return None if cut is None else self._cut(store, *cut)

        found: ClosedSession | None = await self._ask(read)
        return found

    async def notes(self, connection: str, since_seconds: float) -> Notes | None:
        since_ms, now_ms = self._ms(since_seconds), self._ms(self._clock())
        await self._hand_over()
        # Events that still grow are not on their way to the file.
        growing = [
            each[1] for each in self._pending if isinstance(each, tuple) and each[0] == connection
        ]
        found: Notes | None = await self._writer.ask(
            lambda store: self._notes(store, connection, since_ms, now_ms)
        )
        if found is not None:
            found.events += growing
        return found

    async def sending(
        self, channel: str, epoch: str, *, from_seconds: float, to_seconds: float
    ) -> Timeline | None:
        begin, end = self._bounded_ms(from_seconds), self._bounded_ms(to_seconds)
        rows = await self._ask(
            lambda store: store.sent(channel, epoch, from_ms=begin, to_ms=end, limit=_MOST_SENT)
        )
        return self._timeline((channel, epoch), rows or [])

    async def sending_of(self, channel: str, epoch: str, offset: int) -> Timeline | None:
        rows = await self._ask(
            lambda store: store.sent_around(channel, epoch, offset, _MOST_AROUND)
        )
        return self._timeline((channel, epoch), rows or [])

    async def _ask(self, question: Callable[[Store], Any]) -> Any:
        """Ask the store after all notes so far that grow no more."""
        await self._hand_over()
        return await self._writer.ask(question)

    async def _hand_over(self) -> None:
        """Hand over all notes that grow no more."""
        now = self._clock()
        for timeline in list(self._touched):
            self._rows += self._sent_row(timeline)
            if not timeline.is_growing(now):
                self._touched.pop(timeline, None)
        while self._pending and self._is_settled(self._pending[0], now):
            self._rows.append(self._row_of(self._pending.popleft()))
            if len(self._rows) % _NOTES_AT_ONCE == 0:
                await asyncio.sleep(0)
        self._flush()

    def _visit(self, store: Store, row: NoteRow) -> ClosedSession:
        """Read an ended connection. Runs in the thread, and uses no state of the loop."""
        record, code, reason = _decode(row.body)
        notes = self._notes(store, row.connection or "", row.first, row.at_ms)
        return self._gone(record, row.at_ms, code, reason, notes)

    def _cut(self, store: Store, row: NoteRow, until_ms: int) -> ClosedSession:
        """Read a connection whose process was killed. Its subscriptions were never noted."""
        (record,) = _decode(row.body)
        notes = self._notes(store, row.connection or "", row.first, until_ms)
        notes.forgotten_at = float("inf")
        return self._gone(record, until_ms, _LOST_CODE, _LOST_REASON, notes)

    def _gone(
        self, record: dict[str, Any], closed_ms: int, code: int, reason: str, notes: Notes
    ) -> ClosedSession:
        # A record of another version of the hub may lack fields.
        known: dict[str, Any] = {name: record.get(name, _DEFAULTS.get(name)) for name in _FIELDS}
        return ClosedSession(
            record=SessionRecord(**known, subscriptions=()),
            closed_ms=closed_ms,
            closed_at_seconds=self._seconds(closed_ms),
            code=code,
            reason=reason,
            notes=notes,
        )

    def _notes(self, store: Store, connection: str, from_ms: int, to_ms: int) -> Notes:
        rows = store.events(connection, _MOST_EVENTS)
        forgotten_ms = store.forgotten_ms(from_ms, to_ms)
        if len(rows) == _MOST_EVENTS:
            forgotten_ms = max(rows[0].at_ms, forgotten_ms or 0)
        forgotten = float("-inf") if forgotten_ms is None else self._seconds(forgotten_ms)
        return Notes([self._event(row) for row in rows], forgotten)

    def _event(self, row: NoteRow) -> Event:
        what, at_ms, until_ms, detail, by = _decode(row.body)
        at, until = self._seconds(at_ms), self._seconds(until_ms)
        channel, epoch = row.channel or "", row.epoch or ""
        return Event(What(what), channel, epoch, row.first, row.last, at, until, detail, by)

    def _timeline(self, name: tuple[str, str], rows: Sequence[NoteRow]) -> Timeline | None:
        if not rows:
            return None
        found = Timeline(name, rows[0].first - 1)
        for row in rows:
            marks, losses = _decode(row.body)
            found.add(
                row.first - 1,
                [(self._seconds(since), self._seconds(at), offset) for since, at, offset in marks],
            )
            found.losses += [tuple(loss) for loss in losses]
        return found

    def _bounded_ms(self, at_seconds: float) -> int:
        """Return a time in milliseconds; infinite ones within the range of SQLite's integers."""
        if at_seconds in {float("-inf"), float("inf")}:
            return -(2**62) if at_seconds < 0 else 2**62
        return self._ms(at_seconds)


def _plain(record: SessionRecord) -> dict[str, Any]:
    return {name: getattr(record, name) for name in _FIELDS}


def _row_of_record(kind: str, at_ms: int, record: SessionRecord, body: object) -> NoteRow:
    return NoteRow(
        kind,
        at_ms,
        connection=record.connection,
        subject=record.subject,
        first=record.opened_ms,
        body=_encode(body),
    )


def _thinned(marks: Sequence[tuple[float, float, int]]) -> Iterator[tuple[float, float, int]]:
    """Yield at most one mark a second, each joined from the marks of that second."""
    group: tuple[float, float, int] | None = None
    begun = 0.0
    for since, at, offset in marks:
        if group is not None and at - begun < _MARK_SECONDS:
            group = (min(group[0], since), at, offset)
            continue
        if group is not None:
            yield group
        group, begun = (since, at, offset), at
    if group is not None:
        yield group
