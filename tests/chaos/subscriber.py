"""A subscriber over a raw peer, on WebSocket or SSE: reads when told, parses strictly."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any
from urllib.parse import urlencode

from tests.support.frames import CLOSE, PING, PONG, TEXT, Frame, FrameParser, masked
from tests.support.raw_connection import END_OF_HEAD, RawConnection, get

TRANSPORTS = ("websocket", "sse")
Push = dict[str, Any]
_DEADLINE_SECONDS = 20.0
_STEP_BYTES = 64 * 1024


class Subscriber:
    """A subscriber's pushes in the order in which they came; `subscribed` opens it."""

    def __init__(self, peer: RawConnection) -> None:
        self.peer = peer
        self.pushes: list[Push] = []
        """All but heartbeats."""
        self.beats: list[float] = []
        """Monotonic times of the heartbeats a program can see: pushes or comments."""
        self.ended = False
        self.connection = ""
        self.close_code: int | None = None
        """Of the close frame; over SSE of the goodbye."""
        self.last_event_id = ""
        self.answers_pings = True
        self._task: asyncio.Task[None] | None = None

    # -- what a transport adds -------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        raise NotImplementedError

    @property
    def between_frames(self) -> bool:
        """Whether the stream stands where a frame ends."""
        raise NotImplementedError

    # -- reading ---------------------------------------------------------------------------

    async def read(self, max_bytes: int = _STEP_BYTES) -> None:
        """Take some bytes, as soon as there are any."""
        if data := await self.peer.receive(max_bytes):
            self.feed(data)
        else:
            self.ended = True

    async def read_until(
        self, condition: Callable[[], object], *, seconds: float = _DEADLINE_SECONDS
    ) -> None:
        """Read until the condition holds or the stream ends."""
        try:
            async with asyncio.timeout(seconds):
                while not condition() and not self.ended:
                    await self.read()
        except TimeoutError:
            tail = [json.dumps(push)[:150] for push in self.pushes[-3:]]
            raise AssertionError(f"not read in {seconds:g} s; the last pushes: {tail}") from None

    async def read_to_end(self, *, seconds: float = _DEADLINE_SECONDS) -> None:
        await self.read_until(lambda: False, seconds=seconds)

    def keep_reading(self, *, bytes_per_second: int | None = None) -> None:
        """Read in the background from now on, in ten steps a second where a rate is given."""
        self._task = asyncio.create_task(self._keep_reading(bytes_per_second))

    async def _keep_reading(self, rate: int | None) -> None:
        while not self.ended:
            await self.read(_STEP_BYTES if rate is None else max(1, rate // 10))
            if rate is not None:
                await asyncio.sleep(0.1)

    async def stop_reading(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            if not self._task.cancelled() and (error := self._task.exception()) is not None:
                raise error
            self._task = None

    # -- what came -------------------------------------------------------------------------

    def take(self, push: Push) -> None:
        if push["op"] == "heartbeat":
            self.beats.append(time.monotonic())
            return
        if push["op"] == "welcome":
            self.connection = push["connection"]
        self.pushes.append(push)

    def of(self, *ops: str, channel: str | None = None) -> list[Push]:
        """Pushes of these kinds, and of one channel where it is named."""
        return [
            push
            for push in self.pushes
            if push["op"] in ops and (channel is None or push.get("channel") == channel)
        ]

    def reached(self, channel: str, offset: int) -> bool:
        """Whether the channel's stream has come to this offset, by message or gap."""
        for push in reversed(self.pushes):
            if push.get("channel") == channel and push["op"] in ("message", "gap"):
                return int(push.get("offset") or push.get("to") or 0) >= offset
        return False

    @property
    def goodbye(self) -> Push | None:
        return next(iter(self.of("goodbye")), None)


class WebSocketSubscriber(Subscriber):
    def __init__(self, peer: RawConnection) -> None:
        super().__init__(peer)
        self._frames = FrameParser()
        self.pings = 0

    @property
    def between_frames(self) -> bool:
        return self._frames.between_frames

    def feed(self, data: bytes) -> None:
        for frame in self._frames.feed(data):
            self._take_frame(frame)

    def _take_frame(self, frame: Frame) -> None:
        if frame.opcode == TEXT:
            self.take(json.loads(frame.payload))
        elif frame.opcode == PING:
            self.pings += 1
            if self.answers_pings:
                self.peer.send_some(masked(frame.payload, PONG))
        elif frame.opcode == CLOSE:
            self.close_code = int.from_bytes(frame.payload[:2])
            self.peer.send_some(masked(frame.payload[:2], CLOSE))

    async def command(self, **fields: object) -> None:
        self.peer.send(masked(json.dumps(fields).encode()))
        await self.peer.sent()


class SseSubscriber(Subscriber):
    def __init__(self, peer: RawConnection) -> None:
        super().__init__(peer)
        self._rest = b""

    @property
    def between_frames(self) -> bool:
        return not self._rest

    def feed(self, data: bytes) -> None:
        *blocks, self._rest = (self._rest + data).split(b"\n\n")
        for block in blocks:
            self._take_block(block.decode())

    def _take_block(self, block: str) -> None:
        for line in block.split("\n"):
            name, colon, value = line.partition(":")
            assert colon, f"no field in {block[:200]!r}"
            assert name in {"", "id", "event", "data", "retry"}, block[:200]
            match name:
                case "":
                    self.beats.append(time.monotonic())
                case "id":
                    self.last_event_id = value.strip()
                case "data":
                    self.take(json.loads(value))

    def take(self, push: Push) -> None:
        super().take(push)
        if push["op"] == "goodbye":
            self.close_code = push["code"]


async def open_subscriber(
    port: int,
    transport: str,
    channels: Sequence[str],
    *,
    receive_buffer_bytes: int | None = None,
    **query: object,
) -> Subscriber:
    """Connect and read until every channel has answered, and nothing after that.

    `receive_buffer_bytes` bounds what the kernel takes for a subscriber that stops reading.
    """
    pairs = [("channel", name) for name in channels]
    pairs += [(name, str(value)) for name, value in query.items()]
    peer = await RawConnection.connect(port, receive_buffer_bytes=receive_buffer_bytes)
    path = "/ws" if transport == "websocket" else "/sse"
    peer.send(get(f"{path}?{urlencode(pairs)}", upgrade=transport == "websocket"))
    head = await peer.until(END_OF_HEAD)
    assert head.split(b" ")[1] in {b"101", b"200"}, head
    made: Subscriber = (WebSocketSubscriber if transport == "websocket" else SseSubscriber)(peer)
    await made.read_until(lambda: made.connection)
    await made.read_until(lambda: len(made.of("subscribed")) == len(channels))
    return made


@contextlib.asynccontextmanager
async def subscribed(
    port: int,
    transport: str,
    *channels: str,
    receive_buffer_bytes: int | None = None,
    **query: object,
) -> AsyncGenerator[Subscriber]:
    """`open_subscriber` for a `with`; ends with a reset, so that nothing of it lingers."""
    subscriber = await open_subscriber(
        port, transport, channels, receive_buffer_bytes=receive_buffer_bytes, **query
    )
    try:
        yield subscriber
    finally:
        try:
            await subscriber.stop_reading()
        finally:
            subscriber.peer.reset()
