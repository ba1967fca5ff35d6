"""A batch that grows fast waits for more, so that each write carries more; never for long."""

from unittest.mock import Mock

import pytest

from hub.core.fanout.fanout import GATHER_BYTES, GATHER_SECONDS, GROWTH_ITEMS
from tests.core.small_node import SmallNode
from tests.core.subscribers import Subscriber


def sizes_of_writes(node: SmallNode, reader: Subscriber) -> list[int]:
    """Turn the loop until all is written; return the number of messages in each turn."""
    sizes = []
    while node.loop.callbacks:
        node.loop.turn()
        sizes.append(len(reader.read()))
    return sizes


def publish(node: SmallNode, count: int, channel: str = "a", data: bytes = b"1") -> None:
    for _ in range(count):
        node.publish(channel, data)


def test_pieces_of_a_busy_publisher_leave_in_one_write() -> None:
    """The first turn after one that brought nothing writes all of them."""
    node = SmallNode()
    reader = Subscriber(node, "a")
    for _ in range(3):
        publish(node, GROWTH_ITEMS)
        node.loop.turn()
        assert reader.read() == []
    assert sizes_of_writes(node, reader) == [3 * GROWTH_ITEMS]


def test_a_batch_that_goes_on_growing_leaves_when_its_first_item_is_old() -> None:
    node = SmallNode()
    reader = Subscriber(node, "a")
    turns = 0
    while not (messages := reader.read()):
        publish(node, GROWTH_ITEMS)
        node.loop.turn()
        node.clock.advance(GATHER_SECONDS / 4)
        turns += 1
    assert (turns, len(messages)) == (5, 5 * GROWTH_ITEMS)


def test_few_publications_leave_in_the_next_turn_also_beside_a_busy_channel() -> None:
    node = SmallNode()
    busy, calm = Subscriber(node, "busy"), Subscriber(node, "calm")
    publish(node, GROWTH_ITEMS, "busy")
    publish(node, GROWTH_ITEMS - 1, "calm")
    node.loop.turn()
    assert (len(busy.read()), len(calm.read())) == (0, GROWTH_ITEMS - 1)


def test_a_batch_that_waits_outlives_a_fault_in_another_channel() -> None:
    """The fault ends the tick, and the next tick goes on with all channels that have items."""
    node = SmallNode()
    busy, failing = Subscriber(node, "busy"), Subscriber(node, "other", plain=False)
    failing.link.send = Mock(side_effect=RuntimeError)  # type: ignore[method-assign]  # a fault
    publish(node, GROWTH_ITEMS, "busy")
    publish(node, 1, "other")
    with pytest.raises(RuntimeError):
        node.loop.turn()
    node.loop.settle()
    assert len(busy.read()) == GROWTH_ITEMS


def test_a_batch_leaves_as_soon_as_it_grows_slowly() -> None:
    node = SmallNode()
    reader = Subscriber(node, "a")
    publish(node, GROWTH_ITEMS)
    node.loop.turn()
    publish(node, 1)
    assert sizes_of_writes(node, reader) == [GROWTH_ITEMS + 1]


def test_a_batch_that_makes_a_large_write_already_does_not_wait() -> None:
    node = SmallNode()
    reader = Subscriber(node, "a")
    large = b'"' + b"x" * (GATHER_BYTES // GROWTH_ITEMS) + b'"'
    publish(node, GROWTH_ITEMS, data=large)
    node.loop.turn()
    assert len(reader.read()) == GROWTH_ITEMS


def test_a_member_that_leaves_meanwhile_gets_what_was_gathered() -> None:
    node = SmallNode()
    reader = Subscriber(node, "a")
    publish(node, GROWTH_ITEMS)
    node.loop.turn()
    reader.unsubscribe("a")
    node.loop.settle()
    ops = [push["op"] for push in reader.read()]
    assert ops == ["message"] * GROWTH_ITEMS + ["reply"]
