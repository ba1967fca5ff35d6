"""Whatever happens to Redis, nodes and connections: order, no repeats, and every loss announced.

    TESTS_SEED=1234 TESTS_STEPS=200 python -m pytest tests/multi_node/test_random_faults.py

plays the same story again, as far as processes do the same again, and a longer one.
"""

from functools import partial

import pytest

from tests.brokers.redis.proxy import proxy
from tests.multi_node.story import CALM, CUTS, LOSSES, Step, Story, steps, telling
from tests.support.redis_server import RedisServer

STEPS = steps(25)


@pytest.mark.timeout(60 + 4 * STEPS)
@pytest.mark.parametrize(
    "choices",
    [CALM, CALM + CUTS, CALM + CUTS + LOSSES],
    ids=["calm", "cut connections", "restarts and kills"],
)
async def test_every_subscriber_sees_all_in_order_or_is_told(
    redis: RedisServer, channel: str, choices: list[Step]
) -> None:
    """Judged by what the subscribers saw alone, strictly in both directions."""
    async with proxy(redis.port) as between:
        begin = partial(Story, redis, between)
        async with telling(between.url, channel, begin) as told:
            await told.tell(choices, STEPS)
            assert await told.end() == []
