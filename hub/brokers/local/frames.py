"""The protocol between workers and the broker process: messages, and the frames they travel in.

A frame is a length of four bytes and a list of messages in MessagePack: all that one turn of the
loop sends to one peer, `MAX_FRAME_BYTES` at most. A message is a list whose first element is its
kind. Calls carry a number, which their answer repeats:

    worker to broker    [PUBLISH, 7, [request, request]]
    broker to worker    [DELIVER, [publication, publication]]
                        [PUBLISHED, 7, [[epoch, 42, false], [epoch, 43, false]]]

What a turn publishes, or gets delivered, one behind the other is one message. A request or a
publication is bytes of its own in it (`written`), so that those which go to several workers are
written once.

Both ends have to be of one kind: `SHAPE` is made of all layouts and fields, and a peer of another
shape is refused when it says hello. No I/O but the transport that is handed in.
"""

import asyncio
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from operator import attrgetter
from struct import Struct
from typing import Any, cast

import msgspec

from hub.core.node_records import NodeRecord
from hub.core.options import KIB, MIB
from hub.core.ports import PublishRequest
from hub.core.publication import Publication
from hub.core.pushes import Change, Gap, Join, Leave, Member, Update

Message = Sequence[Any]

_LAYOUTS: dict[int, str] = {}


def _kind(number: int, layout: str) -> int:
    """Declare a kind of message; its layout is part of `SHAPE`, so it must list all fields."""
    _LAYOUTS[number] = layout
    return number


# Sent by a worker:
HELLO = _kind(1, "shape, tag")
PUBLISH = _kind(2, "number, written requests")
SUBSCRIBE = _kind(3, "number, channel")
UNSUBSCRIBE = _kind(4, "channel")
HISTORY = _kind(5, "number, channel, after, limit, max_bytes")
PING = _kind(6, "number")
CHANGE = _kind(7, "channel, whether it is there (a join or an update), the fields of a Member")
PRESENT = _kind(8, "channel, lists of the fields of members that this worker has there")
TOLD_ALL = _kind(9, "in channels that were not named since HELLO this worker has no members")
MEMBERS = _kind(10, "number, channel, the number of its first page or 0, from which member on")
RECORD = _kind(11, "this node's record")
OTHERS = _kind(12, "number")
ASK = _kind(13, "number, tag, question, whether it lasts")
ANSWER = _kind(14, "the asker's tag and number, answer")
GIVE_UP = _kind(15, "the tag that was asked, number")
FOLLOW = _kind(21, "told of all channels that are published in for the first time from now on")
UNFOLLOW = _kind(22, "")
MATCH = _kind(23, "number, pattern, how many at most")
NAMES = _kind(16, "number, from which on; 0 begins")
STATE = _kind(18, "number, channel, after, limit, upto, max_bytes")
CLEAR = _kind(19, "number, channel")
# Sent by the broker process:
WELCOME = _kind(32, "shape")
PUBLISHED = _kind(33, "number, for each epoch, offset, duplicate; or code, message")
REFUSED = _kind(34, "number, code, message")
HEAD = _kind(35, "number, epoch, offset")
PAGE = _kind(36, "number, epoch, offset, oldest, invalid offsets, written publications")
PONG = _kind(
    37,
    "number, bytes of history, their limit, rows of state, their bytes, what keeps the broker from"
    " working",
)
DELIVER = _kind(38, "written publications, of any channels")
LOST = _kind(39, "the fields of a Gap")
RESET = _kind(40, "channel, epoch, offset")
ANNOUNCE = _kind(41, "channel, the name of the change (None: a reset), the fields of a Member")
MEMBERS_ARE = _kind(
    42, "number, lists of the fields of members, from which on there are more, or 0"
)
OTHERS_ARE = _kind(43, "number, records by tag")
ASKED = _kind(44, "the asker's tag and number, question, whether it lasts")
ANSWERED = _kind(45, "number, answer; None where the node lives no more")
GIVEN_UP = _kind(46, "the asker's tag and number")
CLEARED = _kind(50, "number")
MATCHING = _kind(52, "number, names of channels that were published in")
APPEARED = _kind(53, "channel")
MISSED = _kind(54, "channels may have appeared that nobody was told of")
NAMES_ARE = _kind(
    47,
    "number, lists of name, epoch, offset, held, rows and their bytes; from which on there are"
    " more, or 0",
)
ROWS = _kind(49, "number, epoch, offset, next, dropped, written publications")

_LENGTH = Struct(">I")
_HEADER_BYTES = _LENGTH.size
# A frame of this size leaves before the turn of the loop ends: decoding it takes 0.1 ms.
_FULL_BYTES = 256 * KIB
# Bytes that may wait for the other end: a second of one worker's load. Guess, not measured.
MAX_WAITING_BYTES = 64 * MIB
# A longer frame never comes whole, because its sender cuts the connection off with more than
# `MAX_WAITING_BYTES` left of it. As much again is far more than a kernel takes meanwhile.
MAX_FRAME_BYTES = 2 * MAX_WAITING_BYTES
# Members in one message: 1 us each at the one end, and 2 us at the other.
_PAGE_MEMBERS = 500
_PAGE_BYTES = 256 * KIB
# Bytes of a message beside its data. A guess that is rather too high.
MESSAGE_BYTES = 200


def _names(kind: type[msgspec.Struct]) -> tuple[str, ...]:
    return kind.__struct_fields__


