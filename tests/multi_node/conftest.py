"""A Redis for each test that asks for one."""

import shutil
from collections.abc import Iterator

import pytest

from tests.support.redis_server import PROGRAM, RedisServer


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """An empty server that saves nothing."""
    if shutil.which(PROGRAM) is None:
        pytest.skip(f"{PROGRAM} is not installed")
    with RedisServer() as server:
        yield server
