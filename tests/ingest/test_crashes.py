"""`hub ingest` is killed, its hub is killed, its file is huge: each line comes once, in order."""

import asyncio
import random
from pathlib import Path

import psutil
import pytest

from hub.ingest.pace import MAX_LINES
from tests.cli.commands import started
from tests.ingest.ingesting import DEADLINE_SECONDS, KEEP_ALL, Case, ended
from tests.support.forked_process import PipedProcess
from tests.support.hub_process import HubProcess
from tests.support.redis_server import RedisServer, is_installed
from tests.support.waiting import eventually

LINES = 3000
KILLS = 6
MIB = 1024 * 1024
# An interpreter with what the command imports takes 60 MiB; the file is 200.
MAX_RSS_BYTES = 130 * MIB


@pytest.mark.timeout(180)
async def test_killed_again_and_again_it_repeats_and_skips_nothing(
    hub: HubProcess, channel: str, tmp_path: Path
) -> None:
    """kill -9 at random places, most of them in the middle of a request."""
    case = Case(hub, channel, tmp_path / "numbers")
    case.file.write_text("".join(f"{number}\n" for number in range(LINES)))
    kill_at = sorted(random.sample(range(1, LINES - 500), KILLS))
    for place in kill_at:
        async with started("ingest", *case.arguments("--rate", "4000")) as process:

            async def reached(place: int = place) -> bool:
                return await case.count() >= place

            await eventually(reached, seconds=DEADLINE_SECONDS, what=f"line {place}")
            process.kill()
            await process.wait()
        # At most one request was published and not noted.
        assert await case.count() - case.noted_lines() <= MAX_LINES
    done = await case.ingest("--rate", "4000")
    assert done.code == 0, done.err
    assert await case.published() == list(range(LINES)), f"killed at {kill_at}"


async def test_a_kill_between_the_publication_and_its_checkpoint_repeats_nothing(
    hub: HubProcess, channel: str, tmp_path: Path
) -> None:
    """The checkpoint is put back to before the last requests, which is what a kill leaves."""
    case = Case(hub, channel, tmp_path / "numbers")
    case.file.write_text("1\n2\n")
    await case.ingest()
    early = case.checkpoint.read_bytes()
    case.append("3\n4\n")
    await case.ingest()
    case.checkpoint.write_bytes(early)
    case.append("5\n")
    done = await case.ingest()
    assert "3 published (2 of them had been before" in done.err
    assert await case.published() == [1, 2, 3, 4, 5]


async def says(process: PipedProcess, words: str) -> None:
    """Wait until it says so on stderr."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while words not in (line := (await process.stderr.readline()).decode()):
            assert line, f"it ended without {words!r}"


@pytest.mark.skipif(not is_installed(), reason="redis-server is not installed")
@pytest.mark.timeout(180)
async def test_a_hub_that_is_killed_and_comes_back_misses_no_line(
    channel: str, tmp_path: Path
) -> None:
    """With Redis, which knows what the hub took and could not answer any more."""
    with (
        RedisServer() as redis,
        HubProcess(allow_tracebacks=False, HUB_BROKER=redis.url, **KEEP_ALL) as hub,
    ):
        case = Case(hub, channel, tmp_path / "numbers")
        case.file.write_text("".join(f"{number}\n" for number in range(LINES)))
        async with started("ingest", *case.arguments("--rate", "1000")) as process:

            async def some() -> bool:
                return await case.count() >= LINES // 5

            await eventually(some, seconds=DEADLINE_SECONDS, what="a fifth")
            await asyncio.to_thread(hub.kill)
            await says(process, "trying again in")
            await asyncio.to_thread(hub.restart)
            code, err = await ended(process)
        assert code == 0, err
        assert await case.published() == list(range(LINES))


async def test_a_huge_file_takes_no_more_memory_than_a_small_one(
    hub: HubProcess, channel: str, tmp_path: Path
) -> None:
    """200 MiB: a hole without one line end, large lines and small ones."""
    case = Case(hub, channel, tmp_path / "huge")
    large = ["x" * 60_000 for _ in range(100)]
    with case.file.open("wb") as file:
        file.write(b"first\n")
        file.seek(200 * MIB)
        file.write(b"\n" + "\n".join(large).encode() + b"\nlast\n")
    most = 0
    async with started("ingest", *case.arguments("--rate", "5000")) as process:
        watched = psutil.Process(process.pid)
        while process.returncode is None:
            try:
                most = max(most, watched.memory_info().rss)
            except psutil.NoSuchProcess:
                break
            await asyncio.sleep(0.01)
        code, err = await ended(process)
    assert code == 1
    assert "line 2 (byte 6) not published: too_large" in err
    assert await case.published() == ["first", *large, "last"]
    assert MIB < most < MAX_RSS_BYTES
