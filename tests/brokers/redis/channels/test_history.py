"""Redis answers with pages and heads of a channel, and a node catches up by them."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.exceptions import ResponseError

from hub.brokers.redis.channels.history import Backfill, HistoryReader
from hub.brokers.redis.channels.messages import decode
from hub.brokers.redis.channels.tracked import TrackedChannels
from hub.brokers.redis.link.outcomes import RedisCallError
from hub.brokers.redis.options import RedisOptions
from hub.brokers.tracker import SequencedMessage, Tracker, TrackerState
from hub.core.options import Namespaces
from hub.core.publication import Position
from tests.brokers.redis.channels.rig import ShardRig
from tests.brokers.redis.fakes import Command, Rig
from tests.support.waiting import eventually

EPOCH = b"0a-e"


def entry(offset: int, *, epoch: bytes = EPOCH, data: bytes | None = None) -> list[bytes]:
    """As the stream has it: an ID, and a message."""
    raw = b"%s\n%d\n0\n\n%s" % (epoch, offset, b"%d" % offset if data is None else data)
    return [b"%d-0" % offset, raw]


def message(offset: int) -> SequencedMessage:
    found = decode("news", entry(offset)[1], max_message_bytes=1000)
    assert found is not None
    return found


class History:
    """A channel in Redis; functions are answered from it."""

    def __init__(self) -> None:
        self.offset = 0
        self.kept: list[int] = []
        self.refuses = ""
        self.asked: list[Command] = []

    def answer(self, command: Command) -> object:
        self.asked.append(command)
        if self.refuses:
            return ResponseError(self.refuses)
        if command[0] == b"open":
            return [EPOCH, self.offset]
        after = int(command[3 + int(command[1])])
        entries = [part for offset in self.kept if offset > after for part in entry(offset)]
        return [EPOCH, self.offset, self.kept[0] if self.kept else self.offset + 1, entries, 1]


@asynccontextmanager
async def reader(history: History) -> AsyncGenerator[HistoryReader]:
    async with Rig() as rig:
        rig.endpoint.answer = history.answer
        yield HistoryReader(
            calls=rig.calls, namespaces=Namespaces(), options=rig.options, line_keys=()
        )


# -- HistoryReader -------------------------------------------------------------------------------


async def test_a_page_is_read_with_what_it_says_of_the_channel() -> None:
    history = History()
    history.offset, history.kept = 7, [6, 7]
    async with reader(history) as reading:
        page = await reading.page("news", 5, 10, 1000)
    assert (page.head, page.oldest, page.complete) == (Position("0a-e", 7), 6, True)
    assert [each.offset for each in page.messages] == [6, 7]
    assert [each.publication is not None for each in page.messages] == [True, True]


@pytest.mark.parametrize(
    "bad", [entry(7, data=b"{"), entry(7, epoch=b"other"), [b"7-0", b"no message"]]
)
async def test_a_publication_that_cannot_be_delivered_keeps_its_number(bad: list[bytes]) -> None:
    """The ID tells it in any case, so a gap `invalid` stands there and nothing is missing."""
    async with Rig() as rig:
        rig.endpoint.answer = lambda _: [EPOCH, 7, 7, bad, 1]
        reading = HistoryReader(
            calls=rig.calls, namespaces=Namespaces(), options=rig.options, line_keys=()
        )
        (found,) = (await reading.page("news", 6, 10, 1000)).messages
    assert (found.epoch, found.offset, found.publication) == ("0a-e", 7, None)


async def test_an_answer_of_another_shape_is_an_error() -> None:
    """An answer of another shape would announce a loss if it were taken for an empty page."""
    async with Rig() as rig:
        rig.endpoint.answer = lambda _: [EPOCH, b"seven"]
        reading = HistoryReader(
            calls=rig.calls, namespaces=Namespaces(), options=rig.options, line_keys=()
        )
        with pytest.raises(RedisCallError):
            await reading.head("news", Position("", 0))
        with pytest.raises(RedisCallError):
            await reading.page("news", 0, 10, 1000)


# -- Backfill ------------------------------------------------------------------------------------


class Catching(ShardRig):
    """One channel that this node listens to, and what it says of it."""

    def __init__(self, history: HistoryReader, options: RedisOptions) -> None:
        super().__init__(options)
        self.history = history
        self.channels = TrackedChannels(self.context, pubsub=self.pubsub, check_up=lambda: None)
        self.backfill = Backfill(
            self.context, history=history, pubsub=self.pubsub, channels=self.channels
        )

    def listen(self, offset: int, channel: str = "news") -> Tracker:
        self.channels.take(channel, Position("0a-e", offset))
        tracker = self.channels.tracker(channel)
        assert tracker is not None
        return tracker

    def receive(self, tracker: Tracker, offset: int) -> None:
        self.backfill.act(tracker, tracker.receive(message(offset)))


@asynccontextmanager
async def catching(history: History, **options: Any) -> AsyncGenerator[Catching]:
    async with reader(history) as reading:
        rig = Catching(reading, RedisOptions(**options))
        yield rig
        await rig.tasks.stop()


async def test_a_hole_is_filled_from_history_and_what_it_lacks_is_announced() -> None:
    """In the example of the tracker 6 to 8 are lost, and history holds 7 to 10."""
    history = History()
    history.offset, history.kept = 10, [7, 8, 9, 10]
    async with catching(history) as rig:
        tracker = rig.listen(5)
        rig.receive(tracker, 9)
        assert rig.backfill.filling == 1
        rig.receive(tracker, 10)
        await eventually(lambda: not rig.backfill.filling)
        assert rig.noted.items == [("broker", 6, 6), b"7", b"8", b"9", b"10"]
        assert tracker.state is TrackerState.LIVE
        assert (rig.counters.broker_holes, rig.counters.broker_lost) == (1, 1)


async def test_a_lost_tail_is_found_by_the_head_behind_a_barrier() -> None:
    """Nothing that arrives shows it."""
    history = History()
    history.offset, history.kept = 7, [6, 7]
    async with catching(history) as rig:
        tracker = rig.listen(5)
        await rig.backfill.compare_all()
        await eventually(lambda: rig.noted.items == [b"6", b"7"])
        assert rig.pubsub.barriers == 1
        assert tracker.position == Position("0a-e", 7)


async def test_heads_of_many_channels_are_asked_for_some_at_a_time() -> None:
    """All comparisons share the bound; a channel that is being opened does
    not wait for the others."""
    history = History()
    history.offset = 5
    async with catching(history, heads_at_once=4) as rig:
        trackers = [rig.listen(5, f"a:{number}") for number in range(20)]
        under_way, most = 0, 0
        answers = asyncio.Event()
        answers.set()
        head = rig.history.head

        async def counted(channel: str, seen: Position) -> Position:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            try:
                if channel != "news":
                    await answers.wait()
                return await head(channel, seen)
            finally:
                under_way -= 1

        rig.history.head = counted  # type: ignore[method-assign]
        await asyncio.gather(rig.backfill.compare_all(), rig.backfill.compare(trackers))
        assert most == 4
        assert len(history.asked) == 40
        answers.clear()
        comparing = asyncio.create_task(rig.backfill.compare_all())
        heads = list[Position]()
        caller = asyncio.create_task(rig.channels.subscribe("news", heads.append))
        await eventually(lambda: rig.channels.tracker("news"))
        opening = rig.channels.tracker("news")
        assert opening is not None
        await rig.backfill.compare([opening])
        await caller
        assert not comparing.done()
        answers.set()
        await comparing


async def test_a_tail_that_was_only_late_is_not_read_again() -> None:
    """The late publication arrives before the barrier's answer, and then nothing is missing."""
    history = History()
    history.offset = 6
    async with catching(history) as rig:
        tracker = rig.listen(5)

        async def late() -> None:
            rig.receive(tracker, 6)

        rig.pubsub.barrier = late  # type: ignore[method-assign] # what came meanwhile
        await rig.backfill.compare_all()
        assert rig.noted.items == [b"6"]
        assert [command[0] for command in history.asked] == [b"open"]


