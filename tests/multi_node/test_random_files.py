"""Whatever happens to a hub whose history is a file, and to its disk: nothing is lost.

    TESTS_SEED=1 TESTS_STEPS=200 python -m pytest tests/multi_node/test_random_files.py

plays the same story again, as far as processes do the same again, and a longer one.
"""

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.multi_node import stored_story, worker_story
from tests.multi_node.stored_story import STEPS, Stored, small_file_system, telling_of
from tests.multi_node.story import NAMESPACES, telling_at
from tests.multi_node.worker_story import OnWorkers
from tests.multi_node.workers import BROKER, WorkersHub


@pytest.mark.timeout(180 + 15 * STEPS)
async def test_every_subscriber_sees_all_in_order_over_kills_and_restarts(
    tmp_path: Path, channel: str
) -> None:
    """Judged by what the subscribers saw alone; no epoch ends, and nothing is announced."""
    async with telling_of(tmp_path, channel) as told:
        await told.tell(stored_story.CALM, STEPS)
        assert await told.end() == []
        faults = [*stored_story.FAULTS, *stored_story.FILES]
        await told.tell([*stored_story.CALM, *faults * 2], STEPS)
        assert await told.end() == []


@pytest.mark.timeout(180 + 15 * STEPS)
async def test_a_full_disk_loses_nothing_that_was_acknowledged(
    tmp_path: Path, channel: str
) -> None:
    """A publication that the disk did not take was refused; its retry under the
    same key is stored once."""
    with small_file_system(tmp_path / "small", 64) as directory:
        async with telling_of(directory, channel) as told:
            steps = [*stored_story.CALM, *stored_story.FAULTS, *[stored_story.the_disk_is_full] * 4]
            await told.tell(steps, STEPS)
            assert await told.end() == []


@pytest.mark.timeout(180 + 15 * STEPS)
async def test_workers_on_a_file_keep_their_history_when_the_broker_process_dies(
    tmp_path: Path, channel: str
) -> None:
    """Two workers and a broker process that has the file."""
    broker = f"sqlite://{tmp_path}/hub.db"
    with hub_on(broker) as hub:
        async with telling_at([hub], channel, OnWorkers.begin) as told:
            await told.tell([*worker_story.CALM, *worker_story.FAULTS * 2], STEPS)
            assert await told.end() == []
            assert not any(seat.view.left for seat in told.seats)


def hub_on(broker: str) -> WorkersHub:
    return WorkersHub(HUB_NAMESPACES=NAMESPACES, HUB_HISTORY_SIZE="100000", HUB_BROKER=broker)


@dataclass
class StoredOnWorkers(OnWorkers, Stored):
    """One hub of several processes on one file."""

    @property
    def writer(self) -> int:
        return self.hub.processes().get(BROKER, 0)


@pytest.mark.timeout(180 + 15 * STEPS)
async def test_workers_lose_nothing_when_the_disk_is_full(tmp_path: Path, channel: str) -> None:
    """The broker process has the file; supervisor and workers die and stand still besides."""
    with small_file_system(tmp_path / "small", 64) as directory:
        broker = f"sqlite://{directory}/hub.db"
        with hub_on(broker) as hub:
            async with telling_at([hub], channel, StoredOnWorkers.at(directory)) as told:
                full = [stored_story.the_disk_is_full, stored_story.another_program_holds_the_file]
                faults = [*worker_story.FAULTS, *stored_story.FILES, *full * 3]
                await told.tell([*worker_story.CALM, *faults], STEPS)
                assert await told.end() == []
