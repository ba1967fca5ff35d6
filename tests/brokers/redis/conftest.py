"""A Redis for each test that asks for one, and one that tests share which only fill it."""

from collections.abc import Iterator

import pytest

from tests.support.redis_server import RedisServer


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """An empty server that saves nothing."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def calm_redis() -> Iterator[RedisServer]:
    """A server whose settings nobody changes; whoever fills it empties it again."""
    with RedisServer() as server:
        yield server