async def test_a_channel_is_opened_at_its_head_and_then_gets_what_came_meanwhile() -> None:
    history = History()
    history.offset = 6
    async with catching(history) as rig:
        heads = list[Position]()
        caller = asyncio.create_task(rig.channels.subscribe("news", heads.append))
        await eventually(lambda: rig.channels.tracker("news"))
        tracker = rig.channels.tracker("news")
        assert tracker is not None
        rig.receive(tracker, 6)
        rig.receive(tracker, 7)
        await rig.backfill.compare([tracker])
        await caller
        assert heads == [Position("0a-e", 6)]
        assert rig.noted.items == [b"7"]


async def test_a_hole_that_cannot_be_filled_now_is_filled_after_the_next_comparison() -> None:
    """Nothing is announced as lost because Redis refused."""
    history = History()
    history.offset, history.kept, history.refuses = 7, [6, 7], "ERR for now"
    async with catching(history) as rig:
        tracker = rig.listen(5)
        rig.receive(tracker, 7)
        await eventually(lambda: not rig.backfill.filling)
        assert tracker.state is TrackerState.FILLING
        assert not rig.noted.items
        history.refuses = ""
        await rig.backfill.compare_all()
        await eventually(lambda: rig.noted.items == [b"6", b"7"])


async def test_steps_of_a_channel_without_sessions_are_not_delivered() -> None:
    """Its tracker keeps up all the same, because a session may come back."""
    async with catching(History()) as rig:
        tracker = rig.listen(5)
        rig.channels.unsubscribe("news")
        rig.receive(tracker, 6)
        assert not rig.noted.items
        assert tracker.position == Position("0a-e", 6)
        rig.channels.stop()