def _shape() -> str:
    kinds = (PublishRequest, Publication, Gap, Member)
    said = [f"{number}:{layout}" for number, layout in sorted(_LAYOUTS.items())]
    said += [f"{kind.__name__}:{','.join(_names(kind))}" for kind in kinds]
    said += [each.name for each in dataclasses.fields(NodeRecord)]
    return blake2b(";".join(said).encode(), digest_size=8).hexdigest()


SHAPE = _shape()
"""A digest of all layouts and fields, the same at both ends."""
written: Callable[[PublishRequest | Publication], bytes] = msgspec.msgpack.Encoder().encode
"""Write a request or a publication as bytes, for a list of a message."""
read_request: Callable[[bytes], PublishRequest] = msgspec.msgpack.Decoder(PublishRequest).decode
read_publication: Callable[[bytes], Publication] = msgspec.msgpack.Decoder(Publication).decode
member_fields: Callable[[Member], tuple[Any, ...]] = attrgetter(*_names(Member))
CHANGES: Mapping[str, type[Change]] = {"Join": Join, "Leave": Leave, "Update": Update}
"""Classes of changes by their name in an `ANNOUNCE`."""
CHANGE_NAMES = {kind: name for name, kind in CHANGES.items()}


def bytes_of(members: Iterable[Member]) -> int:
    """Return about how many bytes the members take in a message."""
    return sum(60 + len(member.data or b"") for member in members)


def page_of(members: Sequence[Member], first: int) -> Sequence[Member]:
    """Return the members from `first` on that one message takes; at least one, where there is."""
    page = members[first : first + _PAGE_MEMBERS]
    while len(page) > 1 and bytes_of(page) > _PAGE_BYTES:
        page = page[: len(page) // 2]
    return page


class Frames(asyncio.Protocol):
    """One end of a connection.

    Args:
        on_messages: gets the messages of each frame.
        on_lost: called once, when the connection has ended.
        max_waiting_bytes: a peer that lets more than this wait for it is cut off.
    """

    def __init__(
        self,
        *,
        on_messages: Callable[[Sequence[Message]], None],
        on_lost: Callable[[], None],
        max_waiting_bytes: int = MAX_WAITING_BYTES,
    ) -> None:
        self._on_messages = on_messages
        self._on_lost = on_lost
        self._max_waiting_bytes = max_waiting_bytes
        self._loop = asyncio.get_running_loop()
        self._encoder = msgspec.msgpack.Encoder()
        self._transport: asyncio.Transport | None = None
        self._batch: list[Message] = []
        self._batch_bytes = 0
        self._received = bytearray()
        self._needed = 0
        """Bytes that make the next frame whole, as far as is known."""

    @property
    def waiting_bytes(self) -> int:
        """Return the bytes that the peer has not taken yet, without those in the kernel."""
        transport = self._transport
        unsent = 0 if transport is None else transport.get_write_buffer_size()
        return self._batch_bytes + unsent

    @property
    def is_open(self) -> bool:
        return self._transport is not None

    def send(self, message: Message, size_bytes: int = 0) -> None:
        """Send it with the rest of this turn of the loop; do nothing on an ended connection.

        `size_bytes` is the size of its data, or of its question.
        """
        if self._transport is None:
            return
        if not self._batch:
            self._loop.call_soon(self._flush)
        self._batch.append(message)
        self._batch_bytes += size_bytes + MESSAGE_BYTES
        if self._batch_bytes >= _FULL_BYTES:
            self._flush()

    def join(self, kind: int, items: Sequence[bytes], size_bytes: int) -> bool:
        """Put items into the list that ends this turn's last message, where that is of this kind.

        Return False, and do nothing, where it is not: nothing overtakes what came before it.
        """
        batch = self._batch
        if not batch or batch[-1][0] != kind:
            return False
        batch[-1][-1].extend(items)
        self._batch_bytes += size_bytes
        if self._batch_bytes >= _FULL_BYTES:
            self._flush()
        return True

    def abort(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """End the connection when all messages are sent."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def _flush(self) -> None:
        batch, transport = self._batch, self._transport
        if not batch:
            return
        self._batch, self._batch_bytes = [], 0
        if transport is None or transport.is_closing():
            return
        frame = bytearray(_HEADER_BYTES)
        self._encoder.encode_into(batch, frame, _HEADER_BYTES)
        _LENGTH.pack_into(frame, 0, len(frame) - _HEADER_BYTES)
        transport.write(frame)
        if transport.get_write_buffer_size() > self._max_waiting_bytes:
            transport.abort()

    # -- asyncio.Protocol --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Of a stream it is one; uvloop's has no base class.
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._transport = None
        self._batch, self._batch_bytes = [], 0
        self._received.clear()
        self._on_lost()

    def data_received(self, data: bytes) -> None:
        if self._received:
            self._received += data
            if len(self._received) < self._needed:
                return
            data = bytes(self._received)
            self._received.clear()
        self._needed = 0
        place, size, view = 0, len(data), memoryview(data)
        while size - place >= _HEADER_BYTES:
            begin = place + _HEADER_BYTES
            (length,) = _LENGTH.unpack_from(data, place)
            if length > MAX_FRAME_BYTES:
                self.abort()
                return
            end = begin + length
            if end > size:
                self._needed = end - place
                break
            try:
                messages = msgspec.msgpack.decode(view[begin:end])
            except (ValueError, RecursionError):
                self.abort()
                return
            place = end
            self._on_messages(messages)
        if place < size:
            self._received += view[place:]
