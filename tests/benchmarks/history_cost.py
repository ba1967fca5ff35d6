"""What a publication into a history file costs, in instructions of the broker and of SQLite.

    uv run python -m tests.benchmarks.history_cost
    uv run python -m tests.benchmarks.history_cost CHECKOUT

The second form measures another checkout, as of an earlier commit.

Runs the broker without a hub around it under cachegrind: publishers that each wait for their answer
before they publish again, 200-byte payloads, one channel each, in a directory in memory
(`/dev/shm`). The kernel's part, writing and fsync, is not counted: by `hub bench --intake --way
sqlite` it is. Instructions, because they are the same on a busy machine. Some 40 s of CPU.
"""

import asyncio
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from hub.core.options import ChannelOptions, Namespaces
from hub.core.ports import PublishRequest
from tests.brokers.sqlite.nodes import StoredNode

PAYLOAD = b'"' + b"x" * 198 + b'"'
# Publishers, and the publications of each: a short run, and a longer one.
WAYS = {"64 at a time": 64, "8 at a time": 8, "1000 at a time": 1000}
SHORT, LONG = 4000, 16_000
_TIMEOUT_SECONDS = 600


async def run(publishers: int, count: int) -> None:
    """Publish so many in all."""
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


# For the interpreter that is counted: prints a line for each child, whose number it has there.
_CHILDREN = """
import asyncio, os
from tests.benchmarks.history_cost import run
for name, publishers in {ways}.items():
    for count in {counts}:
        if not (child := os.fork()):
            asyncio.run(run(publishers, count))
            os._exit(0)
        os.waitpid(child, 0)
        print(child, count, name, flush=True)
"""


def costs(checkout: str) -> dict[str, float]:
    """Return, by way, the instructions for a publication in the checkout of that path."""
    command = [
        "valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null",
        sys.executable, "-c", _CHILDREN.format(ways=WAYS, counts=(SHORT, LONG)),
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=checkout, capture_output=True, text=True, check=True,
        timeout=_TIMEOUT_SECONDS, env={"PYTHONHASHSEED": "0", "PYTHONPATH": "."},
    )  # fmt: skip
    counted = {
        child: int(count.replace(",", ""))
        for child, count in re.findall(r"==(\d+)== I +refs: +([\d,]+)", done.stderr)
    }
    found = {}
    for line in done.stdout.splitlines():
        child, count, name = line.split(" ", 2)
        found[name, int(count)] = counted[child]
    return {name: (found[name, LONG] - found[name, SHORT]) / (LONG - SHORT) for name in WAYS}


def main(arguments: Sequence[str]) -> None:
    for name, each in costs(arguments[0] if arguments else ".").items():
        print(f"{name:15} {each:8,.0f} instructions/publication")


if __name__ == "__main__":
    main(sys.argv[1:])
