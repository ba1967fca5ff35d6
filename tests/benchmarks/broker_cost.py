"""Measures what a publication costs the broker process of `hub serve --workers`.

    uv run python -m tests.benchmarks.broker_cost

A broker process serves two workers that both subscribe to the one channel; 200 bytes each. How many
publications are under way decides: what comes in one turn of the loop travels in one frame, so the
cost of waking up is shared. The least of the rounds counts.
"""

import asyncio
import os
import socket
import time
from collections.abc import Coroutine

import structlog
import uvloop

from hub.brokers.idempotency import IdempotencyKeys
from hub.brokers.local.client import LocalBroker
from hub.brokers.local.link import WorkerLink
from hub.brokers.local.server import BrokerServer
from hub.brokers.memory import MemoryBroker
from hub.core.counters import Counters
from hub.core.options import Namespaces
from hub.core.ports import Downstream, PublishRequest
from hub.core.publication import Position, Publication
from hub.core.pushes import Change, Gap, PresenceReset

WINDOWS = (1, 4, 16, 64, 256)
PUBLICATIONS = 10_000
ROUNDS = 5
WORKERS = 2
_TASKS: set[asyncio.Future[None]] = set()
DATA = b'"' + b"x" * 198 + b'"'
LOG = structlog.wrap_logger(
    structlog.get_logger(), wrapper_class=structlog.make_filtering_bound_logger(50)
)


class _Counting:
    """Below a worker's broker."""

    def __init__(self) -> None:
        self.delivered = 0

    def deliver(self, publication: Publication) -> None:
        self.delivered += 1

    def lost(self, gap: Gap) -> None:
        raise AssertionError(gap)

    def reset(self, channel: str, head: Position) -> None:
        raise AssertionError(channel)

    def announce(self, channel: str, change: Change | PresenceReset) -> None:
        """Nobody is present."""


def _spawn(work: Coroutine[object, object, None]) -> None:
    _TASKS.add(asyncio.ensure_future(work))


async def _serve(ends: list[socket.socket], tell: int) -> None:
    """Until the workers are gone; tells microseconds of CPU for each publication."""
    clock = time.monotonic

    def make(downstream: Downstream) -> MemoryBroker:
        return MemoryBroker(
            downstream=downstream,
            namespaces=Namespaces(),
            clock=clock,
            wall_clock=time.time,
            idempotency=IdempotencyKeys(ttl_seconds=300, clock=clock, max_keys=1000),
            position_ttl_seconds=1e6,
            max_channels=1000,
        )

    loop = asyncio.get_running_loop()
    server = BrokerServer(make, clock=clock, spawn=_spawn, log=LOG)
    for end in ends:
        await loop.connect_accepted_socket(server.protocol, sock=end)
    while not server.publications:
        await asyncio.sleep(0.01)
    began, counted = time.process_time(), server.publications
    while server.connections:
        await asyncio.sleep(0.05)
    spent = (time.process_time() - began) / (server.publications - counted) * 1e6
    os.write(tell, b"%.3f" % spent)


async def _publish(ends: list[socket.socket], window: int) -> float:
    """Publications a second."""
    brokers, links = [], []
    for number, end in enumerate(ends):
        link = WorkerLink(
            lambda end=end: end,  # type: ignore[misc]  # of this round of the loop
            tag=f"worker{number}",
            clock=time.monotonic,
            log=LOG,
            counters=Counters(),
        )
        brokers.append(
            LocalBroker(
                link,
                downstream=_Counting(),
                namespaces=Namespaces(),
                spawn=_spawn,
                clock=time.monotonic,
                counters=Counters(),
                hold_total_bytes=1 << 20,
            )
        )
        links.append(link)
        await brokers[-1].start()
    while not all(link.is_up for link in links):
        await asyncio.sleep(0.01)
    for broker in brokers:
        await broker.subscribe("channel", lambda _: None)
    left = PUBLICATIONS

    async def publish(broker: LocalBroker) -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await broker.publish(PublishRequest("channel", DATA, "publisher"))

    began = time.monotonic()
    await asyncio.gather(*(publish(brokers[n % WORKERS]) for n in range(window)))
    seconds = time.monotonic() - began
    for link in links:
        link.stop()
    await asyncio.sleep(0.1)
    return PUBLICATIONS / seconds


def measure(window: int) -> tuple[float, float]:
    """Microseconds of the broker process for each publication, and publications a second."""
    pairs = [socket.socketpair() for _ in range(WORKERS)]
    for pair in pairs:
        for end in pair:
            end.setblocking(False)
    reading, telling = os.pipe()
    if (pid := os.fork()) == 0:
        for mine, _ in pairs:
            mine.close()
        uvloop.run(_serve([theirs for _, theirs in pairs], telling))
        os._exit(0)
    for _, theirs in pairs:
        theirs.close()
    rate = uvloop.run(_publish([mine for mine, _ in pairs], window))
    os.waitpid(pid, 0)
    os.close(telling)
    with os.fdopen(reading) as told:
        return float(told.read()), rate


def main() -> None:
    print("under way   us of the broker process   publications/s")
    for window in WINDOWS:
        found = [measure(window) for _ in range(ROUNDS)]
        cost, rate = min(cost for cost, _ in found), max(rate for _, rate in found)
        print(f"{window:9}   {cost:24.1f}   {rate:14,.0f}")


if __name__ == "__main__":
    main()
