"""A Redis for each test that asks for one, and one that tests share which only fill it."""

import os
from collections.abc import Iterator

import pytest

from tests.support.redis_server import RedisServer


@pytest.fixture(scope="module", autouse=True)
def _system_that_trusts_nobody() -> Iterator[None]:
    """Each connection by TLS reads whom the system trusts: 20 ms where that is a file of many.

    The tests' servers are vouched for by files that the URL names.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", os.devnull)
        patch.delenv("SSL_CERT_DIR", raising=False)
        yield


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """An empty server that saves nothing."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def calm_redis() -> Iterator[RedisServer]:
    """Starts a server whose settings no test changes; a test that fills it empties it again."""
    with RedisServer() as server:
        yield server
