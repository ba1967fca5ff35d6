"""Presence: the members of this node's channels, and the changes that the roster gets of them.

A member is a token's subject, or a connection without one. It is present while it has at least one
session in the channel. A subject that loses its last connection may reconnect for
`leave_delay_seconds` before its leave is published, so that a reload is no leave and join. An
anonymous connection cannot come back, and an unsubscribe is intended: both leave at once.

Each change is written to all subscribers of the channel. A member that comes and goes all the time
would cause many writes at no cost of its own. So within `WINDOW_SECONDS` the roster gets at most
`MAX_CHANGES` changes of one member at once, and the member's state at the end of that time.

A member may have data, which its connections set. The data set last by any of them counts, until
the member leaves.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hub.core.eager import NEXT_TURN
from hub.core.fanout.fanout import Fanout
from hub.core.fanout.open_channels import OpenChannels
from hub.core.identity import MAX_SUBJECT_LENGTH, Identity
from hub.core.options import KIB
from hub.core.ports import Monotonic, Roster
from hub.core.pushes import Change, Join, Leave, Member, Update
from hub.core.session.session import Session
from hub.core.time.deadlines import Deadline, Deadlines
from hub.core.values import replace
from hub.errors import BadRequestError

# Two reloads; both are guesses.
MAX_CHANGES = 4
WINDOW_SECONDS = 1.0

MAX_PAGE_MEMBERS = 1000
# Members that a page is chosen from in one turn: 1 ms. More than a page has.
LOOKED_AT_ONCE = 2000
# Bytes of all strings in one answer.
MAX_PAGE_BYTES = 256 * KIB

# Bytes of a member's data, as JSON.
MAX_DATA_BYTES = 4 * KIB

# A member's id is the subject of its token, or its connection's id, which is shorter.
MAX_MEMBER_LENGTH = MAX_SUBJECT_LENGTH

Announce = Callable[[str, Change], None]
"""Puts a join or leave into the order of its channel."""


def check_member(id_: str, name: str) -> str:
    """Return `id_` when it may be a member's id; else raise `BadRequestError`, naming it `name`."""
    if len(id_) > MAX_MEMBER_LENGTH:
        raise BadRequestError(
            f"{name} is {len(id_):,} characters, a member's id has at most {MAX_MEMBER_LENGTH}"
        )
    return id_


def page_of(
    members: Sequence[Member], limit: int | None, after: str | None
) -> tuple[Sequence[Member], str | None]:
    """Return a page of members, and the id after which the next page begins; None for the last.

    Where all members fit into one answer, they are in the order they came. Else they are in the
    order of their ids: a member that is present from the first page to the last is in one of them,
    whichever others come and go meanwhile. Raises `BadRequestError` for a limit that is not 1 to
    `MAX_PAGE_MEMBERS`.
    """
    if limit is not None and not 1 <= limit <= MAX_PAGE_MEMBERS:
        raise BadRequestError(f"limit is {limit}, allowed is 1 to {MAX_PAGE_MEMBERS}")
    size = sum(map(_bytes, members))
    if after is None and len(members) <= (limit or MAX_PAGE_MEMBERS) and size <= MAX_PAGE_BYTES:
        return members, None
    rest = sorted((m for m in members if after is None or m.id > after), key=lambda m: m.id)
    page: list[Member] = []
    room = MAX_PAGE_BYTES
    for member in rest[: limit or MAX_PAGE_MEMBERS]:
        room -= _bytes(member)
        if room < 0 and page:
            break
        page.append(member)
    return page, page[-1].id if len(page) < len(rest) else None


async def page_in_turns(
    members: Sequence[Member], limit: int | None, after: str | None
) -> tuple[Sequence[Member], str | None]:
    """Return `page_of`. Many members are looked at in several turns of the loop.

    Example: a channel has 50,000 members. To sort them all for a page of 1,000 takes 30 ms.
    """
    if len(members) <= LOOKED_AT_ONCE:
        return page_of(members, limit, after)
    # The page's own, and one more that tells of a next page.
    most = min(limit or MAX_PAGE_MEMBERS, MAX_PAGE_MEMBERS) + 1
    first: list[Member] = []
    for start in range(0, len(members), LOOKED_AT_ONCE):
        some = members[start : start + LOOKED_AT_ONCE]
        first += [member for member in some if after is None or member.id > after]
        first = sorted(first, key=lambda member: member.id)[:most]
        await NEXT_TURN
    return page_of(first, limit, after)


