"""WebSocket frames and the handshake's fields as bytes (RFC 6455): what no library would send."""

import struct
from dataclasses import dataclass

UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
FIN = 0x80
_SERVER_OPCODES = frozenset({TEXT, CLOSE, PING, PONG})


def masked(payload: bytes, opcode: int = TEXT, *, fin: bool = True, bits: int = 0) -> bytes:
    """A client's frame (RFC 6455 section 5.2); `bits` are reserved ones to set, such as 0x40."""
    first = (FIN if fin else 0) | bits | opcode
    if len(payload) < 126:
        head = bytes((first, FIN | len(payload)))
    elif len(payload) < 1 << 16:
        head = struct.pack("!BBH", first, FIN | 126, len(payload))
    else:
        head = struct.pack("!BBQ", first, FIN | 127, len(payload))
    # Any will do (RFC 6455 section 5.3 asks for one that a page cannot guess); this one is always
    # the same, and so are the names of tests that are given a frame.
    mask = b"\x37\xfa\x21\x3d"
    whole = (mask * (len(payload) // 4 + 1))[: len(payload)]
    mixed = int.from_bytes(payload) ^ int.from_bytes(whole)
    return head + mask + mixed.to_bytes(len(payload))


@dataclass(frozen=True, slots=True)
class Frame:
    opcode: int
    payload: bytes


class FrameParser:
    """Bytes of a server to whole frames; anything but plain final frames is an error."""

    def __init__(self) -> None:
        self._rest = b""

    @property
    def between_frames(self) -> bool:
        """Whether nothing is left over: the stream stands where a frame ends."""
        return not self._rest

    def feed(self, data: bytes) -> list[Frame]:
        self._rest += data
        frames: list[Frame] = []
        at = 0
        while (found := self._frame(at)) is not None:
            frame, at = found
            frames.append(frame)
        self._rest = self._rest[at:]
        return frames

    def _frame(self, at: int) -> tuple[Frame, int] | None:
        data = self._rest
        if len(data) < at + 2:
            return None
        first, length, start = data[at], data[at + 1], at + 2
        opcode = first & 0x0F
        assert first & 0xF0 == 0x80, f"first byte of a frame is {first:#x}"
        assert opcode in _SERVER_OPCODES, f"first byte of a frame is {first:#x}"
        assert length < 0x80, "a server's frame is masked"
        if length >= 126:
            size = 2 if length == 126 else 8
            if len(data) < start + size:
                return None
            length = int.from_bytes(data[start : start + size])
            start += size
        if len(data) < start + length:
            return None
        return Frame(opcode, data[start : start + length]), start + length
