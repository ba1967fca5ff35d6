"""What the joins, leaves and updates of a batch that is still open come to.

Each of them is written to everybody in the channel, so of one member only the difference is kept
that all of them make, and none where it is as it was. When all of them together are too much, one
`presence_reset` stands for them: who gets it asks for the members. No I/O, no clock.
"""

from collections.abc import MutableSequence, Sequence
from dataclasses import dataclass, field

from hub.core.pushes import Change, Join, Leave, Member, PresenceReset, Update
from hub.core.session.encoded import Item

# Of frames of joins and leaves in one batch: some 200. A guess; asking for the members costs a
# peer about as much.
MAX_BYTES = 32 * 1024
# Of such a frame beside its strings.
_FRAME_BYTES = 60


@dataclass(slots=True)
class _Changed:
    before: Member | None
    """As the member was when the batch began, as far as is known; None where it was not there."""
    updated: bool
    """Whether `before` says something else of itself than it did when the batch began."""
    left: bool = False
    """Whether it was gone in between."""
    items: list[Change] = field(default_factory=list)
    """What stands for it in the batch: a leave and a join at most, or a join and a leave,
    or an update."""


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
        self, change: Change, items: MutableSequence[Item], *, cancels: bool
    ) -> Sequence[Change | PresenceReset]:
        """Take one more, and take out of the batch's `items` what it makes superfluous.

        Returns what is to stand at their end now. Only where it `cancels` may nothing at all
        remain of a member that is as it was: nobody has been told of what lay between.
        """
        if self.lost:
            self.dropped += 1
            return ()
        member, leaves = change.member, isinstance(change, Leave)
        changed = self._members.get(member.id)
        if changed is None:
            before = None if isinstance(change, Join) else member
            changed = _Changed(before, updated=isinstance(change, Update))
            self._members[member.id] = changed
        changed.left |= leaves
        wanted = _difference(changed, None if leaves else member, change, cancels=cancels)
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
        kept = [item for item in items if not isinstance(item, Change)]
        self.lost = True
        self.dropped += len(items) - len(kept) + len(added)
        items[:] = kept
        return (PresenceReset(change.channel),)


def _difference(
    changed: _Changed, after: Member | None, change: Change, *, cancels: bool
) -> list[Change]:
    """What tells those who knew of a member that it is `after` now: joins and leaves take turns."""
    channel, before = change.channel, changed.before
    if before is not None and after is not None and not changed.left:
        return [Update(channel, after)]
    if before == after and cancels:
        return [Update(channel, after)] if changed.updated and after is not None else []
    if before is None:
        return [Join(channel, change.member), *([change] if after is None else [])]
    return [Leave(channel, before), *([Join(channel, after)] if after is not None else [])]


def _take_out(item: Item, items: MutableSequence[Item]) -> None:
    for place in range(len(items) - 1, -1, -1):
        if items[place] is item:
            del items[place]
            return


def _size(change: Change) -> int:
    member = change.member
    said = len(member.subject or "") + len(member.data or b"")
    return _FRAME_BYTES + len(change.channel) + len(member.id) + len(member.connection) + said
