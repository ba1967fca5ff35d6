"""Lists of connections: every page, over any nodes, is the right stretch of one sorted list."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.core.identity import Identity
from hub.core.listing import ConnectionPage, ConnectionQuery, Listed, merge
from hub.core.selecting import COLUMNS, Here, Selection
from hub.core.session import Session
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
                channel=channel, position=None, state="live", ring=None, dropped=0
            )


Nodes = dict[str, list[Held]]


def here(name: str) -> Here:
    return Here(name, FakeClock(), 1_700_000_000.0)


def listed(name: str, sessions: Iterable[Held], query: ConnectionQuery, *, at_once: int) -> Listed:
    """As a node lists them that looks at `at_once` sessions in a turn."""
    selection = Selection(query, here(name))
    all_of_them = cast("list[Session]", list(sessions))
    for start in range(0, len(all_of_them), at_once):
        selection.look_at(all_of_them[start : start + at_once])
    return selection.listed()


def page(nodes: Nodes, query: ConnectionQuery, *, at_once: int = 3, most: int = 99) -> list[Listed]:
    """What each node says, `most` rows of it at once."""
    answers = [listed(name, sessions, query, at_once=at_once) for name, sessions in nodes.items()]
    return [
        replace(a, rows=a.rows[:most], more=a.more or len(a.rows) > most) if a.rows else a
        for a in answers
    ]


def connections(found: ConnectionPage) -> list[str]:
    return [row.record.connection for row in found.rows]


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
    sort=st.sampled_from(list(COLUMNS)),
    descending=st.booleans(),
    limit=st.integers(1, 6),
    most=st.integers(1, 9),
)
def test_pages_together_are_every_connection_in_order(
    nodes: Nodes, sort: str, descending: bool, limit: int, most: int
) -> None:
    """By any column, forwards and backwards, also where nodes say less than they were asked for."""
    query = ConnectionQuery(limit=limit, sort=sort, descending=descending)
    expected = sorted(
        (
            (COLUMNS[sort](cast("Session", s), here(name)), s.id)
            for name in nodes
            for s in nodes[name]
        ),
        reverse=descending,
    )
    seen: list[str] = []
    while True:
        found = merge(query, page(nodes, query, most=most))
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
    ("query", "expected"),
    [
        (ConnectionQuery(), ["c1", "c2", "c3"]),
        (ConnectionQuery(subject="ann"), ["c1", "c3"]),
        (ConnectionQuery(channel="a"), ["c1", "c2"]),
        (ConnectionQuery(transport="sse"), ["c2", "c3"]),
        (ConnectionQuery(address="198.51.100.7"), ["c3"]),
        (ConnectionQuery(node="n1"), ["c1", "c2", "c3"]),
        (ConnectionQuery(node="n2"), []),
        (ConnectionQuery(channel="b", subject="ann"), ["c3"]),
    ],
)
def test_a_filter_lets_through_what_it_names(query: ConnectionQuery, expected: list[str]) -> None:
    """Several together let through what all of them do; `total` counts that."""
    found = merge(query, [listed("n1", SESSIONS, query, at_once=2)])
    assert (connections(found), found.total, found.more) == (expected, len(expected), False)


def test_what_is_owed_longest_is_the_oldest_whenever_it_is_asked() -> None:
    """The key of a row stays while time passes: pages asked for later must not repeat it."""
    clock = FakeClock(1000.0)
    place = Here("n1", clock, 1_700_000_000.0)
    old, young = Held("old", owed_since_seconds=1.0), Held("young", owed_since_seconds=900.0)
    column = COLUMNS["outbox_age_seconds"]
    before = [column(cast("Session", s), place) for s in (old, young, Held("none"))]
    clock.advance(500)
    assert [column(cast("Session", s), place) for s in (old, young, Held("none"))] == before
    assert sorted(before, reverse=True) == before


def test_a_page_without_some_nodes_is_not_complete() -> None:
    """Whether they did not answer, or it is not known which there are."""
    assert merge(ConnectionQuery(), []).complete
    silent = merge(ConnectionQuery(), [], unanswered=["n3", "n2"])
    assert (silent.complete, silent.unanswered) == (False, ("n2", "n3"))
    assert not merge(ConnectionQuery(), [], all_known=False).complete
