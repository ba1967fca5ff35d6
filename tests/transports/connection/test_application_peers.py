"""The application beside the hub, and what its peers do while it answers."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from hub.transports.asgi_types import ASGIApp, Receive, Scope, Send
from hub.transports.connection.application import Application, Lifespan
from tests.transports.connection.rig import LIMITS, Rig, get
from tests.transports.http.fakes import RecordingLog


def upload(body: bytes, more: str = "", *, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    head = f"POST /app HTTP/1.1\r\nHost: localhost\r\n{more}Content-Length: {size}\r\n\r\n"
    return head.encode() + body


@pytest.fixture
def beside(make_rig: Callable[..., Rig]) -> Callable[[ASGIApp], Rig]:
    """A connection with an application."""

    def make(app: ASGIApp) -> Rig:
        application = Application(app, server=("h", 1), state={}, log=RecordingLog())
        return make_rig(application=application)

    return make


async def answer(send: Send, body: bytes = b"ok", *, more: bool = False) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def whole_body(receive: Receive) -> tuple[bytes, list[str]]:
    """The body, and the types of all messages."""
    body, types = b"", []
    while True:
        message = await receive()
        types.append(message["type"])
        body += message.get("body", b"")
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return body, types


async def counting(_scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with how much came."""
    body, _ = await whole_body(receive)
    await answer(send, str(len(body)).encode())


@pytest.mark.parametrize("cut", [None, 100, 5000])
async def test_an_upload_arrives_whole_however_it_comes(
    beside: Callable[[ASGIApp], Rig], cut: int | None
) -> None:
    rig = beside(counting)
    request = upload(b"x" * 210_000)
    for at in range(0, len(request), cut or len(request)):
        rig.receive(request[at : at + (cut or len(request))])
        if at % 7 == 0:
            await rig.settle()
    await asyncio.sleep(0)
    for _ in range(20):
        await rig.settle()
    assert rig.whole_answers() == [(200, b"210000")]


async def test_up_to_64_kib_of_an_upload_wait_for_the_application(
    beside: Callable[[ASGIApp], Rig],
) -> None:
    """Beyond them the peer is not read from until the application has taken them."""
    goes_on = asyncio.Event()

    async def late(scope: Scope, receive: Receive, send: Send) -> None:
        await goes_on.wait()
        await counting(scope, receive, send)

    rig = beside(late)
    rig.receive(upload(b"x" * 64 * 1024, length=64 * 1024 + 1))
    await rig.settle()
    assert not rig.transport.paused
    goes_on.set()
    rig.receive(b"x")
    await rig.settle()
    assert rig.whole_answers() == [(200, b"65537")]
    goes_on.clear()
    rig.connect()
    rig.receive(upload(b"x" * (64 * 1024 + 1), length=64 * 1024 + 2))
    await rig.settle()
    assert rig.transport.paused
    goes_on.set()
    await rig.settle()
    assert not rig.transport.paused


async def test_half_an_upload_is_no_upload(beside: Callable[[ASGIApp], Rig]) -> None:
    """A peer that ends in the middle has not sent what its head announces."""
    seen: list[tuple[bytes, list[str]]] = []

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(await whole_body(receive))

    rig = beside(app)
    rig.receive(upload(b"four", length=1000))
    await rig.settle()
    rig.connection.eof_received()
    await rig.settle()
    assert [types[-1] for _, types in seen] == ["http.disconnect"]


@pytest.mark.parametrize("how", ["reset", "half-close"])
async def test_an_application_that_waits_hears_that_its_peer_has_gone(
    beside: Callable[[ASGIApp], Rig], how: str
) -> None:
    """A long poll of the application's own would otherwise wait for ever."""
    heard: list[str] = []

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        heard.append((await receive())["type"])
        await answer(send)

    rig = beside(app)
    rig.receive(get("/app"))
    await rig.settle()
    if how == "reset":
        rig.connection.connection_lost(None)
    else:
        assert rig.connection.eof_received()
    await rig.settle()
    assert heard == ["http.disconnect"]
    assert not rig.tasks
    assert rig.answers == ([] if how == "reset" else [200])


@pytest.mark.parametrize("blocked", [False, True])
async def test_a_stream_of_the_applications_ends_with_its_peer(
    beside: Callable[[ASGIApp], Rig], *, blocked: bool
) -> None:
    """By ASGI 2.4 `send` raises OSError then."""
    raised: list[BaseException] = []

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        try:
            await answer(send, b"x" * 100, more=True)
            while True:
                await send({"type": "http.response.body", "body": b"x" * 100, "more_body": True})
                await asyncio.sleep(0)
        except OSError as error:
            raised.append(error)
            raise

    rig = beside(app)
    if blocked:
        rig.transport.room = 50
    rig.receive(get("/app"))
    await rig.settle()
    rig.connection.connection_lost(None)
    await rig.settle()
    assert len(raised) == 1
    assert not rig.tasks
    assert rig.context.application is not None
    assert isinstance(rig.context.application.log, RecordingLog)
    assert rig.context.application.log.events == []


