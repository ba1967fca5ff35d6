"""The client where neither WebSocket nor SSE gets through, against a hub played by a script."""

import asyncio

from hub_client import ClientOptions, ConnectionState, HubClient, Message, ReconnectTiming
from tests.clients.python.fakes import (
    DEADLINE_SECONDS,
    PROVED,
    HttpAnswer,
    HttpRequest,
    http_hub,
    json_answer,
    message,
    problem,
    subscribed,
    welcome,
)
from tests.support.waiting import eventually

TIMING = ReconnectTiming(0.01, 0.05, open_timeout_seconds=5)
Json = dict[str, object]


def answered(*pushes: Json, at: str, connection: str = "c1") -> HttpAnswer:
    told = welcome() | {"connection": connection}
    return json_answer({"pushes": pushes, "positions": {"a": at}, "welcome": told})


async def three(url: str, options: ClientOptions) -> list[Message]:
    async with HubClient(url, token="t0k", options=options) as hub:
        subscription = hub.subscribe("a")
        async with asyncio.timeout(DEADLINE_SECONDS):
            return [await anext(subscription) for _ in range(3)]


async def silent() -> HttpAnswer:
    await asyncio.Event().wait()
    raise AssertionError


async def test_where_streams_are_blocked_polls_carry_positions_and_the_sessions_secret() -> None:
    """WebSocket and SSE are refused by something on the way; the next poll goes on."""
    states: list[ConnectionState] = []
    polls = iter(
        [
            answered(subscribed("a", "e1:0"), message("a", 1), at="e1:1"),
            answered(at="e1:1"),
            answered(message("a", 2), message("a", 3), at="e1:3"),
        ]
    )

    async def answer(request: HttpRequest) -> HttpAnswer:
        if request.path == "/command":
            return json_answer(PROVED)
        if request.path != "/poll":
            return HttpAnswer(403, b"no streams here")
        return next(polls, None) or await silent()

    async with http_hub(answer) as (url, requests):
        items = await three(url, ClientOptions(timing=TIMING, on_state=states.append))
    assert [item.offset for item in items] == [1, 2, 3]
    paths = [*dict.fromkeys(request.path for request in requests)]
    assert paths == ["/ws", "/sse", "/poll", "/command"]
    first, second, third = [request for request in requests if request.path == "/poll"][:3]
    assert first.headers["authorization"] == "Bearer t0k"
    assert (first.query["wait"], first.query["channel"]) == (["0"], ["a"])
    assert {request.headers["authorization"] for request in (second, third)} == {"Bearer s3cret"}
    assert third.query["connection"] == ["c1"]
    assert third.query["since"] == ["a=e1:1"]
    assert {state.transport for state in states if state.name == "connected"} == {"poll"}


async def test_a_session_that_has_ended_is_followed_by_another_from_the_clients_position() -> None:
    """404, an answer that is none, an answer of another session: nothing is lost or repeated."""
    polls = iter(
        [
            answered(subscribed("a", "e1:0"), message("a", 1), at="e1:1"),
            problem(404, "not_found"),
            answered(subscribed("a", "e1:1"), message("a", 2), at="e1:2", connection="c2"),
            HttpAnswer(200, b"<html>log in</html>"),
            answered(subscribed("a", "e1:2"), at="e1:2", connection="c3"),
            answered(message("a", 3), at="e1:3", connection="c4"),
            answered(subscribed("a", "e1:2"), message("a", 3), at="e1:3", connection="c5"),
        ]
    )

    async def answer(request: HttpRequest) -> HttpAnswer:
        if request.path == "/command":
            return json_answer(PROVED)
        return next(polls, None) or await silent()

    options = ClientOptions(timing=TIMING)
    async with http_hub(answer) as (url, requests):
        async with HubClient(url, transports=("poll",), options=options) as hub:
            subscription = hub.subscribe("a")
            async with asyncio.timeout(DEADLINE_SECONDS):
                items = [await anext(subscription) for _ in range(3)]
    assert [item.offset for item in items] == [1, 2, 3]
    openings = [request for request in requests if request.query.get("wait") == ["0"]]
    assert [request.query.get("since") for request in openings] == [
        None,
        ["a=e1:1"],
        ["a=e1:2"],
        ["a=e1:2"],
    ]


async def test_the_channels_that_an_answer_moved_are_named_first_by_the_next_poll() -> None:
    """They stand last in its positions; a URL has not room for many, and they show that it came."""
    told = welcome() | {"connection": "c1"}
    names = [f"{'long' * 45}{number}" for number in range(32)]
    places = dict.fromkeys(names, "e1:1")
    polls = iter(
        [
            answered(subscribed("a", "e1:0"), at="e1:0"),
            json_answer({"pushes": [], "positions": places | {"a": "e1:2"}, "welcome": told}),
        ]
    )

    async def answer(request: HttpRequest) -> HttpAnswer:
        if request.path == "/command":
            return json_answer(PROVED)
        return next(polls, None) or await silent()

    options = ClientOptions(timing=TIMING)
    async with http_hub(answer) as (url, requests):
        async with HubClient(url, transports=("poll",), options=options) as hub:
            hub.subscribe("a")
            await eventually(lambda: sum(request.path == "/poll" for request in requests) == 3)
    third = [request for request in requests if request.path == "/poll"][2]
    assert third.query["since"][0] == "a=e1:2"
    assert 1 < len(third.query["since"]) < 32
