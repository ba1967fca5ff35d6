"""The members of each channel at all workers, as the broker process knows them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hub.brokers.local.workers import run
from hub.core.eager import NEXT_TURN
from hub.core.ports import Spawn
from hub.core.pushes import Change, Join, Leave, Member, Update

# Members of a worker that are looked at in one turn; one that leaves takes 2 us.
MEMBERS_AT_ONCE = 500

Announce = Callable[[str, Change], None]


@dataclass(slots=True)
class _Present:
    member: Member
    rounds: dict[str, int] = field(default_factory=dict)
    """Workers that have the member, by tag: the round in which the worker last named it."""


class MemberTable:
    """One per broker process.

    A worker names its members on each new connection, which begins a round. At the end of the round
    the members leave that it has not named. Example: the connection is cut while a worker has ada
    and bob, and bob leaves. In round 2 the worker names ada alone. At its end bob is still of round
    1, and leaves.

    Args:
        announce: tells the workers that subscribe to the channel.
        spawn: runs coroutines that wait.
    """

    def __init__(self, announce: Announce, *, spawn: Spawn) -> None:
        self._announce = announce
        self._spawn = spawn
        self._channels: dict[str, dict[str, _Present]] = {}
        """By channel and member id, in the order they came."""
        self._counts: dict[str, dict[str, int]] = {}
        """The number of members that a worker has in each channel, by its tag."""
        self._rounds: dict[str, int] = {}
        """The present round of each worker, by its tag."""

    def members(self, channel: str) -> Sequence[Member]:
        """Return the members in the order they came."""
        return [present.member for present in self._channels.get(channel, {}).values()]

    def change(self, tag: str, channel: str, member: Member, *, joins: bool) -> None:
        if joins:
            self._enter(tag, channel, member)
        else:
            self._withdraw(tag, channel, member.id)

    def present(self, tag: str, channel: str, members: Sequence[Member]) -> None:
        """Have these members at the worker, which names them in this round."""
        for member in members:
            self._enter(tag, channel, member)

    def came_back(self, tag: str) -> None:
        """Begin a round of the worker; `told_all` ends it."""
        self._rounds[tag] = self._rounds.get(tag, 0) + 1

    def told_all(self, tag: str) -> None:
        """Withdraw, in turns, the members that the worker has not named in this round."""
        run(self._end_round(tag, self._rounds[tag]), at_once=True, spawn=self._spawn)

    def gone(self, tag: str) -> None:
        """Withdraw the members of a worker that will not come back, in turns."""
        self.came_back(tag)
        self.told_all(tag)

    async def _end_round(self, tag: str, ended: int) -> None:
        looked = 0
        for channel in tuple(self._counts.get(tag, ())):
            for id_ in tuple(self._channels.get(channel, ())):
                present = self._channels.get(channel, {}).get(id_)
                if present is not None and present.rounds.get(tag, ended) < ended:
                    self._withdraw(tag, channel, id_)
                looked += 1
                if looked % MEMBERS_AT_ONCE == 0:
                    await NEXT_TURN

    def _enter(self, tag: str, channel: str, member: Member) -> None:
        here = self._channels.setdefault(channel, {})
        if (present := here.get(member.id)) is None:
            present = here[member.id] = _Present(member)
            self._announce(channel, Join(channel, member))
        elif member.said_ms > present.member.said_ms:
            present.member = member
            self._announce(channel, Update(channel, member))
        if tag not in present.rounds:
            counts = self._counts.setdefault(tag, {})
            counts[channel] = counts.get(channel, 0) + 1
        present.rounds[tag] = self._rounds.get(tag, 0)

    def _withdraw(self, tag: str, channel: str, id_: str) -> None:
        here = self._channels.get(channel, {})
        if (present := here.get(id_)) is None or tag not in present.rounds:
            return
        del present.rounds[tag]
        self._count_out(tag, channel)
        if not present.rounds:
            del here[id_]
            if not here:
                del self._channels[channel]
            self._announce(channel, Leave(channel, present.member))

    def _count_out(self, tag: str, channel: str) -> None:
        counts = self._counts[tag]
        counts[channel] -= 1
        if not counts[channel]:
            del counts[channel]
            if not counts:
                del self._counts[tag]
