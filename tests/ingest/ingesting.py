"""`hub ingest` as a process, and what a hub holds of it afterwards."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2 as httpx

from tests.cli.commands import Ended, run, started
from tests.support.forked_process import PipedProcess
from tests.support.hub_process import HubProcess
from tests.support.waiting import eventually

# Everything that a test publishes stays in history.
KEEP_ALL = {"HUB_HISTORY_SIZE": "100000", "HUB_HISTORY_TTL_SECONDS": "3600"}
# Two busy cores: only a failing test waits this long.
DEADLINE_SECONDS = 40.0


@dataclass(frozen=True)
class Case:
    """A file, a channel of its own, and a checkpoint."""

    hub: HubProcess
    channel: str
    file: Path

    @property
    def checkpoint(self) -> Path:
        return self.file.parent / "state" / "checkpoint.json"

    def arguments(self, *more: str) -> tuple[str, ...]:
        kept = ("--checkpoint", str(self.checkpoint))
        return (str(self.file), self.channel, "--url", self.hub.url, *kept, *more)

    async def ingest(self, *more: str) -> Ended:
        return await run("ingest", *self.arguments(*more))

    @asynccontextmanager
    async def following(self, *more: str) -> AsyncIterator[PipedProcess]:
        async with started("ingest", *self.arguments("--follow", *more)) as process:
            yield process

    def append(self, text: str) -> None:
        with self.file.open("a") as file:
            file.write(text)

    async def published(self) -> list[object]:
        """The data of all publications, in order; checks that no offset is missing."""
        found: list[object] = []
        url = f"{self.hub.url}/api/channels/{self.channel}/history"
        async with httpx.AsyncClient(timeout=30) as http:
            position = ""
            while True:
                params = {"limit": "1000"} | ({"since": position} if position else {})
                page = (await http.get(url, params=params)).json()
                if not (publications := page["publications"]):
                    return found
                offsets = [each["offset"] for each in publications]
                assert offsets == list(range(len(found) + 1, len(found) + len(offsets) + 1))
                found += [each["data"] for each in publications]
                position = f"{page['epoch']}:{offsets[-1]}"

    async def count(self) -> int:
        """How many were published."""
        url = f"{self.hub.url}/api/channels/{self.channel}/history?limit=1"
        async with httpx.AsyncClient(timeout=30) as http:
            answer = (await http.get(url)).raise_for_status()
        return int(answer.json()["position"].rpartition(":")[2])

    async def until(self, expected: list[object]) -> None:
        """Wait for these publications, and for nothing else."""

        async def there() -> bool:
            return await self.count() >= len(expected)

        await eventually(there, seconds=DEADLINE_SECONDS, what=f"{len(expected)} publications")
        assert await self.published() == expected

    def noted_lines(self) -> int:
        """How many lines the checkpoint says are done; 0 where there is none."""
        return int(str(self.saved()["lines"])) if self.checkpoint.exists() else 0

    def saved(self) -> dict[str, object]:
        saved: dict[str, object] = json.loads(self.checkpoint.read_bytes())
        return saved


async def ended(process: PipedProcess) -> tuple[int, str]:
    """Exit code and stderr."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        _, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, err.decode()
