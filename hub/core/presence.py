"""Who is present in which channel of this node, and whom it tells of that.

A member is a token's subject, or a connection where there is none. It is present while it has
at least one session in the channel. A subject that loses its last connection may reconnect
for `leave_delay_seconds` before its leave is published, so that a reload is no leave and join;
an anonymous connection cannot come back, and an unsubscribe is meant: both leave at once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hub.core.deadlines import Deadline, Deadlines
from hub.core.ports import Monotonic, Roster
from hub.core.pushes import Join, Leave, Member
from hub.core.session import Session

Announce = Callable[[str, Join | Leave], None]
"""Puts a join or leave into the order of its channel."""


class LocalRoster:
    """The roster where there is one node: `hub.core.ports.Roster`."""

    def __init__(self, announce: Announce) -> None:
        self._announce = announce
        self._channels: dict[str, dict[str, Member]] = {}

    def change(self, channel: str, change: Join | Leave) -> None:
        members = self._channels.setdefault(channel, {})
        if isinstance(change, Join):
            members[change.member.id] = change.member
        else:
            members.pop(change.member.id, None)
        if not members:
            del self._channels[channel]
        self._announce(channel, change)

    async def start(self) -> None:
        """Nobody else is to be told."""

    def refresh(self, channel: str) -> None:
        """Nothing is forgotten."""

    async def members(self, channel: str) -> Sequence[Member]:
        return tuple(self._channels.get(channel, {}).values())


@dataclass(slots=True)
class _Present:
    member: Member
    connections: set[str] = field(default_factory=set)
    leaving: Deadline | None = None


class PresenceTable:
    """Members by channel; grows and shrinks with sessions."""

    def __init__(
        self,
        *,
        roster: Roster,
        deadlines: Deadlines,
        clock: Monotonic,
        leave_delay_seconds: float,
    ) -> None:
        self._roster = roster
        self._deadlines = deadlines
        self._clock = clock
        self._leave_delay_seconds = leave_delay_seconds
        self._channels: dict[str, dict[str, _Present]] = {}

    async def members(self, channel: str) -> Sequence[Member]:
        """On all nodes, in the order they came."""
        return await self._roster.members(channel)

    def enter(self, channel: str, session: Session) -> None:
        """Count a session in; the first of its member is a join. Who only looks is not there."""
        if session.identity.observer:
            return
        subject = session.identity.subject
        id_ = subject or session.id
        members = self._channels.setdefault(channel, {})
        if (present := members.get(id_)) is None:
            present = members[id_] = _Present(Member(id_, session.id, subject))
            self._roster.change(channel, Join(channel, present.member))
        elif present.leaving is not None:
            present.leaving.cancel()
            present.leaving = None
        present.connections.add(session.id)

    def exit(self, channel: str, session: Session, *, lost: bool) -> None:
        """Count a session out; `lost` when its connection ended rather than unsubscribed."""
        id_ = session.identity.subject or session.id
        present = self._channels.get(channel, {}).get(id_)
        if present is None:
            return
        present.connections.discard(session.id)
        if present.connections:
            return
        if lost and present.member.subject is not None and self._leave_delay_seconds > 0:
            due = self._clock() + self._leave_delay_seconds
            present.leaving = self._deadlines.at(due, lambda: self._leave(channel, id_))
        else:
            self._leave(channel, id_)

    def _leave(self, channel: str, id_: str) -> None:
        members = self._channels[channel]
        present = members.pop(id_)
        if not members:
            del self._channels[channel]
        self._roster.change(channel, Leave(channel, present.member))
