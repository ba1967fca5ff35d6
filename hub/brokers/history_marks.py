"""The age of all publications in memory: a mark for each, oldest first.

A mark says which log holds the publication, and nothing else. A log lets go of its oldest first, so
the first of its marks are those of publications that are gone. Such marks are cleared out when they
are the larger part, a few with each publication that goes: a million at once would hold up the loop
for 50 ms.

Example: the marks are a b a a b, and two publications of `a` are gone (`superseded` is 2). Clearing
out leaves b a b.
"""

from collections import deque
from typing import Generic, Protocol, TypeVar

# Marks of publications that are gone are cleared out when they are so many and the larger part.
_CLEAR_FROM = 1024
# How many marks are looked at for each publication that goes: more than come meanwhile.
_LOOKED_AT = 4


class Marked(Protocol):
    """A log, as far as its marks are concerned."""

    superseded: int
    """How many of its marks stand for publications that are gone already."""
    kept_in: int
    """The last clearing that has kept a mark of it: the rest of its marks follow that one, so that
    this clearing leaves them alone."""


LogT = TypeVar("LogT", bound=Marked)


class Marks(Generic[LogT]):
    """The marks of all publications of one budget, oldest first."""

    def __init__(self) -> None:
        self._marks: deque[LogT] = deque()
        self._cleared: deque[LogT] = deque()
        """While a clearing is under way: the marks that it has kept. They are older than those of
        `_marks`, which it has still to look at."""
        self._superseded = 0
        """How many marks are of publications that are gone."""
        self._clearing = False
        self._clearings = 0

    def __len__(self) -> int:
        return len(self._cleared) + len(self._marks)

    @property
    def held(self) -> int:
        """How many marks are of publications that are held."""
        return len(self) - self._superseded

    def add(self, log: LogT, count: int) -> None:
        """Add marks of the youngest publications."""
        if count == 1:
            self._marks.append(log)
        else:
            self._marks += [log] * count

    def drop(self, log: LogT, count: int) -> None:
        """Drop the oldest marks of `log`: at once where they come first, else by and by."""
        marks = self._cleared or self._marks
        while count and marks and marks[0] is log:
            marks.popleft()
            count -= 1
        if count:
            log.superseded += count
            self._superseded += count
            if self._clearing or self._begins():
                self._clear(count * _LOOKED_AT)

    def oldest(self) -> LogT | None:
        """Drop the first mark, and return its log; None where its publication is gone already."""
        log = (self._cleared or self._marks).popleft()
        if not log.superseded:
            return log
        log.superseded -= 1
        self._superseded -= 1
        return None

    def _begins(self) -> bool:
        """Begin to clear out where that is worth while; return whether it has begun."""
        if self._superseded <= _CLEAR_FROM or self._superseded * 2 <= len(self._marks):
            return False
        self._clearing = True
        self._clearings += 1
        return True

    def _clear(self, most: int) -> None:
        """Look at so many of the next marks, and keep those of publications that are held."""
        marks, cleared, clearing = self._marks, self._cleared, self._clearings
        for _ in range(min(most, len(marks))):
            log = marks.popleft()
            if log.superseded and log.kept_in != clearing:
                log.superseded -= 1
                self._superseded -= 1
            else:
                log.kept_in = clearing
                cleared.append(log)
        if not marks:
            self._marks, self._cleared, self._clearing = cleared, marks, False
