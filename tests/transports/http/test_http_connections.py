"""`GET /api/connections`: what is asked for reaches the node, and its page is told whole."""

from typing import Any

import pytest

from hub.admin.connections import CONNECTIONS, ListConnections
from hub.admin.listing import Query
from hub.admin.requests import Everywhere
from tests.transports.http.fakes import OPERATOR, Hub, session_record


def query(**asked: Any) -> Query:
    return Query(**{"sort": "connection", **asked})


ASKED = {
    "": query(),
    "limit=7&after=c1": query(limit=7, after=("c1", "c1")),
    "sort=-sent&after=12:c1": query(sort="sent", descending=True, after=(12.0, "c1")),
    "sort=round_trip_ms&after=-1.0:c1": query(sort="round_trip_ms", after=(-1.0, "c1")),
    "sort=subject&after=a%3Ab:c1": query(sort="subject", after=("a:b", "c1")),
    "sort=subject&after=:c1": query(sort="subject", after=("", "c1")),
    "sort=user_agent&after=a+b%20c%2Bd:c1": query(sort="user_agent", after=("a b c+d", "c1")),
    "subject=ann+lee": query(where={"subject": "ann lee"}),
    "subject=ann&channel=a&transport=sse&address=::1": query(
        where={"subject": "ann", "channel": "a", "transport": "sse", "address": "::1"}
    ),
    "pattern=prices:**": query(where={"pattern": "prices:**"}),
}


def queries(hub: Hub) -> list[Query]:
    return [asked.query for asked, _ in hub.admin.asked if isinstance(asked, ListConnections)]


@pytest.mark.parametrize("asked", ASKED)
async def test_a_query_is_read_as_it_is_meant(hub: Hub, asked: str) -> None:
    """Filters, the column and its direction, how many, and after which row."""
    async with hub.client(**OPERATOR) as client:
        answer = await client.get(f"/api/connections?{asked}")
    assert answer.status_code == 200
    assert queries(hub) == [ASKED[asked]]


@pytest.mark.parametrize(
    "refused",
    ["limit=0", "limit=1001", "sort=secret", "sort=--sent", "sort=sent&after=c1",
     "sort=sent&after=1_0:c1", "sort=sent&after=%D9%A3:c1", "sort=sent&after=1e999:c1",
     "sort=sent&after=nan:c1", "sort=sent&after=inf:c1", "sort=sent&sort=sent",
     "transport=carrier"],
)  # fmt: skip
async def test_a_query_that_means_nothing_is_refused(hub: Hub, refused: str) -> None:
    """With 400, and nobody is asked."""
    async with hub.client(**OPERATOR) as client:
        answer = await client.get(f"/api/connections?{refused}")
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
    assert queries(hub) == []


@pytest.mark.parametrize("column", CONNECTIONS.sorts)
async def test_next_is_the_after_of_the_following_page(hub: Hub, column: str) -> None:
    """Whatever is sorted by; on the last page there is none."""
    hub.admin.sessions = {name: session_record(name) for name in ("c1", "c2", "c3")}
    async with hub.client(**OPERATOR) as client:
        parameters = {"sort": column, "limit": "2"}
        first = (await client.get("/api/connections", params=parameters)).json()
        await client.get("/api/connections", params=parameters | {"after": first["next"]})
        last = (await client.get("/api/connections", params={"sort": column})).json()
    after = queries(hub)[1].after
    assert after is not None
    assert after[1] == "c2"
    assert (first["total"], last["next"]) == (3, None)


async def test_a_page_names_the_nodes_that_are_missing_in_it(hub: Hub) -> None:
    """A node that does not answer is no node without connections."""
    async with hub.client(**OPERATOR) as client:
        whole = (await client.get("/api/connections")).json()
        hub.admin.unanswered = ("n2", "n3")
        partly = (await client.get("/api/connections")).json()
    assert (whole["complete"], whole["unanswered"]) == (True, [])
    assert (partly["complete"], partly["unanswered"]) == (False, ["n2", "n3"])


async def test_nodes_of_one_name_alone_are_asked_where_one_is_named(hub: Hub) -> None:
    """The name chooses the nodes that are asked, and is no filter of theirs."""
    async with hub.client(**OPERATOR) as client:
        await client.get("/api/connections?node=n2")
    assert hub.admin.asked == [(ListConnections(query()), Everywhere("n2"))]


def test_every_filter_can_be_asked_for() -> None:
    """One that nobody can set would be dead."""
    assert {name for each in ASKED.values() for name in each.where} == set(CONNECTIONS.filters)
