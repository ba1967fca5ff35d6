"""A node listens to channels for a while, and callers wait for one to be opened."""

import asyncio

import pytest

from hub.brokers.redis.channels.tracked import TrackedChannels
from hub.brokers.redis.link.outcomes import RedisNotSentError
from hub.brokers.redis.options import RedisOptions
from hub.brokers.tracker import Tracker, TrackerState
from hub.core.publication import Position
from tests.brokers.redis.channels.rig import ShardRig
from tests.support.waiting import eventually

NAME, RAW_NAME = b"hub:{news}", b"hub:raw:news"
HEAD = Position("e", 7)


class Rig(ShardRig):
    def __init__(self, *, allow_raw: bool = False, **options: float) -> None:
        super().__init__(RedisOptions(**{"linger_seconds": 1e6} | options), allow_raw=allow_raw)  # type: ignore[arg-type] # all are seconds
        self.away = False
        self.heads: list[Position] = []
        self.channels = TrackedChannels(self.context, pubsub=self.pubsub, check_up=self._check_up)

    def _check_up(self) -> None:
        if self.away:
            raise RedisNotSentError("away")

    def subscribe(self) -> asyncio.Task[None]:
        return asyncio.create_task(self.channels.subscribe("news", self.heads.append))

    async def waiting(self, count: int = 1) -> tuple[Tracker, list[asyncio.Task[None]]]:
        """Starts `count` callers that wait for the head, and returns their
        tracker and their tasks."""
        callers = [self.subscribe() for _ in range(count)]
        await eventually(lambda: self.channels.tracker("news"))
        await asyncio.sleep(0)
        tracker = self.channels.tracker("news")
        assert tracker is not None
        return tracker, callers

    def open(self, tracker: Tracker) -> None:
        tracker.open(HEAD)
        self.channels.opened(tracker)

    async def opened(self) -> Tracker:
        tracker, callers = await self.waiting()
        self.open(tracker)
        await asyncio.gather(*callers)
        return tracker


async def test_the_head_is_given_to_one_caller_and_all_go_on() -> None:
    """The core has one place per channel, however many sessions asked at once."""
    rig = Rig()
    tracker, callers = await rig.waiting(3)
    assert rig.pubsub.wanted == [NAME]
    rig.open(tracker)
    await asyncio.gather(*callers)
    assert rig.heads == [HEAD]


async def test_a_caller_of_an_open_channel_is_given_the_head_at_once() -> None:
    rig = Rig()
    await rig.opened()
    await rig.channels.subscribe("news", rig.heads.append)
    assert rig.heads == [HEAD, HEAD]


async def test_while_redis_is_away_nobody_waits_for_a_channel() -> None:
    rig = Rig()
    rig.away = True
    with pytest.raises(RedisNotSentError):
        await rig.channels.subscribe("news", rig.heads.append)
    assert len(rig.channels) == 0
    assert not rig.pubsub.wanted


async def test_a_caller_that_is_cancelled_leaves_the_others_waiting() -> None:
    """The first caller is cancelled before it has the head, so the head goes to the second."""
    rig = Rig()
    tracker, (first, second) = await rig.waiting(2)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert rig.pubsub.wanted == [NAME]
    rig.open(tracker)
    await second
    assert rig.heads == [HEAD]


async def test_a_channel_that_nobody_waits_for_any_more_is_forgotten() -> None:
    rig = Rig()
    _, (caller,) = await rig.waiting()
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    assert len(rig.channels) == 0
    assert not rig.pubsub.wanted


async def test_a_head_that_takes_too_long_ends_the_wait() -> None:
    rig = Rig(subscribe_timeout_seconds=0.001)
    with pytest.raises(TimeoutError):
        await rig.subscribe()
    assert len(rig.channels) == 0


async def test_a_channel_without_sessions_is_kept_muted_for_a_moment() -> None:
    """A page that is loaded again comes back to it, and misses nothing."""
    rig = Rig()
    tracker = await rig.opened()
    rig.channels.unsubscribe("news")
    assert tracker.muted
    await rig.channels.subscribe("news", rig.heads.append)
    assert not tracker.muted
    assert rig.channels.tracker("news") is tracker


async def test_after_that_moment_it_is_left() -> None:
    rig = Rig(linger_seconds=0.0)
    await rig.opened()
    rig.channels.unsubscribe("news")
    await eventually(lambda: len(rig.channels) == 0)
    assert not rig.pubsub.wanted


async def test_a_channel_that_moves_goes_on_behind_its_position() -> None:
    """Publications that the other server has beyond the position are read from its history."""
    here, there = Rig(), Rig()
    tracker = await here.opened()
    position = here.channels.give(tracker)
    assert position == HEAD
    assert not here.pubsub.wanted
    assert tracker.muted
    there.channels.take("news", position)
    taken = there.channels.tracker("news")
    assert taken is not None
    assert (taken.position, taken.state) == (HEAD, TrackerState.LIVE)
    assert there.pubsub.wanted == [NAME]


async def test_a_channel_that_was_taken_already_stays_where_it_is() -> None:
    """A session may have asked for it there first."""
    there = Rig()
    tracker = await there.opened()
    there.channels.take("news", Position("e", 3))
    assert there.channels.tracker("news") is tracker
    assert tracker.position == HEAD


async def test_callers_of_a_channel_that_moves_before_it_is_open_may_try_again() -> None:
    """The channel that comes back to this server meanwhile is kept, though the
    callers of the former one fail."""
    rig = Rig()
    tracker, (caller,) = await rig.waiting()
    assert rig.channels.give(tracker) is None
    rig.channels.take("news", HEAD)
    with pytest.raises(RedisNotSentError):
        await caller
    assert rig.channels.tracker("news") not in {None, tracker}
    assert rig.pubsub.wanted == [NAME]


async def test_a_channel_that_nobody_has_does_not_move() -> None:
    rig = Rig()
    tracker = await rig.opened()
    rig.channels.unsubscribe("news")
    assert rig.channels.give(tracker) is None


async def test_raw_publications_come_only_where_the_namespace_allows_them() -> None:
    """The raw name is there before the channel's own."""
    shut, open_ = Rig(), Rig(allow_raw=True)
    await shut.opened()
    tracker = await open_.opened()
    assert shut.pubsub.wanted == [NAME]
    assert open_.pubsub.wanted == [RAW_NAME, NAME]
    for rig in (shut, open_):
        rig.channels.receive_raw(RAW_NAME, b"1")
    assert (shut.noted.items, open_.noted.items) == ([], [b"1"])
    open_.channels.give(tracker)
    assert not open_.pubsub.wanted


async def test_a_raw_publication_that_is_no_json_is_announced() -> None:
    """A raw publication has no offset, so its gap has offset 0."""
    rig = Rig(allow_raw=True)
    await rig.opened()
    rig.channels.receive_raw(RAW_NAME, b"{")
    assert rig.noted.items == [("invalid", 0, 0)]
    assert (rig.counters.broker_raw, rig.counters.broker_raw_refused) == (1, 1)


async def test_a_raw_publication_that_nobody_waits_for_is_dropped() -> None:
    """The channel is not open yet, or has no sessions."""
    rig = Rig(allow_raw=True)
    tracker, callers = await rig.waiting()
    rig.channels.receive_raw(RAW_NAME, b"1")
    rig.open(tracker)
    await asyncio.gather(*callers)
    rig.channels.unsubscribe("news")
    rig.channels.receive_raw(RAW_NAME, b"2")
    assert not rig.noted.items
    assert rig.counters.broker_raw == 2
