"""The members of a channel that share a dialect and a filter: those in step, and those apart.

Nearly all members are in the same state: live, with all that the channel had for them, at a
plain socket that takes writes. They are in step: an array of descriptors, which a batch is
written to in one loop that looks at no session. All others are apart, and a batch goes to each
of them by itself.

What differs from member to member elsewhere follows here from the group: who is in step has the
group's offset, and was sent what the group sent since it came in. Nobody is compared when a
batch is written. A member that may come into step is put among `arriving` by what happened to
it (it went live, or takes writes again), and comes in when the next batch is sealed. It stands
apart again at once, by `Subscription.stand_apart`, when its link stops taking writes or is
about to end: the number of a closed socket is the next connection's, so it leaves first.

Example: members at 7, a batch of 8 and 9 is under way and has reached three of five. Then the
first three are at 9 and the others at 7. When the fourth stands apart it takes 7 along, and is
owed the batch by itself; when the second does, it takes 9.
"""

from array import array
from collections.abc import Iterator

from hub.core.ports import NO_DESCRIPTOR, Dialect
from hub.core.publication import Filter
from hub.core.session.subscription import APART, Subscription


class Group:
    """One dialect's and filter's members of one channel. Owned by the event loop."""

    __slots__ = (
        "_holes", "_offset", "_sent", "apart", "arriving", "descriptors", "dialect", "filter",
        "last", "members", "owed", "publications", "reached", "under_way",
    )  # fmt: skip

    def __init__(self, dialect: Dialect, wanted: Filter | None = None) -> None:
        self.dialect = dialect
        self.filter = wanted
        self.descriptors = array("i")
        """Of those in step; `NO_DESCRIPTOR` where one left while a batch was under way."""
        self.members: list[Subscription | None] = []
        """Those in step, each at the place of its descriptor."""
        self.apart: dict[Subscription, None] = {}
        self.arriving: dict[Subscription, None] = {}
        """Those apart that may be in step from the next batch on."""
        self.owed: dict[Subscription, None] = {}
        """To whom the batch under way is still to be written by itself."""
        self.under_way = False
        self.reached = 0
        """How many of those in step the batch under way was written to."""
        self.last = 0
        """The last offset of the batch under way."""
        self.publications = 0
        """How many publications the batch under way has."""
        self._offset = 0
        """Where those in step are that the batch under way has not reached."""
        self._sent = 0
        """Publications written to those in step before the batch under way."""
        self._holes: list[int] = []
        """The places that were left while a batch was under way."""

    def __len__(self) -> int:
        return len(self.apart) + self.in_step

    def __iter__(self) -> Iterator[Subscription]:
        # Of this moment: who is looked at may come to stand apart.
        return iter([*(member for member in self.members if member is not None), *self.apart])

    @property
    def in_step(self) -> int:
        """How many members are in step."""
        return len(self.members) - len(self._holes)

    @property
    def pending(self) -> bool:
        """Whether the batch under way is still to be written to somebody."""
        return self.reached < len(self.descriptors) or bool(self.owed)

    @property
    def holed(self) -> bool:
        """Whether somebody in step left since the batch under way was sealed."""
        return bool(self._holes)

    # -- of a member in step ---------------------------------------------------------------

    def offset_at(self, place: int) -> int:
        """The last offset that the member in step at this place was handed."""
        return self.last if place < self.reached else self._offset

    def sent_at(self, place: int) -> int:
        """Publications written to that place since the group began."""
        return self._sent + self.publications if place < self.reached else self._sent

    # -- who is where ------------------------------------------------------------------------

    def add(self, subscription: Subscription) -> None:
        self.apart[subscription] = None
        subscription.group = self
        if subscription.live and subscription.throttle is None:
            self.arriving[subscription] = None

    def remove(self, subscription: Subscription) -> None:
        """A batch under way still names it, and skips it because it is closed."""
        subscription.stand_apart()
        self.apart.pop(subscription, None)
        self.arriving.pop(subscription, None)

    def part(self, subscription: Subscription) -> None:
        """Take a member out of step: nothing is written to its descriptor from now on."""
        place = subscription.place
        subscription.place = APART
        self.apart[subscription] = None
        if self.under_way:
            # Places must stay: the loop goes on behind the last that it reached.
            self.descriptors[place] = NO_DESCRIPTOR
            self.members[place] = None
            self._holes.append(place)
            if place >= self.reached:
                self.owed[subscription] = None
        else:
            self._close(place)

    def _close(self, place: int) -> None:
        """Let the last in step take this place."""
        descriptor, last = self.descriptors.pop(), self.members.pop()
        if place < len(self.members) and last is not None:
            self.descriptors[place] = descriptor
            self.members[place] = last
            last.place = place

    def _come_in(self, offset: int) -> None:
        """Bring those into step that are at `offset` and can be written to; others may wait."""
        arriving, self.arriving = self.arriving, {}
        for subscription in arriving:
            session = subscription.session
            if not subscription.live or not session.writable or self.dialect.marks_positions:
                # It says so when that changes; and positions are written to each by itself.
                continue
            if (descriptor := session.link.descriptor) is None:
                continue
            if subscription.offset != offset or descriptor == NO_DESCRIPTOR:
                # It is ahead, and the channel will come up to it; or its link gathers a write.
                self.arriving[subscription] = None
                continue
            del self.apart[subscription]
            subscription.place = len(self.members)
            subscription.sent_before = self._sent
            self.descriptors.append(descriptor)
            self.members.append(subscription)
        if len(self.apart) < len(arriving) // 2:
            # A dict keeps the room of what left it: 46 bytes for each of a crowd that came in.
            self.apart = dict(self.apart)

    def break_step(self) -> None:
        """Let all stand apart: what comes next goes to each member by itself."""
        for subscription in [member for member in self.members if member is not None]:
            subscription.stand_apart()
            self.arriving[subscription] = None

    # -- a batch -----------------------------------------------------------------------------

    def begin(self, base: int, last: int) -> None:
        """A batch from `base` to `last` is sealed, for the members of this moment."""
        if self.arriving:
            self._come_in(base)
        self._offset = base
        self.last = last
        self.under_way = True
        if self.apart:
            self.owed.update(self.apart)

    def end(self) -> None:
        """The batch is written to all, or those that it did not reach are no members any more."""
        self._offset = self.last
        self._sent += self.publications
        self.publications = self.reached = 0
        self.under_way = False
        if self.owed:
            self.owed.clear()
        if self._holes:
            # From behind, so that the last is never a hole itself.
            for place in sorted(self._holes, reverse=True):
                self._close(place)
            self._holes.clear()

    def unreached(self) -> list[Subscription]:
        """Those to whom the batch under way was not written, or not wholly."""
        behind = [member for member in self.members[self.reached :] if member is not None]
        return behind + list(self.owed)
