"""Keeping a connection up: again and again, with back-off, each loss told and logged."""

import asyncio
from collections.abc import Callable

import pytest
from redis.asyncio.connection import AbstractConnection

from hub.brokers.redis.link.connection import Backoff, Connector, FixedServer
from hub.brokers.redis.link.outcomes import LostError
from hub.brokers.redis.options import RedisOptions
from hub.core.counters import Counters
from tests.brokers.redis.fakes import FakeEndpoint, Log
from tests.core.fakes import FakeClock
from tests.support.waiting import eventually


class Kept:
    """A connection that is kept up; `use` is what happens on each."""

    def __init__(
        self, use: Callable[[int], Exception | None], *, backoff_seconds: float = 0.0
    ) -> None:
        self.endpoint, self.clock, self.log = FakeEndpoint(), FakeClock(), Log()
        self.lost: list[str] = []
        self.used = 0
        self._use = use
        options = RedisOptions(
            backoff_first_seconds=backoff_seconds, backoff_max_seconds=backoff_seconds
        )
        self.connector = Connector(self.endpoint, options, self.clock, self.log.logger, Counters())

    async def _on_connection(self, connection: AbstractConnection) -> None:
        self.used += 1
        if (error := self._use(self.used)) is not None:
            raise error
        await asyncio.Event().wait()

    async def __aenter__(self) -> "Kept":  # noqa: PYI034 - no subclasses
        self._task = asyncio.create_task(
            self.connector.keep_up(self._on_connection, role="test", on_lost=self.lost.append)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def test_each_loss_is_told_with_its_reason_and_so_is_the_end() -> None:
    """A connection that is given up is closed before the next one is made."""
    ends = [LostError("deaf"), ConnectionResetError("reset"), None]
    async with Kept(lambda number: ends[number - 1]) as kept:
        await eventually(lambda: kept.used == 3)
        assert kept.lost == ["deaf", "reset"]
        assert [made.closed for made in kept.endpoint.connections] == [True, True, False]
    assert kept.lost[-1] == "stopped"
    assert kept.endpoint.newest.closed


async def test_a_time_out_says_for_how_long_it_was_tried() -> None:
    """Its own text is empty."""
    async with Kept(lambda number: TimeoutError() if number == 1 else None) as kept:
        await eventually(lambda: kept.used == 2)
        assert kept.lost == ["not connected within 3 s"]


async def test_the_same_reason_is_logged_once_a_minute() -> None:
    """A Redis that is away is tried twice a second, for hours."""

    def use(number: int) -> Exception | None:
        if number == 5:
            kept.clock.advance(60.0)
        return LostError("away") if number < 6 else None

    async with Kept(use) as kept:
        await eventually(lambda: kept.used == 6)
        assert kept.log.lines == [("warning", "redis_connection_lost")] * 2


async def test_a_fault_of_the_hub_is_logged_with_its_traceback_and_tried_again() -> None:
    async with Kept(lambda number: ValueError("a fault") if number == 1 else None) as kept:
        await eventually(lambda: kept.used == 2)
        assert kept.log.lines == [("exception", "redis_connection_failed")]


async def test_an_endpoint_that_moved_is_tried_at_once() -> None:
    """The back-off does not matter then."""
    async with Kept(lambda number: LostError("away") if number == 1 else None) as kept:
        await eventually(lambda: kept.used == 2)
    async with Kept(
        lambda number: LostError("away") if number == 1 else None, backoff_seconds=1e6
    ) as kept:
        await eventually(lambda: kept.lost == ["away"])
        kept.endpoint.moves.set()
        await eventually(lambda: kept.used == 2)


async def test_an_endpoint_that_cannot_be_found_is_a_loss_like_any_other() -> None:
    async with Kept(lambda _: None) as kept:
        kept.endpoint.refuses = LostError("no sentinel tells")
        await eventually(lambda: kept.lost[:1] == ["no sentinel tells"])
        kept.endpoint.refuses = None
        await eventually(lambda: kept.used == 1)


def test_a_backoff_doubles_up_to_its_bound_and_begins_anew() -> None:
    """Full jitter: each wait is drawn from between nothing and the ceiling."""
    backoff = Backoff(1.0, 4.0)
    for ceiling in (1.0, 2.0, 4.0, 4.0):
        assert 0.0 <= backoff.next_seconds() <= ceiling
    backoff.reset()
    assert backoff.next_seconds() <= 1.0


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("redis://localhost", "redis://localhost:6379/0"),
        ("redis://user:secret@h:1/2", "redis://h:1/2"),
        ("rediss://h:1", "redis://h:1/0"),
    ],
)
def test_a_server_has_one_identity_however_its_url_is_written(one: str, other: str) -> None:
    """Nodes that write it differently must agree where a channel lives."""
    assert FixedServer(one).identity == FixedServer(other).identity


async def test_a_server_is_never_elsewhere() -> None:
    """A fixed server has no other place, no term and nothing to follow."""
    server = FixedServer("redis://h")
    connection = server.make("test")
    assert server.has_lines
    assert not server.may_be_replaced
    assert server.config_epoch(connection) is None
    assert server.former(connection) is None
    await server.confirm(connection)
    await server.run()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await server.left(connection)
