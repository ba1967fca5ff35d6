"""Requests that a proxy in front could read otherwise: refused at every path, and nothing behind.

What stands behind such a request is what an attacker hides from the proxy. It must be no request.
"""

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from hub import Hub, Settings

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEY = "a-key-of-more-than-thirty-two-characters"
HIDDEN = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
PLACES = (
    "POST /api/publish/a", "POST /api/publish", "GET /poll?channel=a&wait=0", "GET /ws",
    "GET /sse?channel=a", "GET /healthz", "GET /metrics", "GET /nowhere", "GET /api/nodes",
    "POST /command", "DELETE /api/channels/a/history", "OPTIONS /api/publish/a",
)  # fmt: skip
# Fields of a head, line ends included, and what follows the head.
SHAPES = {
    "a length and chunks": (b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
    "chunks and a length": (b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", b"0\r\n\r\n"),
    "two lengths": (b"Content-Length: 1\r\nContent-Length: 2\r\n", b"1"),
    "one length twice": (b"Content-Length: 1\r\nContent-Length: 1\r\n", b"1"),
    "a list of lengths": (b"Content-Length: 1, 1\r\n", b"1"),
    "a length with a sign": (b"Content-Length: +1\r\n", b"1"),
    "a folded field": (b"X: a\r\n b\r\nContent-Length: 1\r\n", b"1"),
    "a folded coding": (b"Transfer-Encoding:\r\n chunked\r\n", b"0\r\n\r\n"),
    "a space before the colon": (b"Content-Length : 1\r\n", b"1"),
    "another coding": (b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n"),
    "two codings": (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", b"0\r\n\r\n"),
    "a line that ends with CR": (b"X: a\rContent-Length: 9\r\nContent-Length: 1\r\n", b"1"),
    "a line that ends with LF": (b"X: a\nContent-Length: 1\r\n", b"1"),
    "a NUL": (b"X: a\x00b\r\nContent-Length: 1\r\n", b"1"),
    "chunks that end with LF": (b"Transfer-Encoding: chunked\r\n", b"1\n1\n0\n\n"),
    "an extension with LF": (b"Transfer-Encoding: chunked\r\n", b"1;a\nb\r\n1\r\n0\r\n\r\n"),
    "a second host": (b"Host: elsewhere\r\nContent-Length: 1\r\n", b"1"),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hub() -> AsyncIterator[Hub]:
    async with Hub(Settings(port=0, drain_seconds=0, publish_keys=KEY, operator_keys=KEY)) as hub:
        yield hub


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("pieces", [False, True], ids=["whole", "in pieces"])
async def test_an_ambiguous_request_is_refused_once_everywhere_and_the_connection_ends(
    hub: Hub, shape: str, *, pieces: bool
) -> None:
    fields, body = SHAPES[shape]
    authorized = f" HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n"
    found = {}
    for place in PLACES:
        sent = place.encode() + authorized.encode() + fields + b"\r\n" + body + HIDDEN
        answers = await answers_to(hub, [sent[:60], sent[60:]] if pieces else [sent])
        found[place] = re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)
    assert found == {place: [b"400"] for place in PLACES}


async def answers_to(hub: Hub, pieces: list[bytes]) -> bytes:
    """All that is said until the hub ends the connection."""
    parts = urlsplit(hub.url)
    assert parts.port is not None
    reader, writer = await asyncio.open_connection("127.0.0.1", parts.port)
    try:
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0)
        async with asyncio.timeout(30):
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as tried:
            tried.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
@pytest.mark.parametrize(
    ("reached", "shown"), [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("::ffff:127.0.0.1", None)]
)
async def test_a_peer_has_one_address_whatever_family_its_socket_has(
    reached: str, shown: str | None
) -> None:
    """A socket of IPv6 shows one of IPv4 as `::ffff:127.0.0.1`; limits count both as one."""
    settings = Settings(
        host="::", port=0, drain_seconds=0, publish_keys=KEY, operator_keys=KEY,
        rate_handshakes="1/3600", anonymous="subscribe",
    )  # fmt: skip
    async with Hub(settings) as hub:
        port = urlsplit(hub.url).port
        assert port is not None
        reader, writer = await asyncio.open_connection(reached, port)
        writer.write(b"GET /sse?channel=a HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(b"welcome")
        (session,) = hub.node.registry.sessions.values()
        assert session.link.address == (shown or "127.0.0.1")
        again = b"GET /ws HTTP/1.1\r\nHost: localhost\r\n\r\n"
        over = "127.0.0.1" if shown is None else reached
        other, second = await asyncio.open_connection(over, port)
        second.write(again)
        assert (await other.read(1 << 16)).startswith(b"HTTP/1.1 429 ")
        (row,) = hub.node.refusals.table.held_back()
        assert row.name == ("::/64" if shown == "::1" else "127.0.0.1")
        for each in (writer, second):
            each.close()
