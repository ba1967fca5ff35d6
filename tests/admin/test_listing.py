"""Lists of connections: every page, over any nodes, is the right stretch of one sorted list."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hub.admin.connections import CLOSED, CONNECTIONS
from hub.admin.listing import Page, Part, Query, Row, Selection, merge
from hub.admin.requests import Answers
from hub.core.forensics.noted import ClosedSession, Notes
from hub.core.identity import Identity
from hub.core.records import RowSource, SessionRecord, session_record
from hub.core.session.session import Session
from hub.errors import BadRequestError, UnavailableError
from tests.core.fakes import FakeClock


@dataclass
class Held:
    """As much of a session as a list looks at."""

    id: str
    sent: int = 0
    subject: str | None = None
    transport: str = "sse"
    address: str = "192.0.2.1"
    channels: Sequence[str] = ()
    round_trip_seconds: float | None = None
    opened_at_seconds: float = 0.0
    owed_since_seconds: float | None = None
    owed_bytes: int = 0
    dropped: int = 0
    subscriptions: dict[str, object] = field(default_factory=dict)
    patterns: None = None

    def __post_init__(self) -> None:
        self.identity = Identity(self.subject)
        self.link = SimpleNamespace(
            transport=self.transport, address=self.address, user_agent=f"agent-{self.sent}"
        )
        self.outbox = None
        if (oldest := self.owed_since_seconds) is not None:
            self.outbox = SimpleNamespace(messages=self.sent, oldest_at=lambda: oldest)
        for name in self.channels:
            channel = SimpleNamespace(name=name)
            self.subscriptions[name] = SimpleNamespace(
                channel=channel, position=None, state="live", ring=None, dropped=0, filter=None,
                every_ms=None, state_need=None, fill=False, pattern=None,
            )  # fmt: skip


Nodes = dict[str, list[Held]]


Listed = Part[SessionRecord]
SORTS = CONNECTIONS.sorts


def here(name: str) -> RowSource:
    return RowSource(name, FakeClock(), 1_700_000_000.0)


def of(**asked: Any) -> Query:
    return Query(**{"sort": "connection", **asked})


def together(parts: Sequence[Listed], **missing: Any) -> Answers[Listed]:
    return Answers({str(number): part for number, part in enumerate(parts)}, **missing)


def listed(name: str, sessions: Iterable[Held], query: Query, *, at_once: int) -> Listed:
    """As a node lists them that looks at `at_once` sessions in a turn."""
    origin = here(name)
    selection = Selection(CONNECTIONS, query, origin, count=query.limit)
    all_of_them = cast("list[Session]", list(sessions))
    for start in range(0, len(all_of_them), at_once):
        selection.look_at(all_of_them[start : start + at_once])
    return selection.part(lambda session: session_record(session, origin))


def page(nodes: Nodes, query: Query, *, at_once: int = 3, most: int = 99) -> list[Listed]:
    """The answer of each node, cut to `most` rows."""
    answers = [listed(name, sessions, query, at_once=at_once) for name, sessions in nodes.items()]
    return [
        Part(a.rows[:most], a.total, a.more or len(a.rows) > most) if a.rows else a for a in answers
    ]


def connections(found: Page[SessionRecord]) -> list[str]:
    return [record.connection for record in found.records]


held = st.builds(
    Held,
    id=st.uuids().map(str),
    sent=st.integers(0, 3),
    subject=st.sampled_from([None, "ann", "bob"]),
    round_trip_seconds=st.none() | st.floats(0, 2),
    opened_at_seconds=st.floats(0, 999),
    owed_since_seconds=st.none() | st.floats(0, 999),
)
nodes_of_any_kind = st.dictionaries(
    st.sampled_from(["n1", "n2", "n3"]), st.lists(held, max_size=8), min_size=1
)


@given(
    nodes=nodes_of_any_kind,
    sort=st.sampled_from(list(SORTS)),
    descending=st.booleans(),
    limit=st.integers(1, 6),
    most=st.integers(1, 9),
)
def test_pages_together_are_every_connection_in_order(
    nodes: Nodes, sort: str, descending: bool, limit: int, most: int
) -> None:
    """The pages are right by any column, forwards and backwards, also if nodes answer fewer
    rows than were asked for."""
    query = Query(limit=limit, sort=sort, descending=descending)
    expected = sorted(
        (
            (SORTS[sort](cast("Session", s), here(name)), s.id)
            for name in nodes
            for s in nodes[name]
        ),
        reverse=descending,
    )
    seen: list[str] = []
    while True:
        found = merge(query, together(page(nodes, query, most=most)))
        assert len(found.rows) <= limit
        assert found.total == len(expected)
        seen += connections(found)
        if not found.more:
            break
        query = replace(query, after=found.rows[-1].key)
    assert seen == [connection for _, connection in expected]


SESSIONS = [
    Held("c1", subject="ann", transport="websocket", channels=("a",)),
    Held("c2", subject="bob", channels=("a", "b")),
    Held("c3", subject="ann", address="198.51.100.7", channels=("b",)),
]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({}, ["c1", "c2", "c3"]),
        ({"subject": "ann"}, ["c1", "c3"]),
        ({"channel": "a"}, ["c1", "c2"]),
        ({"transport": "sse"}, ["c2", "c3"]),
        ({"address": "198.51.100.7"}, ["c3"]),
        ({"channel": "b", "subject": "ann"}, ["c3"]),
    ],
)
def test_a_filter_lets_through_what_it_names(where: dict[str, str], expected: list[str]) -> None:
    """Several together let through what all of them do; `total` counts that."""
    query = of(where=where)
    found = merge(query, together([listed("n1", SESSIONS, query, at_once=2)]))
    assert (connections(found), found.total, found.more) == (expected, len(expected), False)


def test_the_session_that_is_owed_longest_is_first_whenever_it_is_asked() -> None:
    """The key of a row stays while time passes: pages asked for later must not repeat it."""
    clock = FakeClock(1000.0)
    place = RowSource("n1", clock, 1_700_000_000.0)
    old, young = Held("old", owed_since_seconds=1.0), Held("young", owed_since_seconds=900.0)
    column = SORTS["outbox_age_seconds"]
    before = [column(cast("Session", s), place) for s in (old, young, Held("none"))]
    clock.advance(500)
    assert [column(cast("Session", s), place) for s in (old, young, Held("none"))] == before
    assert sorted(before, reverse=True) == before


def test_a_page_without_some_nodes_is_not_complete() -> None:
    """Whether they did not answer, or it is not known which there are."""
    assert merge(of(), together([])).complete
    silent = merge(of(), together([], unanswered=("n2", "n3")))
    assert (silent.complete, silent.unanswered) == (False, ("n2", "n3"))
    assert not merge(of(), together([], unknown=UnavailableError("Redis is away"))).complete


def test_a_part_is_cut_where_it_would_be_too_large_to_travel() -> None:
    """At least one row travels, and the answer says that more rows are there."""
    rows = tuple(Row((f"c{n}", f"c{n}"), "x" * 100) for n in range(9))
    part = Part(rows, 9, more=False)
    assert part.fitting() == part
    some, one = part.fitting(450), part.fitting(1)
    assert (len(some.rows), some.more, some.total) == (3, True, 9)
    assert (len(one.rows), one.more) == (1, True)


def test_an_order_that_is_not_known_here_is_refused() -> None:
    """A newer node may ask for one."""
    with pytest.raises(BadRequestError, match="does not know the order"):
        Selection(CONNECTIONS, of(sort="colour"), here("n1"), count=1)


def test_sessions_that_have_gone_are_found_by_subject_the_newest_first() -> None:
    """They are found also when many others have ended since."""
    ended = []
    for number in range(9):
        held = Held(f"c{number}", subject="ann" if number % 4 == 0 else "bob")
        record = session_record(held, here("n1"))
        ended.append(ClosedSession(record, 1000 + number, float(number), 1006, "", Notes()))

    def found(subject: str) -> list[str]:
        query = Query(sort="closed_ms", descending=True, where={"subject": subject})
        selection = Selection(CLOSED, query, here("n1"), count=2)
        selection.look_at(ended)
        return [name for (_, name), _ in selection.best]

    assert (found("ann"), found("cyd")) == (["c8", "c4"], [])
