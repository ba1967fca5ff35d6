"""How a node enters the line of a server, and has the former master left."""

from typing import cast

import pytest
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from hub.brokers.redis.link.library import Library
from hub.brokers.redis.link.outcomes import LostError
from hub.brokers.redis.link.replication import ReplicationLine
from hub.brokers.redis.options import RedisOptions
from tests.brokers.redis.fakes import Command, FakeConnection, FakeEndpoint, FakeLine

OPTIONS = RedisOptions(retire_timeout_seconds=0.05)
TTL = str(7 * 24 * 3600 * 1000).encode()


class FakeLibrary(FakeLine):
    """Loads nothing; functions are commands of their own names."""

    async def load(self, connection: AbstractConnection) -> None:
        return


class Sentinels(FakeEndpoint):
    """A master that others may lead after it."""

    def __init__(self) -> None:
        super().__init__()
        self.epoch: int | None = None
        self.former_master: FakeConnection | None = None
        self.entered_count = 0

    def config_epoch(self, connection: AbstractConnection) -> int | None:
        return self.epoch

    def former(self, connection: AbstractConnection) -> AbstractConnection | None:
        return cast("AbstractConnection | None", self.former_master)

    def entered(self, connection: AbstractConnection) -> None:
        self.entered_count += 1


def line_at(endpoint: FakeEndpoint) -> ReplicationLine:
    library = cast("Library", FakeLibrary())
    return ReplicationLine(endpoint=endpoint, library=library, options=OPTIONS)


async def enter(line: ReplicationLine, answer: object) -> list[Command]:
    """Enters the line of a server that gives this answer, and returns the commands that it got."""
    connection = FakeConnection(lambda _: answer)
    assert await line.enter(cast("AbstractConnection", connection))
    return connection.commands


async def test_a_node_shows_each_server_the_newest_line_that_it_has_met() -> None:
    """Names begin with their term, so the greater one is the newer."""
    line = line_at(FakeEndpoint())
    keys = (b"hub:{/nodes}:line",) * 2
    assert await enter(line, b"00000002-b") == [(b"enter_line", b"2", *keys, TTL, b"", b"")]
    assert (await enter(line, b"00000001-a"))[0][-2] == b"00000002-b"
    assert (await enter(line, b"00000003-c"))[0][-2] == b"00000002-b"
    assert (await enter(line, b"00000003-c"))[0][-2] == b"00000003-c"


async def test_where_channels_have_no_common_line_nothing_is_asked() -> None:
    """In a cluster each channel has a slot of its own."""
    endpoint = FakeEndpoint()
    endpoint.has_lines = False
    assert await enter(line_at(endpoint), b"") == []


async def test_a_server_that_cannot_write_now_is_entered_later() -> None:
    """Its pages are read all the same; `CallConnection` asks again before a function."""
    line = line_at(FakeEndpoint())
    full = FakeConnection(lambda _: ResponseError("OOM full"))
    assert not await line.enter(cast("AbstractConnection", full))


async def test_a_server_that_was_left_is_not_entered() -> None:
    line = line_at(FakeEndpoint())
    left = FakeConnection(lambda _: ResponseError("LEFT another server took over"))
    with pytest.raises(ResponseError, match="LEFT"):
        await line.enter(cast("AbstractConnection", left))


async def test_a_server_that_is_replaced_while_it_is_entered_is_left() -> None:
    """The server may have been frozen between the sentinels' answer and its own."""
    endpoint = Sentinels()
    endpoint.replaced = True
    with pytest.raises(LostError):
        await enter(line_at(endpoint), b"00000001-a")
    assert not endpoint.entered_count


async def test_the_former_master_is_told_that_it_was_left() -> None:
    """The former master is told the failover's number, and for how long it takes nothing."""
    endpoint = Sentinels()
    endpoint.epoch = 7
    endpoint.former_master = former = FakeConnection(lambda _: b"OK")
    await enter(line_at(endpoint), b"00000001-a")
    keys = (b"hub:{/nodes}:line",) * 2
    assert former.commands == [(b"leave_line", b"2", *keys, b"7", b"15")]
    assert former.closed
    assert endpoint.entered_count == 1


async def test_a_former_master_that_is_frozen_is_not_waited_for() -> None:
    endpoint = Sentinels()
    endpoint.epoch = 7
    endpoint.former_master = former = FakeConnection(lambda _: None)
    former.takes_writes.clear()
    await enter(line_at(endpoint), b"00000001-a")
    assert former.closed
