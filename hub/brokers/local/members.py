"""The members of each channel at all workers: the broker process' side.

A member is present while some worker says so. What a worker said holds for some seconds after its
connection has ended, so that one which only lost its connection costs no leave; then it is
withdrawn. A worker that comes back says all it has anew. No I/O.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from hub.core.pushes import Change, Join, Leave, Member, Update

Announce = Callable[[str, Change], None]


@dataclass(slots=True)
class _Present:
    member: Member
    tags: set[str] = field(default_factory=set)
    """Of the workers where it is."""


class MemberTable:
    """One per broker process; `announce` tells the workers that subscribe to the channel."""

    def __init__(self, announce: Announce) -> None:
        self._announce = announce
        self._channels: dict[str, dict[str, _Present]] = {}
        """By channel and member, in the order they came."""
        self._said: dict[str, set[str]] = {}
        """By tag: the channels where it has members."""
        self._to_say: dict[str, set[str]] = {}
        """By tag of a worker that came back: the channels that it has not named again."""

    def members(self, channel: str) -> Iterable[Member]:
        """In the order they came."""
        return [present.member for present in self._channels.get(channel, {}).values()]

    def change(self, tag: str, channel: str, member: Member, *, joins: bool) -> None:
        if joins:
            self._enter(tag, channel, member)
        else:
            self._withdraw(tag, channel, member.id)
            self._forget_if_empty(tag, channel)

    def present(self, tag: str, channel: str, members: Sequence[Member]) -> None:
        """These are at the worker, and no others."""
        self._to_say.get(tag, set()).discard(channel)
        for member in members:
            self._enter(tag, channel, member)
        here = {member.id for member in members}
        for id_ in [id_ for id_ in self._channels.get(channel, {}) if id_ not in here]:
            self._withdraw(tag, channel, id_)
        self._forget_if_empty(tag, channel)

    def came_back(self, tag: str) -> None:
        """The worker will say what it has, and then `told_all`."""
        self._to_say[tag] = set(self._said.get(tag, ()))

    def told_all(self, tag: str) -> None:
        for channel in self._to_say.pop(tag, ()):
            self.present(tag, channel, ())

    def gone(self, tag: str) -> None:
        """The worker will not come back."""
        self._to_say.pop(tag, None)
        for channel in tuple(self._said.get(tag, ())):
            self.present(tag, channel, ())

    def _enter(self, tag: str, channel: str, member: Member) -> None:
        here = self._channels.setdefault(channel, {})
        if (present := here.get(member.id)) is None:
            present = here[member.id] = _Present(member)
            self._announce(channel, Join(channel, member))
        elif member.said_ms > present.member.said_ms:
            present.member = member
            self._announce(channel, Update(channel, member))
        present.tags.add(tag)
        self._said.setdefault(tag, set()).add(channel)

    def _withdraw(self, tag: str, channel: str, id_: str) -> None:
        here = self._channels.get(channel, {})
        if (present := here.get(id_)) is None or tag not in present.tags:
            return
        present.tags.discard(tag)
        if not present.tags:
            del here[id_]
            if not here:
                del self._channels[channel]
            self._announce(channel, Leave(channel, present.member))

    def _forget_if_empty(self, tag: str, channel: str) -> None:
        here = self._channels.get(channel, {})
        if any(tag in present.tags for present in here.values()):
            return
        said = self._said.get(tag, set())
        said.discard(channel)
        if not said:
            self._said.pop(tag, None)
