"""Looking into a live node over HTTP: every path, its arguments, and who may."""

import pytest

from hub.admin.debugging import (
    GetLogLevels,
    GetMemory,
    GetStalls,
    GetTasks,
    Looked,
    SetLogLevels,
    TraceMemory,
)
from hub.admin.requests import HERE, AdminRequest, AtNode
from tests.transports.http.fakes import OPERATOR, PUBLISHER, Hub

ASKS: list[tuple[str, str, AdminRequest[Looked]]] = [
    ("GET", "/api/debug/tasks", GetTasks()),
    ("GET", "/api/debug/stalls", GetStalls()),
    ("GET", "/api/debug/memory", GetMemory()),
    ("POST", "/api/debug/memory", TraceMemory()),
    ("POST", "/api/debug/memory?seconds=2.5", TraceMemory(2.5)),
    ("GET", "/api/debug/log-levels", GetLogLevels()),
    ("PUT", "/api/debug/log-levels", SetLogLevels({"broker": "debug", "http": None})),
]
LEVELS = b'{"broker":"debug","http":null}'


@pytest.mark.parametrize(("method", "path", "asked"), ASKS)
async def test_a_request_is_an_operation_of_the_node_that_is_asked(
    hub: Hub, method: str, path: str, asked: AdminRequest[Looked]
) -> None:
    """Without a word to the others, which may be what is wrong."""
    async with hub.client(**OPERATOR) as client:
        answer = await client.request(method, path, content=LEVELS)
    assert hub.admin.asked == [(asked, HERE)]
    assert answer.json() == {"node": "n1", "asked": asked.tag()}
    assert answer.status_code == (202 if method == "POST" else 200)


@pytest.mark.parametrize(("method", "path", "asked"), ASKS)
async def test_only_operators_may(
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
