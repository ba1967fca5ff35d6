"""What the joins and leaves of a batch that is still open come to.

Each of them is written to everybody in the channel, so of one member only the difference is kept
that all of them make, and none where it is as it was. When all of them together are too much, one
`presence_reset` stands for them: who gets it asks for the members. No I/O, no clock.
"""

from collections.abc import MutableSequence, Sequence
from dataclasses import dataclass, field

from hub.core.pushes import Join, Leave, Member, PresenceReset
from hub.core.session.encoded import Item

# Of frames of joins and leaves in one batch: some 200. A guess; asking for the members costs a
# peer about as much.
MAX_BYTES = 32 * 1024
# Of such a frame beside its strings.
_FRAME_BYTES = 60


@dataclass(slots=True)
class _Changed:
    before: Member | None
    """Who was there when the batch began; None where nobody was."""
    items: list[Join | Leave] = field(default_factory=list)
    """What stands for it in the batch: a leave and a join at most, or a join and a leave."""


class OpenChanges:
    """Of one channel; made with the first of them, dropped when the batch is sealed."""

    __slots__ = ("_bytes", "_members", "dropped", "lost")

    def __init__(self) -> None:
        self._members: dict[str, _Changed] = {}
        self._bytes = 0
        self.lost = False
        """Whether one `presence_reset` stands for all of them."""
        self.dropped = 0
        """How many gave way to it."""

    def take(
        self, change: Join | Leave, items: MutableSequence[Item], *, cancels: bool
    ) -> Sequence[Join | Leave | PresenceReset]:
        """Take one more, and take out of the batch's `items` what it makes superfluous.

        Returns what is to stand at their end now. Only where it `cancels` may nothing at all
        remain of a member that is as it was: nobody has been told of what lay between.
        """
        if self.lost:
            self.dropped += 1
            return ()
        member, joins = change.member, isinstance(change, Join)
        changed = self._members.get(member.id)
        if changed is None:
            changed = self._members[member.id] = _Changed(None if joins else member)
        wanted = _difference(changed.before, member if joins else None, change, cancels=cancels)
        if changed.items != wanted[: len(changed.items)]:
            for item in changed.items:
                self._bytes -= _size(item)
                _take_out(item, items)
            changed.items = []
        added = wanted[len(changed.items) :]
        changed.items += added
        self._bytes += sum(_size(item) for item in added)
        if self._bytes <= MAX_BYTES:
            return added
        kept = [item for item in items if not isinstance(item, Join | Leave)]
        self.lost = True
        self.dropped += len(items) - len(kept) + len(added)
        items[:] = kept
        return (PresenceReset(change.channel),)


def _difference(
    before: Member | None, after: Member | None, change: Join | Leave, *, cancels: bool
) -> list[Join | Leave]:
    """What tells those who knew of `before` that it is `after` now: joins and leaves take turns."""
    channel = change.channel
    if before == after and cancels:
        return []
    if before is None:
        return [Join(channel, change.member), *([change] if after is None else [])]
    return [Leave(channel, before), *([Join(channel, after)] if after is not None else [])]


def _take_out(item: Item, items: MutableSequence[Item]) -> None:
    for place in range(len(items) - 1, -1, -1):
        if items[place] is item:
            del items[place]
            return


def _size(change: Join | Leave) -> int:
    member = change.member
    subject = len(member.subject or "")
    return _FRAME_BYTES + len(change.channel) + len(member.id) + len(member.connection) + subject