def _bytes(member: Member) -> int:
    strings = len(member.id) + len(member.connection) + len(member.subject or "")
    return strings + len(member.data or b"") + 40


class LocalRoster:
    """The roster of a single node: `hub.core.ports.Roster`."""

    lag_seconds = 0.0

    def __init__(self, announce: Announce) -> None:
        self._announce = announce
        self._channels: dict[str, dict[str, Member]] = {}

    def change(self, channel: str, change: Change) -> None:
        members = self._channels.setdefault(channel, {})
        if isinstance(change, Leave):
            members.pop(change.member.id, None)
        else:
            members[change.member.id] = change.member
        if not members:
            del self._channels[channel]
        self._announce(channel, change)

    async def start(self) -> None:
        """Do nothing: there is no other node."""

    def refresh(self, channel: str) -> None:
        """Do nothing: members do not expire."""

    async def members(self, channel: str) -> Sequence[Member]:
        return tuple(self._channels.get(channel, {}).values())


@dataclass(slots=True)
class _Present:
    member: Member
    connections: set[str] = field(default_factory=set)
    published: Member | None = None
    """The member as the roster has it; None where it has no join, or the leave."""
    leaving: Deadline | None = None
    """The end of the time in which it may come back."""
    window_seconds: float = 0.0
    """Time at which the first of `changes` was published."""
    changes: int = 0
    """The number of changes published since."""
    settling: Deadline | None = None
    """The deadline at which the next change may be published."""

    @property
    def stays(self) -> bool:
        return bool(self.connections) or self.leaving is not None


class PresenceTable:
    """The members of channels by this node's sessions."""

    def __init__(
        self,
        *,
        roster: Roster,
        deadlines: Deadlines,
        clock: Monotonic,
        wall_clock: Callable[[], float],
        leave_delay_seconds: float,
    ) -> None:
        self._roster = roster
        self._deadlines = deadlines
        self._clock = clock
        self._wall_clock = wall_clock
        self._leave_delay_seconds = leave_delay_seconds
        self._channels: dict[str, dict[str, _Present]] = {}
        self._left: dict[tuple[str, str], tuple[float, int]] = {}
        """Window and changes of members that left in the last `WINDOW_SECONDS`, oldest first."""

    @property
    def lag_seconds(self) -> float:
        """Seconds after an answer of `members` in which changes may come that it has already."""
        return self._roster.lag_seconds

    async def members(self, channel: str) -> Sequence[Member]:
        """Return the members on all nodes, in the order they came."""
        return await self._roster.members(channel)

    def enter(self, channel: str, session: Session, data: bytes | None = None) -> None:
        """Count a session in; the first session of a member is a join. Observers do not count.

        `data` is the member's data.
        """
        if session.identity.observer:
            return
        subject = session.identity.subject
        id_ = subject or session.id
        members = self._channels.setdefault(channel, {})
        if (present := members.get(id_)) is None:
            present = members[id_] = _Present(Member(id_, session.id, subject))
            present.window_seconds, present.changes = self._left.pop((channel, id_), (0.0, 0))
        elif present.leaving is not None:
            present.leaving.cancel()
            present.leaving = None
        elif present.published is None:
            present.member = replace(present.member, connection=session.id)
        present.connections.add(session.id)
        if data is not None:
            self._set_data(present, data)
        self._settle(channel, present)

    def update(self, channel: str, session: Session, data: bytes) -> None:
        """Set the member's data.

        Raises `BadRequestError` where the session is no member.
        """
        present = self._present(channel, session)
        if present is None:
            raise BadRequestError(f"nobody is present in {channel!r} by this connection")
        self._set_data(present, data)
        self._settle(channel, present)

    def data(self, channel: str, session: Session) -> bytes | None:
        """Return the data of the session's member."""
        present = self._present(channel, session)
        return None if present is None else present.member.data

    def _present(self, channel: str, session: Session) -> _Present | None:
        """Return the member that the session is a connection of; None for an observer."""
        id_ = session.identity.subject or session.id
        present = self._channels.get(channel, {}).get(id_)
        return present if present is not None and session.id in present.connections else None

    def _set_data(self, present: _Present, data: bytes) -> None:
        if data != present.member.data:
            # Later than the data before, also where the clock was set back.
            said_ms = max(int(self._wall_clock() * 1000), present.member.said_ms + 1)
            present.member = replace(present.member, data=data, said_ms=said_ms)

    def exit(self, channel: str, session: Session, *, lost: bool) -> None:
        """Count a session out; `lost` when its connection ended rather than unsubscribed."""
        present = self._present(channel, session)
        if present is None:
            return
        present.connections.remove(session.id)
        if present.connections:
            return
        if lost and present.member.subject is not None and self._leave_delay_seconds > 0:
            due = self._clock() + self._leave_delay_seconds
            present.leaving = self._deadlines.at(due, lambda: self._gone(channel, present))
        else:
            self._settle(channel, present)

    def _gone(self, channel: str, present: _Present) -> None:
        """Let the member leave, which did not come back in time."""
        present.leaving = None
        self._settle(channel, present)

    def _settle(self, channel: str, present: _Present) -> None:
        """Publish a member's change to the roster, now or as soon as the limit allows."""
        now = self._clock()
        before, member = present.published, present.member if present.stays else None
        if before != member and self._may_publish(channel, present, now):
            present.published = member
            if member is None:
                self._roster.change(channel, Leave(channel, present.member))
            else:
                change = Join if before is None else Update
                self._roster.change(channel, change(channel, member))
        if not present.stays and present.published is None:
            self._forget(channel, present, now)

    def _may_publish(self, channel: str, present: _Present, now: float) -> bool:
        if present.settling is not None:
            return False
        if now >= present.window_seconds + WINDOW_SECONDS:
            present.window_seconds, present.changes = now, 0
        if present.changes < MAX_CHANGES:
            present.changes += 1
            return True

        def settle() -> None:
            present.settling = None
            self._settle(channel, present)

        due = present.window_seconds + WINDOW_SECONDS
        present.settling = self._deadlines.at(due, settle)
        return False

    def _forget(self, channel: str, present: _Present, now: float) -> None:
        members = self._channels[channel]
        del members[present.member.id]
        if not members:
            del self._channels[channel]
        if present.settling is not None:
            present.settling.cancel()
        self._left[channel, present.member.id] = present.window_seconds, present.changes
        while self._left:
            oldest = next(iter(self._left))
            if self._left[oldest][0] + WINDOW_SECONDS > now:
                return
            del self._left[oldest]


