"""All histories together are bounded in bytes: the oldest publications go first, announced."""

import asyncio
import gc
import random
import tracemalloc
from collections import deque
from collections.abc import Iterable
from itertools import pairwise

import pytest

from hub.brokers import memory_history
from hub.brokers.memory import MemoryBroker
from hub.brokers.memory_cost import cost_bytes
from hub.brokers.memory_history import SLICE_PUBLICATIONS, HistoryBudget
from hub.core.options import ChannelOptions, Namespaces
from hub.core.ports import PublishRequest
from hub.core.publication import REMOVES, Position, Publication
from tests.brokers.conftest import memory_rig
from tests.brokers.rig import Rig
from tests.core.small_node import Shape, SmallNode
from tests.core.subscribers import Subscriber

DATA = b'"' + b"x" * 998 + b'"'


def bounded(total_bytes: int, *, max_channels: int = 1000) -> tuple[Rig, MemoryBroker]:
    rig = memory_rig(max_channels=max_channels, history_total_bytes=total_bytes)
    assert isinstance(rig.broker, MemoryBroker)
    return rig, rig.broker


async def held(rig: Rig, names: Iterable[str]) -> dict[str, list[int]]:
    return {name: await rig.offsets(f"long:{name}", limit=10_000) for name in names}


async def test_the_oldest_publications_go_first_over_all_channels() -> None:
    """By age, whatever channel they are in; offsets go on, and `oldest` says from where."""
    size = cost_bytes(Publication("long:a", 1, DATA, 0))
    rig, broker = bounded(4 * size)
    for name in "aabac":
        await rig.publish(f"long:{name}", DATA)
    assert await held(rig, "abc") == {"a": [2, 3], "b": [1], "c": [1]}
    for name in "bbb":
        await rig.publish(f"long:{name}", DATA)
    assert await held(rig, "abc") == {"a": [], "b": [2, 3, 4], "c": [1]}
    page = await rig.history("long:a")
    assert (page.head.offset, page.oldest) == (3, 4)
    assert broker.record().history_bytes == 4 * size
    assert broker.record().history_limit_bytes == 4 * size


async def test_rows_are_counted_as_they_come_and_go() -> None:
    """By removal, for want of room, and with their channel."""
    keyed = Namespaces(by_name={"table": ChannelOptions(history_size=0, keyed=True)})
    node = SmallNode(Shape(keyed))
    broker = node.memory

    def put(channel: str, key: str, *, remove: bool = False) -> None:
        marks = REMOVES if remove else 0
        node.request(PublishRequest(channel, DATA, "backend", key=key, marks=marks))

    def counted() -> int:
        """Rows; they and their bytes are those of all channels together."""
        record = broker.record()
        held = [broker.rows_held(name) or (0, 0) for name in broker.names()]
        assert record.state_rows == sum(rows for rows, _ in held)
        assert record.state_row_bytes == sum(taken for _, taken in held)
        assert (record.state_row_bytes > 0) is (record.state_rows > 0)
        return record.state_rows

    for key in ("x", "y", "x"):
        put("table:a", key)
    put("table:b", "x")
    assert counted() == 3
    put("table:a", "y", remove=True)
    assert counted() == 2
    node.begin_epoch("table:a")
    assert counted() == 1


async def test_a_publication_larger_than_all_of_history_is_delivered_and_not_kept() -> None:
    """Its number is given out all the same, and resuming from before it announces it."""
    rig, broker = bounded(5000)
    await rig.subscribe("a")
    await rig.publish("a")
    await rig.publish("a", b'"' + b"x" * 5000 + b'"')
    assert [publication.offset for publication in rig.delivered] == [1, 2]
    assert await rig.offsets("a") == []
    assert broker.record().history_bytes == 0


