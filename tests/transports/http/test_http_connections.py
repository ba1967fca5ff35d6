"""`GET /api/connections`: what is asked for reaches the node, and its page is told whole."""

import dataclasses

import pytest

from hub.core.listing import ConnectionQuery
from hub.core.selecting import COLUMNS
from tests.transports.http.fakes import OPERATOR, Hub, session_record

ASKED = {
    "": ConnectionQuery(),
    "limit=7&after=c1": ConnectionQuery(limit=7, after=("c1", "c1")),
    "sort=-sent&after=12:c1": ConnectionQuery(sort="sent", descending=True, after=(12.0, "c1")),
    "sort=round_trip_ms&after=-1.0:c1": ConnectionQuery(sort="round_trip_ms", after=(-1.0, "c1")),
    "sort=subject&after=a%3Ab:c1": ConnectionQuery(sort="subject", after=("a:b", "c1")),
    "sort=subject&after=:c1": ConnectionQuery(sort="subject", after=("", "c1")),
    "sort=user_agent&after=a+b%20c%2Bd:c1": ConnectionQuery(
        sort="user_agent", after=("a b c+d", "c1")
    ),
    "subject=ann+lee": ConnectionQuery(subject="ann lee"),
    "subject=ann&channel=a&transport=sse&address=::1&node=n2": ConnectionQuery(
        subject="ann", channel="a", transport="sse", address="::1", node="n2"
    ),
}


@pytest.mark.parametrize("query", ASKED)
async def test_a_query_is_read_as_it_is_meant(hub: Hub, query: str) -> None:
    """Filters, the column and its direction, how many, and after which row."""
    async with hub.client(**OPERATOR) as client:
        answer = await client.get(f"/api/connections?{query}")
    assert answer.status_code == 200
    assert hub.engine.queries == [ASKED[query]]


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=1001", "sort=secret", "sort=--sent", "sort=sent&after=c1",
     "sort=sent&after=1_0:c1", "sort=sent&after=%D9%A3:c1", "sort=sent&after=1e999:c1",
     "sort=sent&after=nan:c1", "sort=sent&after=inf:c1", "sort=sent&sort=sent",
     "transport=carrier"],
)  # fmt: skip
async def test_a_query_that_means_nothing_is_refused(hub: Hub, query: str) -> None:
    """With 400, and nobody is asked."""
    async with hub.client(**OPERATOR) as client:
        answer = await client.get(f"/api/connections?{query}")
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
    assert hub.engine.queries == []


@pytest.mark.parametrize("column", COLUMNS)
async def test_next_is_the_after_of_the_following_page(hub: Hub, column: str) -> None:
    """Whatever is sorted by; on the last page there is none."""
    hub.engine.sessions = {name: session_record(name) for name in ("c1", "c2", "c3")}
    async with hub.client(**OPERATOR) as client:
        parameters = {"sort": column, "limit": "2"}
        first = (await client.get("/api/connections", params=parameters)).json()
        await client.get("/api/connections", params=parameters | {"after": first["next"]})
        last = (await client.get("/api/connections", params={"sort": column})).json()
    after = hub.engine.queries[1].after
    assert after is not None
    assert after[1] == "c2"
    assert (first["total"], last["next"]) == (3, None)


async def test_a_page_names_the_nodes_that_are_missing_in_it(hub: Hub) -> None:
    """A node that does not answer is no node without connections."""
    async with hub.client(**OPERATOR) as client:
        whole = (await client.get("/api/connections")).json()
        hub.engine.unanswered = ("n2", "n3")
        partly = (await client.get("/api/connections")).json()
    assert (whole["complete"], whole["unanswered"]) == (True, [])
    assert (partly["complete"], partly["unanswered"]) == (False, ["n2", "n3"])


def test_every_field_of_a_query_can_be_asked_for() -> None:
    """A filter that nobody can set would be dead."""
    asked = [dataclasses.asdict(query) for query in ASKED.values()]
    untouched = dataclasses.asdict(ConnectionQuery())
    assert {n for n in untouched if all(each[n] == untouched[n] for each in asked)} == set()
