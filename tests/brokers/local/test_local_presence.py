"""Members over all workers, and questions between them."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
from msgspec.structs import replace

from hub.brokers.local.server import LEASE_SECONDS
from hub.core.node_records import NodeRecord
from hub.core.options import ChannelOptions, Namespaces
from hub.core.pushes import Join, Leave, Member, PresenceReset, Update
from hub.errors import OutcomeUnknownError
from tests.brokers.local.rig import Machine, Worker, machine
from tests.support.waiting import eventually

ADA, BOB = Member("ada", "c1", "ada"), Member("bob", "c2", "bob")


@pytest.fixture
async def made() -> AsyncGenerator[Machine]:
    async with machine() as made:
        yield made


def join(worker: Worker, member: Member) -> None:
    worker.roster.change("a", Join("a", member))


def leave(worker: Worker, member: Member) -> None:
    worker.roster.change("a", Leave("a", member))


async def test_a_member_joins_with_its_first_worker_and_leaves_with_its_last(made: Machine) -> None:
    one, two = await made.worker(), await made.worker()
    await one.subscribe("a")
    join(one, ADA)
    join(two, ADA)
    join(two, BOB)
    assert await two.roster.members("a") == [ADA, BOB]
    leave(one, ADA)
    assert await one.roster.members("a") == [ADA, BOB]
    leave(two, ADA)
    assert await two.roster.members("a") == [BOB]
    await eventually(lambda: len(one.announced) == 3)
    assert one.announced == [Join("a", ADA), Join("a", BOB), Leave("a", ADA)]


async def test_members_of_a_worker_that_died_leave_when_its_lease_ends(made: Machine) -> None:
    """A member that is also at another worker stays."""
    one, two = await made.worker(), await made.worker()
    await one.subscribe("a")
    join(one, ADA)
    assert await one.roster.members("a") == [ADA]
    join(two, ADA)
    join(two, BOB)
    assert await two.roster.members("a") == [ADA, BOB]
    two.link.stop()
    await eventually(lambda: made.process.server.connections == 1)
    made.process.server.tick()
    assert await one.roster.members("a") == [ADA, BOB]
    made.process.clock.advance(LEASE_SECONDS + 0.1)
    made.process.server.tick()
    assert await one.roster.members("a") == [ADA]
    assert one.announced[-1] == Leave("a", BOB)


async def test_a_worker_that_comes_back_says_all_it_has(made: Machine) -> None:
    """A member that left while the worker was cut off has left; one that stayed is not
    announced as having left."""
    one, two = await made.worker(), await made.worker()
    two.local._followed._namespaces = Namespaces(ChannelOptions(presence=True))
    await two.subscribe("a")
    join(one, ADA)
    join(one, BOB)
    await one.roster.members("a")
    made.process.cut()
    await one.is_down()
    leave(one, BOB)
    await one.is_up()
    await two.is_up()
    await eventually(lambda: PresenceReset("a") in two.announced)
    assert await one.roster.members("a") == [ADA]
    assert Leave("a", ADA) not in two.announced
    assert await two.roster.members("a") == [ADA]


async def test_a_broker_process_that_began_anew_is_told_who_is_there(made: Machine) -> None:
    one = await made.worker()
    join(one, ADA)
    made.process.die()
    await one.is_down()
    made.process.begin()
    await one.is_up()
    assert await one.roster.members("a") == [ADA]


def record(node: str) -> NodeRecord:
    return NodeRecord(node, "1", 0, 0, 0, 0, 0, 0, 0, draining=False)


async def answering(made: Machine, *names: str) -> list[Worker]:
    async def serve(question: bytes) -> bytes:
        return b"heard " + question

    workers = [await made.worker(name) for name in names]
    for worker, name in zip(workers, names, strict=True):
        await worker.bus.start(serve, lambda name=name: record(name))  # type: ignore[misc]
    return workers


async def test_workers_know_and_ask_each_other(made: Machine) -> None:
    one, _ = await answering(made, "one", "two")
    await eventually(lambda: made.process.server._nodes._nodes["two"].record)
    assert await one.bus.others() == {"two": record("two")}
    assert await one.bus.ask("two", b"this") == b"heard this"
    assert await one.bus.ask("three", b"this") is None


async def test_a_question_to_a_worker_that_dies_is_answered_at_once(made: Machine) -> None:
    one, two = await answering(made, "one", "two")

    async def never(_question: bytes) -> bytes:
        await asyncio.Event().wait()
        return b""

    await two.bus.start(never, lambda: record("two"))
    asking = asyncio.create_task(one.bus.ask("two", b"this", wait_seconds=100))
    await eventually(lambda: made.process.server._nodes._asked)
    two.link.stop()
    assert await asking is None


async def test_a_lasting_question_that_is_given_up_ends_there(made: Machine) -> None:
    one, two = await answering(made, "one", "two")
    ended = asyncio.Event()

    async def lasting(_question: bytes) -> bytes:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return b""

    await two.bus.start(lasting, lambda: record("two"))
    asking = asyncio.create_task(one.bus.ask("two", b"this", wait_seconds=100, lasts=True))
    await eventually(lambda: two.bus._lasting)
    asking.cancel()
    await eventually(ended.is_set)
    await eventually(lambda: not made.process.server._nodes._asked)


async def test_a_question_has_a_deadline(made: Machine) -> None:
    one, two = await answering(made, "one", "two")

    async def never(_question: bytes) -> bytes:
        await asyncio.Event().wait()
        return b""

    await two.bus.start(never, lambda: record("two"))
    one.bus._answer_seconds = 0.05
    with pytest.raises(OutcomeUnknownError):
        await one.bus.ask("two", b"this")
    await eventually(lambda: not made.process.server._nodes._asked)


async def test_the_last_word_of_a_member_counts_whichever_worker_told_it(made: Machine) -> None:
    """An older word of another worker, or the same again, changes nothing."""
    one, two = await made.worker(), await made.worker()
    await one.subscribe("a")
    older, newer = replace(ADA, data=b"1", said_ms=1), replace(ADA, data=b"2", said_ms=2)
    join(two, newer)
    assert await two.roster.members("a") == [newer]
    join(one, older)
    assert await one.roster.members("a") == [newer]
    newest = replace(ADA, data=b"3", said_ms=3)
    two.roster.change("a", Update("a", newest))
    assert await two.roster.members("a") == [newest]
    one.roster.refresh("a")
    assert await one.roster.members("a") == [newest]
    leave(one, older)
    leave(two, newest)
    assert await two.roster.members("a") == []
    await eventually(lambda: len(one.announced) == 3)
    assert one.announced == [Join("a", newer), Update("a", newest), Leave("a", newest)]
