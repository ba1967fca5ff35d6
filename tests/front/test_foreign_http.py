"""HTTP clients that the hub did not write, and requests that few of them send."""

import asyncio
import gzip
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.support import redis_server
from tests.support.hub_process import HubProcess
from tests.support.raw_connection import raw_connection
from tests.support.redis_server import RedisServer
from tests.transports.peers import publisher

CURL, JAVA, NC = shutil.which("curl"), shutil.which("java"), shutil.which("nc")
LIMIT = 4096
KEY = "k" * 32
TIMES = 20


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    with HubProcess(
        HUB_HISTORY_SIZE="1000",
        HUB_MAX_MESSAGE_BYTES=str(LIMIT),
        HUB_MAX_BODY_BYTES=str(4 * LIMIT),
        HUB_BODY_TOTAL_BYTES="40000",
    ) as process:
        yield process


@pytest.fixture(scope="module")
def guarded() -> Iterator[HubProcess]:
    """One that asks for keys."""
    with HubProcess(HUB_PUBLISH_KEYS=KEY, HUB_OPERATOR_KEYS=KEY[::-1] + "o") as process:
        yield process


@pytest.fixture
async def http(hub: HubProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with publisher(hub.url) as client:
        yield client


async def run(*command: str, given: bytes = b"") -> bytes:
    """Runs a program and returns what it prints."""
    done = await asyncio.to_thread(
        subprocess.run, command, input=given, capture_output=True, check=False, timeout=50
    )
    assert done.returncode == 0, done
    return done.stdout


async def published(http: httpx.AsyncClient, channel: str) -> list[object]:
    answer = await http.get(f"/api/channels/{channel}/history", params={"limit": 1000})
    return [each["data"] for each in answer.json()["publications"]]


# -- programs -----------------------------------------------------------------------------------


@pytest.mark.skipif(CURL is None, reason="curl is not installed")
async def test_curl_that_offers_http_2_publishes_every_body(
    hub: HubProcess, http: httpx.AsyncClient, channel: str
) -> None:
    """curl sends `Upgrade: h2c` with the body, and the next request on the same connection."""
    words = [str(CURL), "-sS", "-w", "%{http_code} %{num_connects}\n", "-o", "/dev/null"]
    one = ["--http2", f"{hub.url}/api/publish/{channel}", "-d"]
    command = [*words, *one, "1", "--next", *words[1:], *one, "2", "--next", *words[1:], *one, "3"]
    assert (await run(*command)).split() == [b"200", b"1", b"200", b"0", b"200", b"0"]
    assert await published(http, channel) == [1, 2, 3]


@pytest.mark.skipif(CURL is None, reason="curl is not installed")
@pytest.mark.parametrize("expects", ["Expect: 100-continue", "Expect:"])
async def test_curl_reads_413_whether_or_not_it_waits_for_100(
    hub: HubProcess, tmp_path: Path, expects: str
) -> None:
    body = tmp_path / "body"
    body.write_bytes(b"1" * (3 << 20))
    url = f"{hub.url}/api/publish/a"
    printed = await run(
        str(CURL), "-sS", "-w", "%{http_code}", "-o", "/dev/null", "-H", expects,
        "--data-binary", f"@{body}", url,
    )  # fmt: skip
    assert printed == b"413"


@pytest.mark.slow
@pytest.mark.skipif(
    JAVA is None,
    reason="no JDK is installed, and tests/run fetches none of its 72 MB: default-jdk-headless",
)
async def test_javas_own_client_publishes_every_body(
    hub: HubProcess, http: httpx.AsyncClient, channel: str
) -> None:
    """Each of its requests offers h2c until a server has declined."""
    program = str(Path(__file__).with_name("Poster.java"))
    printed = await run(str(JAVA), program, f"{hub.url}/api/publish/{channel}", str(TIMES))
    assert printed.split() == [b"200"] * 2 * TIMES
    numbers = [each["number"] for each in await published(http, channel) if isinstance(each, dict)]
    assert numbers[:TIMES] == list(range(TIMES))
    assert sorted(numbers) == list(range(2 * TIMES))


async def half_closing(hub: HubProcess, channel: str) -> None:
    """Post by `nc -N`, which says that it says nothing more."""
    request = (
        f"POST /api/publish/{channel} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n1"
    )
    for _ in range(3):
        printed = await run(str(NC), "-N", "127.0.0.1", str(hub.port), given=request.encode())
        assert printed.startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.skipif(NC is None, reason="nc is not installed")
async def test_nc_that_half_closes_gets_its_answer(hub: HubProcess, channel: str) -> None:
    await half_closing(hub, channel)


@pytest.mark.skipif(NC is None, reason="nc is not installed")
async def test_nc_that_half_closes_gets_its_answer_over_redis(channel: str) -> None:
    """Where the answer comes a moment after the half-close."""
    if not redis_server.is_installed():
        pytest.skip("redis-server is not installed")
    with RedisServer() as redis, HubProcess(HUB_BROKER=redis.url) as hub:
        await half_closing(hub, channel)


# -- every route ---------------------------------------------------------------------------------

PATHS = [
    "/api/publish/a", "/api/publish", "/poll", "/command", "/ws", "/sse", "/api/channels",
    "/api/channels/a", "/api/channels/a/history", "/api/channels/a/presence", "/api/connections",
    "/api/connections/x", "/api/connections/x/subscriptions/a", "/api/closed", "/api/explain",
    "/api/nodes", "/api/nodes/x/drain", "/api/rebalance", "/api/stats", "/api/ticket",
    "/api/subjects/x", "/api/bans", "/api/patterns", "/api/refusals", "/api/limited",
    "/api/tokens/revoke",
    "/api/debug/log-levels", "/api/debug/memory", "/api/debug/stalls", "/api/debug/tasks",
    "/healthz", "/readyz", "/metrics", "/api/openapi.json", "/client.js", "/client/index.js",
    "/dashboard", "/dashboard/x.js", "/chart.js", "/icon.svg", "/index.html", "/page.css",
    "/page.js", "/processes.js", "/",
]  # fmt: skip


async def test_head_and_options_are_answered_at_every_path_and_the_connection_goes_on(
    hub: HubProcess, guarded: HubProcess
) -> None:
    """HEAD as GET would be but for the body, OPTIONS with the methods; behind each a request."""
    for place in (hub, guarded):
        document = httpx.get(f"{place.url}/api/openapi.json", timeout=30).json()["paths"]
        known = {path.split("{")[0] for path in document}
        assert not {path for path in known if not any(each.startswith(path) for each in PATHS)}
        for path in PATHS:
            for method in ("HEAD", "OPTIONS"):
                async with raw_connection(place.url) as peer:
                    peer.request(method, path)
                    head = (await peer.until(b"\r\n\r\n")).decode()
                    status = int(head.split(" ", 2)[1])
                    assert status < 500, (method, path, head)
                    assert "\r\nDate: " in head, (method, path, head)
                    if method == "OPTIONS":
                        assert (status, "\r\nAllow: " in head) == (204, True), (path, head)
                    if "Connection: close" in head:
                        assert await peer.rest() == b"", (method, path)
                    else:
                        peer.request("GET", "/healthz")
                        assert (await peer.answer()).body == b'{"status":"ok"}', (method, path)


async def test_every_answer_says_when(hub: HubProcess) -> None:
    """RFC 9110 section 6.6.1, streams included."""
    for target, fields in [("/healthz", ""), ("/nowhere", ""), ("/sse?channel=a", "")]:
        async with raw_connection(hub.url) as peer:
            peer.request("GET", target, fields)
            head = (await peer.until(b"\r\n\r\n")).decode()
            (date,) = [line[6:] for line in head.split("\r\n") if line.startswith("Date: ")]
            assert parsedate_to_datetime(date).tzinfo is not None


# -- the head -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target", ["http://localhost/sse?channel=a", "/%73se?channel=a", "/ss%65?channel=a"]
)
async def test_a_stream_in_another_spelling_is_a_stream(hub: HubProcess, target: str) -> None:
    async with raw_connection(hub.url) as peer:
        peer.request("GET", target)
        await peer.until(b"event: subscribed\n")


