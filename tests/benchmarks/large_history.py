"""What a hub with gigabytes of history takes to start, to back up, and in memory.

    uv run python -m tests.benchmarks.large_history [--gigabytes 2] [--directory DIR]

It fills a history file over HTTP: publications of 1,000 bytes in 10,000 channels, each with an
idempotency key. Then it ends the hub, starts it again, and kills it and starts it again. A start is
counted from the new process until `/readyz` is 200. One publisher posts while `hub backup` runs and
while it does not; the slowest answers of both are shown. DIR has to be on the disk that is meant,
and have room for three times as much.
"""

import argparse
import asyncio
import itertools
import sys
import tempfile
import time
from pathlib import Path

import httpx2 as httpx
import orjson

from tests.support.background import Background
from tests.support.hub_process import HubProcess
from tests.support.programs import outside

CHANNELS = 10_000
PUBLICATION_BYTES = 1_000
ITEMS = 500
# Requests under way while the file is filled.
PUBLISHERS = 4
MEGABYTE, GIGABYTE = 10**6, 10**9
QUIET_SECONDS = 10.0


class _AsUsersStartIt(HubProcess):
    is_forked = False


async def fill(hub: HubProcess, publications: int) -> None:
    """Publish so many, spread over the channels."""
    data = "x" * (PUBLICATION_BYTES - 2)
    starts = iter(range(0, publications, ITEMS))

    async def publish(client: httpx.AsyncClient) -> None:
        for first in starts:
            items = [
                {"channel": f"c{n % CHANNELS}", "data": data, "idempotency_key": f"key-{n}"}
                for n in range(first, first + ITEMS)
            ]
            answer = await client.post(f"{hub.url}/api/publish", content=orjson.dumps(items))
            answer.raise_for_status()
            assert all("offset" in each for each in answer.json())

    async with httpx.AsyncClient(timeout=60) as client:
        await asyncio.gather(*(publish(client) for _ in range(PUBLISHERS)))


class OneByOne(Background):
    """Posts one publication after another."""

    def __init__(self, hub: HubProcess) -> None:
        super().__init__()
        self._hub = hub
        self.took: list[float] = []
        """The seconds that each answer took."""

    async def run(self) -> None:
        async with httpx.AsyncClient(timeout=60) as client:
            for number in itertools.count():
                begun = time.perf_counter()
                url = f"{self._hub.url}/api/publish/c{number % CHANNELS}"
                (await client.post(url, content=b'"now"')).raise_for_status()
                self.took.append(time.perf_counter() - begun)


async def started(hub: HubProcess) -> float:
    """Start it again after its end; return the seconds until it is ready."""
    begun = time.perf_counter()
    await asyncio.to_thread(hub.restart)
    return time.perf_counter() - begun


async def backed_up(source: str, target: Path) -> float:
    """Return the seconds of `hub backup`."""
    begun = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hub", "backup", str(target), env=outside() | {"HUB_BROKER": source}
    )
    assert await process.wait() == 0
    return time.perf_counter() - begun


def told(name: str, *figures: str) -> None:
    print(f"{name:<64} {', '.join(figures)}", flush=True)


def milliseconds(took: list[float]) -> str:
    middle, worst = sorted(took)[len(took) // 2], max(took)
    return f"{middle * 1000:.1f} ms in the middle, {worst * 1000:.0f} ms at most"


async def main(gigabytes: float, directory: str | None) -> None:
    publications = int(gigabytes * GIGABYTE / PUBLICATION_BYTES)
    with tempfile.TemporaryDirectory(dir=directory) as inside:
        path = Path(inside) / "hub.db"
        hub = _AsUsersStartIt(
            HUB_BROKER=f"sqlite://{path}",
            HUB_HISTORY_SIZE=str(publications),
            HUB_HISTORY_TTL_SECONDS="86400",
            HUB_POSITION_TTL_SECONDS="90000",
            HUB_IDEMPOTENCY_TTL_SECONDS="86400",
            HUB_HISTORY_TOTAL_BYTES=str(int(4 * gigabytes * GIGABYTE)),
        )
        with hub:
            told("an empty file: start; memory", f"{await started(hub):.2f} s", memory(hub))
            begun = time.perf_counter()
            await fill(hub, publications)
            seconds = time.perf_counter() - begun
            told(f"{publications:,} publications", f"{publications / seconds:,.0f}/s")
            hub.stop()
            told("the file", f"{path.stat().st_size / GIGABYTE:.2f} GB")
            told("a start after an end; memory", f"{await started(hub):.2f} s", memory(hub))
            await asyncio.to_thread(hub.kill)
            told("a start after kill -9; memory", f"{await started(hub):.2f} s", memory(hub))
            async with OneByOne(hub) as publishing:
                await asyncio.sleep(QUIET_SECONDS)
                told("a POST", milliseconds(publishing.took))
                publishing.took.clear()
                seconds = await backed_up(f"sqlite://{path}", Path(inside) / "copy.db")
                told("a POST during a backup", milliseconds(publishing.took))
            told("a backup", f"{seconds:.1f} s")
            told("memory", memory(hub))


def memory(hub: HubProcess) -> str:
    return f"{hub.memory_bytes / MEGABYTE:.0f} MB"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--directory")
    chosen = parser.parse_args()
    asyncio.run(main(chosen.gigabytes, chosen.directory))
