"""Counts one subscriber's messages in big chunks, exactly, without parsing frames.

A chunk is searched for needles with methods that run at C speed. As long as the offsets of
a chunk start after the last one seen and there are as many messages as offsets, all is well;
only otherwise every offset is looked at. (A duplicate and a hole that make up for each other
within one chunk would pass; a hub that does so has a gap or an outbox, and those show.)

What one subscriber of a channel got, the next gets too, and nearly always in the same chunk. So a
chunk that was accounted for is kept, and the next that is the same byte for byte, for a subscriber
at the same offset, is compared with it and not searched: a tenth of the time.

The needles rely on what `hub.wire.native_pushes` writes: a message holds `"offset":` once and the
benchmark's own payload does not hold it. No I/O.
"""

import re

MESSAGE = b'"offset":'
GAP = b'"op":"gap"'
PING = b"\x89"

_OFFSET = re.compile(rb'"offset":(\d+)[^\d]')
_MESSAGE_OF = re.compile(rb'"channel":"([^"]*)","offset":(\d+)[^\d]')
_GAP_RANGE = re.compile(rb'"op":"gap"[^}]*"from":(\d+),"to":(\d+)')
_KEPT = len(GAP) - 1 + 3
"""Bytes of a chunk's end that may be the start of a needle, or the three bytes before a seeming
ping. Counted bytes are not kept; a gap's needle has its range behind it, so it is never kept."""
_ENDS = b"}\n"
"""Bytes that no needle contains: a chunk that ends so leaves nothing unfinished."""
# RFC 6455 section 5.2: a text frame of 126 to 65,535 bytes begins so, and two bytes of length
# follow, either of which may look like a ping (section 5.5.2: opcode 9).
_TEXT_WITH_LENGTH = b"\x81\x7e"


_KNOWN_CHUNKS = 16
"""The number of accounted chunks that are kept: those that subscribers are behind by. Guess, not
measured."""


