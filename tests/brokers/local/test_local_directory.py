"""What a worker is told of the channels that there are."""

from collections.abc import AsyncGenerator

import pytest

from hub.errors import UnavailableError
from tests.brokers.local.rig import Machine, machine
from tests.support.waiting import eventually


@pytest.fixture
async def made() -> AsyncGenerator[Machine]:
    async with machine() as made:
        yield made


async def test_a_worker_learns_of_channels_that_others_publish_in(made: Machine) -> None:
    """Those that there are, and each that appears, once."""
    one, other = await made.worker(), await made.worker()
    await other.publish("a")
    appeared: list[str] = []
    assert list(await one.local.follow(appeared.append)) == ["a"]
    await other.publish("a")
    await other.publish("b")
    await one.publish("c")
    await eventually(lambda: len(appeared) == 2)
    assert appeared == ["b", "c"]
    assert sorted(await one.local.follow(appeared.append)) == ["a", "b", "c"]
    one.local.unfollow()
    await one.publish("d")
    await other.publish("d")
    assert appeared == ["b", "c"]


async def test_what_appeared_while_a_worker_was_cut_off_is_told_behind(made: Machine) -> None:
    one, other = await made.worker("one"), await made.worker("other")
    await other.publish("a")
    appeared: list[str] = []
    await one.local.follow(appeared.append)
    made.process.is_there = False
    made.process.cut()
    await one.is_down()
    made.process.is_there = True
    await other.is_up()
    await other.publish("b")
    await eventually(lambda: appeared == ["b"])


async def test_without_a_broker_process_nobody_knows(made: Machine) -> None:
    one = await made.worker()
    made.process.die()
    await one.is_down()
    with pytest.raises(UnavailableError):
        await one.local.follow(lambda _: None)
