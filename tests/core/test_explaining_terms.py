"""The fate of a publication is explained where a subscription asked for less than all.

It asked by a filter, by an interval, by rows or through a pattern; or its channel ended, or history
was not to keep the publication.
"""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import to_builtins
from msgspec.structs import replace

from hub.admin.explain import Explain, Explaining
from hub.core.commands import Subscribe, SubscribePattern, UnsubscribePattern
from hub.core.options import ChannelOptions, Namespaces
from hub.core.ports import PublishRequest
from hub.core.publication import ENDS, REMOVES, Position
from hub.wire.filters import read_filter
from tests.core.small_node import Shape, SmallNode
from tests.core.subscribers import Subscriber

NBA = read_filter(b'{"league":"nba"}')
NAMES = Namespaces(
    ChannelOptions(history_size=10),
    {
        "table": ChannelOptions(history_size=10, keyed=True),
        "short": ChannelOptions(history_size=2),
        "brief": ChannelOptions(history_size=2, keyed=True),
    },
)


class Case:
    """A small node, one reader, and an operator who asks about it."""

    def __init__(self) -> None:
        self.node = SmallNode(Shape(NAMES))
        self.reader = Subscriber(self.node)
        self.came: list[object] = []

    def subscribe(self, command: Subscribe | SubscribePattern) -> None:
        self.node.do(self.reader.session, replace(command, id=self.reader.next_id()))

    def publish(self, channel: str, **more: Any) -> int:
        marks = (ENDS if more.pop("end", False) else 0) | (
            REMOVES if more.pop("remove", False) else 0
        )
        request = PublishRequest(channel, b"1", "backend", marks=marks, **more)
        offset = self.node.request(request).offset
        self.node.loop.settle()
        return offset

    def read(self) -> list[object]:
        """Offsets of messages that came since the last call."""
        return [push["offset"] for push in self.reader.read() if push["op"] == "message"]

    async def why(self, channel: str, offset: int, last: int | None = None) -> Any:
        asked = Explain(self.reader.session.id, channel, offset, None, last)
        return to_builtins(await Explaining(self.node.evidence()).explain(asked))

    async def answers(self, channel: str, last: int) -> dict[int, str]:
        """Returns the answers for 1 to `last`, one by one; a question about all
        of them must say the same."""
        one_by_one = {n: (await self.why(channel, n))["answer"] for n in range(1, last + 1)}
        told = await self.why(channel, 1, last)
        by_range = {
            offset: each["answer"]
            for each in told["stretches"]
            for offset in range(each["first"], each["last"] + 1)
        }
        assert by_range == one_by_one
        return one_by_one


@pytest.fixture
def case() -> Case:
    return Case()


# -- filters ---------------------------------------------------------------------------------------


async def test_a_publication_that_a_filter_left_out_is_told_so_and_the_others_were_written(
    case: Case,
) -> None:
    """The answer is exact as long as history holds the publication; afterwards it may be either."""
    case.subscribe(Subscribe(None, "a", filter=NBA))
    for tags in (b'{"league":"nba"}', b'{"league":"nfl"}', None, b'{"league":"nba"}'):
        case.publish("a", tags=tags)
    assert case.read() == [1, 4]
    assert await case.answers("a", 4) == {1: "written", 2: "filtered", 3: "filtered", 4: "written"}
    assert '{"league":"nba"}' in (await case.why("a", 2))["detail"]
    for _ in range(10):
        case.publish("a")
    told = await case.why("a", 2)
    assert told["answer"] == "written"
    assert "unless the filter" in told["detail"]


async def test_a_filter_is_the_one_of_the_subscription_that_was_owed_it(case: Case) -> None:
    """The filter of a subscription before or after it does not count, also when
    the connection has ended."""
    case.subscribe(Subscribe(None, "a", filter=NBA))
    case.publish("a")
    case.reader.unsubscribe("a")
    case.reader.subscribe("a")
    case.publish("a")
    case.reader.unsubscribe("a")
    case.subscribe(Subscribe(None, "a", filter=NBA))
    case.publish("a")
    expected = {1: "filtered", 2: "written", 3: "filtered"}
    assert await case.answers("a", 3) == expected
    case.reader.session.lost(1006, "cut")
    assert await case.answers("a", 3) == expected


