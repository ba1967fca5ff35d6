"""`joined`: what a start or a resume replays, as one message; then each that comes."""

from typing import Any

import msgspec
import pytest

from hub_client import Gap, HubClient, Message, Position
from hub_client import feed as feed_module
from hub_client.channel import SubscribedChannel
from hub_client.feed import Feed, FeedLimits, Subscription, WantedItems
from hub_client.joining import Joiner, join_page
from hub_client.messages import HistoryPage, Item


def message(offset: int, data: object = None, *, end: bool = False) -> Message:
    raw = msgspec.json.encode(f"{offset} " if data is None else data)
    return Message("a", "e", offset, raw, end=end, frame=raw)


def gap(first: int, last: int, reason: str = "expired") -> Gap:
    return Gap("a", "e", first, last, reason)


def told(items: tuple[Item, ...]) -> list[Any]:
    """A joined message as `(how many, data, position)`."""
    return [recorded(item) for item in items]


def recorded(item: Item) -> Any:
    if isinstance(item, Gap):
        return (item.first, item.last, item.reason)
    assert isinstance(item, Message)
    if item.joined:
        return (item.joined, item.data, str(item.position))
    return ("end", item.data) if item.end else item.data


def joiner(start: int, replayed: int) -> Joiner:
    made = Joiner()
    made.starts(Position("e", start), replayed)
    return made


def test_replayed_items_are_one_message_and_those_that_follow_come_singly() -> None:
    replay = joiner(4, 3)
    assert told(replay.push([message(5), message(6)])) == []
    assert told(replay.push([message(7), message(8)])) == [(3, "5 6 7 ", "e:7"), "8 "]


def test_a_resume_is_joined_as_the_start_was() -> None:
    """One that is replayed alone says so."""
    replay = joiner(0, 1)
    assert told(replay.push([message(1), message(2)])) == [(1, "1 ", "e:1"), "2 "]
    replay.starts(Position("e", 2), 2)
    items = [message(3), message(4), message(5)]
    assert told(replay.push(items)) == [(2, "3 4 ", "e:4"), "5 "]


def test_a_gap_in_between_splits() -> None:
    items: list[Item] = [
        message(1),
        message(2),
        gap(3, 4, "invalid"),
        message(5),
        message(6),
        message(7),
    ]
    assert told(joiner(0, 6).push(items)) == [
        (2, "1 2 ", "e:2"), (3, 4, "invalid"), (2, "5 6 ", "e:6"), "7 ",
    ]  # fmt: skip


def test_where_history_does_not_reach_back_the_first_gap_says_where_the_replay_ends() -> None:
    items: list[Item] = [gap(6, 10), message(11), message(12), message(13)]
    assert told(joiner(5, 2).push(items)) == [(6, 10, "expired"), (2, "11 12 ", "e:12"), "13 "]


def test_the_end_comes_as_ever_behind_what_was_said() -> None:
    items = [message(1), message(2), message(3, "", end=True)]
    assert told(joiner(0, 3).push(items)) == [(2, "1 2 ", "e:2"), ("end", "")]


def test_where_one_is_no_text_all_come_singly() -> None:
    items = [message(1), message(2, {"a": 1}), message(3), message(4)]
    assert told(joiner(0, 4).push(items)) == ["1 ", {"a": 1}, "3 ", "4 "]


def test_answers_of_history_are_joined_between_their_gaps() -> None:
    """Answers that are not text are passed on one by one."""
    words: list[Item] = [message(1), message(2), gap(3, 4), message(5)]
    assert told(tuple(join_page(words))) == [
        (2, "1 2 ", "e:2"), (3, 4, "expired"), (1, "5 ", "e:5"),
    ]  # fmt: skip
    assert told(tuple(join_page([message(1), message(2, 7)]))) == ["1 ", 7]


async def _no_history(channel: str, since: Position) -> HistoryPage:
    raise AssertionError(f"{channel} {since}")


def subscription(wanted: WantedItems) -> tuple[Feed, Subscription[Message]]:
    place = SubscribedChannel("a", since=Position("e", 0), last=None, fill=False)
    made = Feed(place, limits=FeedLimits(), joined=True)
    return made, Subscription[Message](
        made, wanted, release=lambda _: None, trouble=str, history=_no_history
    )


async def test_a_replay_that_does_not_go_on_is_told_as_far_as_it_came(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The rest comes singly."""
    monkeypatch.setattr(feed_module, "JOIN_SECONDS", 0.01)
    replay, items = subscription(WantedItems(joined=True))
    replay.starts(Position("e", 0), 4)
    replay.put((message(1), message(2)))
    assert recorded(await anext(items)) == (2, "1 2 ", "e:2")
    replay.put((message(3),))
    assert recorded(await anext(items)) == "3 "


async def test_a_subscription_that_is_ended_tells_what_it_has() -> None:
    replay, items = subscription(WantedItems(joined=True))
    replay.starts(Position("e", 0), 4)
    replay.put((message(1), message(2)))
    replay.end()
    assert [recorded(item) async for item in items] == [(2, "1 2 ", "e:2")]


async def test_items_that_the_applications_state_has_are_not_joined_to_those_that_follow() -> None:
    state = {"data": "1 2 ", "position": "e:2"}
    replay, items = subscription(WantedItems(joined=True, get_state=lambda: state))
    replay.starts(Position("e", 0), 4)
    replay.started.set()
    replay.put((message(1), message(2), message(3), message(4), message(5)))
    came = [recorded(await anext(items)) for _ in range(3)]
    assert came == ["1 2 ", (2, "3 4 ", "e:4"), "5 "]


async def test_joined_excludes_a_filter_and_state() -> None:
    """A filter may leave the last one out, and rows are no text."""
    async with HubClient("http://127.0.0.1:9") as client:
        for options in ({"filter": {"a": 1}}, {"state": True}):
            with pytest.raises(ValueError, match="joined goes without"):
                client.subscribe("a", joined=True, **options)
