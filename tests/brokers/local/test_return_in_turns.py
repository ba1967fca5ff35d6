"""The return of a broker process or of a worker, with many channels and members, in turns."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest

from hub.brokers.local import bus, followed, frames, members, workers
from hub.brokers.local.members import MemberTable
from hub.brokers.local.server import LEASE_SECONDS
from hub.brokers.local.workers import HeardChannels, WorkerConnection
from hub.core.options import ChannelOptions, Namespaces
from hub.core.ports import OnOpen
from hub.core.publication import Position
from hub.core.pushes import Change, Join, Leave, Member
from tests.brokers.local.rig import Machine, Worker, machine
from tests.support.waiting import eventually

NAMES = [f"long:{number}" for number in range(30)]


@pytest.fixture
async def made() -> AsyncGenerator[Machine]:
    async with machine() as made:
        yield made


def member(number: int) -> Member:
    return Member(f"m{number}", f"c{number}", None)


def watched(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets, with each head asked for, how many wait for their answers."""
    found: list[int] = []
    call = worker.link.call

    def counted(message: Any, *arguments: Any, **named: Any) -> int:
        number = call(message, *arguments, **named)
        if message[0] == frames.SUBSCRIBE:
            found.append(len(worker.link._lasting))
        return number

    monkeypatch.setattr(worker.link, "call", counted)
    return found