# -- the newest now and then -----------------------------------------------------------------------


async def test_a_publication_that_gave_way_names_the_newer_one_and_the_interval(
    case: Case,
) -> None:
    """The one that was written came when its turn was."""
    case.subscribe(Subscribe(None, "a", every_ms=500))
    for _ in range(4):
        case.publish("a")
    waiting = await case.why("a", 3)
    assert waiting["answer"] == "queued"
    assert "500 ms" in waiting["detail"]
    case.node.wait(0.6)
    assert case.read() == [1, 4]
    expected = {1: "written", 2: "conflated", 3: "conflated", 4: "written"}
    assert await case.answers("a", 4) == expected
    told = await case.why("a", 2)
    assert told["by"] == 4
    assert told["detail"] == (
        "the subscriber asked for at most one per 500 ms; this one was replaced by offset 4"
    )
    case.reader.session.lost(1006, "cut")
    assert await case.answers("a", 4) == expected


@given(
    st.lists(st.one_of(st.sampled_from(["x", "y", "z", None]), st.floats(0.05, 0.7)), max_size=30),
    st.booleans(),
)
def test_the_answer_is_what_came_for_every_publication_whatever_its_key(
    steps: list[str | float | None], filtered: bool
) -> None:
    """Written where it came, and else conflated, or left out by the filter, by a newer one of its
    key that came."""
    case = Case()
    case.subscribe(Subscribe(None, "a", every_ms=300, filter=NBA if filtered else None))
    keys: list[str | None] = []
    left_out = set()
    for number, step in enumerate(steps):
        if isinstance(step, float):
            case.node.wait(step)
            continue
        keys.append(step)
        wanted = number % 3 > 0
        offset = case.publish("a", key=step, tags=b'{"league":"nba"}' if wanted else None)
        if filtered and not wanted:
            left_out.add(offset)
    case.node.wait(1)
    came = case.read()
    held = range(max(1, len(keys) - 9), len(keys) + 1)
    for offset in held:
        told = run(case.why("a", offset))
        if offset in came:
            assert told["answer"] == "written", (offset, told)
        elif offset in left_out:
            assert told["answer"] == "filtered", (offset, told)
        else:
            assert told["answer"] == "conflated", (offset, told)
            by = told["by"]
            assert by is None or (by > offset and keys[by - 1] == keys[offset - 1])


def run(asking: Any) -> Any:
    """Runs a coroutine that never waits, and returns its result."""
    try:
        asking.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waited")


async def test_a_stretch_of_very_many_keys_is_told_by_history_and_else_not_guessed(
    case: Case,
) -> None:
    """If there are more than 64 keys, the journal does not note which were written."""
    case.subscribe(Subscribe(None, "a", every_ms=500))
    for number in range(80):
        case.publish("a", key=str(number))
    case.publish("a", key="79")
    case.node.wait(1)
    assert (await case.why("a", 20))["answer"] == "unknown"
    assert (await case.why("a", 80))["by"] == 81
    assert (await case.why("a", 81))["answer"] == "written"


# -- rows ------------------------------------------------------------------------------------------


async def test_a_publication_before_the_rows_is_a_row_or_was_replaced(case: Case) -> None:
    """The answer names the position of the rows."""
    case.publish("table:a", key="x")
    case.publish("table:a", key="x", remove=True)
    case.subscribe(Subscribe(None, "table:a", state=True))
    case.publish("table:a", key="y")
    assert await case.answers("table:a", 3) == {1: "as_row", 2: "as_row", 3: "written"}
    told = await case.why("table:a", 1)
    assert "as of offset 2" in told["detail"]
    assert "taken it away" in told["detail"]


async def test_a_publication_that_a_filter_takes_out_of_a_table_was_sent_as_a_removal(
    case: Case,
) -> None:
    """The answer says what the peer got in its place."""
    case.subscribe(Subscribe(None, "table:a", filter=NBA, state=True))
    case.publish("table:a", key="x")
    told = await case.why("table:a", 1)
    assert told["answer"] == "filtered"
    assert "told that its row is gone" in told["detail"]


