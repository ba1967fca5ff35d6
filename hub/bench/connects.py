"""The cost of a connection with one subscription: rows of `hub bench --intake`.

A number of connections is set up with some under way at a time, all to one channel, and held. The
floor reads the same request with httptools, answers it in one write and does nothing else.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import cast

from hub.bench.greetings import subscribe_request
from hub.bench.meter import ProcessMeter, Usage
from hub.bench.plan import BenchError, Contestant, ServerAddress
from hub.bench.server import unverified_context

CONNECTS = 2000
WARM = 200
AT_A_TIME = 64
_CONNECT_SECONDS = 60.0
_SETTLE_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Connecting:
    """The request of a connection, and the part of the answer that shows its subscription."""

    contestant: Contestant
    needle: bytes = b'"op":"subscribed"'
    more: str = ""
    """Further fields of the request, each with its line end."""

    def request(self, target: ServerAddress) -> bytes:
        return subscribe_request(target, self.contestant, "connects", more=self.more)


class _Caller(asyncio.Protocol):
    """A connection; `done` ends when it is subscribed."""

    def __init__(self, request: bytes, needle: bytes) -> None:
        self._request = request
        self._needle = needle
        self._text = b""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Uvloop's transports have the methods of the class, not the class.
        cast(asyncio.Transport, transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self.done.done():
            self._text += data
            if self._needle in self._text:
                self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if not self.done.done():
            self.done.set_exception(BenchError(f"the node hung up: {self._text[:200]!r}"))
            # If nobody waits any more, because another one was cut before, it is no news.
            self.done.exception()


async def connect(
    target: ServerAddress, meter: ProcessMeter, way: Connecting
) -> tuple[float, Usage]:
    """Set up `CONNECTS` connections; return the seconds that took, and the node's usage.

    Raises `BenchError` where one is refused or takes too long.
    """
    make = partial(_Caller, way.request(target), way.needle)
    _close(await _dial(target, WARM, make))
    await asyncio.sleep(_SETTLE_SECONDS)
    cpu, began = meter.usage(), time.perf_counter()
    held = await _dial(target, CONNECTS, make)
    elapsed = time.perf_counter() - began
    usage = meter.usage().since(cpu)
    _close(held)
    return elapsed, usage


async def _dial(
    target: ServerAddress, count: int, make: Callable[[], _Caller]
) -> list[asyncio.BaseTransport]:
    loop, held, left = asyncio.get_running_loop(), list[asyncio.BaseTransport](), count
    secured = unverified_context() if target.tls else None

    async def one_after_another() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            transport, caller = await loop.create_connection(
                make, target.host, target.port, ssl=secured
            )
            held.append(transport)
            await caller.done

    work = [asyncio.ensure_future(one_after_another()) for _ in range(AT_A_TIME)]
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            await asyncio.gather(*work)
    except TimeoutError:
        raise BenchError(f"{count:,} connections took over {_CONNECT_SECONDS:g} s") from None
    except OSError as error:
        raise BenchError(f"could not connect: {error}") from None
    finally:
        for dialling in work:
            dialling.cancel()
    return held


def _close(held: list[asyncio.BaseTransport]) -> None:
    for transport in held:
        transport.close()
