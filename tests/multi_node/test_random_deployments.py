"""Every deployment: calm runs in which nothing may be announced, then all that can go wrong.

    TESTS_SEED=1 TESTS_STEPS=200 python -m pytest tests/multi_node/test_random_deployments.py

plays the same story again, as far as processes do the same again, and a longer one.
"""

from functools import partial

import pytest

from tests.brokers.redis.proxy import Proxy
from tests.multi_node import worker_story
from tests.multi_node.deployments import CALM, DEPLOYMENTS, FAULTS, STEPS, Wide
from tests.multi_node.story import NAMESPACES, telling, telling_at
from tests.multi_node.worker_story import OnWorkers
from tests.multi_node.workers import WorkersHub


@pytest.mark.timeout(180 + 15 * STEPS)
@pytest.mark.parametrize("name", DEPLOYMENTS)
async def test_every_subscriber_sees_all_in_order_or_is_told(name: str, channel: str) -> None:
    """Judged by what the subscribers saw alone, strictly in both directions."""
    with DEPLOYMENTS[name]() as deployment:
        begin = partial(Wide, deployment.living[0], Proxy(0), deployment=deployment)
        async with telling(deployment.url, channel, begin) as told:
            await told.tell(CALM, STEPS)
            assert await told.end() == []
            await told.tell([*CALM, *FAULTS, *deployment.steps() * 2], STEPS)
            assert await told.end() == []


@pytest.mark.timeout(180 + 15 * STEPS)
async def test_workers_on_one_machine_are_judged_the_same(channel: str) -> None:
    """One hub of a supervisor, two workers and a broker process, each of which may stop or die."""
    with WorkersHub(HUB_NAMESPACES=NAMESPACES, HUB_HISTORY_SIZE="100000") as hub:
        async with telling_at([hub], channel, OnWorkers.begin) as told:
            await told.tell(worker_story.CALM, STEPS)
            assert await told.end() == []
            await told.tell([*worker_story.CALM, *worker_story.FAULTS * 2], STEPS)
            assert await told.end() == []