@pytest.mark.parametrize(
    "target", ["http://localhost/ws?channel=a", "/%77s?channel=a", "/w%73?channel=a"]
)
async def test_a_websocket_in_another_spelling_is_one(hub: HubProcess, target: str) -> None:
    async with raw_connection(hub.url) as peer:
        assert (await peer.upgrade(target)).status == 101
        await peer.push("subscribed")


@pytest.mark.parametrize(
    "fields", ["", "Upgrade: h2c\r\nConnection: Upgrade\r\n", "Sec-WebSocket-Version: 8\r\n"]
)
async def test_426_says_what_to_upgrade_to(hub: HubProcess, fields: str) -> None:
    """RFC 9110 section 15.5.22, RFC 6455 section 4.4."""
    async with raw_connection(hub.url) as peer:
        peer.request("GET", "/ws", fields)
        head = (await peer.until(b"\r\n\r\n")).decode()
    lines = head.split("\r\n")
    assert " 426 " in lines[0]
    assert {"Upgrade: websocket", "Sec-WebSocket-Version: 13"} <= {*lines}
    # One field: some clients look at the first of two alone, others at the last.
    connection = [line for line in lines if line.lower().startswith("connection:")]
    assert connection in (["Connection: Upgrade"], ["Connection: Upgrade, close"])


