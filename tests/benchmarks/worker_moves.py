"""How long the moves of `hub serve --workers 2` take: after SIGHUP, and after a worker's death.

    uv run python -m tests.benchmarks.worker_moves

Subscribers return as soon as their connection ends, and resume. Their work shares the machine with
the hub's. SIGHUP is also measured without subscribers and without a drain: that is the start of a
worker until it is ready, and the end of the other one. The least of the rounds counts.
"""

import asyncio
import contextlib
import json
import signal
import time
from dataclasses import dataclass

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from tests.multi_node.workers import WorkersHub
from tests.support.waiting import eventually

SESSIONS = 1_000
ROUNDS = 3
CHANNEL = "moves"


class Returning:
    """A subscriber that is back as soon as it can be."""

    def __init__(self, hub: WorkersHub) -> None:
        self._hub = hub
        self._position = ""
        self.worker = 0
        self.back_at = 0.0

    async def run(self) -> None:
        while True:
            with contextlib.suppress(OSError, WebSocketException):
                since = f"&since={CHANNEL}={self._position}" if self._position else ""
                async with connect(f"{self._hub.ws_url}?channel={CHANNEL}{since}") as connection:
                    await self._read(connection)
            self.worker = 0
            await asyncio.sleep(0)

    async def _read(self, connection: ClientConnection) -> None:
        async for raw in connection:
            push = json.loads(raw)
            if push["op"] == "welcome":
                node = push["node"]
            elif push["op"] == "subscribed":
                self._position = push["position"]
                self.worker, self.back_at = int(node.rpartition("-")[2]), time.perf_counter()


class _AsUsersStartIt(WorkersHub):
    is_forked = False


@dataclass(frozen=True)
class Round:
    hung_up_seconds: float
    """Of SIGHUP, for each worker."""
    back_seconds: float
    """From a worker's death until all its sessions have resumed."""
    sessions: int
    restarted_seconds: float
    """From a worker's death until the next one runs."""


async def measure() -> Round:
    with _AsUsersStartIt(HUB_DRAIN_SECONDS="0") as hub:
        hung_up_seconds = await hung_up(hub)
        sessions = [Returning(hub) for _ in range(SESSIONS)]
        running = [asyncio.create_task(each.run()) for each in sessions]
        await eventually(lambda: all(each.worker for each in sessions), seconds=120)
        dead = [each for each in sessions if each.worker == 1]
        started = hub.stderr.count('"worker_started"')
        begun = time.perf_counter()
        hub.kill_child(1)
        await eventually(lambda: all(each.back_at > begun for each in dead), seconds=60)
        back_seconds = max(each.back_at for each in dead) - begun
        await eventually(lambda: hub.stderr.count('"worker_started"') > started, seconds=60)
        restarted_seconds = time.perf_counter() - begun
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    return Round(hung_up_seconds, back_seconds, len(dead), restarted_seconds)


async def main() -> None:
    rounds = [await measure() for _ in range(ROUNDS)]
    back = min(rounds, key=lambda each: each.back_seconds)
    print(f"SIGHUP, for each worker: {min(each.hung_up_seconds for each in rounds):.1f} s")
    print(f"a worker dies: {back.sessions} sessions resume elsewhere in {back.back_seconds:.2f} s")
    print(f"the next worker runs after {min(each.restarted_seconds for each in rounds):.1f} s")


async def hung_up(hub: WorkersHub) -> float:
    """Return the seconds for each worker."""
    begun = time.perf_counter()
    hub.signal(signal.SIGHUP)
    await eventually(lambda: '"workers_replaced"' in hub.stderr, seconds=120)
    return (time.perf_counter() - begun) / 2


if __name__ == "__main__":
    asyncio.run(main())
