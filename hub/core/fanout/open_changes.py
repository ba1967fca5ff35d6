"""Reduces the joins, leaves and updates of an open batch to their net effect.

Each change is written to all subscribers of the channel. So of one member only the difference of
all its changes is kept, and nothing where the member is as it was. When all changes together are
too large, one `presence_reset` replaces them, and peers ask for the members again. No I/O, no
clock.
"""

from collections.abc import MutableSequence, Sequence
from dataclasses import dataclass, field

from hub.core.pushes import Change, Join, Leave, Member, PresenceReset, Update
from hub.core.session.encoded import Item

# Bytes of joins and leaves in one batch, about 200 frames. A guess: asking for the members costs a
# peer about as much.
MAX_BYTES = 32 * 1024
# Bytes of such a frame without its strings.
_FRAME_BYTES = 60


@dataclass(slots=True)
class _Changed:
    before: Member | None
    """The member when the batch began, as far as is known; None where it was absent."""
    updated: bool
    """Whether the data of `before` differ from those when the batch began."""
    left: bool = False
    """Whether the member was absent in between."""
    items: list[Change] = field(default_factory=list)
    """The member's changes in the batch: at most a leave and a join, a join and a leave, or an
    update."""


class OpenChanges:
    """The changes in a channel's open batch; made with the first, dropped with the seal."""

    __slots__ = ("_bytes", "_members", "dropped", "lost")

    def __init__(self) -> None:
        self._members: dict[str, _Changed] = {}
        self._bytes = 0
        self.lost = False
        """Whether one `presence_reset` replaces all changes."""
        self.dropped = 0
        """The number of changes that it replaces."""

    def take(
        self, change: Change, items: MutableSequence[Item], *, cancels: bool
    ) -> Sequence[Change | PresenceReset]:
        """Take a change, and remove from the batch's `items` those that it replaces.

        Return the changes to append to them. Only where `cancels` holds may nothing remain of a
        member that is as it was: no answer about the members had the state in between.
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
    """Return the changes from `changed.before` to `after`, in which joins and leaves alternate."""
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
    optional = len(member.subject or "") + len(member.data or b"")
    return _FRAME_BYTES + len(change.channel) + len(member.id) + len(member.connection) + optional
