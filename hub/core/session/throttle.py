"""What a subscription that wants news only now and then is still to be sent.

Of each key it keeps the newest frame, of what has no key the newest of all. All of them leave
together, in the order of their offsets, at most once in an interval: a frame that left before an
older one of another key would take the position past that one. No I/O, no clock.

Example: every 500 ms, at offset 4. Offset 5 (key A) leaves at once. Then come 6 (A), 7 (B) and 8
(A): 6 is conflated, and 500 ms after 5 left, 7 and 8 leave; 7 stands for 6 and 7.

Many keys and a long interval would hold without a bound: `hub.core.fanout.slow_path` lets what is
held leave earlier where it is more than a session may be owed.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from hub.core.options import SessionLimits
from hub.core.session.ring import Entry, Kind


class Throttle:
    """What is held for one subscription; `every_seconds` is its interval."""

    __slots__ = (
        "_held", "_last", "bytes", "cancel", "conflated", "cursor", "every_seconds",
        "limits", "next_seconds",
    )  # fmt: skip

    def __init__(self, every_seconds: float, limits: SessionLimits) -> None:
        self.every_seconds = every_seconds
        self.limits = limits
        self.next_seconds = 0.0
        """Not before that monotonic time may anything leave."""
        self.cancel: Callable[[], None] | None = None
        """Takes back the deadline at which what is held leaves; None without one."""
        self.cursor = 0
        """The last offset before what is held."""
        self.conflated = 0
        """How many gave way to what is held."""
        self.bytes = 0
        """Of the frames that are held; `hub.core.fanout.slow_path` sees to their bound."""
        self._held: dict[str | None, Entry] = {}
        self._last = 0

    @property
    def messages(self) -> int:
        """How many are held."""
        return len(self._held)

    @property
    def holds(self) -> bool:
        return bool(self._held) or self._last > self.cursor

    def take(self, entries: Sequence[Entry], cursor: int) -> int:
        """Hold publications that follow `cursor`; return how many others they took the place of."""
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
        """Whether the publication at `offset` came, and waits or has given way."""
        return self.holds and self.cursor < offset <= self._last

    def release(self) -> tuple[list[Entry], int]:
        """All that is held, oldest first, and the offset before it. Each stands for what was
        conflated before it, so that no hole is seen."""
        entries, before, last = [], self.cursor, self._last
        cursor = before
        for entry in self._held.values():
            if entry.offset:
                entries.append(replace(entry, first=cursor + 1))
                cursor = entry.offset
            else:
                entries.append(entry)
        if last > cursor:
            entries.append(Entry(Kind.KEEP, last, b"", 0.0, first=cursor + 1))
        self.forget()
        return entries, before

    def forget(self) -> None:
        """Hold nothing any more."""
        self._held = {}
        self.bytes = self.conflated = 0
        self.cursor = self._last
        if self.cancel is not None:
            self.cancel()
            self.cancel = None
