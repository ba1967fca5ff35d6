"""How many publications one node hands to Redis, and hears again: prints a table, asserts nothing.

    uv run python -m tests.benchmarks.redis_publish

Client and redis-server share this machine. `at once` is how many publications are made in one
iteration of the event loop; each is awaited. CPU is that of this process alone, pub/sub, decoding
and delivery to a downstream that does nothing included where there is a subscriber.
"""

import asyncio
import time
from collections.abc import Coroutine

import structlog
import uvloop

from hub.bench.meter import ProcessMeter
from hub.brokers.redis.broker import RedisBroker
from hub.core.options import Namespaces
from hub.core.ports import PublishRequest
from hub.core.publication import Position, Publication
from hub.core.pushes import Change, Gap, PresenceReset
from tests.support.redis_server import RedisServer

SECONDS = 2.0
DATA = b'"' + b"x" * 198 + b'"'


class _Count:
    """A downstream."""

    def __init__(self) -> None:
        self.delivered = 0
        self.others = 0

    def deliver(self, publication: Publication) -> None:
        self.delivered += 1

    def lost(self, gap: Gap) -> None:
        self.others += 1

    def reset(self, channel: str, head: Position) -> None:
        self.others += 1

    def announce(self, channel: str, change: Change | PresenceReset) -> None:
        self.others += 1


async def _measure(
    broker: RedisBroker, count: _Count, at_once: int, server: ProcessMeter, *, listen: bool
) -> None:
    channel = f"bench-{at_once}-{listen}"
    if listen:
        await broker.subscribe(channel, lambda _: None)
    request = PublishRequest(channel, DATA, "bench")
    before, began, cpu = count.delivered, time.perf_counter(), time.process_time()
    used = server.usage()
    made = 0
    while time.perf_counter() - began < SECONDS:
        await asyncio.gather(*(broker.publish(request) for _ in range(at_once)))
        made += at_once
    elapsed, spent = time.perf_counter() - began, time.process_time() - cpu
    theirs = server.usage().since(used).cpu_seconds
    heard = count.delivered - before
    paces = (f"{made / elapsed:,.0f}", f"{heard / elapsed:,.0f}")
    costs = (f"{spent / made * 1e6:.1f}", f"{theirs / made * 1e6:.1f}")
    _print_row(str(at_once), "yes" if listen else "no", *paces, *costs)


def _print_row(*cells: str) -> None:
    print("".join(f"{cell:>16}" for cell in cells))


async def main() -> None:
    tasks: set[asyncio.Task[None]] = set()

    def spawn(work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(_run(work))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    count = _Count()
    with RedisServer() as redis:
        broker = RedisBroker(
            url=redis.url,
            downstream=count,
            namespaces=Namespaces(),
            clock=time.monotonic,
            wall_clock=time.time,
            spawn=spawn,
            log=structlog.get_logger(),
        )
        await broker.start()
        server = ProcessMeter(redis.pid)
        _print_row(
            "at once", "subscribed", "publications/s", "delivered/s", "us CPU each", "us of Redis"
        )
        for at_once in (1, 16, 64, 256):
            for listen in (False, True):
                await _measure(broker, count, at_once, server, listen=listen)
        await broker.stop()
    print(f"gaps and resets: {count.others}")


async def _run(work: Coroutine[object, object, None]) -> None:
    await work


if __name__ == "__main__":
    uvloop.run(main())
