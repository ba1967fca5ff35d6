"""A page of channels from nodes that know more than they say at once."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from hub.admin.channel_lists import MAX_ROWS, ChannelLists
from hub.core.channel_listing import ChannelQuery
from hub.core.peers import Arguments, Told
from hub.core.publication import Position
from hub.core.records import ChannelRecord, NodeRecord
from hub.errors import BadRequestError, UnavailableError
from tests.core.fakes import FakeClock


class FakePeers:
    """Nodes by tag; `None` is one that is silent, and without any Redis is away."""

    def __init__(self, **nodes: Mapping[str, int] | None) -> None:
        self.known = {tag: FakeKnown(held or {}) for tag, held in nodes.items()}
        self._lists = {
            tag: None if held is None else ChannelLists(self.known[tag], self, clock=FakeClock())
            for tag, held in nodes.items()
        }
        self.asked: list[tuple[str, Arguments]] = []
        self.away = False

    async def by_tag(self) -> Mapping[str, NodeRecord]:
        if self.away:
            raise UnavailableError("Redis is away")
        return {
            tag: NodeRecord(tag, "0", 0, 0, 0, 0, 0, 0, 0, draining=False) for tag in self._lists
        }

    async def operate(self, tag: str, name: str, arguments: Arguments) -> Told:
        assert name == "channels"
        self.asked.append((tag, arguments))
        if (lists := self._lists[tag]) is None:
            raise UnavailableError("no answer")
        return await lists.part(arguments)

    def of(self, tag: str) -> ChannelLists:
        lists = self._lists[tag]
        assert lists is not None
        return lists


class FakeKnown:
    """The channels of one node, by name, with their subscribers."""

    def __init__(self, held: Mapping[str, int]) -> None:
        self._held = held
        self.looked = 0
        self.stored: dict[str, int] = {}
        """What the broker holds of some."""

    def names(self) -> Sequence[str]:
        return tuple(self._held)

    def one(self, name: str) -> ChannelRecord:
        self.looked += 1
        return ChannelRecord(name, Position("e", 1), self._held[name], None, presence=False)

    async def count_held(self, record: ChannelRecord) -> int | None:
        return self.stored.get(record.channel)


TOP = ChannelQuery(limit=1, sort="subscribers", descending=True)


async def test_what_one_node_names_is_asked_of_those_that_did_not() -> None:
    """Each says its first two of three: `b` leads only when both nodes' subscribers count."""
    peers = FakePeers(one={"a": 5, "c": 4, "b": 3}, two={"b": 4, "d": 3, "a": 1})
    page = await peers.of("one").everywhere(TOP)
    assert [(row.channel, row.subscribers) for row in page.rows] == [("b", 7)]
    assert (page.total, page.more) == (4, True)


async def test_no_node_says_more_than_the_page_needs() -> None:
    """However many channels it has."""
    peers = FakePeers(one={f"c{number}": number for number in range(5000)}, two={})
    page = await peers.of("one").everywhere(TOP)
    assert page.total == 5000
    counts = [arguments["count"] for _, arguments in peers.asked]
    assert counts == [2, 2]


async def test_a_silent_node_is_named() -> None:
    page = await FakePeers(one={"a": 1}, two=None).of("one").everywhere(ChannelQuery())
    assert (page.unanswered, page.complete, len(page.rows)) == (("two",), False, 1)


async def test_without_redis_the_nodes_own_channels_are_shown() -> None:
    """And that there may be others."""
    peers = FakePeers(one={"a": 1}, two={"b": 1})
    peers.away = True
    page = await peers.of("one").everywhere(ChannelQuery())
    assert [row.channel for row in page.rows] == ["a"]
    assert not page.complete


async def test_pages_that_are_not_by_name_end_somewhere() -> None:
    """Every one of them costs all those before it."""
    peers = FakePeers(one={f"c{number:04}": 1 for number in range(MAX_ROWS + 10)})
    last = await peers.of("one").everywhere(
        ChannelQuery(limit=100, skip=MAX_ROWS - 100, sort="subscribers")
    )
    assert (len(last.rows), last.more) == (100, False)
    with pytest.raises(BadRequestError, match="narrow it by prefix"):
        await peers.of("one").everywhere(ChannelQuery(skip=MAX_ROWS, sort="subscribers"))
    by_name = await peers.of("one").everywhere(ChannelQuery(limit=100, after="c0990"))
    assert [by_name.rows[0].channel, by_name.rows[-1].channel] == ["c0991", "c1009"]


async def test_an_order_that_is_not_known_here_is_refused() -> None:
    """A newer node may ask for one."""
    with pytest.raises(BadRequestError):
        await FakePeers(one={}).of("one").part({"sort": "colour", "count": 1})


async def most_at_once(known: FakeKnown, task: asyncio.Task[object]) -> int:
    """How many channels the task looks at between two turns of the loop."""
    most, before = 0, known.looked
    while not task.done():
        await asyncio.sleep(0)
        most, before = max(most, known.looked - before), known.looked
    return most


async def test_a_list_of_many_channels_lets_others_run_in_between() -> None:
    """An operator who looks at 50,000 channels must not stop what they carry."""
    known = FakeKnown({f"user:{number}": 1 for number in range(50_000)})
    lists = ChannelLists(known, FakePeers(), clock=FakeClock())
    asked = asyncio.create_task(lists.part({"sort": "subscribers", "count": 50}))
    assert 0 < await most_at_once(known, asked) <= 1000
    assert (await asked)["total"] == 50_000
    served = asyncio.create_task(lists.here(lambda name: name.endswith("7")))
    assert 0 < await most_at_once(known, served) <= 1000
    assert len(await served) == 5000


async def test_what_only_the_broker_knows_is_asked_for_the_page_alone() -> None:
    """And the page is in the order of it; without the broker nobody is asked."""
    peers = FakePeers(one={f"c{number}": 1 for number in range(300)})
    peers.known["one"].stored = {"c0": 5, "c1": 9, "c10": 7}
    page = await peers.of("one").everywhere(ChannelQuery(limit=3, sort="history"))
    assert [(row.channel, row.history) for row in page.rows] == [("c0", 5), ("c10", 7), ("c1", 9)]
    peers.away = True
    page = await peers.of("one").everywhere(ChannelQuery(limit=3))
    assert [row.history for row in page.rows] == [None, None, None]
