"""Memory for what waits behind holes is bounded, and what finds no room is not forgotten."""

import time
from typing import cast

import structlog

from hub.brokers.redis.channels.tracked import TrackedChannels
from hub.brokers.redis.options import RedisOptions, ShardContext
from hub.brokers.tracker import HoldBudget, Tracker
from hub.core.counters import Counters
from hub.core.options import Namespaces
from hub.core.ports import Downstream, Spawn
from hub.core.publication import Position
from tests.brokers.test_tracker import message, page, shown
from tests.support.waiting import eventually

SIZE = message("a", 1).size_bytes


def room(
    counters: Counters, *, messages: int = 100, channel: int = 10**6, total: int = 10**6
) -> HoldBudget:
    return HoldBudget(
        channel_messages=messages, channel_bytes=channel, total_bytes=total, counters=counters
    )


def live(name: str, shared: HoldBudget) -> Tracker:
    tracker = Tracker(name, shared)
    tracker.open(Position("a", 0))
    return tracker


def test_channels_share_the_room_of_the_process() -> None:
    """The room is shared by all channels; a publication that finds none is read
    from history with the hole."""
    counters = Counters()
    shared = room(counters, total=3 * SIZE)
    first, second = live("x", shared), live("y", shared)
    for offset in (2, 3):
        first.receive(message("a", offset))
        second.receive(message("a", offset))
    assert (shared.bytes, counters.broker_hold_refused) == (3 * SIZE, 1)
    second.ask()
    steps = second.on_page(page(Position("a", 3), [message("a", n) for n in (1, 2, 3)]))
    assert shown(steps) == ["a:1", "a:2", "a:3"]
    assert shared.bytes == 2 * SIZE


def test_without_history_what_found_no_room_is_announced_as_lost() -> None:
    """The loss is never silent."""
    shared = room(Counters(), total=0)
    tracker = live("x", shared)
    for offset in (2, 3):
        assert not tracker.receive(message("a", offset))
    tracker.ask()
    assert shown(tracker.on_page(page(Position("a", 3), []))) == ["broker 1-3"]


def test_the_bounds_of_a_channel_hold_as_well() -> None:
    """The bounds are in messages and in bytes."""
    for shared in (room(Counters(), messages=2), room(Counters(), channel=2 * SIZE)):
        tracker = live("x", shared)
        for offset in range(2, 9):
            tracker.receive(message("a", offset))
        assert shared.bytes == 2 * SIZE


def test_room_is_given_back_when_nobody_needs_the_channel() -> None:
    """The room is given back also if the page that was asked for comes later."""
    shared = room(Counters())
    tracker = live("x", shared)
    tracker.receive(message("a", 2))
    tracker.ask()
    tracker.let_go()
    assert shared.bytes == 0
    tracker.on_page(page(Position("a", 2), [message("a", 1), message("a", 2)]))
    assert shared.bytes == 0


def test_room_is_given_back_when_a_channel_opens() -> None:
    """Publications that came before the head was known are delivered or dropped when it is
    known, and give back their bytes."""
    shared = room(Counters())
    tracker = Tracker("x", shared)
    for offset in (1, 2, 3):
        tracker.receive(message("a", offset))
    assert shared.bytes == 3 * SIZE
    tracker.open(Position("a", 1))
    assert shown(tracker.release()) == ["a:2", "a:3"]
    assert shared.bytes == 0


class Deaf:
    """A pub/sub connection that nothing comes in on."""

    def add(self, name: bytes) -> None: ...

    def remove(self, name: bytes) -> None: ...

    def hears(self, name: bytes) -> bool:
        return False

    async def barrier(self) -> None: ...


def channels_in(shared: HoldBudget) -> TrackedChannels:
    counters, options = Counters(), RedisOptions(linger_seconds=0)
    context = ShardContext(
        namespaces=Namespaces(),
        options=options,
        downstream=cast("Downstream", None),
        clock=time.monotonic,
        wall_clock=time.time,
        spawn=cast("Spawn", None),
        log=structlog.get_logger(),
        counters=counters,
        hold_budget=shared,
    )
    return TrackedChannels(context, pubsub=Deaf(), check_up=lambda: None)


def with_something_held(channels: TrackedChannels) -> Tracker:
    channels.take("x", Position("a", 0))
    tracker = channels.tracker("x")
    assert tracker is not None
    tracker.receive(message("a", 2))
    return tracker


async def test_a_channel_that_is_left_moved_or_stopped_holds_nothing() -> None:
    """The room belongs to the process, so publications that nobody waits for
    must not keep others out."""
    shared = room(Counters())
    channels = channels_in(shared)
    tracker = with_something_held(channels)
    assert shared.bytes == SIZE
    channels.give(tracker)
    assert shared.bytes == 0

    with_something_held(channels)
    channels.unsubscribe("x")
    await eventually(lambda: not list(channels.trackers()))
    assert shared.bytes == 0

    with_something_held(channels)
    channels.stop()
    assert shared.bytes == 0
