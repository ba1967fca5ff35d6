"""Every shape of Redis: calm runs in which nothing may be announced, then all that can go wrong.

    HUB_TEST_SEED=1 HUB_TEST_STEPS=200 python -m pytest tests/multi_node/test_random_deployments.py

plays the same story again, as far as processes do the same again, and a longer one.
"""

import os
import random
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.brokers.redis.proxy import Proxy
from tests.multi_node.deployments import CALM, DEPLOYMENTS, FAULTS, STEPS, Wide
from tests.multi_node.fleet import hubs
from tests.multi_node.story import NAMESPACES, Lane


@asynccontextmanager
async def story(name: str, channel: str) -> AsyncIterator[Wide]:
    seed = int(os.environ.get("HUB_TEST_SEED", secrets.randbelow(1 << 32)))
    print(f"HUB_TEST_SEED={seed}")
    lanes = [
        Lane(channel, keeps_all=True),
        Lane(f"short:{channel}", keeps_all=False),
        Lane(f"bare:{channel}", keeps_all=False),
    ]
    with DEPLOYMENTS[name]() as deployment:
        async with hubs(deployment.url, 2, HUB_NAMESPACES=NAMESPACES) as nodes:
            told = Wide(
                deployment.living[0],
                Proxy(0),
                nodes,
                lanes,
                random.Random(seed),
                deployment=deployment,
            )
            try:
                for lane in (*lanes, *lanes):
                    await told.sit(lane)
                await told.sit_everywhere()
                yield told
            finally:
                print(told.told, told.figures, sep="\n")
                for server in deployment.living:
                    server.thaw()
                await told.close()


@pytest.mark.timeout(180 + 15 * STEPS)
@pytest.mark.parametrize("name", DEPLOYMENTS)
async def test_every_subscriber_sees_all_in_order_or_is_told(name: str, channel: str) -> None:
    """Judged by what the subscribers saw alone, strictly in both directions."""
    async with story(name, channel) as told:
        await told.tell(CALM, STEPS)
        assert await told.end() == []
        await told.tell([*CALM, *FAULTS, *told.deployment.steps() * 2], STEPS)
        assert await told.end() == []