class PresenceCommands:
    """Carries out the presence commands of sessions and the API.

    Members are listed in the order of the channel's stream: `Fanout.begin_answer` keeps a join and
    a leave apart while an answer is being made.
    """

    def __init__(self, channels: OpenChannels, fanout: Fanout, presence: PresenceTable) -> None:
        self._channels = channels
        self._fanout = fanout
        self._presence = presence

    async def members(self, channel: str) -> Sequence[Member]:
        """Return the members of a channel on all nodes.

        Raises `BadRequestError` where the namespace keeps no presence.
        """
        self._channels.options(channel).check_presence(channel)
        if (asked := self._channels.get(channel)) is None:
            return await self._presence.members(channel)
        self._fanout.begin_answer(asked)
        try:
            return await self._presence.members(channel)
        finally:
            self._fanout.end_answer(asked, lag_seconds=self._presence.lag_seconds)

    def update(self, session: Session, channel: str, data: bytes) -> None:
        """Set the data of the session's member.

        Raises `BadRequestError` where the session is no member of the channel.
        """
        if channel not in session.subscriptions:
            raise BadRequestError(f"not subscribed to {channel!r}")
        self._channels.options(channel).check_presence(channel)
        self._presence.update(channel, session, data)

    def change_identity(self, session: Session, identity: Identity) -> None:
        """Give the session another identity; its members change with its subject."""
        present = [
            s.channel.name
            for s in session.subscriptions.values()
            if s.channel.options.presence and not s.through_pattern
        ]
        if session.identity.subject == identity.subject:
            session.identity = identity
            return
        kept = {name: self._presence.data(name, session) for name in present}
        for name in kept:
            self._presence.exit(name, session, lost=False)
        session.identity = identity
        for name, data in kept.items():
            self._presence.enter(name, session, data)
