"""A request for a stream is opened, waits for a decision, or is refused in its own way."""

import asyncio
from typing import Any, cast

import orjson
import pytest

from hub.core.ports import UndecidedError
from hub.errors import ForbiddenError, HubError, RateLimitedError, UnauthorizedError
from hub.transports.connection.streams import MAX_TARGET_BYTES, Streams
from hub.transports.http.answer import PROBLEM_JSON, Answer
from hub.transports.http.dispatch import Call
from hub.transports.http.routes import StreamKind
from hub.transports.opening import Openings
from hub.transports.request import Head, Request
from hub.wire.codes import CloseCode
from hub.wire.sse import SeveralSseDialect, SseDialect

TRANSPORT = cast("asyncio.Transport", object())  # handed on, never looked at
EVENTS = {"accept": "text/event-stream"}


class FakeOpenings:
    """Opens what it is asked for, or raises."""

    def __init__(self, *raises: HubError) -> None:
        self._raises = list(raises)
        self.opened: list[tuple[str, bytes, bytes]] = []
        self.refused: list[tuple[str, str]] = []

    def websocket(self, head: Request, _transport: Any, *, address: str, rest: bytes) -> None:
        self._open("websocket", head, address, rest)

    def sse(self, head: Request, _transport: Any, *, address: str) -> None:
        self._open("sse", head, address, b"")

    def _open(self, kind: str, head: Request, address: str, rest: bytes) -> None:
        assert address == head.address
        if self._raises:
            raise self._raises.pop(0)
        self.opened.append((kind, head.target, rest))

    def on_refused(self, error: HubError, _head: Head, address: str) -> None:
        self.refused.append((error.code, address))


def asked(target: bytes = b"/ws?channel=a", headers: dict[str, str] | None = None) -> Call:
    request = Request(headers)
    request.method, request.target, request.address = "GET", target, "192.0.2.7"
    return Call(request)


def streams(openings: FakeOpenings) -> Streams:
    return Streams(cast("Openings", openings), sse=SseDialect(SeveralSseDialect()))


@pytest.mark.parametrize("stream", StreamKind)
def test_a_session_has_the_transport_and_what_came_behind_its_request(stream: StreamKind) -> None:
    openings = FakeOpenings()
    call = asked()
    assert streams(openings).begin(stream, call, TRANSPORT, b"frames") is None
    kind, rest = ("websocket", b"frames") if stream is StreamKind.WEBSOCKET else ("sse", b"")
    assert openings.opened == [(kind, b"/ws?channel=a", rest)]
    assert (call.admission, openings.refused) == (None, [])


def undecided(*, decides: bool = False) -> UndecidedError:
    async def wait() -> None:
        """Nothing to wait for."""

    return UndecidedError("asked elsewhere", wait, decides=decides)


async def test_a_request_is_asked_about_once_and_then_refused() -> None:
    openings = FakeOpenings(undecided(), undecided())
    call, opening = asked(), streams(openings)
    assert opening.begin(StreamKind.WEBSOCKET, call, TRANSPORT, b"") is None
    assert call.admission is not None
    assert (call.request.has_waited, openings.refused) == (True, [])
    await call.admission
    call.admission = None
    refused = opening.begin(StreamKind.WEBSOCKET, call, TRANSPORT, b"")
    assert isinstance(refused, Answer)
    assert (refused.status, call.admission) == (401, None)
    assert openings.refused == [("unauthorized", "192.0.2.7")]


async def test_a_peer_may_wait_behind_something_else_for_the_decision_of_a_wait() -> None:
    openings = FakeOpenings(undecided(), undecided(decides=True))
    call, opening = asked(), streams(openings)
    for _ in range(2):
        assert opening.begin(StreamKind.SSE, call, TRANSPORT, b"") is None
        assert call.admission is not None
        await call.admission
        call.admission = None
    assert opening.begin(StreamKind.SSE, call, TRANSPORT, b"") is None
    assert len(openings.opened) == 1


@pytest.mark.parametrize(
    ("size", "status"), [(MAX_TARGET_BYTES, None), (MAX_TARGET_BYTES + 1, 431)]
)
def test_a_sessions_url_is_bounded(size: int, status: int | None) -> None:
    target = b"/ws?channel=".ljust(size, b"a")
    refused = streams(FakeOpenings()).begin(StreamKind.WEBSOCKET, asked(target), TRANSPORT, b"")
    assert not isinstance(refused, bytes)
    assert (None if refused is None else refused.status) == status


def test_http_1_0_has_no_upgrade() -> None:
    call = asked()
    call.request.version = "1.0"
    refused = streams(FakeOpenings()).begin(StreamKind.WEBSOCKET, call, TRANSPORT, b"")
    assert isinstance(refused, Answer)
    assert refused.status == 426
    assert streams(FakeOpenings()).begin(StreamKind.SSE, call, TRANSPORT, b"") is None


TOO_MANY = RateLimitedError("too many")
EARLY = UnauthorizedError("the token holds in a moment", holds_in_seconds=2)


@pytest.mark.parametrize("error", [TOO_MANY, EARLY])
def test_an_event_source_that_is_refused_for_now_is_told_when_to_come_back(
    error: HubError,
) -> None:
    """After any other answer it never would."""
    opening = streams(FakeOpenings())
    answer = opening.refusal(StreamKind.SSE, asked(b"/sse?channel=a", EVENTS).request, error)
    assert (answer.status, answer.content_type) == (200, "text/event-stream; charset=utf-8")
    lines = dict(line.split(b": ", 1) for line in answer.body.splitlines() if b": " in line)
    assert 1000 <= int(lines[b"retry"]) <= 4000
    goodbye = orjson.loads(lines[b"data"])
    assert (goodbye["code"], goodbye["reason"]) == (CloseCode.TRY_AGAIN_LATER, error.message)


@pytest.mark.parametrize(
    ("stream", "headers", "error"),
    [
        (StreamKind.SSE, {}, TOO_MANY),
        (StreamKind.SSE, EVENTS, ForbiddenError("no")),
        (StreamKind.WEBSOCKET, EVENTS, TOO_MANY),
    ],
)
def test_all_others_get_a_status(
    stream: StreamKind, headers: dict[str, str], error: HubError
) -> None:
    openings = FakeOpenings()
    origin = {"origin": "https://page.example"}
    answer = streams(openings).refusal(stream, asked(headers=headers | origin).request, error)
    assert answer.content_type == PROBLEM_JSON
    assert orjson.loads(answer.body)["code"] == error.code
    assert answer.headers["Access-Control-Allow-Origin"] == "https://page.example"
    assert openings.refused == [(error.code, "192.0.2.7")]
