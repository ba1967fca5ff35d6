"""One end of a worker's connection to the broker process, on a transport that only notes."""

import asyncio
from collections.abc import Sequence
from typing import cast

import msgspec
import pytest

from hub.brokers.local.frames import DELIVER, MESSAGE_BYTES, Frames, Message

FULL_BYTES = 256 * 1024


class NotingTransport:
    """Takes all it is given; `unsent` is what the other end has not taken."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.writes = 0
        self.unsent = 0
        self.closing = self.aborted = False

    def write(self, data: bytes | bytearray) -> None:
        assert not self.closing, "written to a transport that is closing"
        self.written += data
        self.writes += 1

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = self.aborted = True


class End:
    """One end with what it has heard."""

    def __init__(self, *, max_waiting_bytes: int = 1000) -> None:
        self.heard: list[Message] = []
        self.lost = 0
        self.frames = Frames(
            on_messages=self._hear, on_lost=self._lose, max_waiting_bytes=max_waiting_bytes
        )
        self.transport = NotingTransport()
        self.frames.connection_made(cast("asyncio.Transport", self.transport))

    def _hear(self, messages: Sequence[Message]) -> None:
        self.heard += map(tuple, messages)

    def _lose(self) -> None:
        self.lost += 1


@pytest.fixture
async def end() -> End:
    return End()


def frame(*messages: Message) -> bytes:
    raw = msgspec.msgpack.encode(messages)
    return len(raw).to_bytes(4, "big") + raw


async def turn() -> None:
    await asyncio.sleep(0)


ONE: Message = (6, 1)
TWO: Message = (4, "prices")


async def test_messages_of_one_turn_leave_in_one_frame(end: End) -> None:
    end.frames.send(ONE)
    end.frames.send(TWO)
    assert end.transport.writes == 0
    assert end.frames.waiting_bytes == 2 * MESSAGE_BYTES
    await turn()
    assert bytes(end.transport.written) == frame(ONE, TWO)
    assert end.frames.waiting_bytes == 0
    end.frames.send(ONE)
    await turn()
    assert end.transport.writes == 2


async def test_items_that_fill_a_frame_leave_before_the_turn_ends(end: End) -> None:
    """A peer cuts off what is far longer, however many items join a message."""
    end.frames.send((DELIVER, [b"1"]), FULL_BYTES - MESSAGE_BYTES - 10)
    assert end.frames.join(DELIVER, [b"2"], 9)
    assert end.transport.writes == 0
    assert end.frames.join(DELIVER, [b"3"], 1)
    assert end.transport.writes == 1
    assert not end.frames.join(DELIVER, [b"4"], 1)


async def test_a_full_frame_leaves_before_the_turn_ends(end: End) -> None:
    """Decoding it holds up the other end."""
    end.frames.send(ONE, FULL_BYTES - MESSAGE_BYTES - 1)
    assert end.transport.writes == 0
    await turn()
    end.frames.send(ONE, FULL_BYTES - MESSAGE_BYTES)
    assert end.transport.writes == 2
    await turn()
    assert end.transport.writes == 2


@pytest.mark.parametrize("frames", [1, 3])
async def test_a_frame_may_come_in_any_pieces(frames: int) -> None:
    """Cut at each byte: nothing is heard before it is whole, and nothing is heard twice."""
    stream = frame(ONE, TWO) * frames
    for cut in range(1, len(stream)):
        end = End()
        end.frames.data_received(stream[:cut])
        assert end.heard == list((ONE, TWO) * (cut // len(frame(ONE, TWO))))
        end.frames.data_received(stream[cut:])
        assert end.heard == list((ONE, TWO) * frames)


async def test_a_frame_may_come_byte_by_byte(end: End) -> None:
    for byte in frame(ONE) + frame(TWO):
        end.frames.data_received(bytes((byte,)))
    assert end.heard == [ONE, TWO]


async def test_bytes_that_cannot_be_read_end_the_connection(end: End) -> None:
    """The messages before the bad bytes are heard, and those behind them are not."""
    end.frames.data_received(frame(ONE) + b"\0\0\0\1\xc1" + frame(TWO))
    assert end.heard == [ONE]
    assert end.transport.aborted


async def test_an_end_that_does_not_read_is_cut_off_beyond_its_bound(end: End) -> None:
    """The bytes in the transport count, and those of the frame that goes to it."""
    for unsent, cut in ((1000, False), (1001, True)):
        end.frames.send(ONE)
        end.transport.unsent = unsent
        assert end.frames.waiting_bytes == unsent + MESSAGE_BYTES
        await turn()
        assert end.transport.aborted is cut


async def test_an_end_that_closes_sends_what_it_has_first(end: End) -> None:
    end.frames.send(ONE)
    end.frames.close()
    assert bytes(end.transport.written) == frame(ONE)
    assert (end.transport.closing, end.transport.aborted) == (True, False)
    end.frames.send(TWO)
    await turn()
    assert end.transport.writes == 1


async def test_a_lost_connection_is_told_once_and_leaves_nothing(end: End) -> None:
    end.frames.send(ONE)
    end.frames.data_received(frame(TWO)[:3])
    end.frames.connection_lost(ConnectionResetError())
    assert (end.lost, end.frames.is_open, end.frames.waiting_bytes) == (1, False, 0)
    end.frames.send(TWO)
    end.frames.abort()
    end.frames.close()
    await turn()
    assert (end.transport.writes, end.lost) == (0, 1)
