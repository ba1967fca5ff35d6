"""Channels of several nodes as one list, and how much comes in each."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from hub.admin.channels import (
    CHANNELS,
    MAX_ROWS,
    MOST_SECONDS,
    ChannelHandlers,
    ChannelRates,
    ListChannels,
    OneChannel,
)
from hub.admin.listing import Page, Query
from hub.admin.rpc import AdminRpc
from hub.core.options import ChannelOptions
from hub.core.publication import Position
from hub.core.records import ChannelRecord, LiveChannel, RowSource, joined
from hub.errors import BadRequestError
from tests.admin.network import Network
from tests.core.fakes import FakeClock


def record(name: str, *, subscribers: int = 1, offset: int = 1) -> ChannelRecord:
    return ChannelRecord(name, Position("e", offset), subscribers, None, presence=False)


def asked(**query: Any) -> Query:
    return Query(**{"sort": "channel", **query})


class FakeKnown:
    """The channels of one node, by name, with their subscribers."""

    def __init__(self, held: Mapping[str, int]) -> None:
        self._held = held
        self.looked = 0
        self.stored: dict[str, int] = {}
        """The number of publications that the broker holds of some channels."""
        self.offsets: dict[str, int] = {}

    async def look(self) -> None:
        """All is known."""

    def names(self) -> Sequence[str]:
        return tuple(self._held)

    def one(self, name: str) -> LiveChannel | None:
        self.looked += 1
        if name not in self._held:
            return None
        head = Position("e", self.offsets.get(name, 1))
        return LiveChannel(name, head, None, range(self._held[name]), ChannelOptions())

    async def count_held(self, record: ChannelRecord) -> int | None:
        return self.stored.get(record.channel)


class Nodes:
    """Nodes by tag; `None` is one that is silent. The first is asked."""

    def __init__(self) -> None:
        self.network = Network()
        self.known: dict[str, FakeKnown] = {}
        self.counts: list[int] = []
        """How many rows each node was asked for."""
        self.clock = FakeClock()

    @classmethod
    async def with_channels(cls, **nodes: Mapping[str, int] | None) -> "Nodes":
        made = cls()
        for tag, held in nodes.items():
            made.known[tag] = FakeKnown(held or {})
            lists = ChannelHandlers(made.known[tag], RowSource(tag, made.clock, 0.0))
            rpc = await made.network.join(
                tag, {**lists.handlers(), ListChannels: made._counting(lists)}
            )
            if held is None:
                made.network.silent.add(tag)
            if tag == next(iter(nodes)):
                made.lists, made.rpc = lists, rpc
        return made

    lists: ChannelHandlers
    rpc: AdminRpc

    def _counting(self, lists: ChannelHandlers) -> Any:
        async def part(request: ListChannels) -> object:
            self.counts.append(request.count)
            return await lists.part(request)

        return part

    async def channel(self, name: str, stored: ChannelRecord | None = None) -> OneChannel:
        found = await self.lists.added_up(self.rpc, name, stored)
        assert found is not None
        return found

    async def page(self, **query: Any) -> Page[ChannelRecord]:
        return await self.lists.everywhere(self.rpc, asked(**query))


TOP: dict[str, Any] = {"limit": 1, "sort": "subscribers", "descending": True}


# -- one list of all nodes -------------------------------------------------------------------------


def test_the_subscribers_of_all_nodes_are_added_up() -> None:
    """The position is the newest that any of them has seen, the rate the highest."""
    one, other = record("a", subscribers=2, offset=7), record("a", offset=9)
    for both in (joined(one, other), joined(other, one)):
        assert (both.subscribers, both.position.offset) == (3, 9)
        assert both.publications_per_second is None


async def test_the_answer_for_a_channel_says_whether_all_workers_are_counted() -> None:
    """One that is silent is named; where the others are not known, none is."""
    nodes = await Nodes.with_channels(one={"a": 2}, two={"a": 3}, three=None)
    whole = await nodes.channel("a")
    assert (whole.record.subscribers, whole.complete, whole.unanswered) == (5, False, ("three",))

    nodes = await Nodes.with_channels(one={"a": 2}, two={"a": 3})
    whole = await nodes.channel("a")
    assert (whole.record.subscribers, whole.complete) == (5, True)

    nodes.network.away = True
    alone = await nodes.channel("a")
    assert (alone.record.subscribers, alone.complete, alone.unanswered) == (2, False, ())


async def test_a_channel_that_only_another_worker_knows_has_the_subscribers_there() -> None:
    """History may know it too. One that nobody knows is none."""
    nodes = await Nodes.with_channels(one={}, two={"a": 3})
    assert (await nodes.channel("a")).record.subscribers == 3
    stored = record("a", subscribers=0, offset=9)
    whole = (await nodes.channel("a", stored)).record
    assert (whole.subscribers, whole.position.offset) == (3, 9)
    assert await nodes.lists.added_up(nodes.rpc, "b") is None


async def test_the_name_decides_between_equals() -> None:
    nodes = await Nodes.with_channels(one={"b": 1, "c": 5, "a": 1})
    rising = await nodes.page(sort="subscribers")
    falling = await nodes.page(sort="subscribers", descending=True, limit=2)
    assert [row.channel for row in rising.records] == ["a", "b", "c"]
    assert [row.channel for row in falling.records] == ["c", "b"]


async def test_a_page_by_name_goes_on_after_the_last_name() -> None:
    """The page works in both directions; only an operator who asks for the
    hub's own channels gets them."""
    nodes = await Nodes.with_channels(one={"a": 1, "b": 1, "c": 1, "hub:stats": 1})
    rising = await nodes.page(after=("b", "b"), where={"reserved": ""})
    falling = await nodes.page(after=("b", "b"), descending=True)
    own = await nodes.page(where={"prefix": "hub:", "reserved": "shown"})
    assert [row.channel for row in rising.records] == ["c"]
    assert [row.channel for row in falling.records] == ["a"]
    assert ([row.channel for row in own.records], own.total) == (["hub:stats"], 1)


