"""Which connections a subject has and had, as one node knows: open, ended, and read from its notes.

The node looks at the subject's open connections, at those that the journal remembers, and, where
notes are kept longer than that, at what was kept of them (`hub.core.forensics.journal.Recall`).
What became of publications on the way to them stands in `hub.admin.subject_here`.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from hub.admin.explain import Evidence
from hub.admin.explain_subject import ExplainSubject
from hub.admin.listing import slices
from hub.core.forensics.noted import ClosedSession, Notes, What
from hub.core.forensics.stretches import Window
from hub.core.records import Origin, SessionRecord, session_record
from hub.core.session.session import Session

_MAX_RECALLED = 1000
# Looked at before other work gets its turn.
_SLICE = 1000


@dataclass(frozen=True, slots=True)
class Known:
    """A connection of the subject: open, or ended."""

    record: SessionRecord
    notes: Notes
    session: Session | None = None
    closed: ClosedSession | None = None

    def was_owed(self, asked: ExplainSubject) -> bool:
        """Whether a subscription of its covers the offset that is asked for."""
        offset = asked.offset or 0
        place = (
            None if self.session is None else self.session.subscriptions.get(asked.channel or "")
        )
        return (place is not None and place.began_offset < offset) or any(
            event.what is What.HELD
            and event.channel == asked.channel
            and asked.epoch in {None, event.epoch}
            and event.first <= offset <= event.last
            for event in self.notes.events
        )

    def channels(self) -> list[str]:
        """Those that it has to do with, or had."""
        held = [] if self.session is None else list(self.session.subscriptions)
        return list(dict.fromkeys([*(e.channel for e in self.notes.events), *held]))

    def epochs(self, channel: str) -> list[str]:
        """Those of the channel that it was in, oldest first."""
        found = [e.epoch for e in self.notes.events if e.channel == channel and e.epoch]
        place = None if self.session is None else self.session.subscriptions.get(channel)
        now = [] if place is None else [place.channel.epoch]
        return list(dict.fromkeys([*found, *now]))


class SubjectConnections:
    """Finds them; one per node."""

    def __init__(self, evidence: Evidence) -> None:
        self._registry = evidence.registry
        self._journal = evidence.journal
        self._recall = evidence.recall

    async def of(self, subject: str, window: Window) -> list[Known]:
        """Those of the subject that were there within `window`, by when they opened."""
        origin = self._registry.origin
        found: dict[str, Known] = {}
        for some in slices(list(self._registry.sessions.values()), _SLICE):
            for session in some:
                mine = session.identity.subject == subject
                if mine and window.has(session.opened_at_seconds, None):
                    record = session_record(session, origin, subscriptions=False)
                    notes = await self._notes(session.id, session.notes, session.opened_at_seconds)
                    found[session.id] = Known(record, notes, session=session)
            await asyncio.sleep(0)
        for gone in await self._ended(subject, window):
            opened = seconds_of(gone.record.opened_ms, origin)
            if gone.record.connection not in found and window.has(opened, gone.closed_at_seconds):
                known = Known(gone.record, gone.notes, closed=gone)
                found[gone.record.connection] = known
        return sorted(found.values(), key=lambda each: each.record.opened_ms)

    async def _ended(self, subject: str, window: Window) -> Sequence[ClosedSession]:
        ended = {gone.record.connection: gone for gone in await self._recalled(subject, window)}
        for some in slices(list(self._journal.closed.values()), _SLICE):
            for gone in some:
                mine = gone.record.subject == subject
                # What was read has all its notes; of what has just ended, memory has.
                if mine and (gone.notes.complete or gone.record.connection not in ended):
                    ended[gone.record.connection] = gone
            await asyncio.sleep(0)
        return list(ended.values())

    async def _recalled(self, subject: str, window: Window) -> Sequence[ClosedSession]:
        if self._recall is None:
            return ()
        return await self._recall.visits(
            subject,
            from_seconds=window.from_seconds,
            to_seconds=window.to_seconds,
            limit=_MAX_RECALLED,
        )

    async def _notes(self, connection: str, own: Notes | None, since_seconds: float) -> Notes:
        if self._recall is not None and own is not None and not own.complete:
            read = await self._recall.notes(connection, since_seconds)
            if read is not None:
                return read
        return Notes() if own is None else own


def ms_of(at_seconds: float, origin: Origin) -> int:
    return round((at_seconds + origin.wall_offset_seconds) * 1000)


def seconds_of(at_ms: int, origin: Origin) -> float:
    return at_ms / 1000 - origin.wall_offset_seconds
