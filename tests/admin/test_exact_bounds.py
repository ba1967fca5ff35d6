"""Each bound of operators' questions and commands: what comes up to it is whole."""

from dataclasses import replace

import msgspec
import pytest

from hub.admin.channels import CHANNELS, ChannelRates, ListPatterns, Patterns
from hub.admin.drain import excess
from hub.admin.explain import Explain, Explaining
from hub.admin.explain_subject import ExplainSubject, Moment, SubjectPart
from hub.admin.listing import Part, Row
from hub.admin.sessions import Poll
from hub.admin.subject_here import SubjectExplaining
from hub.core.commands import PollRequest
from hub.core.identity import Identity
from hub.core.node_records import NodeRecord
from hub.core.publication import Position
from hub.core.records import ChannelRecord
from hub.errors import BadRequestError
from tests.admin.network import node_record
from tests.core.fakes import FakeClock
from tests.core.small_node import SmallNode
from tests.core.subscribers import Subscriber


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


def test_rows_of_a_node_take_up_to_a_mib_of_one_answer() -> None:
    for size, count in ((512 * 1024, 2), (512 * 1024 + 1, 1)):
        empty = len(msgspec.msgpack.encode(Row((1, "r"), "x" * 100_000))) - 100_000
        rows = (
            Row((1, "r"), "x" * (512 * 1024 - empty)),
            Row((2, "r"), "x" * (size - empty)),
        )
        assert len(Part(rows, 2, more=False).fitting().rows) == count


def test_the_next_page_of_a_list_by_number_begins_up_to_two_thousand_million_rows_on() -> None:
    given = {"sort": "subscribers", "limit": 5}
    assert CHANNELS.read({**given, "after": f"{2**31}"}).skip == 2**31
    with pytest.raises(BadRequestError):
        CHANNELS.read({**given, "after": f"{2**31 + 1}"})


def test_a_poll_that_travels_to_its_node_answers_with_up_to_64_kib() -> None:
    for asked, most in ((64 * 1024 - 1, 64 * 1024 - 1), (1024 * 1024, 64 * 1024)):
        request = PollRequest(
            ("a",), {}, None, 0.0, False, "c1", "secret", True, Identity(), "", "", max_bytes=asked
        )
        assert Poll(request).to_travel().request.max_bytes == most


async def test_of_a_nodes_patterns_the_thousand_with_most_sessions_are_told() -> None:
    for count in (1000, 1001):
        counted = [(f"p{number}.*", 2) for number in range(1000)] + [("few.*", 1)]
        handlers = Patterns(lambda counted=counted[-count:]: counted).handlers()  # type: ignore[misc]
        part = await handlers[ListPatterns](ListPatterns())
        assert (len(part.rows), part.total) == (1000, count)
        assert ("few.*" in {row.pattern for row in part.rows}) is (count == 1000)


@pytest.mark.parametrize("count", [1000, 1001])
def test_of_what_became_of_a_subject_a_node_tells_the_newest_thousand(count: int) -> None:
    moments = tuple(
        Moment(what="written", connection="c1", at_ms=number) for number in range(count)
    )
    told = ExplainSubject(subject="ada").fitting(SubjectPart(moments=moments))
    assert (len(told.moments), told.more) == (1000, count > 1000)
    assert told.moments[-1].at_ms == count - 1


@pytest.mark.parametrize("count", [1000, 1001])
async def test_a_question_explains_up_to_a_thousand_publications(count: int) -> None:
    node = SmallNode()
    reader = Subscriber(node, "a")
    reader.publish("a", 1)
    told = await Explaining(node.evidence()).explain(
        Explain(reader.session.id, "a", 1, None, count)
    )
    assert told.stretches
    assert told.stretches[-1].last == 1000


@pytest.mark.parametrize("count", [100, 101])
async def test_a_subject_is_explained_over_its_newest_hundred_connections(count: int) -> None:
    node = SmallNode()
    ada = Identity(subject="ada", subscribe=("*",))
    for _ in range(count):
        Subscriber(node, "a", identity=ada)
    told = await SubjectExplaining(node.evidence()).explain(ExplainSubject(subject="ada"))
    assert (len(told.visits), told.more) == (100, count > 100)