async def test_heads_are_asked_for_some_at_a_time_after_a_reconnect(
    made: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of 100,000 channels in one step held the worker, and the broker process, for long.

    What was published meanwhile comes in each channel, once.
    """
    monkeypatch.setattr(followed, "HEADS_AT_ONCE", 4)
    one, other = await made.worker("one"), await made.worker("other")
    for name in NAMES:
        await one.subscribe(name)
    waiting = watched(one, monkeypatch)
    made.process.cut()
    await one.is_down()
    await other.is_up()
    for name in NAMES:
        await other.publish(name)
    await eventually(lambda: len(one.delivered) == len(NAMES))
    assert len(waiting) == len(NAMES)
    assert max(waiting) <= 4
    for name in NAMES:
        await other.publish(name)
    await eventually(lambda: len(one.delivered) == 2 * len(NAMES))
    assert sorted((p.channel, p.offset) for p in one.delivered) == sorted(
        (name, offset) for name in NAMES for offset in (1, 2)
    )
    assert one.gaps == []


async def test_a_channel_that_is_followed_or_left_between_two_turns_is_asked_for_once(
    made: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followed, "HEADS_AT_ONCE", 4)
    one = await made.worker("one")
    for name in NAMES:
        await one.subscribe(name)
    asked: list[str] = []
    call = one.link.call

    def noted(message: Any, *arguments: Any, **named: Any) -> int:
        if message[0] == frames.SUBSCRIBE:
            asked.append(message[1])
            if len(asked) == 4:
                # One is left, one is left and followed again, and one is new.
                one.broker.unsubscribe(NAMES[-1])
                one.broker.unsubscribe(NAMES[-2])
                for name in (NAMES[-2], "new"):
                    made.process.tasks.spawn(one.broker.subscribe(name, one.heads.append))
        return call(message, *arguments, **named)

    monkeypatch.setattr(one.link, "call", noted)
    made.process.cut()
    await one.is_down()
    await eventually(lambda: len(asked) >= len(NAMES))
    await one.is_up()
    await one.subscribe("last")
    assert sorted(asked) == sorted([*NAMES[:-1], "new", "last"])


async def test_a_connection_that_ends_between_two_turns_begins_the_heads_anew(
    made: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followed, "HEADS_AT_ONCE", 4)
    one, other = await made.worker("one"), await made.worker("other")
    for name in NAMES:
        await one.subscribe(name)
    waiting = watched(one, monkeypatch)
    made.process.cut()
    await eventually(lambda: len(waiting) >= 8)
    made.process.cut()
    await eventually(lambda: len(waiting) >= 8 + len(NAMES))
    await other.is_up()
    for name in NAMES:
        await other.publish(name)
    await eventually(lambda: len(one.delivered) == len(NAMES))
    assert one.gaps == []
    assert max(waiting) <= 4


async def in_turns(count: Callable[[], int], until: Callable[[], bool]) -> list[int]:
    """Return by how much a count fell in each turn of the loop."""
    found, before = [], count()
    while not until():
        await asyncio.sleep(0)
        found.append(before - count())
        before = count()
    return found


class Everything:
    """A broker that opens each channel at once."""

    answers_at_once = True

    def __init__(self) -> None:
        self.open: set[str] = set()

    async def subscribe(self, channel: str, on_open: OnOpen) -> None:
        self.open.add(channel)
        on_open(Position("e", 0))

    def unsubscribe(self, channel: str) -> None:
        self.open.discard(channel)


class FakeFrames:
    is_open = True

    def __init__(self) -> None:
        self.sent: list[frames.Message] = []

    def send(self, message: frames.Message, size_bytes: int = 0) -> None:
        del size_bytes
        self.sent.append(message)


async def test_the_channels_of_a_worker_that_is_gone_are_left_in_turns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same worker is back before that is done, and stays in its channels."""
    monkeypatch.setattr(workers, "CHANNELS_AT_ONCE", 4)
    tasks: list[asyncio.Future[None]] = []
    heard = HeardChannels(spawn=lambda work: tasks.append(asyncio.ensure_future(work)))
    broker: Any = Everything()
    heard.broker = broker
    gone, back = (WorkerConnection(FakeFrames(), "w1") for _ in range(2))  # type: ignore[arg-type]
    for name in NAMES:
        heard.subscribe(gone, (frames.SUBSCRIBE, 1, name))
    before = len(gone.channels)
    gone.frames.is_open = False  # type: ignore[misc]
    heard.lost_worker(gone)
    at_once = before - len(gone.channels)
    for name in NAMES[::2]:
        heard.subscribe(back, (frames.SUBSCRIBE, 2, name))
    turns = await in_turns(lambda: len(gone.channels), lambda: not gone.channels)
    await asyncio.gather(*tasks)
    assert max(at_once, *turns) <= 4
    assert broker.open == set(NAMES[::2]) == back.channels


class Members:
    """The table of the broker process, and what it has announced."""

    def __init__(self) -> None:
        self.announced: list[Change] = []
        self.tasks: list[asyncio.Future[None]] = []
        self.table = MemberTable(
            lambda _, change: self.announced.append(change),
            spawn=lambda work: self.tasks.append(asyncio.ensure_future(work)),
        )
        self.table.came_back("w1")
        self.table.present("w1", "a", [member(number) for number in range(20)])
        self.table.told_all("w1")

    @property
    def ids(self) -> list[str]:
        return [each.id for each in self.table.members("a")]


@pytest.fixture
async def table(monkeypatch: pytest.MonkeyPatch) -> Members:
    monkeypatch.setattr(members, "MEMBERS_AT_ONCE", 4)
    made = Members()
    await asyncio.gather(*made.tasks)
    return made


async def test_members_of_a_worker_that_is_gone_leave_in_turns(table: Members) -> None:
    """50,000 leaves in one step held the broker process, and with it every publication."""
    table.table.change("w2", "a", member(3), joins=True)
    table.table.gone("w1")
    at_once = 20 - len(table.ids)
    turns = await in_turns(lambda: len(table.ids), lambda: len(table.ids) == 1)
    await asyncio.gather(*table.tasks)
    assert max(at_once, *turns) <= 4
    assert table.ids == ["m3"]
    left = [each.member.id for each in table.announced if isinstance(each, Leave)]
    assert sorted(left) == sorted(f"m{number}" for number in range(20) if number != 3)


async def test_a_member_that_comes_while_others_leave_stays(table: Members) -> None:
    """A member that joins again while the worker's former members are removed belongs to
    the new round, and stays."""
    table.table.came_back("w1")
    table.table.told_all("w1")
    table.table.change("w1", "a", member(19), joins=True)
    table.table.change("w1", "a", member(20), joins=True)
    await asyncio.gather(*table.tasks)
    assert table.ids == ["m19", "m20"]
    assert Leave("a", member(19)) not in table.announced


async def test_a_worker_that_is_cut_off_again_names_its_members_in_a_new_round(
    table: Members,
) -> None:
    """Its first round never ended. Only the members that it names in the second stay."""
    table.table.came_back("w1")
    table.table.present("w1", "a", [member(1), member(2)])
    table.table.came_back("w1")
    table.table.present("w1", "a", [member(2)])
    table.table.told_all("w1")
    await asyncio.gather(*table.tasks)
    assert table.ids == ["m2"]


async def test_a_worker_names_its_members_in_turns(
    made: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that leaves between two turns is gone, and one that comes is there."""
    monkeypatch.setattr(bus, "TOLD_AT_ONCE", 4)
    one, two = await made.worker("one"), await made.worker("two")
    two.local._followed._namespaces = Namespaces(ChannelOptions(presence=False))
    await two.subscribe("a")
    for number in range(20):
        one.roster.change("a", Join("a", member(number)))
    await eventually(lambda: len(two.announced) == 20)
    named: list[int] = []
    send = one.link.send

    def noted(message: frames.Message, size_bytes: int = 0) -> None:
        if message[0] == frames.PRESENT:
            named.append(len(message[2]))
            if len(named) == 1:
                one.roster.change("a", Leave("a", member(19)))
                one.roster.change("a", Join("a", member(20)))
        send(message, size_bytes)

    monkeypatch.setattr(one.link, "send", noted)
    # The other one hears of each change.
    one.link.reconnect()
    await one.is_down()
    await eventually(lambda: sum(named) >= 19)
    await one.is_up()
    assert max(named) <= 4
    wanted = [f"m{number}" for number in range(21) if number != 19]
    await eventually_members(two, wanted)
    made.process.clock.advance(LEASE_SECONDS + 1)
    made.process.server.tick()
    await eventually_members(two, wanted)
    joined = [each.member.id for each in two.announced if isinstance(each, Join)]
    assert sorted(joined) == sorted([*wanted, "m19"])


async def eventually_members(worker: Worker, wanted: list[str]) -> None:
    for _ in range(100):
        told = sorted(each.id for each in await worker.roster.members("a"))
        if told == sorted(wanted):
            return
    raise AssertionError(told)
