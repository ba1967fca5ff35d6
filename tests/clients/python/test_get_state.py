"""`get_state`: the application's own state, and then what follows its position."""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from hub_client import Gap, HubClient, Position, Publisher
from hub_client.channel import SubscribedChannel
from hub_client.feed import Feed, FeedLimits, Subscription, WantedItems
from hub_client.messages import HistoryPage, Item, Message
from tests.support.hub_process import HubProcess

DEADLINE_SECONDS = 30.0


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    with HubProcess(HUB_HISTORY_SIZE="20") as process:
        yield process


class Application:
    """Counts; keeps how far it is as the position of its newest publication."""

    def __init__(self, publisher: Publisher, channel: str) -> None:
        self.publisher = publisher
        self.channel = channel
        self.count = 0
        self.position = ""
        self.asked = 0

    async def add(self, times: int = 1) -> None:
        for _ in range(times):
            published = await self.publisher.publish(self.channel, self.count + 1)
            self.count, self.position = self.count + 1, str(published.position)

    async def state(self) -> Mapping[str, Any]:
        self.asked += 1
        told = {"data": self.count, "position": self.position}
        if self.asked == 1:
            # Published while the answer is on its way.
            await self.add(3)
        return told


async def test_state_comes_first_and_then_what_follows_its_position(hub: HubProcess) -> None:
    """Publications that come while the state is asked for are told once."""
    async with asyncio.timeout(DEADLINE_SECONDS), Publisher(hub.url) as publisher:
        application = Application(publisher, "counter:1")
        await application.add(5)
        async with HubClient(hub.url) as client:
            items = client.subscribe("counter:1", get_state=application.state)
            came = [await anext(items) for _ in range(4)]
            await application.add()
            came.append(await anext(items))
    assert [(item.state, item.data) for item in came] == [
        (True, 5), (False, 6), (False, 7), (False, 8), (False, 9),
    ]  # fmt: skip
    assert str(came[0].position).endswith(":5")


async def test_an_older_state_is_followed_by_history(hub: HubProcess) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS), Publisher(hub.url) as publisher:
        application = Application(publisher, "counter:2")
        await application.add(5)
        old = {"data": 3, "position": application.position.replace(":5", ":3")}
        async with HubClient(hub.url) as client:
            items = client.subscribe("counter:2", get_state=lambda: old)
            came = [await anext(items) for _ in range(3)]
    assert [item.data for item in came] == [3, 4, 5]


async def test_a_loss_of_history_is_mended_by_state(
    hub: HubProcess,
) -> None:
    """After more was missed than history holds, the state of then is told."""
    async with asyncio.timeout(DEADLINE_SECONDS), Publisher(hub.url) as publisher:
        application = Application(publisher, "counter:3")
        await application.add(1)
        first = application.position
        await application.add(40)
        async with HubClient(hub.url) as client:
            items = client.subscribe("counter:3", since=first, get_state=application.state)
            came = [await anext(items) for _ in range(2)]
    assert came[0].state
    assert application.asked >= 1
    assert came[0].data == 41
    assert came[1].data == 42


async def test_of_a_gap_that_the_state_covers_in_part_the_rest_is_missing() -> None:
    """The state is as of 5, so of 4 to 7 the application lacks 6 and 7."""
    states = iter(["e:5", "e:7"])
    feed = Feed(
        SubscribedChannel("a", since=Position("e", 3), last=None, fill=False), limits=FeedLimits()
    )
    feed.started.set()
    feed.put((Gap("a", "e", 4, 7, "slow"),))

    async def history(channel: str, since: Position) -> HistoryPage:
        raise AssertionError(f"{channel} is asked for from {since}")

    items = Subscription[Item](
        feed,
        WantedItems(gaps=True, get_state=lambda: {"data": 1, "position": next(states)}),
        release=lambda _: None,
        trouble=lambda: "",
        history=history,
    )
    came = [await anext(items) for _ in range(3)]
    assert isinstance(came[1], Gap)
    assert (came[1].first, came[1].last) == (6, 7)
    assert [str(item.position) for item in (came[0], came[2])] == ["e:5", "e:7"]  # type: ignore[union-attr]  # states


@pytest.mark.parametrize("held", [[7], [6], []])
async def test_messages_that_history_does_not_hold_between_state_and_stream_are_told(
    held: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 6 and 7 it has what `held` says, and the application, asked again, knows no more."""
    monkeypatch.setattr("random.uniform", lambda *_: 0.0)
    feed = Feed(SubscribedChannel("a", since=None, last=None, fill=False), limits=FeedLimits())
    feed.channel.start = Position("e", 7)
    feed.started.set()
    feed.put((Message("a", "e", 8, b"1"),))
    asked = []

    async def history(channel: str, since: Position) -> HistoryPage:
        messages = [Message(channel, "e", n, b"1") for n in held if n > since.offset]
        return HistoryPage(channel, Position("e", 7), 1, tuple(messages))

    def state() -> Mapping[str, Any]:
        asked.append(1)
        return {"data": 1, "position": "e:5"}

    items = Subscription[Item](
        feed,
        WantedItems(gaps=True, get_state=state),
        release=lambda _: None,
        trouble=lambda: "",
        history=history,
    )
    told: list[int] = []
    while not told or told[-1] < 8:
        item = await anext(items)
        if isinstance(item, Gap):
            assert item.reason == "expired"
            told += range(item.first, item.last + 1)
        else:
            assert isinstance(item, Message)
            assert item.position is not None
            told.append(item.position.offset)
    assert told == [5, 6, 7, 8]
    assert len(asked) == 2


@pytest.mark.parametrize("answer", [None, {"data": 1}, {"position": "e:5"}, "e:5"])
async def test_an_answer_that_is_no_state_says_what_it_should_be(answer: Any) -> None:
    feed = Feed(SubscribedChannel("a", since=None, last=None, fill=False), limits=FeedLimits())
    feed.channel.start = Position("e", 7)
    feed.started.set()

    async def history(channel: str, since: Position) -> HistoryPage:
        raise AssertionError(f"{channel} is asked for from {since}")

    items = Subscription[Item](
        feed,
        WantedItems(get_state=lambda: answer),
        release=lambda _: None,
        trouble=lambda: "",
        history=history,
    )
    with pytest.raises(ValueError, match="get_state answered"):
        await anext(items)
