"""Which master is believed in, on sentinels that say what a test wants."""

import asyncio
from collections.abc import Sequence
from typing import cast

import pytest
from redis.asyncio.connection import AbstractConnection, Connection

from hub.brokers.redis.link.connection import FixedServer
from hub.brokers.redis.link.outcomes import LostError
from hub.brokers.redis.options import RedisOptions
from hub.brokers.redis.topology.discovery import Discovery
from hub.brokers.redis.topology.sentinel import SentinelMaster
from tests.brokers.redis.fakes import Log
from tests.core.fakes import FakeClock

SILENT = "redis://s: no answer"
Answers = Sequence[object] | str


def says(epoch: int, host: str, *, before: int | None = None) -> Answers:
    """A sentinel's three answers: the master's state, its address, its state once more."""
    first = epoch if before is None else before
    return (
        [b"config-epoch", b"%d" % first],
        [host.encode(), b"6379"],
        [b"config-epoch", b"%d" % epoch],
    )


class Sentinels:
    """In the place of a `Discovery`."""

    def __init__(self, *answers: Answers) -> None:
        self.answers: Sequence[Answers] = answers

    async def ask_all(self, servers: Sequence[FixedServer], *commands: Sequence[str]) -> object:
        assert len(servers) == 3
        assert len(commands) == 3
        return self.answers


class Watched:
    def __init__(self, *answers: Answers) -> None:
        self.log = Log()
        self.sentinels = Sentinels(*answers)
        self.master = SentinelMaster(
            "redis+sentinel://s1,s2,s3/hub",
            options=RedisOptions(),
            clock=FakeClock(),
            log=self.log.logger,
        )
        self.master._discovery = cast("Discovery", self.sentinels)

    async def connection(self) -> AbstractConnection:
        return await self.master.connection("test")

    async def host(self) -> str:
        """Where a connection leads now."""
        connection = await self.connection()
        assert isinstance(connection, Connection)
        return connection.host


async def test_of_several_masters_the_one_of_the_newest_failover_is_believed() -> None:
    """A sentinel that was cut off still names the one before."""
    watched = Watched(says(1, "old"), says(2, "new"), SILENT)
    assert await watched.host() == "new"


async def test_a_sentinel_in_the_middle_of_a_failover_says_nothing() -> None:
    """Its address may be the new one already and its epoch still the old one."""
    watched = Watched(says(3, "new", before=2), says(2, "old"), SILENT)
    assert await watched.host() == "old"


async def test_without_any_word_no_connection_is_made() -> None:
    """The error repeats the reason that a sentinel gave."""
    watched = Watched(SILENT, SILENT, SILENT)
    with pytest.raises(LostError, match="no sentinel tells where the master is: redis://s"):
        await watched.connection()


async def test_a_connection_is_left_as_soon_as_the_master_is_elsewhere() -> None:
    watched = Watched(says(1, "old"), says(1, "old"), says(1, "old"))
    connection = await watched.connection()
    leaving = asyncio.create_task(watched.master.left(connection))
    await asyncio.sleep(0)
    assert not leaving.done()
    watched.sentinels.answers = [says(2, "new"), says(1, "old"), SILENT]
    with pytest.raises(LostError):
        await watched.master.confirm(connection)
    with pytest.raises(LostError):
        await leaving
    assert watched.log.lines == [("warning", "redis_master_moved")]


async def test_an_older_word_takes_nothing_back() -> None:
    """Only the sentinel that was cut off can be reached now."""
    watched = Watched(says(2, "new"), SILENT, SILENT)
    connection = await watched.connection()
    watched.sentinels.answers = [says(1, "old"), SILENT, SILENT]
    await watched.master.confirm(connection)


async def test_where_no_sentinel_answers_what_was_known_holds() -> None:
    """Calls are waiting for it."""
    watched = Watched(says(1, "old"), SILENT, SILENT)
    connection = await watched.connection()
    watched.sentinels.answers = [SILENT, SILENT, SILENT]
    await watched.master.confirm(connection)


async def test_the_failovers_number_holds_for_connections_to_its_master_alone() -> None:
    watched = Watched(says(1, "old"), SILENT, SILENT)
    old = await watched.connection()
    assert watched.master.config_epoch(old) == 1
    watched.sentinels.answers = [says(2, "new"), SILENT, SILENT]
    new = await watched.connection()
    assert watched.master.config_epoch(new) == 2
    assert watched.master.config_epoch(old) is None


async def test_the_former_master_is_the_one_that_calls_went_to_last() -> None:
    """The former master is told that the node left it; there is no former one
    if the master is the same."""
    watched = Watched(says(1, "Old"), SILENT, SILENT)
    old = await watched.connection()
    assert watched.master.former(old) is None
    watched.master.entered(old)
    assert watched.master.former(old) is None
    watched.sentinels.answers = [says(2, "new"), SILENT, SILENT]
    former = watched.master.former(await watched.connection())
    assert isinstance(former, Connection)
    assert former.host.lower() == "old"


async def test_a_move_is_told_to_those_that_wait_for_one() -> None:
    """They try again without the rest of their back-off."""
    watched = Watched(says(1, "old"), SILENT, SILENT)
    await watched.connection()
    moved = asyncio.create_task(watched.master.moved())
    await watched.connection()
    await asyncio.sleep(0)
    assert not moved.done()
    watched.sentinels.answers = [says(2, "new"), SILENT, SILENT]
    await watched.connection()
    await moved
