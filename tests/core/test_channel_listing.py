"""Channels of several nodes as one list, and how much comes in each."""

from hub.core.channel_listing import MOST_SECONDS, ChannelQuery, ChannelRates, added_up
from hub.core.publication import Position
from hub.core.records import ChannelRecord
from tests.core.fakes import FakeClock


def record(name: str, *, subscribers: int = 1, offset: int = 1) -> ChannelRecord:
    return ChannelRecord(name, Position("e", offset), subscribers, None, presence=False)


def test_the_subscribers_of_all_nodes_are_added_up() -> None:
    """The position is the newest that any of them has seen."""
    parts = [[record("a", subscribers=2, offset=7), record("b")], [record("a", offset=9)]]
    (a, b) = sorted(added_up(parts), key=lambda row: row.channel)
    assert (a.subscribers, a.position.offset) == (3, 9)
    assert b.subscribers == 1


def test_the_name_decides_between_equals() -> None:
    rows = [record("b"), record("c", subscribers=5), record("a")]
    rising = ChannelQuery(sort="subscribers").top(rows, 3)
    falling = ChannelQuery(sort="subscribers", descending=True).top(rows, 2)
    assert [row.channel for row in rising] == ["a", "b", "c"]
    assert [row.channel for row in falling] == ["c", "b"]


def test_a_page_by_name_goes_on_after_the_last_name() -> None:
    assert ChannelQuery(after="b").is_beyond("c")
    assert not ChannelQuery(after="b").is_beyond("b")
    assert ChannelQuery(after="b", descending=True).is_beyond("a")


def test_a_rate_is_what_came_since_somebody_asked_before() -> None:
    """Nothing at first, of a channel that is new, and of one that began again."""
    clock = FakeClock()
    rates = ChannelRates(clock)

    def ask(*rows: ChannelRecord) -> list[float | None]:
        rates.sample(rows)
        return [row.publications_per_second for row in rates.rated(rows)]

    clock.advance(10)
    assert ask(record("a", offset=10), record("b", offset=5)) == [None, None]
    clock.advance(5)
    now = ask(record("a", offset=20), record("b", offset=1), record("new", offset=3))
    assert now == [2.0, None, None]


def test_what_was_asked_long_ago_makes_no_rate() -> None:
    """It would be one of the past."""
    clock = FakeClock()
    rates = ChannelRates(clock)
    for _ in range(2):
        clock.advance(MOST_SECONDS + 1)
        rates.sample([record("a", offset=1)])
    assert rates.rated([record("a", offset=5)])[0].publications_per_second is None
