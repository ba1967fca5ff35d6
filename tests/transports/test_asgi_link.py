"""The link of a session under somebody else's server, and requests and answers as ASGI has them."""

import asyncio
from typing import Any, cast

import pytest

from hub.core.session.session import Session
from hub.transports.asgi import request_of, send_answer
from hub.transports.asgi_link import AsgiLink
from hub.transports.asgi_types import Message, Scope
from hub.transports.http.answer import Answer
from hub.transports.request import Request
from hub.wire.codes import CloseCode

ROOM = 16 * 1024


class FakeSession:
    """Notes when it may write again."""

    def __init__(self) -> None:
        self.writable = 0

    def on_writable(self) -> None:
        self.writable += 1


def link(headers: dict[str, str] | None = None) -> tuple[AsgiLink, FakeSession]:
    made, session = AsgiLink("websocket", Request(headers)), FakeSession()
    made.session = cast("Session", session)
    return made, session


async def test_frames_wait_for_the_servers_send_up_to_a_bound() -> None:
    """The frame that reaches it is taken whole; behind it the session's outbox decides."""
    made, _ = link()
    assert made.send(b"a" * (ROOM - 1)) == ROOM - 1
    assert made.send(b"b" * 10) == 10
    assert made.send(b"c") == 0
    assert await made.take() == b"a" * (ROOM - 1) + b"b" * 10
    assert made.send(b"c") == 1


async def test_a_session_writes_again_once_the_server_has_taken_all() -> None:
    made, session = link()
    made.finish(b"the rest of a frame")
    assert made.send(b"the next") == 0
    data = await made.take()
    made.finish(b"and more")
    made.sent(len(data))
    assert session.writable == 0
    made.sent(len(await made.take()))
    assert (session.writable, made.send(b"the next")) == (1, 8)
    assert made.acknowledged_bytes() == len(b"the rest of a frame" + b"and more")


async def test_a_taker_waits_until_there_is_something_or_the_end() -> None:
    made, _ = link()
    taking = asyncio.create_task(made.take())
    await asyncio.sleep(0)
    assert not taking.done()
    made.close(CloseCode.NORMAL, "done")
    made.close(CloseCode.INTERNAL, "and again")
    assert (await taking, made.ended) == (b"", (CloseCode.NORMAL, "done"))
    assert not made.aborted.is_set()


def test_an_abort_waits_for_no_send() -> None:
    made, _ = link()
    made.abort()
    assert made.ended == (CloseCode.ABNORMAL, "aborted")
    assert made.aborted.is_set()


def test_a_peer_is_read_from_while_its_session_takes_more() -> None:
    made, _ = link()
    assert not made.unread
    made.pause_reading()
    assert made.unread
    made.resume_reading()
    assert not made.unread


@pytest.mark.parametrize(
    ("scope", "base_path", "target"),
    [
        ({"path": "/ws", "query_string": b"channel=a"}, "", b"/ws?channel=a"),
        ({"path": "/", "raw_path": b"/a%2Fb"}, "", b"/a%2Fb?"),
        ({"path": "/live/ws", "root_path": "/live"}, "", b"/ws?"),
        ({"path": "/live/ws", "root_path": "/live"}, "/live", b"/live/ws?"),
        ({"path": "/live/live/ws", "root_path": "/live"}, "/live", b"/live/ws?"),
        ({"path": "*"}, "/live", b"*?"),
        ({"path": "/\udce9"}, "", b"/\xe9?"),
    ],
)
def test_a_request_has_the_path_that_the_hubs_own_listener_would_see(
    scope: dict[str, Any], base_path: str, target: bytes
) -> None:
    assert request_of({"headers": [], **scope}, base_path).target == target


def test_a_request_has_the_client_and_joins_repeated_fields() -> None:
    scope: Scope = {
        "path": "/ws",
        "client": ("192.0.2.7", 4711),
        "headers": [(b"Accept", b"a"), (b"accept", b"b")],
        "subprotocols": ["one", "two"],
    }
    request = request_of(scope)
    assert request.address == "192.0.2.7"
    assert request.headers == {"accept": "a, b", "sec-websocket-protocol": "one, two"}


@pytest.mark.parametrize(("method", "body"), [("GET", b"{}"), ("HEAD", b"")])
async def test_an_answer_is_a_start_and_a_body(method: str, body: bytes) -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await send_answer(Answer(b"{}", headers={"Vary": "Origin"}), {"method": method}, send)
    start, rest = sent
    assert (start["type"], start["status"]) == ("http.response.start", 200)
    assert dict(start["headers"]) == {
        b"x-content-type-options": b"nosniff",
        b"cache-control": b"no-store",
        b"content-type": b"application/json",
        b"content-length": b"2",
        b"vary": b"Origin",
    }
    assert rest == {"type": "http.response.body", "body": body}
