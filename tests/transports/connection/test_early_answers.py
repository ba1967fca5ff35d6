"""An answer that comes before its request's body: what follows is never another request."""

from collections.abc import Callable

import pytest

from hub.auth.policy import Policy
from tests.support.frames import UPGRADE
from tests.transports.connection.rig import LIMITS, Rig, get, post

KEY = "k" * 32
WITH_KEY = f"Authorization: Bearer {KEY}\r\n"
H2C = "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQ\r\n"
SMUGGLED = (
    post("stolen", b"1", WITH_KEY),
    get("/ws?channel=stolen", UPGRADE),
    get("/sse?channel=stolen"),
)
"""Requests that would be carried out, if their bytes were taken for requests."""

# Name, request line, header fields, status.
EARLY = (
    ("no key", "POST /api/publish/a", "", 401),
    ("a wrong key", "POST /api/publish/a", "X-API-Key: wrong\r\n", 401),
    ("another origin", "POST /api/publish/a", f"Origin: https://evil.example\r\n{WITH_KEY}", 403),
    ("an odd channel", "POST /api/publish/a%20b", WITH_KEY, 400),
    ("no such method", "PUT /api/publish/a", WITH_KEY, 405),
    ("no such path", "POST /nowhere", WITH_KEY, 404),
    ("a coding", "POST /api/publish/a", f"Content-Encoding: br\r\n{WITH_KEY}", 415),
    ("an expectation", "POST /api/publish/a", f"Expect: a miracle\r\n{WITH_KEY}", 417),
    ("a stream", "GET /sse?channel=a", WITH_KEY, 400),
    ("an upgrade with a body", "GET /ws", UPGRADE, 400),
    ("a command of nobody", "POST /command?connection=c9", "Authorization: Bearer s\r\n", 404),
    ("a GET with a body", "GET /healthz", "", 200),
    ("an untaken upgrade", "POST /api/publish/a", H2C, 401),
    ("an untaken upgrade of a GET", "GET /healthz", H2C, 200),
)


@pytest.fixture
def keyed(make_rig: Callable[..., Rig]) -> Rig:
    return make_rig(policy=Policy(publish_keys=[KEY]))


def framed(body: bytes, *, chunked: bool) -> tuple[str, bytes]:
    """The header field that announces a body, and the body as it goes over the wire."""
    if not chunked:
        return f"Content-Length: {len(body)}\r\n", body
    half = len(body) // 2
    parts = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:half], body[half:]))
    return "Transfer-Encoding: chunked\r\n", parts + b"0\r\n\r\n"


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
@pytest.mark.parametrize("smuggled", SMUGGLED, ids=["a POST", "a WebSocket", "a stream"])
@pytest.mark.parametrize(("name", "line", "fields", "status"), EARLY, ids=[e[0] for e in EARLY])
async def test_a_body_is_never_a_request_wherever_it_is_cut(
    keyed: Rig, name: str, line: str, fields: str, status: int, smuggled: bytes, *, chunked: bool
) -> None:
    """The request gets one answer. Bytes behind it are the next request, or nothing."""
    announced, body = framed(smuggled, chunked=chunked)
    head = f"{line} HTTP/1.1\r\nHost: localhost\r\n{fields}{announced}\r\n".encode()
    for cut in range(len(body) + 1):
        keyed.connect()
        keyed.receive(head + body[:cut])
        keyed.receive(body[cut:])
        keyed.receive(get("/readyz"))
        await keyed.settle()
        answers = keyed.answers
        assert answers[0] == status, (name, cut)
        assert answers[1:] in ([], [200]), (name, cut)
    assert keyed.published == []
    assert keyed.streams.opened == []


@pytest.mark.parametrize("upgrade", [H2C, "Upgrade: x\r\nConnection: Upgrade\r\n", UPGRADE])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
async def test_an_upgrade_that_nobody_takes_is_ignored_and_its_body_read(
    keyed: Rig, upgrade: str, *, chunked: bool
) -> None:
    """Every Java client sends such an upgrade; the request is cut at every byte."""
    announced, body = framed(b'{"a":1}', chunked=chunked)
    head = f"POST /api/publish/a HTTP/1.1\r\nHost: localhost\r\n{WITH_KEY}{upgrade}{announced}\r\n"
    request = head.encode() + body
    for cut in range(len(request) + 1):
        keyed.connect()
        keyed.registry.published.clear()
        keyed.receive(request[:cut])
        keyed.receive(request[cut:] + request)
        keyed.receive(get("/healthz"))
        assert keyed.answers == [200, 200, 200], cut
        assert keyed.published == [b'{"a":1}'] * 2, cut


@pytest.mark.parametrize("status", [401, 413])
async def test_a_refused_expectation_is_final(keyed: Rig, status: int) -> None:
    """Whether the peer sends its body then or not, the connection ends."""
    fields = f"Expect: 100-continue\r\n{WITH_KEY if status == 413 else ''}"
    keyed.receive(post("a", b"", fields, length=10**6 if status == 413 else 10))
    assert keyed.answers == [status]
    assert b"Connection: close" in keyed.transport.written
    keyed.receive(post("a", b"1", WITH_KEY))
    assert keyed.answers == [status]
    assert keyed.published == []


async def test_a_command_of_nobody_is_refused_before_its_body_comes(keyed: Rig) -> None:
    """Only the head is needed to tell that the secret is wrong."""
    for length, statuses in ((100, [401]), (100_000, [401])):
        keyed.connect()
        fields = f"Authorization: Bearer wrong\r\nContent-Length: {length}\r\n"
        head = f"POST /command?connection=c1 HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n"
        keyed.receive(head.encode())
        assert keyed.answers == statuses
    assert keyed.budget.bytes == 0


async def test_a_large_body_and_the_begin_of_the_next_request_come_in_one_read(rig: Rig) -> None:
    """The body is larger than a head may be, and the publication is answered as made."""
    items = b"[" + b",".join([b'{"channel":"a","data":"%b"}' % (b"x" * 100)] * 30) + b"]"
    request = b"POST /api/publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(
        items
    )
    assert len(items) > LIMITS.max_head_bytes
    rest = get("/healthz")
    for cut in range(len(rest)):
        rig.connect()
        rig.receive(request + items + rest[:cut])
        rig.receive(rest[cut:])
        assert rig.answers == [200, 200], cut


@pytest.mark.parametrize("target", ["/ws", "/sse"])
async def test_a_page_of_elsewhere_gets_no_stream(rig: Rig, target: str) -> None:
    """Its origin is judged before any stream is opened, and by nobody again."""
    handshake = "Upgrade: websocket\r\nConnection: Upgrade\r\n" if target == "/ws" else ""
    rig.receive(get(f"{target}?channel=a", f"Origin: https://elsewhere.example\r\n{handshake}"))
    assert rig.answers == [403]
    assert rig.streams.opened == []
