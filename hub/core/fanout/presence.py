"""Who is present in which channel of this node, and whom it tells of that.

A member is a token's subject, or a connection where there is none. It is present while it has
at least one session in the channel. A subject that loses its last connection may reconnect
for `leave_delay_seconds` before its leave is published, so that a reload is no leave and join;
an anonymous connection cannot come back, and an unsubscribe is meant: both leave at once.

A member that comes and goes all the time would have everybody in the channel written to, at no
cost of its own: of each member `MAX_CHANGES` are told at once within `WINDOW_SECONDS`, and then
what became of it by their end.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hub.core.options import KIB
from hub.core.ports import Monotonic, Roster
from hub.core.pushes import Join, Leave, Member
from hub.core.session.session import Session
from hub.core.time.deadlines import Deadline, Deadlines
from hub.errors import BadRequestError

# A reload and another, as people do; guesses.
MAX_CHANGES = 4
WINDOW_SECONDS = 1.0

MAX_PAGE_MEMBERS = 1000
# Of their strings in one answer.
MAX_PAGE_BYTES = 256 * KIB

# A member is known by the subject of its token, which may have so many characters, or by its
# connection's id, which is shorter.
MAX_MEMBER_LENGTH = 255

Announce = Callable[[str, Join | Leave], None]
"""Puts a join or leave into the order of its channel."""


def check_member(id_: str, name: str) -> str:
    """Return `id_` when it may be a member's; raise `BadRequestError` that calls it `name`."""
    if len(id_) > MAX_MEMBER_LENGTH:
        raise BadRequestError(
            f"{name} is {len(id_):,} characters, a member's id has at most {MAX_MEMBER_LENGTH}"
        )
    return id_


def page_of(
    members: Sequence[Member], limit: int | None, after: str | None
) -> tuple[Sequence[Member], str | None]:
    """A part of them, and after which id to ask for the rest; None where there is none.

    All are in the order they came where all go into one answer. Else they are in the order of
    their ids: who is there from the first page to the last is in one of them, whoever else comes
    and goes meanwhile. Raises `BadRequestError` for a limit that is not 1 to `MAX_PAGE_MEMBERS`.
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


def _bytes(member: Member) -> int:
    return len(member.id) + len(member.connection) + len(member.subject or "") + 40


class LocalRoster:
    """The roster where there is one node: `hub.core.ports.Roster`."""

    lag_seconds = 0.0

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
    told: bool = False
    """Whether the roster was told of its join, and not of its leave since."""
    leaving: Deadline | None = None
    """When it is gone unless it comes back."""
    window_seconds: float = 0.0
    """When the first of `changes` was told."""
    changes: int = 0
    """How many were told since."""
    settling: Deadline | None = None
    """When more of them are told."""

    @property
    def stays(self) -> bool:
        return bool(self.connections) or self.leaving is not None


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
        self._left: dict[tuple[str, str], tuple[float, int]] = {}
        """Of who left in the last `WINDOW_SECONDS`: the window and its changes, oldest first."""

    @property
    def lag_seconds(self) -> float:
        """How long after `members` answered a change may still come that it knew of."""
        return self._roster.lag_seconds

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
            present.window_seconds, present.changes = self._left.pop((channel, id_), (0.0, 0))
        elif present.leaving is not None:
            present.leaving.cancel()
            present.leaving = None
        elif not present.told:
            present.member = Member(id_, session.id, subject)
        present.connections.add(session.id)
        self._settle(channel, present)

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
            present.leaving = self._deadlines.at(due, lambda: self._gone(channel, present))
        else:
            self._settle(channel, present)

    def _gone(self, channel: str, present: _Present) -> None:
        """It did not come back."""
        present.leaving = None
        self._settle(channel, present)

    def _settle(self, channel: str, present: _Present) -> None:
        """Tell the roster what it does not know, now or as soon as it may be told."""
        now = self._clock()
        if present.stays is not present.told and self._may_tell(channel, present, now):
            present.told = present.stays
            change = Join if present.told else Leave
            self._roster.change(channel, change(channel, present.member))
        if not present.stays and not present.told:
            self._forget(channel, present, now)

    def _may_tell(self, channel: str, present: _Present, now: float) -> bool:
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
