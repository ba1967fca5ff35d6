"""Members of a channel that share a dialect and a filter: those in step, and those apart.

Nearly all members are in the same state: live, with all that the channel had for them, at a plain
socket that takes writes. They are in step. Their descriptors stand in an array, and one loop that
looks at no session writes a batch to all of them. All other members are apart, and a batch goes to
each of them separately.

A group has no more members than a slice of a broadcast, so a turn of the group writes to all of
them. What came since its last turn is one batch then. Other groups of the channel have turns and
batches of their own.

A member in step has no offset and no count of its own. Its offset is the group's, and the number of
publications it was sent follows from the group's count since it came in. So no member is compared
when a batch is written. An event (it went live, or takes writes again) puts a member among
`arriving`, and it comes in with the group's next batch. It stands apart again at once, by
`Subscription.stand_apart`, when its link stops taking writes or is about to end. It must leave
before the socket is closed, because the next connection gets the same number.

Example: members are at 7, and a batch of 8 and 9 has reached three of five when the fourth ends the
session of the fifth. Then the first three are at 9 and the others at 7. When the fifth stands
apart, its own offset is 7, and it is owed the batch.
"""

from array import array
from collections.abc import Iterator
from itertools import islice

from hub.core.ports import NO_DESCRIPTOR, Dialect
from hub.core.publication import Filter
from hub.core.session.subscription import APART, Subscription

# Members that come into step with one batch: 0.6 us each (measured). 15,000 that had come back
# after a cut held up the first publication, and the loop, for 9 ms.
COME_IN_AT_ONCE = 2000


