"""Discovery asks several servers where the others are: slow ones, silent ones and absent ones."""

import asyncio
from collections.abc import Iterator, Sequence

import pytest

from hub.brokers.redis.link.connection import FixedServer
from hub.brokers.redis.topology.discovery import Discovery
from tests.core.fakes import FakeClock
from tests.support.redis_server import RedisServer, free_port

# Less than any answer takes here, so that each test sees what follows.
PATIENCE_SECONDS = 0.001
# Longer than a test may take.
TIMEOUT_SECONDS = 120.0


@pytest.fixture
def servers() -> Iterator[tuple[RedisServer, RedisServer]]:
    with RedisServer() as first, RedisServer() as second:
        yield first, second


async def told(
    *urls: str, timeout_seconds: float = TIMEOUT_SECONDS
) -> Sequence[Sequence[object] | str]:
    discovery = Discovery(
        client_name="test",
        timeout_seconds=timeout_seconds,
        patience_seconds=PATIENCE_SECONDS,
        clock=FakeClock(),
    )
    return await discovery.ask_all([FixedServer(url) for url in urls], ("ECHO", "1"), ("ECHO", "2"))


async def test_a_server_that_alone_can_tell_is_waited_for(
    servers: tuple[RedisServer, RedisServer],
) -> None:
    """However slow it is, or this machine: nothing would ever be known otherwise."""
    slow, _ = servers
    slow.freeze()
    answers = asyncio.create_task(told(slow.url, f"redis://127.0.0.1:{free_port()}"))
    asyncio.get_running_loop().call_later(100 * PATIENCE_SECONDS, slow.thaw)
    known, unknown = await answers
    assert known == [b"1", b"2"]
    assert isinstance(unknown, str)


async def test_a_silent_server_holds_up_nobody(servers: tuple[RedisServer, RedisServer]) -> None:
    """A silent server is not waited for once another one has answered."""
    silent, talking = servers
    silent.freeze()
    try:
        unknown, known = await told(silent.url, talking.url)
    finally:
        silent.thaw()
    assert known == [b"1", b"2"]
    assert isinstance(unknown, str)
    assert silent.url in unknown


async def test_silence_of_all_ends(servers: tuple[RedisServer, RedisServer]) -> None:
    for server in servers:
        server.freeze()
    try:
        answers = await told(*(server.url for server in servers), timeout_seconds=0.1)
    finally:
        for server in servers:
            server.thaw()
    assert all(isinstance(answer, str) and "TimeoutError" in answer for answer in answers)


async def test_nobody_is_asked_where_nobody_is_known() -> None:
    assert await told() == []
