"""Very many members of a channel come to a worker in pages, and are those of one moment."""

import asyncio
from collections.abc import AsyncGenerator, Callable

import pytest

from hub.brokers.local import frames, server
from hub.brokers.local.frames import Message
from hub.brokers.local.workers import WorkerConnection
from hub.core.pushes import Join, Leave, Member
from hub.errors import UnavailableError
from tests.brokers.local.rig import Machine, Worker, machine
from tests.support.waiting import eventually

COUNT = 10
PAGE = 4


@pytest.fixture
async def made(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Machine]:
    monkeypatch.setattr(frames, "_PAGE_MEMBERS", PAGE)
    async with machine() as made:
        yield made


def member(number: int, data: bytes | None = None) -> Member:
    return Member(f"m{number}", f"c{number}", None, data)


async def filled(made: Machine, data: bytes | None = None) -> tuple[Worker, Worker]:
    """A worker that follows the channel, and one that has its members."""
    one, other = await made.worker("one"), await made.worker("other")
    await one.subscribe("a")
    for number in range(COUNT):
        other.roster.change("a", Join("a", member(number, data)))
    await eventually(lambda: len(one.announced) == COUNT)
    return one, other


def watched(
    made: Machine, between: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> list[int]:
    """Return a list that gets the members of each page; `between` is called behind each."""
    sizes: list[int] = []
    handlers = made.process.server._handlers
    tell = handlers[frames.MEMBERS]

    def told(worker: WorkerConnection, message: Message) -> None:
        tell(worker, message)
        [answer] = worker.frames._batch[-1:]
        sizes.append(len(answer[2]) if answer[0] == frames.MEMBERS_ARE else 0)
        between(len(sizes))

    monkeypatch.setitem(handlers, frames.MEMBERS, told)
    return sizes


async def test_members_come_in_pages_in_the_order_they_came(
    made: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = await filled(made)
    sizes = watched(made, lambda _: None, monkeypatch)
    everybody = [member(number) for number in range(COUNT)]
    assert await one.roster.members("a") == everybody
    assert sizes == [4, 4, 2]
    assert await asyncio.gather(*(other.roster.members("a") for _ in range(3))) == [everybody] * 3
    assert await other.roster.members("nobody") == []
    for each in made.process.server._workers:
        assert not each.listed


async def test_changes_between_two_pages_are_in_the_list(
    made: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They came to the subscribers before the answer, so an older list would be wrong for ever."""
    one, _ = await filled(made)
    table = made.process.server._members

    def between(page: int) -> None:
        # Of the first page one, of the last page one; and one that leaves again.
        leaves = {1: (0, 8), 2: (21,)}.get(page, ())
        for number in leaves:
            table.change("other", "a", member(number), joins=False)
        table.change("other", "a", member(20 + page), joins=True)
        if page == 2:
            table.change("other", "a", member(0), joins=True)

    watched(made, between, monkeypatch)
    found = await one.roster.members("a")
    now = list(table.members("a"))
    # What changed behind the last page comes behind the answer.
    assert {each.id for each in found} == {each.id for each in now} - {"m23"}
    assert [each.id for each in found if each.id in {"m1", "m7", "m9"}] == ["m1", "m7", "m9"]
    assert len(found) == len({each.id for each in found})


async def test_members_with_more_data_than_may_wait_for_a_worker_cut_no_connection(
    made: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A channel of 16,000 members with 4 KiB each had a frame that was longer than a frame may be.

    The worker was cut off by each question for them.
    """
    monkeypatch.setattr(frames, "_PAGE_BYTES", 8000)
    one, _ = await filled(made, b'"' + b"x" * 4000 + b'"')
    for each in made.process.server._workers:
        each.frames._max_waiting_bytes = 10_000
    sizes = watched(made, lambda _: None, monkeypatch)
    connects = one.connects
    assert len(await one.roster.members("a")) == COUNT
    assert max(sizes) == 1
    assert one.connects == connects


async def test_the_broker_process_keeps_a_bounded_number_of_lists(
    made: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that asks for more at once is told so."""
    monkeypatch.setattr(server, "LISTS_AT_ONCE", 2)
    one, _ = await filled(made)
    asked = [one.roster.members("a") for _ in range(4)]
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert [isinstance(each, UnavailableError) for each in found] == [True, True, False, False]
    assert all(not each.listed for each in made.process.server._workers)


async def test_a_list_that_is_half_there_when_the_connection_ends_is_an_error(
    made: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = await filled(made)
    watched(made, lambda page: made.process.cut() if page == 2 else None, monkeypatch)
    with pytest.raises(UnavailableError, match="cannot tell who is in 'a'"):
        await one.roster.members("a")
    await one.is_up()
    await other.is_up()
    other.roster.change("a", Leave("a", member(0)))
    await eventually(lambda: len(list(made.process.server._members.members("a"))) == COUNT - 1)
    assert len(await one.roster.members("a")) == COUNT - 1
    assert not one.roster._listings
