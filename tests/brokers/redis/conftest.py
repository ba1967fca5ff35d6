"""A Redis for each test that asks for one."""

from collections.abc import Iterator

import pytest

from tests.support.redis_server import RedisServer


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """An empty server that saves nothing."""
    with RedisServer() as server:
        yield server
