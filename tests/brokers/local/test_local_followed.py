"""The channels that a worker follows, where something comes at another moment than it should."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from hub.brokers.local import bus, followed, frames
from hub.core.node_records import NodeRecord
from hub.core.publication import Publication
from hub.core.pushes import Join, Leave, Member
from hub.errors import UnavailableError
from tests.brokers.local.rig import Machine, Worker, machine
from tests.support.waiting import eventually


@pytest.fixture
async def made() -> AsyncGenerator[Machine]:
    async with machine() as made:
        yield made


def offsets(worker: Worker) -> list[int]:
    return [publication.offset for publication in worker.delivered]


async def behind(made: Machine, *, count: int = 3) -> tuple[Worker, str]:
    """A worker that was not told of so many publications in a channel, and the epoch."""
    one = await made.worker()
    position = await one.subscribe("long:a")
    made.process.server._channels._channels["long:a"].workers.clear()
    for _ in range(count):
        await one.publish("long:a")
    assert one.delivered == []
    return one, position.epoch


async def test_a_channel_that_is_followed_already_opens_at_once(made: Machine) -> None:
    one = await made.worker()
    first = await one.subscribe("a")
    await one.publish("a")
    again = await asyncio.wait_for(one.subscribe("a"), 10)
    assert (again.epoch, again.offset) == (first.epoch, 1)


async def test_a_head_that_comes_after_its_channel_was_left_opens_nothing(made: Machine) -> None:
    """The late head does not open the channel either if it is followed anew meanwhile."""
    one = await made.worker()
    opened: list[object] = []
    leaving = asyncio.create_task(one.local.subscribe("a", opened.append))
    await asyncio.sleep(0)
    one.local.unsubscribe("a")
    await one.subscribe("a")
    assert opened == []
    leaving.cancel()
    await one.publish("a")
    await eventually(lambda: offsets(one) == [1])


async def test_a_channel_that_was_refused_is_asked_for_anew(made: Machine) -> None:
    """The waiting callers hear why, and none waits for ever."""
    one = await made.worker()

    async def refuse(*_: object) -> None:
        raise UnavailableError("it keeps no more channels")

    memory = made.process.memory
    subscribe = memory.subscribe
    memory.subscribe = refuse  # type: ignore[method-assign, assignment]
    with pytest.raises(UnavailableError, match="it keeps no more channels"):
        await one.subscribe("a")
    assert one.local.names() == ()
    memory.subscribe = subscribe  # type: ignore[method-assign]
    assert (await asyncio.wait_for(one.subscribe("a"), 10)).offset == 0


async def test_a_loss_that_is_not_next_is_read_from_history_first(made: Machine) -> None:
    """The word of it tells how far the channel is."""
    one, epoch = await behind(made)
    one.local._followed._on_lost((frames.LOST, "long:a", epoch, 2, 3, "broker", 0))
    await eventually(lambda: offsets(one) == [1, 2, 3])
    assert one.gaps == []


async def test_a_loss_in_another_epoch_is_no_loss_in_this_one(made: Machine) -> None:
    """Its numbers are others."""
    one, _ = await behind(made, count=0)
    one.local._followed._on_lost((frames.LOST, "long:a", "another", 1, 3, "broker", 0))
    await asyncio.sleep(0)
    assert one.gaps == []


async def test_a_page_that_cannot_be_read_is_asked_for_again(
    made: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else may come in the channel that would begin the reading anew."""
    monkeypatch.setattr(followed, "_RETRY_SECONDS", 0)
    one, epoch = await behind(made)
    read, failures = followed.read_page, [UnavailableError("the disk is away")] * 2

    async def reading(*arguments: Any) -> Any:
        if failures:
            raise failures.pop()
        return await read(*arguments)

    monkeypatch.setattr(followed, "read_page", reading)
    one.local._followed._on_lost((frames.LOST, "long:a", epoch, 2, 3, "broker", 0))
    await eventually(lambda: offsets(one) == [1, 2, 3])
    assert not failures


async def test_a_channel_that_is_left_while_it_reads_holds_no_bytes(
    made: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All channels share the room for what comes meanwhile."""
    one, epoch = await behind(made)

    async def reading(*_: Any) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr(followed, "read_page", reading)
    own = one.local._followed
    own._on_lost((frames.LOST, "long:a", epoch, 2, 3, "broker", 0))
    publication = Publication("long:a", 4, b"1234", 1)
    own._on_deliver((frames.DELIVER, [frames.written(publication)]))
    assert one.local.record().held_bytes > 0
    one.local.unsubscribe("long:a")
    assert one.local.record().held_bytes == 0


# -- a worker's way to the others ------------------------------------------------------------------


def record() -> NodeRecord:
    return NodeRecord("node", "1", 0, 0, 0, 0, 0, 0, 0, draining=False)


async def test_questions_that_are_over_take_no_room(made: Machine) -> None:
    """They take no room at the worker that asked, nor at the one that answered."""
    one, two = await made.worker("one"), await made.worker("two")

    async def serve(question: bytes) -> bytes:
        return question

    await two.bus.start(serve, record)
    for lasts in (False, True):
        for _ in range(3):
            assert await one.bus.ask("two", b"?", lasts=lasts) == b"?"
    await eventually(lambda: not any(two.bus._answering._count.values()))
    assert not any(one.bus._asked._count.values())
    assert two.bus._lasting == {}


async def test_a_worker_is_known_as_soon_as_it_is_back(
    made: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list need not lack its part for a second."""
    monkeypatch.setattr(bus, "_RECORD_SECONDS", 3600)
    one, two = await made.worker("one"), await made.worker("two")

    async def serve(question: bytes) -> bytes:
        return question

    await two.bus.start(serve, record)
    made.process.die()
    await one.is_down()
    await two.is_down()
    made.process.begin()
    await one.is_up()
    await two.is_up()
    await eventually(lambda: made.process.server._nodes._nodes["two"].record)
    assert await one.bus.others() == {"two": record()}


async def test_a_channel_without_members_is_named_to_nobody(made: Machine) -> None:
    one = await made.worker()
    ada = Member("ada", "c1", "ada")
    one.roster.change("a", Join("a", ada))
    one.roster.change("a", Leave("a", ada))
    assert one.roster._here == {}
