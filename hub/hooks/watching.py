"""Notice the events of channels, each of which one node of all reports.

Each node knows the beginnings and ends at itself. Before it reports one, it asks the others whether
they had the same at that moment (`hub.hooks.spans`): then it was no beginning, and no end.

Worked example: a channel gets a session at node A at 12:00:00 and another at node B at 12:00:05. A
reports `channel.occupied`; B asks, learns that A has it, and reports nothing. A's session leaves at
12:00:07: B has it, nothing is reported. B's leaves at 12:00:09: A had it until 12:00:07, so B
reports `channel.vacated`.

A node that does not answer counts as one without a session, so an event may then be reported twice.
The same may happen where 50 MB of events wait for the others' answers: later ones are reported
without a question. A killed node reports no end.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from hub.core.options import is_reserved
from hub.core.ports import Roster, Spawn
from hub.core.pushes import Join, Leave, Member, Update
from hub.core.session.session import Session
from hub.hooks.names import CLOSED, JOINED, LEFT, OCCUPIED, OPENED, VACATED
from hub.hooks.spans import Spans
from hub.hooks.telling import EventSender

Moment = tuple[str, float]
"""A name, and seconds since 1970 UTC."""
AskOthers = Callable[[Sequence[Moment]], Awaitable[Sequence[bool]]]
"""A function that returns, for each moment, whether any other node had the name then; it raises
nothing."""
# So that clocks may differ by some milliseconds, and one question carries many moments.
_GATHER_SECONDS = 0.2
# The others gather as long, and then ask.
_LINGER_SECONDS = 0.6
# Asked about in one question.
_MOMENTS = 1000
# Of events that wait for their question.
_MAX_PENDING_BYTES = 50_000_000
# What one of them counts beside the data that its member shows of itself. Guess.
_EACH_BYTES = 1_000


class EventWatcher:
    """Notice the sessions, channels and members of this node; one per node.

    Args:
        ask_others: None where there are no other nodes.
    """

    def __init__(
        self, event_sender: EventSender, spans: Spans, *, spawn: Spawn, ask_others: AskOthers | None
    ) -> None:
        self._event_sender = event_sender
        self.spans = spans
        self._spawn = spawn
        self._ask_others = ask_others
        self._pending: list[tuple[str, Moment, dict[str, object]]] = []
        self._pending_bytes = 0
        self._asking = False

    # -- what the core calls -------------------------------------------------------------------

    def opened(self, session: Session) -> None:
        self._event_sender.tell(OPENED, _of(session))

    def closed(self, session: Session, code: int, reason: str) -> None:
        self._event_sender.tell(CLOSED, _of(session) | {"code": int(code), "reason": reason})

    def used(self, channel: str, *, used: bool) -> None:
        """Note that the channel has its first session here, or has lost its last."""
        if is_reserved(channel):
            return
        self._changed(OCCUPIED if used else VACATED, channel, {"channel": channel}, begins=used)

    def member(self, channel: str, member: Member, *, came: bool) -> None:
        """Note that the member has its first session in the channel here, or has lost its last."""
        fields: dict[str, object] = {
            "channel": channel,
            "member": member.id,
            "sub": member.subject,
            "connection": member.connection,
        }
        if member.data is not None:
            fields["data"] = member.data
        # No name of a channel has a space: this is no other's.
        name = f"{channel} {member.id}"
        self._changed(JOINED if came else LEFT, name, fields, begins=came)

    def _changed(self, type_: str, name: str, fields: dict[str, object], *, begins: bool) -> None:
        at_seconds = self.spans.begin(name) if begins else self.spans.end(name)
        if at_seconds is None or type_ not in self._event_sender.events:
            return
        if self._ask_others is None or self._pending_bytes >= _MAX_PENDING_BYTES:
            self._event_sender.tell(type_, fields, at_seconds)
            return
        self._pending.append((type_, (name, at_seconds), fields))
        self._pending_bytes += _size(fields)
        if not self._asking:
            self._asking = True
            self._spawn(self._ask())

    async def _ask(self) -> None:
        try:
            while self._pending:
                await asyncio.sleep(_GATHER_SECONDS)
                await self.flush()
        finally:
            self._asking = False

    async def finish(self) -> None:
        """Report the waiting events, and stay for a moment for the others' questions about them."""
        await self.flush()
        if self._ask_others is not None:
            left = self.spans.changed_at + _LINGER_SECONDS - self.spans.now()
            await asyncio.sleep(min(max(left, 0.0), _LINGER_SECONDS))

    async def flush(self) -> None:
        """Report the waiting events, once the others have answered."""
        while self._ask_others is not None and self._pending:
            part, self._pending = self._pending[:_MOMENTS], self._pending[_MOMENTS:]
            self._pending_bytes -= sum(_size(fields) for _, _, fields in part)
            held = await self._ask_others([moment for _, moment, _ in part])
            for (type_, (_, at_seconds), fields), elsewhere in zip(part, held, strict=True):
                if not elsewhere:
                    self._event_sender.tell(type_, fields, at_seconds)


class WatchedRoster:
    """A roster whose changes are noticed: `hub.core.ports.Roster`."""

    def __init__(self, roster: Roster, watching: EventWatcher) -> None:
        self._roster = roster
        self._watching = watching

    @property
    def lag_seconds(self) -> float:
        return self._roster.lag_seconds

    def change(self, channel: str, change: Join | Leave | Update) -> None:
        self._roster.change(channel, change)
        if not isinstance(change, Update):
            self._watching.member(channel, change.member, came=isinstance(change, Join))

    async def members(self, channel: str) -> Sequence[Member]:
        return await self._roster.members(channel)


def _size(fields: Mapping[str, object]) -> int:
    data = fields.get("data")
    return _EACH_BYTES + (len(data) if isinstance(data, bytes) else 0)


def _of(session: Session) -> dict[str, object]:
    link = session.link
    return {
        "connection": session.id,
        "sub": session.identity.subject,
        "address": link.address,
        "transport": link.transport,
    }
