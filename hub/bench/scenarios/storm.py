"""All subscribers come back at once and resume: the cost, and whether anything is lost.

A fresh hub keeps the last publications of a channel. All connections are dialled as fast as the
load can, each from the same position, and each has to get the same publications, in order, once,
behind its `subscribed`.
"""

import asyncio
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import cast
from urllib.parse import quote

from hub.bench.cores import Cores
from hub.bench.greetings import payload, subscribe_request
from hub.bench.plan import BenchError, Contestant, ServerAddress
from hub.bench.reader import allow_open_files
from hub.bench.scenarios.probe import Waits, stall_goals, watched_server
from hub.bench.scenarios.scenario import Bar, Goal, Result, ScenarioOptions

SUBSCRIBERS = 15_000
MISSED = 20
"""The number of publications that each connection resumes."""
AT_A_TIME = 1024
"""Connections under way. A listener's backlog ends there; a dropped handshake takes a second."""
_PAYLOAD_BYTES = 200
_ALL_SECONDS = 120.0
_OTHER_FILES = 256
# For the hub to notice all of their ends: a second is several times what 15,000 take.
_LEAVING_SECONDS = 2.0
_OFFSET = re.compile(rb'"offset":(\d+)')


class _Returning(asyncio.Protocol):
    """A connection that resumes; `done` ends with all that it received."""

    def __init__(self, request: bytes, wanted: int) -> None:
        self._request = request
        self._wanted = wanted
        self._text = b""
        self.done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        self._text += data
        if not self.done.done() and self._text.count(b'"offset":') >= self._wanted:
            self.done.set_result(self._text)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if not self.done.done():
            self.done.set_exception(BenchError(f"cut while it resumed: {self._text[-200:]!r}"))
            # If nobody waits any more, because another one was cut before, it is no news.
            self.done.exception()


@dataclass(frozen=True, slots=True)
class Storm:
    """The figures of one storm."""

    returned: int
    wrong: int
    """The number of connections that did not get exactly the publications that they had missed."""
    seconds: float
    cpu_us: float
    returning: Waits
    leaving: Waits
    """The waits while all leave again at once."""
    disturbed: bool


def measure(request: ScenarioOptions) -> Result:
    """Measure as a scenario's `measure`."""
    count = request.subscribers or SUBSCRIBERS
    allow_open_files(count + _OTHER_FILES)
    cores = Cores.divide()
    storms: list[Storm] = []
    with cores.as_load():
        for _ in range(request.rounds or 1):
            request.phases.phase("all come back at once", count)
            storms.append(_storm(cores, count, request.command))
    cheapest = min(storm.cpu_us for storm in storms)
    wrong = sum(storm.wrong for storm in storms)
    slowest = min(storm.returned / storm.seconds for storm in storms)
    returning = min((storm.returning for storm in storms), key=_own_ms)
    leaving = min((storm.leaving for storm in storms), key=_own_ms).loop_ms
    return Result(
        goals=(
            *stall_goals(returning, at_most_ms=50),
            Goal("the same while all leave at once", leaving, at_most=50, unit="ms"),
            Goal("connections that did not get exactly what they missed", wrong, at_most=0),
            Goal("server CPU per resume", cheapest, unit="us"),
            Goal("resumes per second", slowest),
        ),
        bars=[Bar("a connect that resumes 20 messages", cheapest)],
        bars_about="server CPU, microseconds",
        sound=not wrong and all(storm.returned == count for storm in storms),
        disturbed=any(storm.disturbed for storm in storms),
        details={"storms": [asdict(storm) for storm in storms]},
    )


def _own_ms(waits: Waits) -> float:
    return waits.loop_ms or 0.0


def _storm(cores: Cores, count: int, command: Sequence[str] | None) -> Storm:
    with watched_server(cores, {"HUB_LOG_LEVEL": "error"}, command) as hub:
        server, meter = hub.server, hub.server.meter
        if meter is None:
            raise BenchError("the storm needs a hub of its own")
        channel = f"storm-{secrets.token_hex(4)}"
        since = asyncio.run(_publish(server.target, channel))
        hub.begin()
        before, began = meter.usage(), time.perf_counter()
        held: list[asyncio.Transport] = []
        with asyncio.Runner() as runner:
            texts = runner.run(_return(server.target, channel, since, count, held))
            seconds = time.perf_counter() - began
            used = meter.usage().since(before)
            returning = hub.waits()
            hub.begin()
            runner.run(_leave(held))
            leaving = hub.waits()
    first = int(since.rpartition(":")[2]) + 1
    right = list(range(first, first + MISSED))
    wrong = sum([int(n) for n in _OFFSET.findall(text)] != right for text in texts)
    each_us = used.cpu_seconds / count * 1e6
    disturbed = used.disturbed(seconds)
    return Storm(len(texts), wrong, seconds, each_us, returning, leaving, disturbed)


async def _publish(target: ServerAddress, channel: str) -> str:
    """Publish the messages that are resumed later; return the position before them."""
    reader, writer = await asyncio.open_connection(target.host, target.port)
    answers = b""
    for number in range(MISSED + 1):
        body = b'{"channel":"%b","data":%b}' % (channel.encode(), payload(number, _PAYLOAD_BYTES))
        head = f"POST /api/publish HTTP/1.1\r\nHost: {target.host}:{target.port}\r\n"
        fields = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write((head + fields).encode() + body)
        answer = b""
        while b"}" not in answer:
            if not (more := await reader.read(65536)):
                raise BenchError(f"the hub hung up: {answers[-200:]!r}")
            answer += more
        answers += answer
    writer.close()
    found = re.search(rb'"epoch":"([^"]+)"', answers)
    offset = re.search(rb'"offset":(\d+)', answers)
    if found is None or offset is None:
        raise BenchError(f"the hub did not publish: {answers[:300]!r}")
    return f"{found[1].decode()}:{offset[1].decode()}"


async def _return(
    target: ServerAddress, channel: str, since: str, count: int, held: list[asyncio.Transport]
) -> Sequence[bytes]:
    loop, left = asyncio.get_running_loop(), count
    head = subscribe_request(target, Contestant.WEBSOCKET, channel)
    asked = quote(f"{channel}={since}")
    request = head.replace(b"?channel=", f"?since={asked}&channel=".encode(), 1)
    texts: list[bytes] = []

    async def one_after_another() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            transport, peer = await loop.create_connection(
                lambda: _Returning(request, MISSED), target.host, target.port
            )
            held.append(transport)
            texts.append(await peer.done)

    try:
        async with asyncio.timeout(_ALL_SECONDS):
            await asyncio.gather(*(one_after_another() for _ in range(min(AT_A_TIME, count))))
    except (TimeoutError, OSError) as error:
        raise BenchError(f"{len(texts):,} of {count:,} came back: {error}") from None
    return texts


async def _leave(held: Sequence[asyncio.Transport]) -> None:
    """Cut all connections, as when a proxy before the hub goes down."""
    for transport in held:
        transport.abort()
    await asyncio.sleep(_LEAVING_SECONDS)