class Group:
    """Members of one channel with one dialect and filter. Owned by the event loop."""

    __slots__ = (
        "_holes", "_offset", "_sent", "apart", "arriving", "descriptors", "dialect", "epoch",
        "filter", "had", "last", "members", "owed", "publications", "reached", "taken", "writing",
    )  # fmt: skip

    def __init__(
        self, dialect: Dialect, wanted: Filter | None = None, *, epoch: str = "", taken: int = 0
    ) -> None:
        self.dialect = dialect
        self.filter = wanted
        self.epoch = epoch
        """The epoch of its members; the channel's, but for a `reset` that it has not taken yet."""
        self.taken = taken
        """The number of the channel's batches that it has taken, of all that were ever sealed."""
        self.had = taken
        """The same before its last turn."""
        self.descriptors = array("i")
        """Descriptors in step; `NO_DESCRIPTOR` where a member left while a batch was written."""
        self.members: list[Subscription | None] = []
        """Members in step, each at the place of its descriptor."""
        self.apart: dict[Subscription, int] = {}
        """Members apart, and the number of batches up to which nothing is owed to each. A number
        above `taken` is that of a member that came since the group's last turn."""
        self.arriving: dict[Subscription, None] = {}
        """Members apart that may come into step with the next batch."""
        self.owed: dict[Subscription, int] = {}
        """The part of `apart` to which the present batch is still to be written."""
        self.writing = False
        """Whether the group has its turn: `begin` was called, and `end` was not."""
        self.reached = 0
        """The number of members in step to which the present batch was written."""
        self.last = 0
        """The last offset of the present batch."""
        self.publications = 0
        """The number of publications in the present batch."""
        self._offset = 0
        """The offset of members in step that the present batch has not reached."""
        self._sent = 0
        """Publications written to members in step before the present batch."""
        self._holes: list[int] = []
        """Places that members left while the present batch was written."""

    def __len__(self) -> int:
        return len(self.apart) + self.in_step

    def __iter__(self) -> Iterator[Subscription]:
        # A copy: a member may come to stand apart while the caller iterates.
        return iter([*(member for member in self.members if member is not None), *self.apart])

    @property
    def spoken(self) -> tuple[Dialect, Filter | None]:
        """The dialect and the filter of its members."""
        return self.dialect, self.filter

    @property
    def in_step(self) -> int:
        """The number of members in step."""
        return len(self.members) - len(self._holes)

    @property
    def holed(self) -> bool:
        """Whether a member in step left since the present batch was sealed."""
        return bool(self._holes)

    # -- members in step -------------------------------------------------------------------

    def offset_at(self, place: int) -> int:
        """Return the last offset written to the member in step at this place."""
        return self.last if place < self.reached else self._offset

    def sent_at(self, place: int) -> int:
        """Return the publications written to this place since the group began."""
        return self._sent + self.publications if place < self.reached else self._sent

    # -- entering and leaving step -----------------------------------------------------------

    def add(self, subscription: Subscription, has: int) -> None:
        """Take a member in that is owed nothing of the channel's first `has` batches."""
        self.apart[subscription] = has
        subscription.group = self
        if subscription.live and subscription.throttle is None:
            self.arriving[subscription] = None

    def remove(self, subscription: Subscription) -> None:
        """Remove a member. The present batch may still name it, and finds that it is closed."""
        subscription.stand_apart()
        self.apart.pop(subscription, None)
        self.arriving.pop(subscription, None)

    def has(self, subscription: Subscription) -> int:
        """Return the number of batches that a member has had, or is not owed."""
        return max(self.taken, self.apart.get(subscription, 0))

    def part(self, subscription: Subscription) -> None:
        """Take a member out of step. Its descriptor is not written to from now on."""
        place = subscription.place
        subscription.place = APART
        self.apart[subscription] = self.taken
        if self.writing:
            # Places must not move: the loop goes on after the last one that it reached.
            self.descriptors[place] = NO_DESCRIPTOR
            self.members[place] = None
            self._holes.append(place)
            if place >= self.reached:
                self.owed[subscription] = self.had
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
        """Bring arriving members into step that are at `offset` and can be written to.

        Where very many arrive, the others stay apart for this batch, and come in with a later one.
        """
        if len(self.arriving) > COME_IN_AT_ONCE:
            arriving = dict.fromkeys(islice(self.arriving, COME_IN_AT_ONCE))
            for subscription in arriving:
                del self.arriving[subscription]
        else:
            arriving, self.arriving = self.arriving, {}
        for subscription in arriving:
            session = subscription.session
            if not subscription.live or not session.writable or self.dialect.marks_positions:
                # It arrives again when that changes. Positions are written to each member alone.
                continue
            if (descriptor := session.link.descriptor) is None:
                continue
            ahead = subscription.offset != offset or self.apart[subscription] > self.had
            if ahead or descriptor == NO_DESCRIPTOR:
                # It waits: it has a part of this batch already, or its link gathers a write.
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

    def begin(self, base: int, last: int, taken: int) -> None:
        """Begin a batch from `base` to `last`, with which it has `taken` of the channel's."""
        self.had, self.taken = self.taken, taken
        if self.arriving:
            self._come_in(base)
        self._offset = base
        self.last = last
        self.writing = True
        if self.apart:
            self.owed.update(self.apart)

    def begin_act(self, offset: int, taken: int) -> None:
        """Begin an act in place of a batch: all members stand apart, with offsets of their own."""
        self.break_step()
        self.had, self.taken = self.taken, taken
        self._offset = self.last = offset

    def enter_epoch(self, epoch: str) -> None:
        self.epoch = epoch

    def pass_one(self, offset: int) -> None:
        """Count one publication for all members in step, and move them to `offset`."""
        self._offset = self.last = offset
        self._sent += 1

    def end(self) -> None:
        """End the batch: it reached all members, or a fault ended the sessions of the others."""
        self._offset = self.last
        self._sent += self.publications
        self.publications = self.reached = 0
        self.writing = False
        if self.owed:
            self.owed.clear()
        if self._holes:
            # From the end, so that the last member is never a hole itself.
            for place in sorted(self._holes, reverse=True):
                self._close(place)
            self._holes.clear()

    def unreached(self) -> list[Subscription]:
        """Return the members to which the present batch was not written as a whole."""
        behind = [member for member in self.members[self.reached :] if member is not None]
        return behind + list(self.owed)
