"""What a WebSocket peer sends: bytes to messages, with limits.

Framing, masking, fragments and control frames are websockets' Sans-I/O protocol. It is made
when bytes come and dropped when nothing is unfinished, so an idle connection holds none.
"""

from dataclasses import dataclass, field

from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

from hub.errors import TooLargeError
from hub.wire.codes import CloseCode

_LENGTH_16 = 126
_LENGTH_64 = 127
_MASK_BYTES = 4
_FIN = 0x80
# A message of 64 KiB in fragments of 16 bytes still passes; empty ones, which no limit in
# bytes stops, do not go on for ever. websockets has no such limit of its own.
MAX_FRAGMENTS = 4096


class _Boundary:
    """Knows whether a stream of frames stands between two of them (RFC 6455 section 5.2)."""

    __slots__ = ("_fragments", "_head", "_left", "largest", "most_fragments")

    def __init__(self) -> None:
        self._head = b""
        self._left = 0
        self.largest = 0
        """The longest payload any frame has announced, in bytes."""
        self._fragments = 0
        self.most_fragments = 0
        """In how many frames any message came, its last one not counted."""

    def feed(self, data: bytes) -> bool:
        """Follow `data`; return whether it ends where a frame ends."""
        at, end = 0, len(data)
        while at < end:
            if self._left:
                step = min(self._left, end - at)
                self._left -= step
                at += step
                continue
            self._head += data[at : at + 1]
            at += 1
            self._left = self._announced()
        return not self._left and not self._head

    def _announced(self) -> int:
        """Bytes that follow the head, once it is whole; 0 while it is not."""
        head = self._head
        if len(head) < 2:
            return 0
        length, size = head[1] & 0x7F, 2
        if length >= _LENGTH_16:
            size += 2 if length == _LENGTH_16 else 8
            if len(head) < size:
                return 0
            length = int.from_bytes(head[2:size])
        self._head = b""
        self.largest = max(self.largest, length)
        if head[0] & 0x0F < Opcode.CLOSE:
            self._fragments = 0 if head[0] & _FIN else self._fragments + 1
            self.most_fragments = max(self.most_fragments, self._fragments)
        return length + (_MASK_BYTES if head[1] & 0x80 else 0)


@dataclass(slots=True)
class Received:
    """What one call brought: at most one end, after all messages."""

    messages: list[bytes] = field(default_factory=list)
    """Whole text messages, as UTF-8 not yet checked."""
    pongs: int = 0
    answer: bytes = b""
    """What the protocol wants written: pongs, and the echo of a close frame."""
    binary: bool = False
    """A binary message came; nothing after it was read."""
    close: tuple[int, str] | None = None
    """The peer closed with this code and reason."""
    violation: tuple[int, str] | None = None
    """The peer broke RFC 6455: close with this code and reason."""


class Inbound:
    """The unfinished business of one connection.

    Args:
        deflate: whether the connection agreed on compression.
        max_bytes: of one message, also after decompression.
    """

    __slots__ = ("_boundary", "_idle", "_parts", "_protocol", "max_bytes")

    def __init__(self, *, deflate: bool, max_bytes: int) -> None:
        self._protocol = ServerProtocol(state=State.OPEN, max_size=max_bytes)
        if deflate:
            # Messages carry no context, so one that is made later reads them as well.
            extension = PerMessageDeflate(
                remote_no_context_takeover=True,
                local_no_context_takeover=True,
                remote_max_window_bits=15,
                local_max_window_bits=15,
            )
            self._protocol.extensions = [extension]
        self._boundary = _Boundary()
        self._parts: list[bytes] = []
        self._idle = True
        self.max_bytes = max_bytes

    @property
    def idle(self) -> bool:
        """Whether no frame, fragmented message or closing handshake is unfinished."""
        return self._idle and not self._parts and self._protocol.state is State.OPEN

    def receive(self, data: bytes) -> Received:
        """Read what came.

        Raises:
            TooLargeError: a frame announces more than `max_bytes`, or a message comes in more
                than `MAX_FRAGMENTS`; nothing of `data` was kept.
        """
        self._idle = self._boundary.feed(data)
        if self._boundary.largest > self.max_bytes:
            raise TooLargeError(
                f"frame is {self._boundary.largest:,} bytes, limit is {self.max_bytes:,}"
            )
        if self._boundary.most_fragments > MAX_FRAGMENTS:
            raise TooLargeError(f"message is in more than {MAX_FRAGMENTS:,} fragments")
        protocol = self._protocol
        protocol.receive_data(data)
        received = Received()
        for event in protocol.events_received():
            if isinstance(event, Frame) and not received.binary:
                self._take(event, received)
        if protocol.parser_exc is not None and protocol.close_sent is not None:
            sent = protocol.close_sent
            if sent.code == CloseCode.MESSAGE_TOO_BIG:
                raise TooLargeError(f"message is over {self.max_bytes:,} bytes once inflated")
            received.violation = (sent.code, sent.reason)
        else:
            received.answer = b"".join(protocol.data_to_send())
        return received

    def _take(self, frame: Frame, received: Received) -> None:
        match frame.opcode:
            case Opcode.TEXT | Opcode.CONT:
                self._parts.append(bytes(frame.data))
                if frame.fin:
                    received.messages.append(b"".join(self._parts))
                    self._parts.clear()
            case Opcode.BINARY:
                received.binary = True
            case Opcode.PONG:
                received.pongs += 1
            case Opcode.CLOSE if self._protocol.close_rcvd is not None:
                closed = self._protocol.close_rcvd
                received.close = (closed.code, closed.reason)
