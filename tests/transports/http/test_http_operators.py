"""Routes of operators beyond lists, and of debugging: every path, its arguments, and its rights."""

from typing import Any

import pytest
from msgspec.structs import replace

from hub.admin import (
    channels,
    connections,
    debugging,
    drain,
    explain,
    explain_subject,
    sessions,
)
from hub.admin.connections import ListClosed
from hub.admin.debugging import (
    GetLogLevels,
    GetMemory,
    GetStalls,
    GetTasks,
    Looked,
    SetLogLevels,
    TraceMemory,
)
from hub.admin.drain import Drain, Shed, Undrain
from hub.admin.explain import Explain
from hub.admin.explain_subject import ExplainSubject
from hub.admin.listing import Query
from hub.admin.requests import HERE, AdminRequest, AtConnection, AtNode, AtTag, Everywhere
from hub.transports.http.routes import Access, access_of
from tests.transports.http.fakes import OPERATOR, PUBLISHER, Hub

ASKS = [
    ("GET", "/api/closed"),
    ("GET", "/api/explain?connection=c1&channel=a&offset=1"),
    ("GET", "/api/explain?subject=ada"),
    ("DELETE", "/api/connections/c1/subscriptions/a"),
    ("POST", "/api/nodes/n1/drain"),
    ("DELETE", "/api/nodes/n1/drain"),
    ("POST", "/api/rebalance"),
]


@pytest.mark.parametrize(("method", "path"), ASKS)
async def test_only_operators_may_ask(hub: Hub, method: str, path: str) -> None:
    """Nobody else's request gets as far as any node."""
    async with hub.client() as client:
        assert (await client.request(method, path)).status_code == 401
        assert (await client.request(method, path, headers=PUBLISHER)).status_code == 403
        assert hub.admin.asked == []
        assert (await client.request(method, path, headers=OPERATOR)).is_success


async def test_why_is_asked_where_the_connection_is(hub: Hub) -> None:
    """With the epoch where one is named; a connection nobody knows of is `unknown`."""
    async with hub.client(**OPERATOR) as client:
        asked = "/api/explain?channel=a&offset=42"
        known = (await client.get(f"{asked}&connection=c1&epoch=e7")).json()
        unknown = (await client.get(f"{asked}&connection=c9")).json()
    assert hub.admin.asked == [
        (Explain("c1", "a", 42, "e7"), AtConnection("c1")),
        (Explain("c9", "a", 42, None), AtConnection("c9")),
        # Its node may live no more, and another have read what it kept.
        (Explain("c9", "a", 42, None), Everywhere()),
    ]
    assert (known["connection"], known["answer"], known["detail"]) == ("c1", "dropped", "slow")
    assert unknown["answer"] == "dropped"


async def test_publications_that_a_subject_got_are_asked_of_all_nodes(hub: Hub) -> None:
    """In one request, with channel, offset and a stretch of time where they are given."""
    asked = "subject=ada&channel=orders&offset=14&epoch=e7&from_ms=1000&to_ms=2000"
    async with hub.client(**OPERATOR) as client:
        told = (await client.get(f"/api/explain?{asked}")).json()
        everything = (await client.get("/api/explain?subject=ada")).json()
    question = ExplainSubject(
        subject="ada", channel="orders", offset=14, epoch="e7", from_ms=1000, to_ms=2000
    )
    assert hub.admin.asked == [
        (question, Everywhere()),
        (ExplainSubject(subject="ada"), Everywhere()),
    ]
    assert (told["subject"], told["offset"], told["connections"]) == ("ada", 14, [])
    assert told["explained"]["answer"] == "unknown"
    assert "type" not in told
    assert "explained" not in everything
    assert (everything["complete"], everything["events"]) == (True, [])


@pytest.mark.parametrize(
    "query",
    ["channel=a&offset=1", "connection=c1&offset=1", "connection=c1&channel=a",
     "connection=c1&channel=a&offset=0", "connection=c1&channel=a&offset=x",
     "connection=c1&channel=a&offset=-1", "connection=c1&channel=a%20b&offset=1",
     "connection=c1&subject=ada&channel=a&offset=1", "subject=ada&offset=1",
     "subject=ada&channel=a&offset=0", "subject=ada&from_ms=soon", "subject=&channel=a&offset=1"],
)  # fmt: skip
async def test_a_question_that_lacks_something_is_a_bad_request(hub: Hub, query: str) -> None:
    async with hub.client(**OPERATOR) as client:
        answer = await client.get(f"/api/explain?{query}")
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
    assert hub.admin.asked == []


async def test_windows_are_passed_on(hub: Hub) -> None:
    """A window is passed on as a number, and a text that is no number is refused."""
    async with hub.client(**OPERATOR) as client:
        begun = await client.post("/api/nodes/n1/drain?window_seconds=2.5")
        ended = await client.delete("/api/nodes/n1/drain")
        missing = await client.post("/api/nodes/n2/drain")
        spread = await client.post("/api/rebalance?window_seconds=3")
        refused = await client.post("/api/rebalance?window_seconds=soon")
    assert (begun.status_code, begun.json()) == (202, {"node": "n1", "closing": 3})
    assert (ended.status_code, missing.status_code, spread.status_code) == (202, 404, 202)
    assert refused.status_code == 400
    assert hub.admin.asked == [
        (Drain(2.5), AtNode("n1")),
        (Undrain(), AtNode("n1")),
        (Drain(), AtNode("n2")),
        (Shed(0, 3.0), AtTag("n1")),
    ]


