"""The bytes of a WebSocket peer, read as one event per frame, with limits (RFC 6455, RFC 7692).

An `Inbound` is made when bytes come and dropped when nothing is unfinished, so that an idle
connection holds none. An unfinished message costs the bytes that were sent: fragments stay as they
came, compressed, until the last of them is there. No frame is read before `read` is called, so the
caller decides how much of a read is worked off at a time.

The framing is done here rather than by a library: a frame costs 1.5 us, not 11, and no object
per connection outlives its bytes.
"""

import zlib
from dataclasses import dataclass
from enum import Enum, auto

from hub.errors import TooLargeError
from hub.wire.codes import CloseCode
from hub.wire.websocket import DEFLATE_TAIL

BytesLike = bytes | bytearray | memoryview

try:
    from websockets.speedups import apply_mask
except ImportError:  # a platform for which websockets has no compiled part

    def apply_mask(data: BytesLike, mask: bytes | bytearray) -> bytes:
        """Mask as the compiled function does, at a seventh of its speed for small frames."""
        size = len(data)
        whole = (mask * (size // 4 + 1))[:size]
        return (int.from_bytes(data) ^ int.from_bytes(whole)).to_bytes(size)


# A message of 64 KiB in fragments of 16 bytes still passes. No limit in bytes stops empty ones.
MAX_FRAGMENTS = 4096
# So much of a compressed message is inflated in one read: 0.4 ms at most. Blocks of deflate that
# hold nothing take 0.1 us for a byte, so that a message of 260 KiB took 60 ms (measured).
INFLATED_BYTES = 4 * 1024
# RFC 6455 section 5.5.
_MAX_CONTROL_BYTES = 125

_FIN, _RSV1, _RSV2_3, _OPCODE = 0x80, 0x40, 0x30, 0x0F
_MASKED, _LENGTH = 0x80, 0x7F
_LENGTH_16, _LENGTH_64 = 126, 127
_MASKED_16 = _MASKED | _LENGTH_16
_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_WHOLE_TEXT = _FIN | _TEXT
_BEGINS = frozenset({_TEXT, _BINARY})
_KNOWN = _BEGINS | {_CONTINUATION, _CLOSE, _PING, _PONG}

# RFC 6455 section 7.4.1 and the IANA registry: the codes that a peer may send in a close frame.
_REGISTERED = frozenset({*range(1000, 1004), *range(1007, 1015)})
_PRIVATE = range(3000, 5000)


class Seen(Enum):
    """A frame without content that matters."""

    FRAGMENT = auto()
    """A part of a message, or of the work on it; or any frame, while only the close frame is looked
    for."""
    BINARY = auto()
    """A binary frame, which the hub does not take."""
    PONG = auto()


@dataclass(frozen=True, slots=True)
class PingFrame:
    payload: bytes


@dataclass(frozen=True, slots=True)
class CloseFrame:
    """The peer closed; nothing after it counts."""

    code: int
    reason: str
    payload: bytes
    """The payload of the frame, for its echo."""


Event = bytes | Seen | PingFrame | CloseFrame
"""One frame. Bytes are a whole text message, as UTF-8 not yet checked."""


class FrameError(Exception):
    """The peer broke RFC 6455: close with `code` and `reason`."""

    def __init__(self, reason: str, code: CloseCode = CloseCode.PROTOCOL_ERROR) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class _Inflating:
    """A compressed message that is inflated in steps; it is not more than `max_bytes` then."""

    __slots__ = ("_at", "_inflater", "_max_bytes", "_packed", "_parts", "_size")

    def __init__(self, packed: bytes, max_bytes: int) -> None:
        # Without context takeover each message stands alone, and nothing is kept for the next.
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._packed = packed + DEFLATE_TAIL
        self._max_bytes = max_bytes
        self._at = self._size = 0
        self._parts: list[bytes] = []

    def step(self) -> bytes | None:
        """Inflate `INFLATED_BYTES` more; return the message where it is whole."""
        inflater, begins = self._inflater, self._at
        self._at += INFLATED_BYTES
        most = self._max_bytes + 1 - self._size
        try:
            part = inflater.decompress(self._packed[begins : self._at], most)
        except zlib.error as error:
            raise FrameError(f"compressed message cannot be read: {error}") from None
        self._size += len(part)
        if self._size > self._max_bytes:
            raise TooLargeError(f"message is over {self._max_bytes:,} bytes once inflated")
        if self._at >= len(self._packed) or inflater.eof:
            return b"".join((*self._parts, part)) if self._parts else part
        self._parts.append(part)
        return None


class Inbound:
    """Bytes of one connection that are not read yet, and its unfinished message.

    Args:
        deflate: whether the connection agreed on compression, without context takeover.
        max_bytes: of one message, also after inflating.
    """

    __slots__ = (
        "_at", "_data", "_deflate", "_fragments", "_inflating", "_max_bytes", "_packed", "_parts",
        "messages", "only_close",
    )  # fmt: skip

    def __init__(self, *, deflate: bool, max_bytes: int) -> None:
        self._deflate = deflate
        self._max_bytes = max_bytes
        self._data: bytes | bytearray = b""
        """Bytes that were fed; those from `_at` on are still to be read."""
        self._at = 0
        self._parts: bytearray | None = None
        """The payload of an unfinished message as it came; None where none is unfinished."""
        self._packed = False
        """Whether the unfinished message is compressed."""
        self._fragments = 0
        self._inflating: _Inflating | None = None
        """A message that is whole, and not inflated to its end."""
        self.messages = 0
        """Number of text messages that were whole: tells an unfinished message from the next."""
        self.only_close = False
        """Whether all frames but the peer's close frame are skipped, without inflating."""

    @property
    def idle(self) -> bool:
        """Whether no frame and no message is unfinished, and nothing unread."""
        return self._at == len(self._data) and self._parts is None and self._inflating is None

    @property
    def unread_bytes(self) -> int:
        """Number of bytes that were fed and not read yet."""
        return len(self._data) - self._at

    def feed(self, data: bytes) -> None:
        """Add bytes that came, for `read`."""
        if self._at == len(self._data):
            self._data, self._at = data, 0
            return
        self._drop_what_was_read()
        if isinstance(self._data, bytes):
            self._data = bytearray(self._data)
        self._data += data

    def look_only_for_close(self) -> None:
        """From now on skip all frames but the peer's close frame, without inflating."""
        self.only_close = True
        self._parts = self._inflating = None

    def read(self) -> Event | None:  # noqa: C901 - one frame, the usual one first
        """Return the next frame; None where it has not come whole.

        A long compressed message takes several calls: all but the last return `Seen.FRAGMENT`.

        Raises:
            TooLargeError: a message is over `max_bytes`, or in more than `MAX_FRAGMENTS`.
            FrameError: the peer broke the protocol. Nothing may be read after either.
        """
        if self._inflating is not None:
            return self._inflate_more(self._inflating)
        data, at = self._data, self._at
        left = len(data) - at
        if left < 2:
            self._drop_what_was_read()
            return None
        first, second = data[at], data[at + 1]
        if first == _WHOLE_TEXT and second == _MASKED_16 and left >= 8:
            # Nearly all commands of a busy publisher are of 126 to 65,535 bytes.
            start = at + 8
            end = start + (data[at + 2] << 8 | data[at + 3])
            usual = self._parts is None and not self.only_close
            if usual and end <= at + left and end - start <= self._max_bytes:
                self._at = end
                self.messages += 1
                return apply_mask(data[start:end], data[start - 4 : start])
        length, head = second & _LENGTH, 2
        if length >= _LENGTH_16:
            head = 4 if length == _LENGTH_16 else 10
            if left < head:
                self._drop_what_was_read()
                return None
            length = int.from_bytes(data[at + 2 : at + head])
        if first != _WHOLE_TEXT or self._parts is not None:
            self._check(first, length)
        if not second & _MASKED:
            raise FrameError("frame is not masked")
        if length > self._max_bytes:
            raise TooLargeError(f"frame is {length:,} bytes, limit is {self._max_bytes:,}")
        start = at + head + 4
        end = start + length
        if end > len(data):
            self._drop_what_was_read()
            return None
        self._at = end
        if self.only_close and first & _OPCODE != _CLOSE:
            return Seen.FRAGMENT
        payload = apply_mask(data[start:end], data[start - 4 : start])
        if first == _WHOLE_TEXT:
            self.messages += 1
            return payload
        return self._take(first, payload)

    def _drop_what_was_read(self) -> None:
        """Let go of bytes that were read: an unfinished frame costs no more than itself."""
        if not self._at:
            return
        if isinstance(self._data, bytes):
            self._data = self._data[self._at :]
        else:
            del self._data[: self._at]
        self._at = 0

    def _check(self, first: int, length: int) -> None:
        """Check the first byte of a frame at its place (RFC 6455 section 5.2)."""
        opcode = first & _OPCODE
        if first & _RSV2_3:
            raise FrameError("reserved bits are set")
        if first & _RSV1 and not (self._deflate and opcode in _BEGINS):
            raise FrameError("reserved bit 1 is set where no compressed message begins")
        if opcode not in _KNOWN:
            raise FrameError(f"opcode {opcode} is reserved")
        if opcode >= _CLOSE:
            if not first & _FIN:
                raise FrameError("control frame is fragmented")
            if length > _MAX_CONTROL_BYTES:
                raise FrameError(f"control frame is {length:,} bytes, limit is 125")
        elif opcode != _CONTINUATION:
            if self._parts is not None:
                raise FrameError("message begins before the end of the one before")
        elif self._parts is None and not self.only_close:
            raise FrameError("continuation of no message")

    def _take(self, first: int, payload: bytes) -> Event:
        opcode = first & _OPCODE
        if opcode == _PONG:
            return Seen.PONG
        if opcode == _PING:
            return PingFrame(payload)
        if opcode == _CLOSE:
            return _closed(payload)
        return Seen.BINARY if opcode == _BINARY else self._take_text(first, payload)

    def _take_text(self, first: int, payload: bytes) -> Event:
        if self._parts is None:
            packed = bool(first & _RSV1)
            if first & _FIN:
                self.messages += 1
                return self._inflate(payload) if packed else payload
            self._parts, self._packed, self._fragments = bytearray(), packed, 0
        if (size := len(self._parts) + len(payload)) > self._max_bytes:
            raise TooLargeError(f"message is {size:,} bytes so far, limit is {self._max_bytes:,}")
        self._fragments += 1
        if self._fragments > MAX_FRAGMENTS:
            raise TooLargeError(f"message is in more than {MAX_FRAGMENTS:,} fragments")
        self._parts += payload
        if not first & _FIN:
            return Seen.FRAGMENT
        message, self._parts = bytes(self._parts), None
        self.messages += 1
        return self._inflate(message) if self._packed else message

    def _inflate(self, packed: bytes) -> Event:
        return self._inflate_more(_Inflating(packed, self._max_bytes))

    def _inflate_more(self, inflating: _Inflating) -> Event:
        message = inflating.step()
        self._inflating = inflating if message is None else None
        return Seen.FRAGMENT if message is None else message


def lone_message(data: bytes, max_bytes: int) -> bytes | None:
    """Return the text message that a read consists of, whole, in one frame and not compressed.

    None for any other read, which an `Inbound` has to look at. Most commands come alone: no parser
    for them.
    """
    size = len(data)
    if size < 6 or data[0] != _WHOLE_TEXT:
        return None
    if (second := data[1]) == _MASKED_16 and size >= 8:
        start, length = 8, data[2] << 8 | data[3]
    elif second < _MASKED_16:
        start, length = 6, second - _MASKED
    else:
        return None
    if size != start + length or length > max_bytes:
        return None
    return apply_mask(data[start:], data[start - 4 : start])


def _closed(payload: bytes) -> CloseFrame:
    """Read a close frame (RFC 6455 section 5.5.1)."""
    if not payload:
        return CloseFrame(CloseCode.NO_STATUS, "", payload)
    if len(payload) < 2:
        raise FrameError("close frame is one byte")
    code = int.from_bytes(payload[:2])
    if code not in _REGISTERED and code not in _PRIVATE:
        raise FrameError(f"close code {code} is not allowed")
    try:
        reason = payload[2:].decode()
    except UnicodeDecodeError:
        raise FrameError("close reason is not UTF-8", CloseCode.INVALID_DATA) from None
    return CloseFrame(code, reason, payload)