@pytest.mark.parametrize(
    ("offered", "answered"), [("hub", "hub"), ("x, hub", "hub"), ("x", None), ("", None)]
)
async def test_the_subprotocol_hub_is_answered(
    hub: HubProcess, offered: str, answered: str | None
) -> None:
    async with raw_connection(hub.url) as peer:
        fields = f"Sec-WebSocket-Protocol: {offered}\r\n" if offered else ""
        answer = await peer.upgrade("/ws", fields)
        assert (answer.status, answer.headers.get("sec-websocket-protocol")) == (101, answered)


async def test_http_1_0_ends_with_its_answer_unless_it_asks_otherwise(hub: HubProcess) -> None:
    async with raw_connection(hub.url) as peer:
        peer.send("GET /healthz HTTP/1.0\r\n\r\n")
        answer = await peer.answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert await peer.rest() == b""
    async with raw_connection(hub.url) as peer:
        for _ in range(2):
            peer.send("GET /healthz HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")
            answer = await peer.answer()
            assert (answer.status, answer.headers["connection"]) == (200, "keep-alive")


# -- bodies -------------------------------------------------------------------------------------


async def test_a_gzip_body_is_inflated(http: httpx.AsyncClient, channel: str) -> None:
    body = gzip.compress(b'{"a":1}')
    answer = await http.post(
        f"/api/publish/{channel}", content=body, headers={"Content-Encoding": "gzip"}
    )
    assert answer.status_code == 200
    assert await published(http, channel) == [{"a": 1}]


def zipped(plain: bytes) -> bytes:
    """The same bytes at any second: a test's name is made of them."""
    return gzip.compress(plain, mtime=0)


@pytest.mark.parametrize(
    ("coding", "body", "status", "code"),
    [
        ("gzip", zipped(b'"%b"' % (b"x" * (10 << 20))), 413, "too_large"),
        ("gzip", b"no gzip", 400, "bad_request"),
        ("gzip", zipped(b"1")[:-4], 400, "bad_request"),
        ("gzip", zipped(b"1") + zipped(b"2"), 400, "bad_request"),
        ("br", b"1", 415, "unsupported_media_type"),
        ("gzip, gzip", b"1", 415, "unsupported_media_type"),
        ("deflate", b"1", 415, "unsupported_media_type"),
        ("zstd", b"1", 415, "unsupported_media_type"),
    ],
    ids=lambda value: repr(value)[:20],
)
async def test_a_body_that_cannot_be_inflated_is_refused(
    http: httpx.AsyncClient, channel: str, coding: str, body: bytes, status: int, code: str
) -> None:
    headers = {"Content-Encoding": coding}
    answer = await http.post(f"/api/publish/{channel}", content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    if status == 415:
        assert answer.headers["accept-encoding"]


async def test_bodies_under_way_share_a_bound(hub: HubProcess, http: httpx.AsyncClient) -> None:
    """A body above the bound gets 503; the gauge shows the bytes held, and shows 0
    when all bodies are gone."""
    async with asyncio.timeout(40):
        async with raw_connection(hub.url) as a, raw_connection(hub.url) as b:
            async with raw_connection(hub.url) as c:
                for peer in (a, b):
                    peer.request("POST", "/api/publish", f"Content-Length: {4 * LIMIT}\r\n")
                    await peer.sent()
                    peer.send(b"[" + b" " * (4 * LIMIT - 100))
                await eventually_metric(http, "hub_body_bytes", lambda held: held > 30_000)
                c.request("POST", "/api/publish", f"Content-Length: {4 * LIMIT}\r\n")
                await c.sent()
                c.send(b"[" + b" " * (4 * LIMIT - 100))
                answer = await c.answer()
                assert (answer.status, answer.code) == (503, "unavailable")
                assert await metric(http, "hub_http_connections") >= 3
        await eventually_metric(http, "hub_body_bytes", lambda held: held == 0)


async def test_whose_rights_do_not_suffice_sends_no_body(guarded: HubProcess) -> None:
    """401 comes before the body, and whether or not it comes, there is no second answer."""
    for expects in ("", "Expect: 100-continue\r\n"):
        async with raw_connection(guarded.url) as peer:
            peer.request("POST", "/api/publish/a", f"{expects}Content-Length: 1000\r\n")
            assert (await peer.answer()).status == 401
            peer.send(b"x" * 1000 + b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert await peer.rest() == b""


async def metric(http: httpx.AsyncClient, name: str) -> float:
    lines = (await http.get("/metrics")).text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} "))


async def eventually_metric(http: httpx.AsyncClient, name: str, holds: object) -> None:
    assert callable(holds)
    while not holds(await metric(http, name)):
        await asyncio.sleep(0.02)