async def test_sessions_that_ended_may_be_asked_of_one_subject(hub: Hub) -> None:
    """However many others have ended since."""
    async with hub.client(**OPERATOR) as client:
        await client.get("/api/closed?limit=7")
        await client.get("/api/closed?subject=ann+lee")
    newest = Query(sort="closed_ms", descending=True)
    asked = replace(newest, limit=7), replace(newest, where={"subject": "ann lee"})
    assert hub.admin.asked == [(ListClosed(query), Everywhere()) for query in asked]


def test_every_request_that_a_node_carries_out_says_who_may_ask() -> None:
    """The routes follow that declaration: a peer's request to its own
    session needs no operator key."""
    asked: set[type[AdminRequest[Any]]] = set()
    for module in (channels, connections, debugging, drain, explain, explain_subject, sessions):
        asked |= {
            each
            for each in vars(module).values()
            if isinstance(each, type)
            and issubclass(each, AdminRequest)
            and each is not AdminRequest
        }
    of_sessions = {sessions.SendCommand, sessions.CheckSecret, sessions.Poll}
    assert {each for each in asked if access_of(each) is Access.SESSION} == of_sessions
    assert {access_of(each) for each in asked - of_sessions} == {Access.OPERATOR}
    assert len(asked) == len({each.tag() for each in asked}) > 15


# -- debugging -------------------------------------------------------------------------------------

DEBUG_ASKS: list[tuple[str, str, AdminRequest[Looked]]] = [
    ("GET", "/api/debug/tasks", GetTasks()),
    ("GET", "/api/debug/stalls", GetStalls()),
    ("GET", "/api/debug/memory", GetMemory()),
    ("POST", "/api/debug/memory", TraceMemory()),
    ("POST", "/api/debug/memory?seconds=2.5", TraceMemory(2.5)),
    ("GET", "/api/debug/log-levels", GetLogLevels()),
    ("PUT", "/api/debug/log-levels", SetLogLevels({"broker": "debug", "http": None})),
]
LEVELS = b'{"broker":"debug","http":null}'


@pytest.mark.parametrize(("method", "path", "asked"), DEBUG_ASKS)
async def test_a_request_is_an_operation_of_the_node_that_is_asked(
    hub: Hub, method: str, path: str, asked: AdminRequest[Looked]
) -> None:
    """Without a word to the others, which may be what is wrong."""
    async with hub.client(**OPERATOR) as client:
        answer = await client.request(method, path, content=LEVELS)
    assert hub.admin.asked == [(asked, HERE)]
    assert answer.json() == {"node": "n1", "asked": asked.tag()}
    assert answer.status_code == (202 if method == "POST" else 200)


@pytest.mark.parametrize(("method", "path", "asked"), DEBUG_ASKS)
async def test_only_operators_may_debug(
    hub: Hub, method: str, path: str, asked: AdminRequest[Looked]
) -> None:
    """Nobody else's request gets as far as any node."""
    async with hub.client() as client:
        anybody = await client.request(method, path, content=LEVELS)
        publisher = await client.request(method, path, content=LEVELS, headers=PUBLISHER)
    assert (anybody.status_code, publisher.status_code) == (401, 403)
    assert hub.admin.asked == []


async def test_another_node_is_asked_by_its_name(hub: Hub) -> None:
    """This node's own name leads to itself; nobody's is not found."""
    async with hub.client(**OPERATOR) as client:
        await client.get("/api/debug/tasks?node=n1")
        missing = await client.post("/api/debug/memory?seconds=1&node=n9")
    assert missing.status_code == 404
    assert hub.admin.asked == [
        (GetTasks(), HERE),
        (TraceMemory(1.0), AtNode("n9")),
    ]


@pytest.mark.parametrize("seconds", ["soon", "nan", "inf"])
async def test_seconds_are_a_number(hub: Hub, seconds: str) -> None:
    async with hub.client(**OPERATOR) as client:
        answer = await client.post(f"/api/debug/memory?seconds={seconds}")
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
    assert hub.admin.asked == []


@pytest.mark.parametrize("body", [b"", b"[]", b'{"broker":1}', b'"debug"', b'{"broker"'])
async def test_levels_are_an_object_of_names(hub: Hub, body: bytes) -> None:
    async with hub.client(**OPERATOR) as client:
        answer = await client.put("/api/debug/log-levels", content=body)
        large = await client.put("/api/debug/log-levels", content=b" " * 5000)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
    assert large.status_code == 413
    assert hub.admin.asked == []


async def test_a_traceparent_is_read_only_where_the_node_traces(hub: Hub) -> None:
    """Otherwise nobody wants to know what a publication is a part of."""
    headers = {**PUBLISHER, "traceparent": "00-0-0-01"}
    async with hub.client(**headers) as client:
        (await client.post("/api/publish/a", content=b"1")).raise_for_status()
    assert [request.trace for request in hub.node.published] == [None]
