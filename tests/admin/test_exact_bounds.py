"""Each bound of operators' questions and commands: what comes up to it is whole."""

from dataclasses import replace

import msgspec
import pytest

from hub.admin.channels import ChannelRates
from hub.admin.drain import excess
from hub.admin.listing import Part, Row
from hub.core.node_records import NodeRecord
from hub.core.publication import Position
from hub.core.records import ChannelRecord
from tests.admin.network import node_record
from tests.core.fakes import FakeClock


def nodes(*connections: int) -> dict[str, NodeRecord]:
    return {
        f"n{number}": replace(node_record(f"n{number}"), connections=count)
        for number, count in enumerate(connections)
    }


@pytest.mark.parametrize(
    ("connections", "beyond"),
    [((105, 95), [0, 0]), ((106, 94), [6, 0]), ((0, 0), [0, 0]), ((7,), [0])],
)
def test_a_node_may_hold_a_twentieth_more_than_its_share(
    connections: tuple[int, ...], beyond: list[int]
) -> None:
    assert list(excess(nodes(*connections)).values()) == beyond


def test_a_nodes_part_of_a_list_has_up_to_its_bytes_and_one_row_whatever_its_size() -> None:
    rows = tuple(Row((number, "r"), "x" * 10) for number in range(3))
    each = len(msgspec.msgpack.encode(rows[0]))
    part = Part(rows, 3, more=False)
    for most, count in ((3 * each, 3), (3 * each - 1, 2), (2 * each, 2), (1, 1)):
        fitting = part.fitting(most)
        assert (len(fitting.rows), fitting.more, fitting.total) == (count, count < 3, 3)


def rate_after(seconds: float) -> float | None:
    """The rate of a channel that had 120 publications since the look before."""
    clock = FakeClock()
    rates = ChannelRates(clock)
    for wait, offset in ((10.0, 0), (seconds, 120)):
        clock.advance(wait)
        rates.begin()["a"] = offset
    record = ChannelRecord("a", Position("e", 120), subscribers=1, history=0, presence=False)
    return rates.rated_one(record).publications_per_second


def test_a_rate_is_of_2_to_60_seconds() -> None:
    """A look that comes earlier is none, so that the rate stays that of the look before."""
    assert rate_after(2.0) == 60.0
    assert rate_after(1.99) is None
    assert rate_after(60.0) == 2.0
    assert rate_after(60.01) is None