async def test_requests_behind_an_application_that_waits_are_held_as_bytes(
    beside: Callable[[ASGIApp], Rig],
) -> None:
    gate = asyncio.Event()

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await gate.wait()
        await answer(send)

    rig = beside(app)
    rig.receive(get("/app"))
    await rig.settle()
    for _ in range(5000):
        if rig.transport.paused:
            break
        rig.receive(get("/healthz"))
    assert rig.transport.paused
    assert len(rig.connection._requests.queue) < 100
    gate.set()
    for _ in range(20):
        await rig.settle()
    assert not rig.transport.paused
    assert set(rig.answers) == {200}


async def test_a_continue_is_never_said_inside_an_answer(beside: Callable[[ASGIApp], Rig]) -> None:
    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, b"part", more=True)
        await receive()
        await send({"type": "http.response.body", "body": b"end"})

    rig = beside(app)
    rig.receive(upload(b"", "Expect: 100-continue\r\n", length=3))
    await rig.settle()
    rig.receive(b"abc")
    await rig.settle()
    assert b"100 Continue" not in rig.transport.written
    assert rig.transport.written.endswith(b"4\r\npart\r\n3\r\nend\r\n0\r\n\r\n")


async def test_a_peer_that_does_not_go_on_with_its_upload_is_cut_and_counted(
    beside: Callable[[ASGIApp], Rig],
) -> None:
    rig = beside(counting)
    rig.receive(upload(b"x" * 100)[:-1])
    await rig.settle()
    rig.wait(LIMITS.body_timeout_seconds - 0.2)
    assert not rig.transport.aborted
    rig.wait(0.3)
    assert rig.transport.aborted
    assert rig.counters.refusals == {"slow_request": 1}


async def test_an_applications_slowness_is_not_its_peers(beside: Callable[[ASGIApp], Rig]) -> None:
    """The hub itself has stopped reading: the body cannot come."""
    gate = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await gate.wait()
        await counting(scope, receive, send)

    rig = beside(app)
    request = upload(b"x" * 200_000)
    at = 0
    while not rig.transport.paused:
        rig.receive(request[at : at + 4096])
        at += 4096
    rig.wait(LIMITS.body_timeout_seconds + 1)
    assert not rig.transport.aborted
    gate.set()
    await rig.settle()
    while at < len(request):
        rig.receive(request[at : at + 4096])
        at += 4096
        await rig.settle()
    assert rig.whole_answers() == [(200, b"200000")]


async def test_a_fault_is_500_or_ends_half_an_answer(beside: Callable[[ASGIApp], Rig]) -> None:
    """Half an answer that ended as a whole one does would be a lie."""

    async def before(*_: Any) -> None:
        raise RuntimeError("no database")

    async def amid(_scope: Scope, _receive: Receive, send: Send) -> None:
        await answer(send, b"part", more=True)
        raise RuntimeError("gone")

    rig = beside(before)
    rig.receive(get("/app") + get("/healthz"))
    await rig.settle()
    assert rig.answers == [500, 200]
    rig = beside(amid)
    rig.receive(get("/app"))
    await rig.settle()
    assert rig.transport.aborted


@pytest.mark.parametrize(
    "field", [(b"x", b"a\r\nSet-Cookie: b"), (b"x\r\ny", b"z"), (b"x", b"a\nb")]
)
async def test_a_field_with_a_line_end_is_no_field(
    beside: Callable[[ASGIApp], Rig], field: tuple[bytes, bytes]
) -> None:
    """A line end in a field would let the application's input write parts of the answer."""

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [field]})
        await send({"type": "http.response.body", "body": b"x"})

    rig = beside(app)
    rig.receive(get("/app"))
    await rig.settle()
    assert rig.answers == [500]
    assert b"Set-Cookie" not in rig.transport.written


# -- lifespan -----------------------------------------------------------------


async def test_an_application_without_a_lifespan_is_served() -> None:
    """Django's raises; by the specification the server goes on."""

    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise ValueError("only HTTP here")

    lifespan = Lifespan(app)
    assert await lifespan.start() is None
    assert lifespan.absent is not None
    assert await lifespan.stop() is None