async def test_rows_that_were_written_anew_stand_for_what_history_lost(case: Case) -> None:
    """No gap `expired` was announced, so none is told of."""
    case.publish("brief:a", key="x")
    case.subscribe(Subscribe(None, "brief:a", state=True))
    case.reader.block()
    for number in range(2000):
        case.publish("brief:a", key=f"k{number % 3}")
    case.reader.drain()
    told = await case.why("brief:a", 1500)
    assert told["answer"] == "as_row", told
    assert "as of offset 2001" in told["detail"]


async def test_of_rows_with_a_filter_a_change_that_does_not_match_came_as_a_removal(
    case: Case,
) -> None:
    """A row that does not match was in no page of the state."""
    nba = b'{"league":"nba"}'
    case.publish("table:a", key="x", tags=nba)
    case.publish("table:a", key="y")
    case.subscribe(Subscribe(None, "table:a", state=True, filter=NBA))
    case.publish("table:a", key="x")
    case.publish("table:a", key="z", tags=nba)
    case.publish("table:a")
    assert case.read() == [3, 4]
    assert await case.answers("table:a", 5) == {
        1: "as_row", 2: "filtered", 3: "filtered", 4: "written", 5: "filtered",
    }  # fmt: skip
    gone = "told that its row is gone"
    said = {n: gone in (await case.why("table:a", n))["detail"] for n in range(1, 6)}
    assert said == {1: False, 2: False, 3: True, 4: False, 5: False}
    case.reader.block()
    case.publish("table:a", key="x")
    case.publish("table:a", key="x")
    assert "as the removal of its row" in (await case.why("table:a", 7))["detail"]
    case.reader.drain()
    assert gone in (await case.why("table:a", 7))["detail"]
    for number in range(12):
        case.publish("table:a", key=str(number), tags=nba)
    assert "unless the filter" in (await case.why("table:a", 1))["detail"]


# -- patterns --------------------------------------------------------------------------------------


async def test_a_subscriber_by_a_pattern_is_told_since_when_and_which_channels_do_not_match(
    case: Case,
) -> None:
    """The answer holds while the pattern lasts, and after it has ended."""
    case.publish("p:a")
    case.publish("q:a")
    case.subscribe(SubscribePattern(None, "p:*"))
    case.publish("p:a")
    assert await case.answers("p:a", 2) == {1: "not_subscribed", 2: "written"}
    assert (await case.why("p:a", 1))["detail"] == (
        "its pattern p:* matches the channel, and brings it since 1"
    )
    assert (await case.why("q:a", 1))["detail"].endswith("none of its patterns matches it: p:*")
    case.node.do(case.reader.session, UnsubscribePattern(case.reader.next_id(), "p:*"))
    case.publish("p:a")
    assert (await case.why("p:a", 3))["detail"] == (
        "it was taken out of the channel after 2: its pattern p:* ended"
    )


# -- ends, and what history is not to keep ---------------------------------------------------------


async def test_after_the_end_of_a_channel_the_subscription_has_ended_with_it(case: Case) -> None:
    """The answer does not say that the connection left or was taken out."""
    case.reader.subscribe("a")
    case.publish("a", end=True)
    case.publish("a")
    told = await case.why("a", 2)
    assert told["answer"] == "not_subscribed"
    assert "1 was the last of its channel" in told["detail"]


@pytest.mark.parametrize(
    ("keep_ms", "said"),
    [(0, "published with `history: false`"), (2500, "in history for 2.5 s only")],
)
async def test_a_publication_without_history_is_told_so_where_it_was_announced_as_expired(
    case: Case, keep_ms: int, said: str
) -> None:
    """Members that were there got the publication."""
    there = Subscriber(case.node, "a")
    case.publish("a")
    epoch = there.session.subscriptions["a"].position.epoch
    case.publish("a", keep_ms=keep_ms)
    case.publish("a")
    case.node.wait(3)
    case.reader.subscribe("a", since=Position(epoch, 1))
    told = await case.why("a", 2)
    assert told["answer"] == "expired"
    assert said in told["detail"]
    asked = Explain(there.session.id, "a", 2)
    assert (await Explaining(case.node.evidence()).explain(asked)).answer == "written"