def test_publications_that_went_for_others_are_announced_as_expired() -> None:
    """With the exact range, where it would have stood."""
    node = SmallNode(Shape(Namespaces(ChannelOptions(history_size=1000))))
    node.memory._history.max_bytes = 20_000
    for _ in range(10):
        node.publish("a", DATA)
    head = node.memory.held("a")
    assert head is not None
    for _ in range(8):
        node.publish("other", DATA)
    reader = Subscriber(node)
    reader.subscribe("a", since=Position(head[0].epoch, 0))
    reply, gap, *messages = reader.read()
    assert isinstance(reply["ok"], dict)
    assert reply["ok"]["recovered"] is False
    left = 10 - len(messages)
    assert (gap["from"], gap["to"], gap["reason"]) == (1, left, "expired")
    assert [message["offset"] for message in messages] == list(range(left + 1, 11))


async def test_a_channel_that_lost_its_history_to_others_is_forgotten_before_what_has_some() -> (
    None
):
    """At the bound of channels."""
    size = cost_bytes(Publication("a", 1, DATA, 0))
    rig, broker = bounded(3 * size, max_channels=4)
    for name in "abcd":
        await rig.publish(name, DATA)
    assert broker.names() == ("a", "b", "c", "d")
    await rig.history("a")
    await rig.publish("e", b"1")
    assert broker.names() == ("b", "c", "d", "e")


async def test_a_budget_counts_exactly_what_is_held_whatever_happens() -> None:
    """Publishing, ageing, forgetting and evicting in any order, with sizes of all kinds."""
    chance = random.Random(12)
    rig, broker = bounded(60_000, max_channels=12)
    order: deque[tuple[str, int, str]] = deque()
    for _ in range(4000):
        name = f"{chance.choice(('long', 'x', 'none'))}:{chance.randrange(9)}"
        match chance.randrange(12):
            case 0:
                rig.clock.advance(chance.choice((0.1, 5, 40)))
                broker.sweep()
            case 1:
                await rig.history(name)
            case 2:
                await rig.subscribe(name)
                rig.broker.unsubscribe(name)
            case _:
                data = b'"' + b"x" * chance.choice((0, 10, 900, 5000)) + b'"'
                key = chance.choice((None, "k" * 20))
                made = await rig.publish(name, data, key=key)
                order.append((name, made.offset, made.epoch))
        kept = [log._kept[log._first :] for log in broker._logs.values()]
        total = sum(cost_bytes(item) for items in kept for item in items)
        assert broker.record().history_bytes == total <= 60_000
        assert broker._history.marks.held == sum(len(items) for items in kept)
        listed = {*broker._unused, *broker._without_history, *broker._with_history}
        assert listed == set(broker._logs)
        assert all(len(broker._logs[name]) for name in broker._with_history)
        assert not any(len(broker._logs[name]) for name in broker._without_history)


async def test_marks_of_what_is_gone_do_not_pile_up() -> None:
    """A channel that keeps few, beside one that is older: marks stay few as well."""
    rig, broker = bounded(1 << 30)
    await rig.publish("long:old")
    for _ in range(20_000):
        await rig.publish("small")
    budget = broker._history
    assert isinstance(budget, HistoryBudget)
    assert len(budget.marks) < 3000


