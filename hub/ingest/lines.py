"""Read lines of an open file with their places in it, in constant memory. Blocking reads, no
clock."""

import os
from dataclasses import dataclass

from hub.ingest.encoding import HEAD_BYTES, UTF8, Encoding, seen, without_zeros

# The hub's limit for a payload is 64 KiB unless set otherwise; more than this no request holds.
MAX_LINE_BYTES = 1024 * 1024
_READ_BYTES = 64 * 1024
# Of one request: the hub takes 4 MiB, and a text line may grow sixfold when it becomes a JSON
# string (six characters for a control character).
_MAX_TAKEN_BYTES = 256 * 1024
# Of a refused publication. With any other code the next lines would be refused as well: because of
# the key, the address, or a server there that is no hub.
CODES_OF_ONE_LINE = frozenset({"bad_request", "conflict", "too_large"})


@dataclass(frozen=True, slots=True)
class Line:
    """A line, and its place in the file."""

    number: int
    start: int
    end: int
    """The first byte behind the line and its line end."""
    data: bytes | None
    """The line as UTF-8 without its line end; None where it is over `MAX_LINE_BYTES` and was not
    kept."""
    zeros: int = 0
    """The number of zero bytes before the text: they stand in the file from `start` on, not in
    `data`."""


class LineReader:
    """Read on from a place; hold at most one line of `MAX_LINE_BYTES` and one read."""

    def __init__(
        self, fd: int, *, offset: int = 0, number: int = 0, encoding: Encoding | None = None
    ) -> None:
        """Begin at byte `offset`, behind `number` lines.

        Without an `encoding` the file's own beginning decides.
        """
        self._fd = fd
        self._encoding = encoding
        self._start = offset
        self._number = number
        self._buffer = bytearray()
        self._searched = 0
        self._zeros = 0
        """The number of zero bytes before the present line's text, which were passed over."""
        self._dropped = 0
        """The number of bytes of the present line that were too many to keep."""

    @property
    def read_to(self) -> int:
        """The byte behind the last one that was read."""
        return self._start + self._zeros + self._dropped + len(self._buffer)

    def take(self, most: int, *, final: bool) -> list[Line]:
        """Return at most `most` lines, [] when there is none yet; a line over the size travels
        alone.

        Args:
            most: The number of lines, 1 or more.
            final: Whether nothing will be appended, so that the rest without a line end is a line
                too.
        """
        lines: list[Line] = []
        size = 0
        if self._encoding is None:
            self._encoding = seen(os.pread(self._fd, HEAD_BYTES, 0), final=final)
        if self._encoding is None:
            return []
        while len(lines) < most and (length := self._find(final=final)) is not None:
            size += length
            if lines and size > _MAX_TAKEN_BYTES:
                break
            lines.append(self._cut(length))
        return lines

    def reread(self) -> None:
        """Forget an unfinished line, to read it again."""
        self._buffer.clear()
        self._searched = 0

    def restart(self) -> None:
        """Forget an unfinished line as `reread` does, also where it was too long."""
        self._zeros = self._dropped = 0
        self.reread()

    def _find(self, *, final: bool) -> int | None:
        """Return how many bytes of the buffer belong to the next line."""
        while (end := self._line_end()) < 0:
            self._searched = max(0, len(self._buffer) - self._text.unit + 1)
            if len(self._buffer) > MAX_LINE_BYTES:
                self._pass_over()
            chunk = os.pread(self._fd, _READ_BYTES, self.read_to)
            if not chunk:
                unfinished = final and self.read_to > self._start
                return len(self._buffer) if unfinished else None
            self._buffer += chunk
        return end

    @property
    def _text(self) -> Encoding:
        return self._encoding or UTF8

    def _line_end(self) -> int:
        """Return the byte of the buffer behind the next line's end; -1 where there is none.

        In UTF-16 the bytes of a line's end also occur across two other characters.
        """
        unit, newline = self._text.unit, self._text.newline
        begins = self._start + self._zeros + self._dropped
        end = self._buffer.find(newline, self._searched)
        while end >= 0 and (begins + end) % unit:
            end = self._buffer.find(newline, end + 1)
        return end + len(newline) if end >= 0 else -1

    def _pass_over(self) -> None:
        """Drop zeros before a line, and a line that is too long without them."""
        if not self._dropped:
            zeros = len(self._buffer) - len(self._buffer.lstrip(b"\x00"))
            zeros -= zeros % self._text.unit
            del self._buffer[:zeros]
            self._zeros += zeros
        if len(self._buffer) > MAX_LINE_BYTES:
            self._dropped += len(self._buffer)
            self._buffer.clear()
        self._searched = 0

    def _cut(self, length: int) -> Line:
        data, characters = without_zeros(self._text.utf8(bytes(self._buffer[:length])))
        zeros = self._zeros + characters * self._text.unit
        # Zeros alone, and more of them than a line may hold: nothing here is to be kept.
        too_long = self._dropped > 0 or len(data) > MAX_LINE_BYTES
        too_long = too_long or (not data and zeros > MAX_LINE_BYTES)
        start, self._start = self._start, self.read_to - len(self._buffer) + length
        self._number += 1
        self._zeros = self._dropped = self._searched = 0
        del self._buffer[:length]
        return Line(self._number, start, self._start, None if too_long else data, zeros)
