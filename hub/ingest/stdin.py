"""Lines that come once and cannot be read again, so that no place in them is remembered."""

from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path

from hub.ingest.checkpoint import Place, new_place
from hub.ingest.encoding import without_zeros
from hub.ingest.lines import Line
from hub.ingest.opened import Chunk

_NO_INODE = 0


class StdinSource:
    """What `take_lines` hands out, in chunks of the size that is asked for.

    Args:
        take_lines: waits for lines; None stands for one that is too long, [] for the end.
    """

    def __init__(self, take_lines: Callable[[], Awaitable[list[bytes | None]]]) -> None:
        self._take_lines = take_lines
        self._waiting: deque[bytes | None] = deque()
        self._place = new_place(_NO_INODE)
        self._read = 0

    async def take(self, most: int) -> Chunk | None:
        """Wait for the next lines, at most `most`; None at the end."""
        if not self._waiting:
            self._waiting.extend(await self._take_lines())
        if not self._waiting:
            return None
        taken = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
        before = self._place
        lines = tuple(
            self._line(number, data) for number, data in enumerate(taken, start=before.lines + 1)
        )
        self._place = Place(before.id, before.mark, lines[-1].number)
        return Chunk(Path("-"), before, lines, self._place, 0)

    @property
    def place(self) -> Place:
        """After what was taken last."""
        return self._place

    def place_before(self, line: Line) -> Place:
        """Nothing is remembered, so any place will do."""
        return Place(self._place.id, self._place.mark, line.number - 1)

    def _line(self, number: int, data: bytes | None) -> Line:
        start = self._read
        self._read += len(data or b"") + 1
        text, zeros = (None, 0) if data is None else without_zeros(data)
        return Line(number, start, self._read, text, zeros)
