"""What history says of publications themselves, for whoever asks what became of them.

Which tags a publication had, and which key, is noted nowhere: a filter is looked at again, and a
newer one with the same key is found, as long as history holds them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from hub.core.filters import Filter
from hub.core.publication import Publication


@dataclass(frozen=True, slots=True)
class HistoryHeld:
    """A part of one channel's history, of one epoch.

    Args:
        read_filter: makes a filter of how it was noted.
    """

    publications: Mapping[int, Publication] = field(default_factory=dict)
    """By offset."""
    read_filter: Callable[[bytes], Filter] | None = None

    def lets_through(self, text: str, offset: int) -> bool | None:
        """Whether a filter lets a publication through; None where that cannot be known."""
        found = self.publications.get(offset)
        if found is None or self.read_filter is None:
            return None
        return self.read_filter(text.encode()).matches(found.tags)

    def has_key(self, offset: int) -> bool:
        """Whether a publication that is held has a key."""
        return offset in self.publications and self.publications[offset].key is not None

    def successor(self, offset: int, last: int) -> int | None:
        """The next with the same key, up to `last`; 0 where there is none, None where that cannot
        be known."""
        if (asked := self.publications.get(offset)) is None:
            return None
        for number in range(offset + 1, last + 1):
            if (found := self.publications.get(number)) is None:
                return None
            if found.key == asked.key:
                return number
        return 0


NOTHING_HELD = HistoryHeld()