class KnownChunks:
    """Chunks of whole messages in sequence, as all checks of a process may meet them again."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], tuple[bytes, int]] = {}

    def find(self, last: int, buffer: bytearray, end: int) -> int:
        """Return the number of messages that follow `last` in `buffer[:end]`; 0 where the chunk is
        not known."""
        data, count = self._known.get((last, end), _UNKNOWN)
        return count if buffer.startswith(data) else 0

    def add(self, last: int, data: bytes, count: int) -> None:
        """`data` is `count` messages, the first of which follows `last`, and nothing else."""
        if len(self._known) >= _KNOWN_CHUNKS:
            self._known.clear()
        self._known[last, len(data)] = (data, count)


_UNKNOWN = (b"", 0)


class StreamCheck:
    """Counts the messages of one connection: received, repeated, missing, and announced as missing.

    Args:
        known: chunks that this and the other connections to the same channel share.
    """

    __slots__ = (
        "_known_chunks", "announced", "duplicates", "gaps", "last", "ping", "quiet", "received",
        "skipped",
    )  # fmt: skip

    def __init__(self, known: KnownChunks | None = None) -> None:
        self._known_chunks = known or KnownChunks()
        self.received = 0
        self.last = 0
        self.duplicates = 0
        self.skipped = 0
        self.gaps = 0
        self.announced = 0
        self.quiet = 0
        """Chunks that brought no message: heartbeats and pings."""
        self.ping: bytes | None = None
        """The payload of the newest ping that nobody answered yet."""

    def take(self, buffer: bytearray, end: int) -> int:
        """Account for `buffer[:end]`; return from where on it must stand before the next chunk.

        Written for the usual chunk: whole messages, the next in sequence, nothing else. A gap
        before one of them would leave offsets out, so it is searched for behind the last one only.
        """
        if known := self._known_chunks.find(self.last, buffer, end):
            self.received += known
            self.last += known
            return end
        count = buffer.count(MESSAGE, 0, end)
        at = buffer.rfind(MESSAGE, 0, end)
        final = _OFFSET.match(buffer, at, end) if count else None
        if (
            final is None
            or buffer.find(PING, 0, end) >= 0
            or buffer.find(GAP, at, end) >= 0
            or not _leaves_nothing(buffer, end)
        ):
            return self._take_carefully(buffer, end)
        last = int(final[1])
        if last - count != self.last or (
            count > 1 and _offset_at(buffer, buffer.find(MESSAGE, 0, end)) != self.last + 1
        ):
            return self._take_carefully(buffer, end)
        self._known_chunks.add(self.last, bytes(buffer[:end]), count)
        self.received += count
        self.last = last
        return end

    def _take_carefully(self, buffer: bytearray, end: int) -> int:
        """The same for any chunk."""
        start, limit = self._take_pings(buffer, end)
        cut = _whole_until(buffer, limit)
        counted = self._take_messages(buffer, cut)
        self._take_gaps(buffer, cut)
        if cut < end or _leaves_nothing(buffer, end):
            return cut
        return max(start, counted, end - _KEPT)

    def _take_messages(self, buffer: bytearray, cut: int) -> int:
        """Count every message; return where the last one's offset ends."""
        counted = 0
        for found in _OFFSET.finditer(buffer, 0, cut):
            self.received += 1
            self._take_offset(int(found[1]))
            counted = found.end()
        self.quiet += not counted
        return counted

    def _take_offset(self, offset: int) -> None:
        if offset <= self.last:
            self.duplicates += 1
            return
        self.skipped += offset - self.last - 1
        self.last = offset

    def _take_gaps(self, buffer: bytearray, cut: int) -> None:
        self.gaps += buffer.count(GAP, 0, cut)
        for found in _GAP_RANGE.finditer(buffer, 0, cut):
            self.announced += int(found[2]) - int(found[1]) + 1

    def _take_pings(self, buffer: bytearray, end: int) -> tuple[int, int]:
        """Remember the newest ping; return where all is judged, and where it is not yet."""
        start = 0
        at = buffer.find(PING, 0, end)
        while at >= 0:
            if _is_length(buffer, at):
                # Never kept without the bytes before it, by which it was told from a ping.
                start = at + 1
            elif at + 2 > end or at + 2 + buffer[at + 1] > end:
                return start, at
            else:
                start = at + 2 + buffer[at + 1]
                self.ping = bytes(buffer[at + 2 : start])
            at = buffer.find(PING, start, end)
        return start, end


class ChannelsCheck(StreamCheck):
    """The same for a connection in several channels: each has offsets of its own."""

    __slots__ = ("_lasts",)

    def __init__(self) -> None:
        super().__init__()
        self._lasts: dict[bytes, int] = {}

    def take(self, buffer: bytearray, end: int) -> int:
        return self._take_carefully(buffer, end)

    def _take_messages(self, buffer: bytearray, cut: int) -> int:
        counted = 0
        for found in _MESSAGE_OF.finditer(buffer, 0, cut):
            self.received += 1
            # Where this channel stands, for as long as its offset is looked at.
            self.last = self._lasts.get(found[1], 0)
            self._take_offset(int(found[2]))
            self._lasts[found[1]] = self.last
            counted = found.end()
        self.quiet += not counted
        return counted


def _is_length(buffer: bytearray, at: int) -> bool:
    """Whether the byte belongs to the length of a text frame."""
    return buffer.find(_TEXT_WITH_LENGTH, max(at - 3, 0), at) >= 0


def _whole_until(buffer: bytearray, end: int) -> int:
    """Return where the last message or gap begins if it is cut off before its numbers end, else
    `end`."""
    at = buffer.rfind(MESSAGE, 0, end)
    if at >= 0 and _OFFSET.match(buffer, at, end) is None:
        return at
    gap = buffer.rfind(GAP, 0, end)
    if gap >= 0 and buffer.find(b"}", gap, end) < 0:
        return gap
    return end


def _leaves_nothing(buffer: bytearray, end: int) -> bool:
    """Whether no needle, ping or frame header can be unfinished at the end."""
    return end > 1 and buffer[end - 1] in _ENDS and buffer[end - 2] != _TEXT_WITH_LENGTH[1]


def _offset_at(buffer: bytearray, at: int) -> int:
    found = _OFFSET.match(buffer, at)
    return int(found[1]) if found else 0
