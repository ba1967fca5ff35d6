"""What history does not hold, for a subscription that reads history instead of following.

A publication with `history: false` passes by a session that takes no writes, or that still reads
what came before it. It is held here until the reading comes to it, as far as there is room, and
then stands where it belongs. A subscription holds at most `outbox_max_messages` stretches, its
session `outbox_max_bytes` together with its outbox, and all sessions `OutboxBudget.max_bytes`. The
oldest of the subscription gives way, and comes as a gap `expired`. No I/O, no clock.

Example: a peer that polls stands at 4. Between two polls come 5, 6 (not kept) and 7. Its next poll
reads 5 and 7 from history, and 6 from here.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hub.core.options import SessionLimits
from hub.core.publication import Publication
from hub.core.session.outbox import Debtor, OutboxBudget
from hub.core.session.ring import Entry, Kind


@dataclass(frozen=True, slots=True)
class Stretch:
    """Offsets `first` to `last`: none of them is a gap, though history may not hold them."""

    first: int
    last: int
    publication: Publication | None
    """The one at `last`; None where there is nothing to send of it.

    What comes before it in the stretch has given way (`hub.core.session.throttle`).
    """

    @property
    def size(self) -> int:
        """In bytes: data and tags."""
        if self.publication is None:
            return 0
        return len(self.publication.data) + len(self.publication.tags or b"")


class Unkept:
    """The stretches that are held for one subscription, offsets rising."""

    __slots__ = ("_budget", "_held", "_session")

    def __init__(self, session: Debtor, budget: OutboxBudget) -> None:
        self._session = session
        self._budget = budget
        self._held: deque[Stretch] = deque()

    def __iter__(self) -> Iterator[Stretch]:
        return iter(self._held)

    def hold(
        self, entries: Iterable[Entry], after: int, limits: SessionLimits, *, thinned: bool
    ) -> None:
        """Hold what history will lack of these behind `after`; the oldest gives way.

        One for which there is no room even so is not held.

        `thinned` is whether an entry may stand for others before it, also of those kept.
        """
        for entry in entries:
            if entry.offset <= after:
                continue
            if entry.unkept is not None:
                publication = entry.unkept if entry.frame else None
                self._add(Stretch(entry.first, entry.offset, publication), limits)
            elif thinned and entry.first and (entry.kind is Kind.PUBLICATION or not entry.frame):
                # It comes from history itself: only what it stands for is not missing.
                last = entry.offset - 1 if entry.frame else entry.offset
                if last >= entry.first:
                    self._add(Stretch(entry.first, last, None), limits)

    def _add(self, stretch: Stretch, limits: SessionLimits) -> None:
        while self._held and not self._fits(stretch, limits):
            self._pop()
        if self._fits(stretch, limits):
            self._held.append(stretch)
            self._budget.hold(self._session, stretch.size)

    def _fits(self, stretch: Stretch, limits: SessionLimits) -> bool:
        its = self._budget.unkept.get(self._session, 0) + self._session.held_bytes
        return (
            len(self._held) < limits.outbox_max_messages
            and its + stretch.size <= limits.outbox_max_bytes
            and stretch.size <= self._budget.unkept_room
        )

    def _pop(self) -> None:
        self._budget.hold(self._session, -self._held.popleft().size)

    def pass_to(self, offset: int) -> None:
        """Hold nothing any more of what the subscription has come past."""
        while self._held and self._held[0].last <= offset:
            self._pop()

    def clear(self) -> None:
        while self._held:
            self._pop()
