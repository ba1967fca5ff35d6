"""Channels of several nodes as one list, and how much comes in each."""

from hub.core.channel_listing import (
    MOST_SECONDS,
    ChannelQuery,
    ChannelRates,
    ChannelSelection,
    added_up,
)
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


def note(rates: ChannelRates, *rows: ChannelRecord) -> None:
    rates.begin().update((row.channel, row.position.offset) for row in rows)


def test_a_rate_is_what_came_since_somebody_asked_before() -> None:
    """Nothing at first, of a channel that is new, and of one that began again."""
    clock = FakeClock()
    rates = ChannelRates(clock)

    def ask(*rows: ChannelRecord) -> list[float | None]:
        note(rates, *rows)
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
        note(rates, record("a", offset=1))
    assert rates.rated([record("a", offset=5)])[0].publications_per_second is None


def test_slices_make_the_page_that_one_look_at_all_makes() -> None:
    """However they are cut: rows, how many match, and whether there are more."""
    records = [record(f"c{number:02}", subscribers=number * 7 % 30) for number in range(30)]
    query = ChannelQuery(sort="subscribers", descending=True, prefix="c")
    found = []
    for size in (1, 4, 30):
        selection = ChannelSelection(query, ChannelRates(FakeClock()), count=5, names=None)
        for start in range(0, len(records), size):
            selection.look_at(records[start : start + size])
        found.append((selection.rows, selection.total, selection.more))
    assert [row.subscribers for row in found[0][0]] == [29, 28, 27, 26, 25]
    assert found[0][1:] == (30, True)
    assert found[0] == found[1] == found[2]


def test_an_order_by_rates_is_one_over_all_slices() -> None:
    """Every slice is compared with where its channels stood when somebody asked before."""
    clock = FakeClock()
    rates = ChannelRates(clock)
    query = ChannelQuery(sort="publications_per_second", descending=True)
    for offsets in ((10, 10, 10), (12, 40, 20)):
        clock.advance(5)
        selection = ChannelSelection(query, rates, count=2, names=None)
        for name, offset in zip("abc", offsets, strict=True):
            selection.look_at([record(name, offset=offset)])
    assert [(row.channel, row.publications_per_second) for row in selection.rows] == [
        ("b", 6.0),
        ("c", 2.0),
    ]
