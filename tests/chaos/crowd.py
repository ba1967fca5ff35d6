"""Many subscribers at once, none of which is left behind."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence

from tests.chaos.subscriber import Subscriber, open_subscriber

# Fewer than the hub's backlog, so that none has to knock twice.
_AT_ONCE = 100


@contextlib.asynccontextmanager
async def crowd(
    port: int, transport: str, channels: Sequence[str], *, receive_buffer_bytes: int | None = None
) -> AsyncGenerator[list[Subscriber]]:
    """One subscriber for each entry of `channels`; all end with a reset."""
    opened: list[Subscriber] = []
    try:
        while len(opened) < len(channels):
            names = channels[len(opened) : len(opened) + _AT_ONCE]
            opening = (
                open_subscriber(port, transport, [name], receive_buffer_bytes=receive_buffer_bytes)
                for name in names
            )
            opened += await asyncio.gather(*opening)
        yield opened
    finally:
        for subscriber in opened:
            await subscriber.stop_reading()
            subscriber.peer.reset()
