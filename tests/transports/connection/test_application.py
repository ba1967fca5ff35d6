"""The application beside the hub, called by the connection, on a fake transport."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import CapturingLogger

from hub.transports.asgi_types import ASGIApp, Message, Receive, Scope, Send
from hub.transports.connection.application import Application, Lifespan
from tests.transports.connection.rig import Rig, get, post


def begun(
    make_rig: Callable[..., Rig], app: Callable[[Scope, Receive, Send], Any], **more: Any
) -> Rig:
    application = Application(
        app, server=("127.0.0.1", 80), state={"kept": 1}, log=CapturingLogger()
    )
    return make_rig(application=application, **more)


def answering(*parts: bytes, status: int = 200, headers: Any = ()) -> ASGIApp:
    """An application that answers in these parts."""

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for index, part in enumerate(parts):
            more = index + 1 < len(parts)
            await send({"type": "http.response.body", "body": part, "more_body": more})

    return app


def head_and_body(rig: Rig) -> tuple[bytes, bytes]:
    head, _, body = rig.transport.written.partition(b"\r\n\r\n")
    return head.lower(), body


async def test_an_answer_in_one_part_has_a_length_and_the_next_request_is_answered(
    make_rig: Callable[..., Rig],
) -> None:
    rig = begun(make_rig, answering(b"whole"))
    rig.receive(get("/own") + get("/healthz") + get("/own"))
    await rig.settle()
    assert rig.answers == [200, 200, 200]
    assert rig.whole_answers()[0][1] == rig.whole_answers()[2][1] == b"whole"
    assert not rig.transport.ended


async def test_several_parts_are_chunks_and_the_connection_goes_on(
    make_rig: Callable[..., Rig],
) -> None:
    rig = begun(make_rig, answering(b"one", b"", b"two"))
    rig.receive(get("/own"))
    await rig.settle()
    head, body = head_and_body(rig)
    assert b"transfer-encoding: chunked" in head
    assert body == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
    rig.receive(get("/healthz"))
    assert b"HTTP/1.1 200 OK" in rig.transport.written[len(head) + len(body) + 4 :]


async def test_http_1_0_gets_no_chunks_and_the_end_of_the_connection(
    make_rig: Callable[..., Rig],
) -> None:
    rig = begun(make_rig, answering(b"one", b"two"))
    rig.receive(b"GET /own HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n")
    await rig.settle()
    head, body = head_and_body(rig)
    assert (b"chunked" in head, body, rig.transport.ended) == (False, b"onetwo", True)


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)], ids=str)
async def test_an_answer_without_a_body_has_none(
    make_rig: Callable[..., Rig], method: str, status: int
) -> None:
    rig = begun(make_rig, answering(b"body", status=status, headers=[(b"content-length", b"4")]))
    rig.receive(f"{method} /own HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    await rig.settle()
    head, body = head_and_body(rig)
    assert (body, b"chunked" in head) == (b"", False)
    assert (b"content-length" in head) is (status != 204)
    assert not rig.transport.ended


@pytest.mark.parametrize(
    "field",
    [
        (b"x-a", b"1\r\nset-cookie: stolen=1"),
        (b"x-a", b"1\nx: y"),
        (b"x-a", b"\x00"),
        (b"x a", b"1"),
        (b"x\r\ny", b"1"),
        (b"", b"1"),
    ],
)
async def test_a_field_that_would_split_the_answer_is_refused(
    make_rig: Callable[..., Rig], field: tuple[bytes, bytes]
) -> None:
    rig = begun(make_rig, answering(b"whole", headers=[field]))
    rig.receive(get("/own"))
    await rig.settle()
    assert rig.answers == [500]
    assert b"stolen" not in rig.transport.written


@pytest.mark.parametrize("status", [100, 101])
async def test_an_interim_status_is_no_answer(make_rig: Callable[..., Rig], status: int) -> None:
    rig = begun(make_rig, answering(b"", status=status))
    rig.receive(get("/own"))
    await rig.settle()
    assert rig.answers == [500]


async def test_two_lengths_are_refused(make_rig: Callable[..., Rig]) -> None:
    lengths = [(b"Content-Length", b"5"), (b"content-length", b"4")]
    rig = begun(make_rig, answering(b"whole", headers=lengths))
    rig.receive(get("/own"))
    await rig.settle()
    assert rig.answers == [500]


async def test_an_error_it_raises_is_a_500_before_its_answer_and_an_abort_within(
    make_rig: Callable[..., Rig],
) -> None:
    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        if scope["path"] == "/half":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError

    rig = begun(make_rig, app)
    rig.receive(get("/none"))
    await rig.settle()
    assert (rig.answers, rig.transport.ended) == ([500], False)
    rig.receive(get("/half"))
    await rig.settle()
    assert rig.transport.aborted


async def test_an_application_waits_for_a_peer_that_does_not_read(
    make_rig: Callable[..., Rig],
) -> None:
    sent = 0

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        nonlocal sent
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(50):
            await send({"type": "http.response.body", "body": b"x" * 100, "more_body": True})
            sent += 1
        await send({"type": "http.response.body"})

    rig = begun(make_rig, app)
    rig.transport.room = 300
    rig.receive(get("/own"))
    await rig.settle()
    assert sent < 3
    rig.transport.drain()
    for _ in range(10):
        await rig.settle()
    assert sent == 50
    assert rig.transport.written.endswith(b"0\r\n\r\n")


async def test_a_body_comes_as_it_is_asked_for_and_an_expectation_is_met_then(
    make_rig: Callable[..., Rig],
) -> None:
    gate, seen = asyncio.Event(), bytearray()

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await gate.wait()
        more = True
        while more:
            message = await receive()
            seen.extend(message["body"])
            more = message["more_body"]
        await answering(b"done")(_scope, receive, send)

    rig = begun(make_rig, app)
    rig.receive(
        b"POST /own HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
        b"Content-Length: 200000\r\n\r\n"
    )
    await rig.settle()
    assert rig.transport.written == b""
    gate.set()
    await rig.settle()
    assert rig.transport.written == b"HTTP/1.1 100 Continue\r\n\r\n"
    rig.receive(b"y" * 100_000)
    await rig.settle()
    rig.receive(b"y" * 100_000)
    await rig.settle()
    assert bytes(seen) == b"y" * 200_000
    assert rig.answers[-1] == 200


async def test_an_answer_before_the_body_is_the_last(make_rig: Callable[..., Rig]) -> None:
    rig = begun(make_rig, answering(b"early"))
    rig.receive(b"POST /own HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n\r\n")
    await rig.settle()
    rig.receive(post("a", b"1"))
    await rig.settle()
    assert (rig.answers, rig.published) == ([200], [])
    assert b"connection: close" in rig.transport.written.lower()


async def test_the_end_of_its_peer_reaches_an_application_that_waits(
    make_rig: Callable[..., Rig],
) -> None:
    told: list[Message] = []

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        told.extend([await receive(), await receive()])

    rig = begun(make_rig, app)
    rig.receive(get("/own"))
    await rig.settle()
    assert told == []
    rig.transport.abort()
    await rig.settle()
    assert [message["type"] for message in told] == ["http.request", "http.disconnect"]
    assert not rig.tasks


async def test_a_lifespan_that_fails_says_why_and_one_that_works_keeps_its_state() -> None:
    async def works(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"]["kept"] = 1
        for what in ("startup", "shutdown"):
            assert (await receive())["type"] == f"lifespan.{what}"
            await send({"type": f"lifespan.{what}.complete"})

    async def refuses(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    lifespan = Lifespan(works)
    assert await lifespan.start() is None
    assert lifespan.state == {"kept": 1}
    assert await lifespan.stop() is None
    assert await Lifespan(refuses).start() == "no database"