async def test_marks_of_what_is_gone_never_hold_a_publication_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A publication passes over a few marks at most, so the history stays a little over its
    bound until the next sweep."""
    monkeypatch.setattr(memory_history, "_PASSED_AT_ONCE", 10)
    size = cost_bytes(Publication("long:x", 1, DATA, 0))
    rig, broker = bounded(100 * size)
    await rig.publish("long:old", DATA)
    for _ in range(20):
        await rig.publish("long:a", DATA)
        await rig.publish("long:b", DATA)
    for name in ("long:a", "long:b"):
        await broker.clear(name)
    for _ in range(100):
        await rig.publish("long:c", DATA)
    budget = broker._history
    assert (len(broker._logs["long:old"]), budget.bytes) == (0, 100 * size)
    marks = len(budget.marks)
    await rig.publish("long:c", DATA)
    assert marks - len(budget.marks) == 10 - 1
    assert budget.bytes == 101 * size
    for _ in range(5):
        broker.sweep()
    assert budget.bytes == 100 * size
    assert len(budget.marks) == 100


@pytest.mark.parametrize("size", [10, 200, 4000])
@pytest.mark.parametrize("channels", [1, 2000])
async def test_the_counted_bytes_are_those_that_history_costs(size: int, channels: int) -> None:
    """Objects and all: the interpreter's own account says no more, and hardly less."""
    clock_rig, broker = bounded(1 << 40, max_channels=5000)
    names = [f"long:{number}" for number in range(channels)]
    for name in names:
        await clock_rig.publish(name)
    before_counted = broker.record().history_bytes
    gc.collect()
    tracemalloc.start()
    for number in range(8000):
        # As they come from a socket: a name and data of its own each.
        name = f"long:{number % channels}"
        await broker.publish(PublishRequest(name, b'"' + b"x" * size + b'"', "p"))
        clock_rig.clock.advance(0.001)
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    counted = broker.record().history_bytes - before_counted
    assert 0.85 * counted <= held <= 1.1 * counted


def full_channels(broker: MemoryBroker, count: int) -> int:
    """Publish 1,000 messages in each of so many channels; return what one of them takes."""
    for number in range(count):
        requests = [PublishRequest(f"long:{number}", DATA, "backend")] * 1000
        assert len(broker.publish_many_now(requests)) == 1000
    return cost_bytes(Publication("long:0", 1, DATA, 0))


async def test_publications_that_expire_together_are_freed_in_slices() -> None:
    """Expired publications leave the history at once, and each `sweep` frees one slice of them."""
    rig, broker = bounded(1 << 30)
    size = full_channels(broker, 12)
    rig.clock.advance(301)
    left = [broker.record().history_bytes]
    while left[-1]:
        broker.sweep()
        assert (await rig.history("long:11")).oldest == 1001
        left.append(broker.record().history_bytes)
    freed = [(before - after) // size for before, after in pairwise(left)]
    assert freed == [5000, 5000, 2000]
    assert SLICE_PUBLICATIONS == 5000


async def test_a_channel_that_is_forgotten_is_freed_in_slices_too() -> None:
    """The channel does not appear in the list again while the rest of it is freed."""
    rig, broker = bounded(20_000 * cost_bytes(Publication("long:0", 1, DATA, 0)))
    full_channels(broker, 12)
    for number in range(12):
        rig.forget(f"long:{number}")
    assert broker.names() == ()
    assert broker.record().history_bytes > 0
    full_channels(broker, 20)
    assert len(broker.names()) == 20
    assert (await rig.history("long:0")).oldest == 1


async def test_at_the_bound_goes_first_what_is_out_of_history() -> None:
    """Publications of other channels stay, although they are older."""
    size = cost_bytes(Publication("long:0", 1, DATA, 0))
    rig, broker = bounded(7001 * size)
    await rig.publish("long:a", DATA)
    full_channels(broker, 7)
    for number in range(7):
        await broker.clear(f"long:{number}")
    assert broker.record().history_bytes == 2001 * size
    for _ in range(7):
        full_channels(broker, 1)
    assert await held(rig, "a") == {"a": [1]}
    assert broker.record().history_bytes <= 7001 * size


async def test_a_page_passes_over_many_that_expired_by_themselves_in_turns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A reader gets all the same pages, and others have the loop meanwhile."""
    monkeypatch.setattr(memory_history, "EXPIRED_AT_ONCE", 10)
    rig = memory_rig()
    for number in range(60):
        keep_ms = None if number in {0, 20, 59} else 0
        await rig.broker.publish(PublishRequest("long:a", b"1", "p", keep_ms=keep_ms))
    assert await rig.offsets("long:a") == [1]
    reading = asyncio.create_task(rig.offsets("long:a", after=21))
    await asyncio.sleep(0)
    assert not reading.done()
    assert await reading == [60]
    assert await rig.offsets("long:a", after=1) == [21]
    assert await rig.offsets("long:a", after=60) == []
