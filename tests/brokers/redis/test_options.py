"""The background tasks that a node lends to a shard end with their owner."""

import asyncio

from tests.brokers.redis.channels.rig import ShardRig


async def test_stop_ends_what_runs_and_waits_for_its_end() -> None:
    """A task that outlived its shard would keep the shard's connections up for ever."""
    tasks, ended = ShardRig().tasks, list[str]()

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append("endless")

    async def short() -> None:
        ended.append("short")

    tasks.spawn(endless())
    tasks.spawn(short())
    await asyncio.sleep(0)
    assert ended == ["short"]
    await tasks.stop()
    assert ended == ["short", "endless"]
