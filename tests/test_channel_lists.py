"""A page of channels from nodes that know more than they say at once."""

from collections.abc import Callable, Mapping, Sequence

import pytest

from hub.channel_lists import MAX_ROWS, ChannelLists
from hub.core.channel_listing import ChannelQuery
from hub.core.ports import Arguments, Told
from hub.core.publication import Position
from hub.core.records import ChannelRecord, NodeRecord
from hub.errors import BadRequestError, UnavailableError
from tests.core.fakes import FakeClock


class FakePeers:
    """Nodes by tag; `None` is one that is silent, and without any Redis is away."""

    def __init__(self, **nodes: Mapping[str, int] | None) -> None:
        self._lists = {
            tag: None if held is None else ChannelLists(_records(held), self, clock=FakeClock())
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


def _records(held: Mapping[str, int]) -> Callable[[], Sequence[ChannelRecord]]:
    def records() -> Sequence[ChannelRecord]:
        return [
            ChannelRecord(name, Position("e", 1), subscribers, None, presence=False)
            for name, subscribers in held.items()
        ]

    return records


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
