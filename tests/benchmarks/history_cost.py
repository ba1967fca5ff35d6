"""Measures what a publication into a history file costs, in instructions of the broker and of
SQLite.

    uv run python -m tests.benchmarks.history_cost
    uv run python -m tests.benchmarks.history_cost CHECKOUT

The second form measures another checkout, as of an earlier commit.

Runs the broker without a hub around it under cachegrind: publishers that each wait for their answer
before they publish again, 200-byte payloads, one channel each, in a directory in memory
(`/dev/shm`). The kernel's part, writing and fsync, is not counted: by `hub bench --intake --way
sqlite` it is. Instructions, because they are the same on a busy machine. Some 40 s of CPU.
"""

import asyncio
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from hub.core.options import ChannelOptions, Namespaces
from hub.core.ports import PublishRequest
from tests.benchmarks.record_cost import instructions
from tests.brokers.sqlite.nodes import StoredNode

PAYLOAD = b'"' + b"x" * 198 + b'"'
# Numbers of publishers; and the publications of all: a short run, and a longer one.
WAYS = ("64", "8", "1000")
SHORT, LONG = 4000, 16_000


async def _run(publishers: int, count: int) -> None:
    namespaces = Namespaces(ChannelOptions(history_size=100, history_ttl_seconds=300))
    with tempfile.TemporaryDirectory(dir="/dev/shm") as inside:
        async with StoredNode(Path(inside) / "hub.db", namespaces=namespaces) as node:
            done = asyncio.Event()
            left = [count]

            def publish(request: PublishRequest) -> None:
                node.stored.publish_soon(request, partial(answered, request))

            def answered(request: PublishRequest, _: object) -> None:
                left[0] -= 1
                if left[0] >= publishers:
                    publish(request)
                elif not left[0]:
                    done.set()

            for number in range(publishers):
                publish(PublishRequest(f"intake-{number}", PAYLOAD, "p"))
            await done.wait()


def run(way: str, count: int) -> None:
    """Publish `count` in all, as many at a time as `way` says."""
    asyncio.run(_run(int(way), count))


def costs(checkout: str) -> dict[str, float]:
    """Return, by way, the instructions for a publication in the checkout of that path."""
    found = instructions("tests.benchmarks.history_cost", checkout, WAYS, (SHORT, LONG))
    return {way: (found[way, LONG] - found[way, SHORT]) / (LONG - SHORT) for way in WAYS}


def main(arguments: Sequence[str]) -> None:
    for way, each in costs(arguments[0] if arguments else ".").items():
        print(f"{way:>4} at a time {each:8,.0f} instructions/publication")


if __name__ == "__main__":
    main(sys.argv[1:])
