"""The members of a channel that share a dialect and a filter: those in step, and those apart.

Nearly all members are in the same state: live, with all that the channel had for them, at a plain
socket that takes writes. They are in step. Their descriptors stand in an array, and one loop that
looks at no session writes a batch to all of them. All other members are apart, and a batch goes to
each of them separately.

A member in step has no offset and no count of its own. Its offset is the group's, and the number of
publications it was sent follows from the group's count since it came in. So no member is compared
when a batch is written. An event (it went live, or takes writes again) puts a member among
`arriving`, and it comes in when the next batch is sealed. It stands apart again at once, by
`Subscription.stand_apart`, when its link stops taking writes or is about to end. It must leave
before the socket is closed, because the next connection gets the same number.

Example: members are at 7, and a batch of 8 and 9 is under way and has reached three of five. Then
the first three are at 9 and the others at 7. When the fourth stands apart, its own offset is 7, and
it is owed the batch. When the second does, its own offset is 9.
"""

from array import array
from collections.abc import Iterator

from hub.core.ports import NO_DESCRIPTOR, Dialect
from hub.core.publication import Filter
from hub.core.session.subscription import APART, Subscription


class Group:
    """The members of one channel with one dialect and filter. Owned by the event loop."""

    __slots__ = (
        "_holes", "_offset", "_sent", "apart", "arriving", "descriptors", "dialect", "filter",
        "last", "members", "owed", "publications", "reached", "under_way",
    )  # fmt: skip

    def __init__(self, dialect: Dialect, wanted: Filter | None = None) -> None:
        self.dialect = dialect
        self.filter = wanted
        self.descriptors = array("i")
        """Descriptors in step; `NO_DESCRIPTOR` where a member left while a batch was under way."""
        self.members: list[Subscription | None] = []
        """Members in step, each at the place of its descriptor."""
        self.apart: dict[Subscription, None] = {}
        self.arriving: dict[Subscription, None] = {}
        """Members apart that may come into step with the next batch."""
        self.owed: dict[Subscription, None] = {}
        """Members to which the batch under way is still to be written separately."""
        self.under_way = False
        self.reached = 0
        """The number of members in step to which the batch under way was written."""
        self.last = 0
        """The last offset of the batch under way."""
        self.publications = 0
        """The number of publications in the batch under way."""
        self._offset = 0
        """The offset of members in step that the batch under way has not reached."""
        self._sent = 0
        """Publications written to members in step before the batch under way."""
        self._holes: list[int] = []
        """Places that members left while a batch was under way."""

    def __len__(self) -> int:
        return len(self.apart) + self.in_step

    def __iter__(self) -> Iterator[Subscription]:
        # A copy: a member may come to stand apart while the caller iterates.
        return iter([*(member for member in self.members if member is not None), *self.apart])

    @property
    def in_step(self) -> int:
        """The number of members in step."""
        return len(self.members) - len(self._holes)

    @property
    def pending(self) -> bool:
        """Whether the batch under way is still to be written to a member."""
        return self.reached < len(self.descriptors) or bool(self.owed)

    @property
    def holed(self) -> bool:
        """Whether a member in step left since the batch under way was sealed."""
        return bool(self._holes)

    # -- members in step -------------------------------------------------------------------

    def offset_at(self, place: int) -> int:
        """Return the last offset written to the member in step at this place."""
        return self.last if place < self.reached else self._offset

    def sent_at(self, place: int) -> int:
        """Return the publications written to this place since the group began."""
        return self._sent + self.publications if place < self.reached else self._sent

    # -- entering and leaving step -----------------------------------------------------------

    def add(self, subscription: Subscription) -> None:
        self.apart[subscription] = None
        subscription.group = self
        if subscription.live and subscription.throttle is None:
            self.arriving[subscription] = None

    def remove(self, subscription: Subscription) -> None:
        """Remove a member. A batch under way still names it, and skips it because it is closed."""
        subscription.stand_apart()
        self.forget(subscription)

    def forget(self, subscription: Subscription) -> None:
        """Count a member apart no more. A `remove` follows: the group may be empty now."""
        self.apart.pop(subscription, None)
        self.arriving.pop(subscription, None)

    def part(self, subscription: Subscription) -> None:
        """Take a member out of step. Its descriptor is not written to from now on."""
        place = subscription.place
        subscription.place = APART
        self.apart[subscription] = None
        if self.under_way:
            # Places must not move: the loop goes on after the last one that it reached.
            self.descriptors[place] = NO_DESCRIPTOR
            self.members[place] = None
            self._holes.append(place)
            if place >= self.reached:
                self.owed[subscription] = None
        else:
            self._close(place)

    def _close(self, place: int) -> None:
        """Move the last member in step to this place."""
        descriptor, last = self.descriptors.pop(), self.members.pop()
        if place < len(self.members) and last is not None:
            self.descriptors[place] = descriptor
            self.members[place] = last
            last.place = place

    def _come_in(self, offset: int) -> None:
        """Bring arriving members into step that are at `offset` and can be written to."""
        arriving, self.arriving = self.arriving, {}
        for subscription in arriving:
            session = subscription.session
            if not subscription.live or not session.writable or self.dialect.marks_positions:
                # It arrives again when that changes. Positions are written to each member alone.
                continue
            if (descriptor := session.link.descriptor) is None:
                continue
            if subscription.offset != offset or descriptor == NO_DESCRIPTOR:
                # It waits: it is ahead of the channel, or its link gathers a write.
                self.arriving[subscription] = None
                continue
            del self.apart[subscription]
            subscription.place = len(self.members)
            subscription.sent_before = self._sent
            self.descriptors.append(descriptor)
            self.members.append(subscription)
        if len(self.apart) < len(arriving) // 2:
            # A dict keeps the room of entries that left: 46 bytes for each of a crowd.
            self.apart = dict(self.apart)

    def break_step(self) -> None:
        """Let all members stand apart, so that the next batch goes to each separately."""
        for subscription in [member for member in self.members if member is not None]:
            subscription.stand_apart()
            self.arriving[subscription] = None

    # -- a batch -----------------------------------------------------------------------------

    def begin(self, base: int, last: int) -> None:
        """Begin a batch from `base` to `last` for the present members."""
        if self.arriving:
            self._come_in(base)
        self._offset = base
        self.last = last
        self.under_way = True
        if self.apart:
            self.owed.update(self.apart)

    def pass_one(self, offset: int) -> None:
        """Count one publication for all members in step, and move them to `offset`."""
        self._offset = self.last = offset
        self._sent += 1

    def end(self) -> None:
        """End the batch: it reached all members, or the others are no longer members."""
        self._offset = self.last
        self._sent += self.publications
        self.publications = self.reached = 0
        self.under_way = False
        if self.owed:
            self.owed.clear()
        if self._holes:
            # From the end, so that the last member is never a hole itself.
            for place in sorted(self._holes, reverse=True):
                self._close(place)
            self._holes.clear()

    def unreached(self) -> list[Subscription]:
        """Return the members to which the batch under way was not written as a whole."""
        behind = [member for member in self.members[self.reached :] if member is not None]
        return behind + list(self.owed)
