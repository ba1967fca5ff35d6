"""On a real Redis 6.2, which has scripts in place of functions, all is as on newer ones.

The tests are those of other files; here stands only which server they get.
"""

from collections.abc import Iterator

import pytest

from hub.brokers.redis.link import library
from tests.brokers.redis.nodes import node
from tests.brokers.redis.test_redis_connecting import (
    test_full_server_refuses_publications_and_goes_on_delivering,
    test_master_without_the_replicas_that_it_should_have_takes_nothing,
    test_server_that_became_a_replica_is_left,
)
from tests.brokers.redis.test_redis_contract import *  # noqa: F403 - all there is, and what will be
from tests.brokers.redis.test_redis_epochs import *  # noqa: F403 - the same
from tests.brokers.redis.test_redis_presence import *  # noqa: F403 - the same
from tests.brokers.redis.test_redis_recovery import *  # noqa: F403 - the same
from tests.support.redis_server import OLD_PROGRAM_VARIABLE, RedisServer, old_program

__all__ = [
    "test_full_server_refuses_publications_and_goes_on_delivering",
    "test_master_without_the_replicas_that_it_should_have_takes_nothing",
    "test_server_that_became_a_replica_is_left",
]

pytestmark = pytest.mark.skipif(
    old_program() is None,
    reason=f"no package here brings a Redis 6.2; {OLD_PROGRAM_VARIABLE} may name one",
)


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with RedisServer(program=old_program() or "") as server:
        yield server


@pytest.fixture(scope="module")
def calm_redis() -> Iterator[RedisServer]:
    with RedisServer(program=old_program() or "") as server:
        yield server


async def test_server_is_that_old_and_is_given_scripts(redis: RedisServer, channel: str) -> None:
    assert b"redis_version:6." in redis.ask("INFO", "server")
    async with node(redis.url) as one:
        await one.is_ready()
        await one.publish(channel, 1)
        assert b"cmdstat_evalsha" in redis.ask("INFO", "commandstats")
        # One more asks for the user's rights.
        scripts = len(library._NAMES) + 1
        assert b"number_of_cached_scripts:%d\r" % scripts in redis.ask("INFO", "memory")