async def test_channels_that_only_some_nodes_name_are_asked_of_the_others() -> None:
    """Each says its first two of three: `b` leads only when both nodes' subscribers count."""
    nodes = await Nodes.with_channels(one={"a": 5, "c": 4, "b": 3}, two={"b": 4, "d": 3, "a": 1})
    page = await nodes.page(**TOP)
    assert [(row.channel, row.subscribers) for row in page.records] == [("b", 7)]
    assert (page.total, page.more) == (4, True)


async def test_no_node_says_more_than_the_page_needs() -> None:
    """A node's answer stays small however many channels it has."""
    nodes = await Nodes.with_channels(one={f"c{number}": number for number in range(5000)}, two={})
    assert (await nodes.page(**TOP)).total == 5000
    assert nodes.counts == [2, 2]


async def test_a_silent_node_is_named() -> None:
    page = await (await Nodes.with_channels(one={"a": 1}, two=None)).page()
    assert (page.unanswered, page.complete, len(page.rows)) == (("two",), False, 1)


async def test_without_redis_the_nodes_own_channels_are_shown() -> None:
    """The node says that the list is not complete while it cannot ask the other nodes."""
    nodes = await Nodes.with_channels(one={"a": 1}, two={"b": 1})
    nodes.network.away = True
    page = await nodes.page()
    assert [row.channel for row in page.records] == ["a"]
    assert not page.complete


async def test_pages_that_are_not_by_name_end_somewhere() -> None:
    """Every one of them costs all those before it."""
    many = {f"c{number:04}": 1 for number in range(MAX_ROWS + 10)}
    nodes = await Nodes.with_channels(one=many)
    last = await nodes.page(limit=100, skip=MAX_ROWS - 100, sort="subscribers")
    assert (len(last.rows), last.more) == (100, False)
    with pytest.raises(BadRequestError, match="narrow it by prefix"):
        await nodes.page(skip=MAX_ROWS, sort="subscribers")
    by_name = await nodes.page(limit=100, after=("c0990", "c0990"))
    names = [row.channel for row in by_name.records]
    assert (names[0], names[-1], by_name.more) == ("c0991", "c1009", False)


