"""A worker learns which channels there are, from the broker process."""

from collections.abc import AsyncGenerator

import pytest

from hub.core.ports import PublishRequest
from hub.errors import UnavailableError
from tests.brokers.local.rig import Machine, machine
from tests.support.waiting import eventually


@pytest.fixture
async def made() -> AsyncGenerator[Machine]:
    async with machine() as made:
        yield made


class Told:
    """Notes the names of channels that appear, and how often some were missed."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.missed_times = 0

    def appeared(self, name: str) -> None:
        self.names.append(name)

    def missed(self) -> None:
        self.missed_times += 1


async def test_a_worker_learns_of_channels_that_others_publish_in(made: Machine) -> None:
    """Those that there are, and each that appears, once."""
    one, other = await made.worker(), await made.worker()
    await other.publish("a")
    told = Told()
    one.local.follow(told)
    assert list(await one.local.matching("*", 9)) == ["a"]
    await other.publish("a")
    await other.publish("b")
    await one.publish("c")
    await eventually(lambda: len(told.names) == 2)
    assert told.names == ["b", "c"]
    assert sorted(await one.local.matching("**", 9)) == ["a", "b", "c"]
    assert len(await one.local.matching("*", 2)) == 2
    one.local.unfollow()
    await one.publish("d")
    await other.publish("d")
    assert told.names == ["b", "c"]


async def test_channels_that_appeared_while_a_worker_was_cut_off_are_told_afterwards(
    made: Machine,
) -> None:
    one, other = await made.worker("one"), await made.worker("other")
    await other.publish("a")
    told = Told()
    one.local.follow(told)
    made.process.is_there = False
    made.process.cut()
    await one.is_down()
    made.process.memory.publish_now(PublishRequest("b", b"1", "backend"))
    made.process.is_there = True
    await eventually(lambda: told.missed_times == 1)
    assert sorted(await one.local.matching("*", 9)) == ["a", "b"]
    await other.is_up()
    await other.publish("c")
    await eventually(lambda: told.names == ["c"])


async def test_without_a_broker_process_nobody_knows(made: Machine) -> None:
    one = await made.worker()
    made.process.die()
    await one.is_down()
    one.local.follow(Told())
    with pytest.raises(UnavailableError):
        await one.local.matching("*", 9)
