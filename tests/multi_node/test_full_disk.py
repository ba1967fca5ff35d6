"""A hub reports that its history file cannot be written, and works again when it can."""

import asyncio
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx2 as httpx
import pytest

from hub.brokers.sqlite import writing
from hub.errors import NotPublishedError
from tests.brokers.sqlite.nodes import StoredNode
from tests.multi_node.fleet import NO_TLS, is_ready, publish
from tests.multi_node.stored_story import fill, small_file_system
from tests.support.hub_process import HubProcess
from tests.support.waiting import eventually


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A directory on a file system of 8 MB."""
    with small_file_system(tmp_path / "small", 8) as directory:
        yield directory


async def test_a_full_disk_is_said_everywhere_and_mends_itself(small: Path) -> None:
    """503 `not_published`, not ready, a metric, one line in the log; what was taken is served."""
    with HubProcess(HUB_BROKER=f"sqlite://{small}/hub.db", HUB_LOG_LEVEL="info") as hub:
        first = (await publish(hub, "news", "before")).json()
        fill(small / "ballast")

        async def refused() -> httpx.Response | None:
            # The WAL may have a page or two left.
            answer = await publish(hub, "news", "x" * 50_000)
            return answer if answer.status_code == 503 else None

        answer = await eventually(refused)
        assert answer is not None
        assert answer.json()["code"] == "not_published"
        assert "disk is full" in answer.json()["detail"]
        assert int(answer.headers["Retry-After"]) >= 1
        async with httpx.AsyncClient(verify=NO_TLS, base_url=hub.url) as client:
            items = [{"channel": "news", "data": number} for number in range(3)]
            many = await client.post("/api/publish", json=items)
            assert (many.status_code, {each["code"] for each in many.json()}) == (
                503,
                {"not_published"},
            )
            ready = await client.get("/readyz")
            assert ready.status_code == 503
            assert "hub.db: the disk is full" in ready.json()["reasons"][0]
            metrics = (await client.get("/metrics")).text
            assert "\nhub_broker_unwritable_servers 1.0" in metrics
            held = (await client.get("/api/channels/news/history")).json()
            assert held["publications"][0]["data"] == "before"
            (small / "ballast").unlink()
            await eventually(partial(is_ready, hub))
            metrics = (await client.get("/metrics")).text
            assert "\nhub_broker_unwritable_servers 0.0" in metrics
        head = int(held["position"].rpartition(":")[2])
        after = (await publish(hub, "news", "after")).json()
        assert (after["epoch"], after["offset"]) == (first["epoch"], head + 1)
        assert hub.stderr.count("history_not_written") == 1
        assert hub.stderr.count("history_written_again") == 1


async def test_a_file_system_that_is_read_only_is_waited_for(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel makes it read-only after an error, until somebody mends it."""
    monkeypatch.setattr(writing, "FIRST_RETRY_SECONDS", 0.01)
    path = small / "hub.db"
    async with StoredNode(path) as node:
        first = await node.publish()
    await asyncio.to_thread(_remount, small, "ro")
    async with StoredNode(path, clock=node.clock) as node:
        assert "may not be written" in node.stored.problems()[0]
        with pytest.raises(NotPublishedError):
            await node.publish()
        await asyncio.to_thread(_remount, small, "rw")
        await eventually(lambda: not node.stored.problems())
        assert (await node.publish()).epoch == first.epoch


def _remount(directory: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(directory)], check=True)
