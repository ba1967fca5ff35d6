"""Wrong HTTP: a problem document, in time, and nobody else loses anything by it."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import httpx2 as httpx
import pytest

from tests.support.frames import UPGRADE
from tests.support.hub_process import HubProcess
from tests.support.raw_connection import raw_connection
from tests.support.witnesses import witnessed
from tests.transports.peers import publisher

HANDSHAKE_SECONDS = 0.5
HEAD_BYTES = 8192
LIMIT = 4096
PATHS = ["/ws", "/sse?channel=a", "/healthz", "/poll?channel=a", "/nowhere"]


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    with HubProcess(
        HUB_MAX_MESSAGE_BYTES=str(LIMIT),
        HUB_MAX_BODY_BYTES=str(4 * LIMIT),
        HUB_HANDSHAKE_TIMEOUT_SECONDS=str(HANDSHAKE_SECONDS),
        HUB_MAX_HEAD_BYTES=str(HEAD_BYTES),
    ) as process:
        yield process


@pytest.fixture
async def http(hub: HubProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with publisher(hub.url) as client:
        yield client


@pytest.fixture(autouse=True)
async def witnesses(hub: HubProcess, http: httpx.AsyncClient, channel: str) -> AsyncIterator[None]:
    """Two other subscribers must see everything, in order, whatever the test does."""
    async with witnessed(hub, http, channel):
        yield


# -- requests that make no sense -----------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("POST", "/", 405, "method_not_allowed"),
        ("GET", "/api/publish/a", 405, "method_not_allowed"),
        ("DELETE", "/api/channels", 405, "method_not_allowed"),
        ("POST", "/sse?channel=a", 405, "method_not_allowed"),
        ("POST", "/ws", 405, "method_not_allowed"),
        ("PUT", "/poll?channel=a", 405, "method_not_allowed"),
        ("GET", "/api/channels/no%20such", 400, "bad_request"),
        ("GET", "/api/channels/nobody-published", 404, "not_found"),
        ("GET", "/api/connections/none", 404, "not_found"),
        ("GET", "/client/../pyproject.toml", 404, "not_found"),
        ("GET", "/client/%2e%2e/%2e%2e/pyproject.toml", 404, "not_found"),
    ],
)
async def test_an_unknown_path_or_method_is_a_problem_document(
    http: httpx.AsyncClient, method: str, path: str, status: int, code: str
) -> None:
    answer = await http.request(method, path)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    if status == 405:
        assert "OPTIONS" in answer.headers["allow"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "bad_request"),
        (b"{", 400, "bad_request"),
        (b"{}{}", 400, "bad_request"),
        (b"NaN", 400, "bad_request"),
        (b"'single'", 400, "bad_request"),
        (b'"\x01"', 400, "bad_request"),
        (b'"\xff"', 400, "bad_request"),
        (b"\xef\xbb\xbf1", 400, "bad_request"),
        (b"[" * 4000 + b"]" * 96, 400, "bad_request"),
        (b'"%b"' % (b"x" * LIMIT), 413, "too_large"),
    ],
    ids=lambda value: repr(value)[:30],
)
async def test_a_body_that_is_no_json_is_refused(
    http: httpx.AsyncClient, channel: str, body: bytes, status: int, code: str
) -> None:
    """Nothing of the body is published: the witnesses see only numbers."""
    answer = await http.post(f"/api/publish/{channel}", content=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


@pytest.mark.parametrize("path", ["/healthz", "/api/channels", "/metrics", "/"])
async def test_head_is_answered_like_get_without_a_body(http: httpx.AsyncClient, path: str) -> None:
    answer = await http.head(path)
    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize("path", ["/sse", "/ws", "/poll", "/api/publish", "/command"])
async def test_options_name_the_methods(http: httpx.AsyncClient, path: str) -> None:
    answer = await http.options(path)
    assert answer.status_code == 204
    assert answer.headers["allow"]


# -- heads without measure -----------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
async def test_a_flood_of_headers_is_431(hub: HubProcess, path: str) -> None:
    async with raw_connection(hub.url) as peer:
        peer.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n")
        peer.send("".join(f"X-{number}: {'y' * 50}\r\n" for number in range(500)))
        answer = await peer.answer()
        assert (answer.status, answer.code) == (431, "headers_too_large")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("start", ["GET {} HTTP/1.1\r\nX: ", "GET {}&", "GET {} HTTP/1.1\r\n"])
async def test_a_head_without_end_is_431(hub: HubProcess, path: str, start: str) -> None:
    """One endless header value, URL or header name."""
    async with raw_connection(hub.url) as peer:
        peer.send(start.format(path))
        await asyncio.sleep(0)
        peer.send("y" * 3 * HEAD_BYTES)
        answer = await peer.answer()
        assert (answer.status, answer.code) == (431, "headers_too_large")


async def test_a_url_over_4_kb_is_refused_for_a_session(hub: HubProcess) -> None:
    """A peer with more channels subscribes to them by command."""
    async with raw_connection(hub.url) as peer:
        peer.request("GET", f"/sse?channel=a&x={'y' * 4100}")
        answer = await peer.answer()
        assert (answer.status, answer.code) == (431, "headers_too_large")


# -- heads without end ---------------------------------------------------------------------

_STARTS = [
    "G",
    "GET /ws",
    f"GET /ws HTTP/1.1\r\nHost: localhost\r\n{UPGRADE}",
    "GET /sse?channel=a HTTP/1.1\r\n",
    "GET /healthz HTTP/1.1\r\nHost:",
    "POST /api/publish/a HTTP/1.1\r\nHost: localhost\r\n",
    "POST /command?connection=x HTTP/1.1\r\nContent-Length: 5\r\n",
]


@pytest.mark.parametrize(
    ("start", "reused"),
    # An idle kept-alive connection owes no request, a new one does.
    [("", False), *((start, reused) for start in _STARTS for reused in (False, True))],
)
async def test_a_handshake_that_never_finishes_is_408(
    hub: HubProcess, start: str, reused: bool
) -> None:
    """Closed at the time-out, on every path, and on a kept-alive connection too."""
    async with raw_connection(hub.url) as peer:
        if reused:
            peer.request("GET", "/healthz")
            assert (await peer.answer()).status == 200
        peer.send(start)
        answer = await peer.answer()
        assert (answer.status, answer.code) == (408, "request_timeout")
        assert await peer.rest() == b""


@pytest.mark.parametrize(
    "start", ["GET /ws HTTP/1.1\r\nX: ", "POST /api/publish/a HTTP/1.1\r\nX: "]
)
async def test_a_trickle_does_not_put_the_time_out_off(hub: HubProcess, start: str) -> None:
    """The deadline is that of the whole head, not of its next byte."""
    async with raw_connection(hub.url) as peer:
        peer.send(start)
        answer = asyncio.create_task(peer.answer())
        for _ in range(1000):
            done, _ = await asyncio.wait([answer], timeout=HANDSHAKE_SECONDS / 10)
            if done:
                break
            peer.send("y")
        assert answer.result().status == 408


# -- what is not HTTP ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_",
    [
        "HELLO\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET / HTTP/1.1\r\nbad header\r\n\r\n",
        "GET / HTTP/1.1\r\nX: a\x00b\r\n\r\n",
        "GET /ws HTTP/1.1\r\nbad header\r\n\r\n",
        "GET /sse?channel=a HTTP/1.1\r\nX: a\x00b\r\n\r\n",
        "GET /sse?channel=a HTTP/1.1\r\nContent-Length: 5\r\n\r\n12345",
        "GET /sse?channel=a HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        "GET /ws HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /api/publish/a HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST /api/publish/a HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n1",
        "POST /api/publish/a HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        "POST /api/publish/a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
    ids=lambda text: repr(text)[:60],
)
async def test_bytes_that_are_not_http_are_a_bad_request(hub: HubProcess, request_: str) -> None:
    """Ambiguous lengths too: two parsers that read them differently are an attack."""
    async with raw_connection(hub.url) as peer:
        peer.send(request_.encode("latin-1"))
        answer = await peer.answer()
        assert (answer.status, answer.code) == (400, "bad_request")
        assert await peer.rest() == b""


async def test_a_chunked_body_is_read_and_limited(hub: HubProcess, channel: str) -> None:
    """Its size is known only as it comes."""
    path = f"/api/publish/{channel}.x"
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with raw_connection(hub.url) as peer:
        peer.send(head + "".join(f"1\r\n{digit}\r\n" for digit in "12345") + "0\r\n\r\n")
        assert (await peer.answer()).status == 200
        peer.send(head + f"400\r\n{'1' * 0x400}\r\n" * 5)
        answer = await peer.answer()
        assert (answer.status, answer.code) == (413, "too_large")


async def test_a_body_announced_too_large_is_refused_before_it_comes(hub: HubProcess) -> None:
    async with raw_connection(hub.url) as peer:
        peer.request("POST", "/api/publish/a", "Content-Length: 1000000000\r\n")
        answer = await peer.answer()
        assert (answer.status, answer.code) == (413, "too_large")


async def test_a_peer_that_leaves_in_the_middle_of_a_body_costs_nothing(
    hub: HubProcess, http: httpx.AsyncClient, channel: str
) -> None:
    for _ in range(20):
        async with raw_connection(hub.url) as peer:
            peer.request("POST", f"/api/publish/{channel}", "Content-Length: 10\r\n", b"123")
            await peer.sent()
    assert (await http.get("/readyz")).status_code == 200
