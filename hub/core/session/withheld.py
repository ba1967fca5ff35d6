"""Publications that are withheld from one subscription until their turn comes.

`Throttle` withholds them from a subscription that wants at most one update in an interval. Of each
key it keeps the newest frame, and of publications without a key the newest of all. All of them
leave together, in the order of their offsets, at most once in an interval: a frame that left before
an older one of another key would move the position past that one.

Example: every 500 ms, at offset 4. Offset 5 (key A) leaves at once. Then come 6 (A), 7 (B) and 8
(A): 6 is conflated, and 500 ms after 5 left, 7 and 8 leave; 7 stands for 6 and 7.

`Unkept` withholds publications with `"history":false` from a subscription that reads history
instead of following, because history will not bring them. They are sent where they belong when the
reading comes to them. A subscription holds at most `outbox_max_messages` ranges, its session
`outbox_max_bytes` together with its outbox, and all sessions `OutboxBudget.max_bytes`. The oldest
of the subscription gives way, and a gap `expired` announces it.

Example: a peer that polls stands at 4. Between two polls come 5, 6 (not kept) and 7. Its next poll
reads 5 and 7 from history, and 6 from here.

No I/O, no clock.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from hub.core.options import SessionLimits
from hub.core.publication import Publication
from hub.core.session.outbox_budget import Debtor, OutboxBudget
from hub.core.session.ring import Entry, EntryKind
from hub.core.values import replace


class Throttle:
    """The frames withheld from one subscription, which wants updates every `every_seconds`.

    Many keys and a long interval would hold without a bound. `hub.core.fanout.slow_path` releases
    the frames earlier where they are more than a session may be owed.
    """

    __slots__ = (
        "_held", "_last", "bytes", "cancel", "conflated", "cursor", "every_seconds",
        "limits", "next_seconds",
    )  # fmt: skip

    def __init__(self, every_seconds: float, limits: SessionLimits) -> None:
        self.every_seconds = every_seconds
        self.limits = limits
        self.next_seconds = 0.0
        """Monotonic time before which no frame may leave."""
        self.cancel: Callable[[], None] | None = None
        """Cancels the deadline of the next release; None without one."""
        self.cursor = 0
        """The last offset before the held frames."""
        self.conflated = 0
        """The number of publications that the held frames replaced."""
        self.bytes = 0
        """Bytes of the held frames; `hub.core.fanout.slow_path` bounds them."""
        self._held: dict[str | None, Entry] = {}
        self._last = 0

    @property
    def messages(self) -> int:
        """The number of held frames."""
        return len(self._held)

    @property
    def holds(self) -> bool:
        return bool(self._held) or self._last > self.cursor

    def take(self, entries: Sequence[Entry], cursor: int) -> int:
        """Hold publications that follow `cursor`; return how many older ones they replaced."""
        if not self.holds:
            self.cursor = self._last = cursor
        conflated = 0
        for entry in entries:
            self._last = max(self._last, entry.offset)
            if entry.frame:
                if (replaced := self._held.pop(entry.key, None)) is not None:
                    conflated += 1
                    self.bytes -= len(replaced.frame)
                self._held[entry.key] = entry
                self.bytes += len(entry.frame)
        self.conflated += conflated
        return conflated

    def holds_back(self, offset: int) -> bool:
        """Return whether the publication at `offset` came, and is held or was replaced."""
        return self.holds and self.cursor < offset <= self._last

    def release(self) -> tuple[list[Entry], int]:
        """Return all held frames, oldest first, and the offset before them; hold none any more.

        Each frame stands for the conflated ones before it, so that the peer sees no hole.
        """
        entries, before, last = [], self.cursor, self._last
        cursor = before
        for entry in self._held.values():
            if entry.offset:
                entries.append(replace(entry, first=cursor + 1))
                cursor = entry.offset
            else:
                entries.append(entry)
        if last > cursor:
            entries.append(Entry(EntryKind.KEEP, last, b"", 0.0, first=cursor + 1))
        self.forget()
        return entries, before

    def forget(self) -> None:
        """Drop all held frames."""
        self._held = {}
        self.bytes = self.conflated = 0
        self.cursor = self._last
        if self.cancel is not None:
            self.cancel()
            self.cancel = None


@dataclass(frozen=True, slots=True)
class HeldRange:
    """Offsets `first` to `last` of which none is a gap, although history may lack them."""

    first: int
    last: int
    publication: Publication | None
    """The publication at `last`; None where nothing of the range is to be sent.

    It replaced the publications before it in the range (`Throttle`).
    """

    @property
    def size(self) -> int:
        """Bytes of its data and tags."""
        if self.publication is None:
            return 0
        return self.publication.size_bytes


class Unkept:
    """The ranges that are held for one subscription while it reads history, offsets rising."""

    __slots__ = ("_budget", "_held", "_session")

    def __init__(self, session: Debtor, budget: OutboxBudget) -> None:
        self._session = session
        self._budget = budget
        self._held: deque[HeldRange] = deque()

    def __iter__(self) -> Iterator[HeldRange]:
        return iter(self._held)

    def hold(
        self, entries: Iterable[Entry], after: int, limits: SessionLimits, *, thinned: bool
    ) -> None:
        """Hold the entries after `after` that history will lack; the oldest range gives way.

        An entry for which there is no room even then is not held.

        Args:
            thinned: whether an entry may stand for others before it, also for kept ones.
        """
        for entry in entries:
            if entry.offset <= after:
                continue
            if entry.unkept is not None:
                publication = entry.unkept if entry.frame else None
                self._add(HeldRange(entry.first, entry.offset, publication), limits)
            elif (
                thinned and entry.first and (entry.kind is EntryKind.PUBLICATION or not entry.frame)
            ):
                # History brings the entry itself. Only the publications it replaced are missing.
                last = entry.offset - 1 if entry.frame else entry.offset
                if last >= entry.first:
                    self._add(HeldRange(entry.first, last, None), limits)

    def _add(self, added: HeldRange, limits: SessionLimits) -> None:
        while self._held and not self._fits(added, limits):
            self._pop()
        if self._fits(added, limits):
            self._held.append(added)
            self._budget.hold(self._session, added.size)

    def _fits(self, added: HeldRange, limits: SessionLimits) -> bool:
        held_bytes = self._budget.unkept.get(self._session, 0) + self._session.held_bytes
        return (
            len(self._held) < limits.outbox_max_messages
            and held_bytes + added.size <= limits.outbox_max_bytes
            and added.size <= self._budget.unkept_room
        )

    def _pop(self) -> None:
        self._budget.hold(self._session, -self._held.popleft().size)

    def pass_to(self, offset: int) -> None:
        """Drop the ranges that the subscription has come past."""
        while self._held and self._held[0].last <= offset:
            self._pop()

    def clear(self) -> None:
        while self._held:
            self._pop()
