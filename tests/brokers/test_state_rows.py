"""Rows that change while somebody reads: what is kept for the reader is bounded."""

import time

from hub.brokers.memory_history import ChannelLog, HistoryBudget
from hub.brokers.state_rows import StateRows
from hub.core.options import MIB, ChannelOptions
from hub.core.publication import REMOVES, Publication

DATA = b"1" * 10_000


class Table:
    """A keyed channel that somebody reads, and never to the end."""

    def __init__(self, budget: HistoryBudget, name: str = "table", *, history: int = 100) -> None:
        options = ChannelOptions(history_size=history, keyed=True)
        self.log = ChannelLog(name, "e", options, 0.0, budget)

    def put(self, key: str, *, data: bytes = DATA, marks: int = 0) -> None:
        log = self.log
        publication = Publication(log.name, log.offset + 1, data, 0, key=key, marks=marks)
        log.append(publication, 1.0)

    def read(self) -> list[str]:
        """The keys of a first page of two."""
        rows = self.log.rows
        assert rows is not None
        page = rows.page(self.log.head, "", 2, upto=None, max_bytes=MIB, now_seconds=1.0)
        return [str(row.key) for row in page.rows]

    @property
    def row_bytes(self) -> int:
        held = self.log.rows_held()
        assert held is not None
        return held[1]


def budget_of(size: int) -> HistoryBudget:
    return HistoryBudget(size, lambda _: None)


def test_a_reader_that_never_ends_takes_nobody_elses_history_or_rows() -> None:
    """A reader's former rows are kept up to the bytes of the rows, and 1 MiB."""
    budget = budget_of(20 * MIB)
    table, other = Table(budget), Table(budget, "other")
    other.put("x")
    for key in "abc":
        table.put(key)
    for _ in range(3000):
        assert table.read() == ["a", "b"]
        table.put("a")
    assert len(other.log) == 1
    assert other.log.rows_held() == (1, other.row_bytes)
    assert table.log.rows_held() == (3, table.row_bytes)
    assert table.row_bytes < 2 * MIB


def test_rows_that_are_gone_make_room_though_somebody_reads_them() -> None:
    """Publications are taken also where all that is held are rows of before."""
    budget = budget_of(MIB // 2)
    table = Table(budget, history=0)
    keys = [f"k{number:02}" for number in range(20)]
    for key in keys:
        table.put(key)
    table.read()
    for key in keys:
        table.put(key, data=b"null", marks=REMOVES)
    assert table.log.rows_held() == (0, table.row_bytes)
    assert table.row_bytes > 0
    other = Table(budget, "other")
    other.put("x", data=b"1" * (MIB // 2 - 10_000))
    assert len(other.log) == 0
    assert other.log.rows_held() == (1, other.row_bytes)
    assert table.row_bytes == 0
    assert budget.bytes <= budget.max_bytes


def test_rows_that_expire_at_once_go_in_slices_and_are_read_no_more() -> None:
    """A call of `trim` lets go of 5,000 at most; a reader gets none that is too old."""
    budget = budget_of(100 * MIB)
    options = ChannelOptions(history_size=0, keyed=True, state_max_keys=20_000, state_ttl_seconds=9)
    log = ChannelLog("table", "e", options, 0.0, budget)
    for number in range(12_000):
        log.append(Publication("table", number + 1, b"1", 0, key=f"k{number}"), 1.0)
    log.append(Publication("table", 12_001, b"1", 0, key="new"), 5.0)
    assert log.rows is not None
    left = [len(log.rows)]
    while left[-1] > 1:
        page = log.rows.page(log.head, "", 100, upto=None, max_bytes=MIB, now_seconds=11.0)
        assert [row.key for row in page.rows] == ["new"]
        log.trim(11.0)
        left.append(len(log.rows))
    assert left == [12_001, 7001, 2001, 1]
    assert budget.row_count == 1


def test_a_new_key_costs_the_same_among_few_keys_and_among_many() -> None:
    """In a full table the oldest row gives way, and is not searched for."""

    def seconds_of_each(keys: int) -> float:
        rows = StateRows(ChannelOptions(keyed=True, state_max_keys=keys))
        new = [Publication("a", n, b"1", 0, key=str(n)) for n in range(keys + 12_000)]
        for publication in new[:keys]:
            rows.put(publication, 1.0)
        began = time.perf_counter()
        for publication in new[keys:]:
            rows.put(publication, 1.0)
        return time.perf_counter() - began

    assert seconds_of_each(30_000) < 5 * min(seconds_of_each(300) for _ in range(3))