@pytest.mark.parametrize("sort", CHANNELS.orders)
async def test_pages_together_are_every_channel_in_order(sort: str) -> None:
    """The pages are right by any column, forwards and backwards, if `next`
    is handed back as it came."""
    held = {f"c{number:02}": number * 7 % 5 for number in range(23)}
    nodes = await Nodes.with_channels(one=held, two={"c03": 9, "d": 1})
    seen: list[str] = []
    after = None
    while True:
        query = CHANNELS.read({"sort": sort, "limit": 5, "after": after})
        page = await nodes.lists.everywhere(nodes.rpc, query)
        assert page.total in {23, 24}, "at least as many as one node has"
        seen += [row.channel for row in page.records]
        after = CHANNELS.told(query, page)["next"]
        if after is None:
            break
    assert sorted(seen) == sorted({*held, "d"})
    if sort == "-subscribers":
        assert seen[0] == "c03"


async def most_at_once(known: FakeKnown, task: asyncio.Task[Any]) -> int:
    """How many channels the task looks at between two turns of the loop."""
    most, before = 0, known.looked
    while not task.done():
        await asyncio.sleep(0)
        most, before = max(most, known.looked - before), known.looked
    return most


async def test_a_list_of_many_channels_lets_others_run_in_between() -> None:
    """An operator who looks at 50,000 channels must not stop what they carry."""
    nodes = await Nodes.with_channels(one={f"user:{number}": 1 for number in range(50_000)})
    known = nodes.known["one"]
    listed = asyncio.create_task(nodes.lists.part(ListChannels(asked(sort="subscribers"), 50)))
    assert 0 < await most_at_once(known, listed) <= 1000
    assert (await listed).total == 50_000
    served = asyncio.create_task(nodes.lists.here(lambda name: name.endswith("7")))
    assert 0 < await most_at_once(known, served) <= 1000
    assert len(await served) == 5000


async def test_columns_that_only_the_broker_knows_are_asked_for_the_page_alone() -> None:
    """The page is sorted by the broker's figure; while the broker is away the figures are
    missing and nothing is asked."""
    nodes = await Nodes.with_channels(one={f"c{number}": 1 for number in range(300)})
    nodes.known["one"].stored = {"c0": 5, "c1": 9, "c10": 7}
    page = await nodes.page(limit=3, sort="history")
    held = [(row.channel, row.history) for row in page.records]
    assert held == [("c0", 5), ("c10", 7), ("c1", 9)]
    nodes.network.away = True
    page = await nodes.page(limit=3)
    assert [row.history for row in page.records] == [None, None, None]


# -- rates -----------------------------------------------------------------------------------------


def note(rates: ChannelRates, *rows: ChannelRecord) -> None:
    rates.begin().update((row.channel, row.position.offset) for row in rows)


def test_a_rate_is_what_came_since_somebody_asked_before() -> None:
    """There is no rate at first, nor for a channel that is new or began again."""
    clock = FakeClock()
    rates = ChannelRates(clock)

    def ask(*rows: ChannelRecord) -> list[float | None]:
        note(rates, *rows)
        return [row.publications_per_second for row in rates.rated(rows)]

    clock.advance(10)
    assert ask(record("a", offset=10), record("b", offset=5)) == [None, None]
    clock.advance(5)
    now = ask(record("a", offset=20), record("b", offset=1), record("new", offset=3))
    assert now == [2.0, None, None]


def test_an_answer_of_long_ago_makes_no_rate() -> None:
    """A rate over so long a time would say nothing about now."""
    clock = FakeClock()
    rates = ChannelRates(clock)
    for _ in range(2):
        clock.advance(MOST_SECONDS + 1)
        note(rates, record("a", offset=1))
    assert rates.rated([record("a", offset=5)])[0].publications_per_second is None


async def test_an_order_by_rates_is_one_over_all_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every slice is compared with where its channels stood when somebody asked before."""
    monkeypatch.setattr("hub.admin.channels._SLICE_CHANNELS", 1)
    nodes = await Nodes.with_channels(one={"a": 1, "b": 1, "c": 1})
    for offsets in ((10, 10, 10), (12, 40, 20)):
        nodes.clock.advance(5)
        nodes.known["one"].offsets = dict(zip("abc", offsets, strict=True))
        page = await nodes.page(sort="publications_per_second", descending=True, limit=2)
    assert [(row.channel, row.publications_per_second) for row in page.records] == [
        ("b", 6.0),
        ("c", 2.0),
    ]
