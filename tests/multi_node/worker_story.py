"""A story over `hub serve --workers 2`: what can happen to its processes, told at random."""

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import psutil

from tests.brokers.redis.proxy import Proxy
from tests.multi_node import story as ordinary
from tests.multi_node.fleet import is_ready
from tests.multi_node.story import Lane, NoRedis, Step, Story, publish_many, steps, while_publishing
from tests.multi_node.workers import BROKER, WorkersHub
from tests.support.hub_process import HubProcess
from tests.support.waiting import eventually

STEPS = steps(8)
# Each costs seconds.
MAX_BROKER_KILLS = max(2, STEPS // 16)
MAX_WORKER_KILLS = max(3, STEPS // 8)
MAX_REPLACED = max(1, STEPS // 16)
MAX_ENDS = max(2, STEPS // 8)
_UP_SECONDS = 60.0


@dataclass
class OnWorkers(Story):
    """One hub of several processes."""

    worker_kills: int = 0
    replaced: int = 0
    ends: int = 0
    """How often the whole hub has ended and come back."""

    @classmethod
    def begin(
        cls, nodes: list[HubProcess], lanes: list[Lane], chance: random.Random
    ) -> "OnWorkers":
        return cls(NoRedis(), Proxy(0), nodes, lanes, chance)

    @property
    def hub(self) -> WorkersHub:
        assert isinstance(self.nodes[0], WorkersHub)
        return self.nodes[0]

    def break_once_more(self) -> None:
        """A worker stands still for a moment."""
        self.stop_for(self.chance.choice((1, 2)), 0.05)

    def stop_for(self, number: int, seconds: float) -> None:
        pid = self.hub.processes()[number]
        os.kill(pid, signal.SIGSTOP)

        def go_on() -> None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

        asyncio.get_running_loop().call_later(seconds, go_on)

    async def all_are_up(self) -> None:
        await eventually(lambda: set(self.hub.processes()) == {0, 1, 2}, seconds=_UP_SECONDS)
        await eventually(partial(is_ready, self.hub), seconds=_UP_SECONDS)

    async def close(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.hub.pid).children():
                child.resume()
        await super().close()


def _of(story: Story) -> OnWorkers:
    assert isinstance(story, OnWorkers)
    return story


async def a_worker_stands_still(story: Story) -> None:
    """Long enough now and then that its calls have been given up."""
    story.calm = False
    told = _of(story)
    told.stop_for(story.chance.choice((1, 2)), story.chance.choice((0.05, 0.3, 3.0)))
    await publish_many(story)


async def the_broker_process_stands_still(story: Story) -> None:
    story.calm = False
    _of(story).stop_for(BROKER, story.chance.choice((0.05, 0.3, 2.0)))
    await publish_many(story)


async def a_worker_dies(story: Story) -> None:
    """In the middle of work; its sessions are gone."""
    told = _of(story)
    if told.worker_kills == MAX_WORKER_KILLS:
        return
    told.worker_kills += 1
    story.calm = False
    async with while_publishing(story, 0.1):
        await asyncio.to_thread(told.hub.kill_child, story.chance.choice((1, 2)))
    await told.all_are_up()


async def the_broker_process_dies(story: Story) -> None:
    """With all that it held."""
    told = _of(story)
    if story.redis_kills == MAX_BROKER_KILLS:
        return
    story.redis_kills += 1
    story.calm = False
    async with while_publishing(story, 0.1):
        await asyncio.to_thread(told.hub.kill_child, BROKER)
    await told.all_are_up()


async def workers_are_replaced(story: Story) -> None:
    """By SIGHUP, in the middle of work: nothing is lost, and nothing may be announced."""
    told = _of(story)
    if told.replaced == MAX_REPLACED:
        return
    told.replaced += 1
    before = told.hub.stderr.count('"workers_replaced"')
    told.hub.signal(signal.SIGHUP)
    await publish_many(story)
    await eventually(
        lambda: told.hub.stderr.count('"workers_replaced"') > before, seconds=_UP_SECONDS
    )


async def the_supervisor_is_killed(story: Story) -> None:
    """In the middle of work, and started again at once, while its children may still run."""
    told = _of(story)
    if told.ends < MAX_ENDS:
        story.calm = False
        await _comes_back(told, told.hub.kill, within=0.15)


async def the_hub_is_restarted_while_workers_are_replaced(story: Story) -> None:
    """SIGTERM comes at any moment of what SIGHUP began."""
    told = _of(story)
    if told.ends < MAX_ENDS:
        story.calm = False
        told.hub.signal(signal.SIGHUP)
        await _comes_back(told, told.hub.stop, within=2.0)


async def _comes_back(told: OnWorkers, end: Callable[[], object], *, within: float) -> None:
    told.ends += 1
    # What the broker process had in memory alone is gone.
    told.redis_kills += 1
    async with while_publishing(told, within):
        await asyncio.to_thread(end)
        await asyncio.to_thread(told.hub.restart)
    await told.all_are_up()


async def a_worker_dies_while_workers_are_replaced(story: Story) -> None:
    """Be it the old one, the new one, or the one that has not had its turn."""
    told = _of(story)
    if told.worker_kills == MAX_WORKER_KILLS:
        return
    told.worker_kills += 1
    story.calm = False
    told.hub.signal(signal.SIGHUP)
    async with while_publishing(story, 2):
        with contextlib.suppress(KeyError, psutil.NoSuchProcess):
            await asyncio.to_thread(told.hub.kill_child, story.chance.choice((1, 2)))
    await told.all_are_up()


async def everybody_stands_still(story: Story) -> None:
    """Supervisor, workers and broker process, each for a time of its own."""
    told = _of(story)
    story.calm = False
    for number in (BROKER, 1, 2):
        told.stop_for(number, story.chance.choice((0.05, 1.0, 4.0)))
    told.hub.signal(signal.SIGSTOP)
    asyncio.get_running_loop().call_later(
        story.chance.choice((0.05, 1.0, 4.0)), told.hub.signal, signal.SIGCONT
    )
    await publish_many(story)


CALM: list[Step] = [
    ordinary.publish_some, ordinary.publish_many, ordinary.someone_comes, ordinary.someone_moves,
    ordinary.someone_leaves, ordinary.a_channel_is_born, ordinary.a_channel_ends,
    workers_are_replaced,
]  # fmt: skip
FAULTS: list[Step] = [
    a_worker_stands_still, the_broker_process_stands_still, a_worker_dies, the_broker_process_dies,
    the_supervisor_is_killed, the_hub_is_restarted_while_workers_are_replaced,
    a_worker_dies_while_workers_are_replaced, everybody_stands_still,
]  # fmt: skip
