"""A story over one hub whose history is a file: what can happen to process and disk, at random.

Stricter than the others: no epoch ever ends, because a restart is none.
"""

import asyncio
import contextlib
import errno
import random
import resource
import signal
import sqlite3
import subprocess
import tempfile
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hub.brokers.sqlite.backup import copy
from tests.brokers.redis.proxy import Proxy
from tests.multi_node import story as ordinary
from tests.multi_node.fleet import SETTINGS, kept, status
from tests.multi_node.story import (
    NAMESPACES,
    Lane,
    NoRedis,
    Step,
    Story,
    publish_many,
    steps,
    telling_at,
    while_publishing,
)
from tests.support.hub_process import HubProcess
from tests.support.waiting import eventually

STEPS = steps(12)
MAX_KILLS = max(4, STEPS // 4)
MAX_STOPS = max(2, STEPS // 8)
MAX_FULL = max(3, STEPS // 6)
_SETTINGS = SETTINGS | {"HUB_LOG_LEVEL": "info", "HUB_NAMESPACES": NAMESPACES}
_PIECE = b"\0" * (1 << 16)


@dataclass
class Stored(Story):
    """One hub on one file."""

    directory: Path = Path()
    kills: int = 0
    stops: int = 0
    filled: int = 0

    @classmethod
    def at(
        cls, directory: Path
    ) -> "Callable[[list[HubProcess], list[Lane], random.Random], Stored]":
        def begin(nodes: list[HubProcess], lanes: list[Lane], chance: random.Random) -> Stored:
            return cls(NoRedis(), Proxy(0), nodes, lanes, chance, directory=directory)

        return begin

    @property
    def hub(self) -> HubProcess:
        return self.nodes[0]

    @property
    def ballast(self) -> Path:
        return self.directory / "ballast"

    @property
    def writer(self) -> int:
        """The process that has the file; 0 while there is none."""
        return self.hub.pid

    def break_once_more(self) -> None:
        """The node stands still for a moment."""
        self.hub.signal(signal.SIGSTOP)
        asyncio.get_running_loop().call_later(0.05, self.hub.signal, signal.SIGCONT)

    async def end(self) -> list[str]:
        self.ballast.unlink(missing_ok=True)
        found = await super().end()
        resets = [view.name for seat in self.seats if (view := seat.view).left]
        return [*found, *(f"{name} was reset, and nothing began anew" for name in resets)]


def _of(story: Story) -> Stored:
    assert isinstance(story, Stored)
    return story


async def the_hub_is_killed(story: Story) -> None:
    """In the middle of work, and started again."""
    told = _of(story)
    if told.kills == MAX_KILLS:
        return
    told.kills += 1
    story.calm = False
    async with while_publishing(story, 0.15):
        await asyncio.to_thread(told.hub.kill)
        await asyncio.to_thread(told.hub.restart)


async def the_hub_is_restarted(story: Story) -> None:
    """In order, in the middle of work: it drains, and writes what it has taken."""
    told = _of(story)
    if told.stops == MAX_STOPS:
        return
    told.stops += 1
    async with while_publishing(story, 0.05):
        await asyncio.to_thread(told.hub.stop)
        await asyncio.to_thread(told.hub.restart)


async def another_program_holds_the_file(story: Story) -> None:
    """Now and then for longer than is waited for."""
    story.calm = False
    db = sqlite3.connect(
        _of(story).directory / "hub.db", isolation_level=None, timeout=10, check_same_thread=False
    )
    try:
        await asyncio.to_thread(db.execute, "BEGIN IMMEDIATE")
        working = asyncio.create_task(publish_many(story))
        await asyncio.sleep(story.chance.choice((0.1, 1.5)))
        db.execute("ROLLBACK")
        await working
    finally:
        db.close()


async def the_disk_is_full(story: Story) -> None:
    """In the middle of work; now and then the hub is killed meanwhile."""
    told = _of(story)
    if told.filled == MAX_FULL:
        return
    told.filled += 1
    story.calm = False
    working = asyncio.create_task(publish_many(story))
    await asyncio.sleep(story.chance.uniform(0, 0.05))
    fill(told.ballast)
    more = asyncio.create_task(publish_many(story))

    async def refused() -> bool:
        return await status(told.hub, "/readyz") == 503

    if story.chance.random() < 0.7:
        # What was written before may leave it a little.
        with contextlib.suppress(AssertionError):
            await eventually(refused, seconds=3)
    if story.chance.random() < 0.3:
        await asyncio.to_thread(told.hub.kill)
        told.ballast.unlink()
        await asyncio.to_thread(told.hub.restart)
    else:
        told.ballast.unlink()
    await asyncio.gather(working, more)


async def the_file_may_not_grow(story: Story) -> None:
    """The process that writes has a limit for the size of files, as a quota is."""
    told = _of(story)
    story.calm = False
    pid = await eventually(lambda: told.writer)
    size = max(path.stat().st_size for path in told.directory.glob("hub.db*"))
    _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    limit = story.chance.choice((4096, size // 2 + 1, size))
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit, most))
    async with while_publishing(story, 1):
        # It may have died of something else meanwhile.
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, most))


async def a_file_beside_it_is_deleted(story: Story) -> None:
    """The WAL or its index, in the middle of work: the hub makes another."""
    told = _of(story)
    story.calm = False
    suffix = story.chance.choice(("-wal", "-shm"))
    beside = told.directory / f"hub.db{suffix}"
    async with while_publishing(story, 0.1):
        beside.unlink(missing_ok=True)
    await eventually(beside.exists, what=suffix)


async def a_backup_is_made(story: Story) -> None:
    """In the middle of work; a hub on the copy has all that was acknowledged before."""
    told, lane = _of(story), story.lanes[0]
    before = set(lane.said.values())
    working = asyncio.create_task(publish_many(story))
    with tempfile.TemporaryDirectory() as directory:
        copied = f"{directory}/copy.db"
        await asyncio.to_thread(copy, f"{told.directory}/hub.db", copied)
        with HubProcess(
            allow_tracebacks=False, HUB_BROKER=f"sqlite://{copied}", **_SETTINGS
        ) as hub:
            _, held = await kept(hub, lane.channel)
    data = list(held.values())
    assert before <= set(data)
    assert len(data) == len(set(data))
    await working


def fill(ballast: Path) -> None:
    """Leave the file system no byte."""
    with ballast.open("ab", buffering=0) as file:
        for piece in (_PIECE, b"\0"):
            try:
                while file.write(piece):
                    pass
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise


CALM: list[Step] = [
    ordinary.publish_some, ordinary.publish_many, ordinary.someone_comes, ordinary.someone_moves,
    ordinary.someone_leaves, ordinary.a_channel_is_born, ordinary.a_channel_ends,
    the_hub_is_restarted,
]  # fmt: skip
FAULTS: list[Step] = [
    the_hub_is_killed, the_hub_is_killed, ordinary.a_node_stands_still,
    another_program_holds_the_file,
]  # fmt: skip
FILES: list[Step] = [the_file_may_not_grow, a_file_beside_it_is_deleted, a_backup_is_made]


@contextlib.contextmanager
def small_file_system(where: Path, megabytes: int) -> Iterator[Path]:
    """One of memory; the test is skipped for whoever may not mount."""
    where.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "hub-test", str(where)]
    mounted = subprocess.run(command, check=False, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no file system of our own: {mounted.stderr}")
    try:
        yield where
    finally:
        subprocess.run(["umount", "-l", str(where)], check=False)


@contextlib.asynccontextmanager
async def telling_of(directory: Path, channel: str) -> AsyncGenerator[Stored]:
    """A story of one hub whose file lies in `directory`."""
    hub = HubProcess(allow_tracebacks=False, HUB_BROKER=f"sqlite://{directory}/hub.db", **_SETTINGS)
    async with contextlib.AsyncExitStack() as stack:
        await asyncio.to_thread(hub.start)
        stack.push_async_callback(asyncio.to_thread, hub.__exit__, None, None, None)
        yield await stack.enter_async_context(telling_at([hub], channel, Stored.at(directory)))
