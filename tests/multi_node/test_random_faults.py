"""Whatever happens to Redis, nodes and connections: order, no repeats, and every loss announced.

    HUB_TEST_SEED=1234 HUB_TEST_STEPS=200 python -m pytest tests/multi_node/test_random_faults.py

plays the same story again, as far as processes do the same again, and a longer one.
"""

import os
import random
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.brokers.redis.proxy import proxy
from tests.multi_node.fleet import hubs
from tests.multi_node.story import CALM, CUTS, LOSSES, NAMESPACES, Lane, Step, Story
from tests.support.redis_server import RedisServer

STEPS = int(os.environ.get("HUB_TEST_STEPS", "25"))


@asynccontextmanager
async def story(redis: RedisServer, channel: str) -> AsyncIterator[Story]:
    seed = int(os.environ.get("HUB_TEST_SEED", secrets.randbelow(1 << 32)))
    print(f"HUB_TEST_SEED={seed}")
    lanes = [
        Lane(channel, keeps_all=True),
        Lane(f"short:{channel}", keeps_all=False),
        Lane(f"bare:{channel}", keeps_all=False),
    ]
    async with (
        proxy(redis.port) as between,
        hubs(between.url, 2, HUB_NAMESPACES=NAMESPACES) as nodes,
    ):
        told = Story(redis, between, nodes, lanes, random.Random(seed))
        try:
            for lane in (*lanes, *lanes):
                await told.sit(lane)
            await told.sit_everywhere()
            yield told
        finally:
            print(told.told, told.figures, sep="\n")
            await told.close()


@pytest.mark.timeout(60 + 4 * STEPS)
@pytest.mark.parametrize(
    "steps",
    [CALM, CALM + CUTS, CALM + CUTS + LOSSES],
    ids=["calm", "cut connections", "restarts and kills"],
)
async def test_every_subscriber_sees_all_in_order_or_is_told(
    redis: RedisServer, channel: str, steps: list[Step]
) -> None:
    """Judged by what the subscribers saw alone, strictly in both directions."""
    async with story(redis, channel) as told:
        await told.tell(steps, STEPS)
        assert await told.end() == []
