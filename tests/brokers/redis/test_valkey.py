"""On real servers of Valkey all is as on Redis.

The tests are those of other files; here stands only which server they get.
"""

import re
from collections.abc import Iterator

import pytest

from hub.brokers.redis.keys import DEFAULT_PREFIX
from tests.brokers.redis.nodes import node
from tests.brokers.redis.test_redis_connecting import (
    test_full_server_refuses_publications_and_goes_on_delivering,
    test_library_that_vanishes_is_loaded_again,
    test_master_without_the_replicas_that_it_should_have_takes_nothing,
    test_server_that_became_a_replica_is_left,
)
from tests.brokers.redis.test_redis_contract import *  # noqa: F403 - all there is, and what will be
from tests.brokers.redis.test_redis_epochs import *  # noqa: F403 - the same
from tests.brokers.redis.test_redis_presence import *  # noqa: F403 - the same
from tests.brokers.redis.test_redis_recovery import *  # noqa: F403 - the same
from tests.brokers.redis.test_redis_rights import *  # noqa: F403 - the same
from tests.support.redis_server import VALKEY_VARIABLE, RedisServer, valkey_programs

__all__ = [
    "test_full_server_refuses_publications_and_goes_on_delivering",
    "test_library_that_vanishes_is_loaded_again",
    "test_master_without_the_replicas_that_it_should_have_takes_nothing",
    "test_server_that_became_a_replica_is_left",
]

PROGRAMS = valkey_programs()
pytestmark = pytest.mark.skipif(
    not PROGRAMS, reason=f"no package here brings a Valkey; {VALKEY_VARIABLE} may name some"
)


@pytest.fixture(
    params=PROGRAMS or [""],
    ids=lambda program: program.rpartition("site-packages/")[2],
    scope="module",
)
def program(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def redis(program: str) -> Iterator[RedisServer]:
    with RedisServer(program=program) as server:
        yield server


@pytest.fixture(scope="module")
def calm_redis(program: str) -> Iterator[RedisServer]:
    with RedisServer(program=program) as server:
        yield server


@pytest.fixture  # type: ignore[no-redef] # that of the contract has two
def prefix() -> str:
    """One: functions, which have names, are given to Valkey as to Redis."""
    return DEFAULT_PREFIX


async def test_server_is_a_valkey_and_is_given_functions(redis: RedisServer, channel: str) -> None:
    assert re.search(rb"valkey_version:[89]\.", redis.ask("INFO", "server"))
    async with node(redis.url) as one:
        await one.is_ready()
        await one.publish(channel, 1)
        assert b"cmdstat_fcall" in redis.ask("INFO", "commandstats")
