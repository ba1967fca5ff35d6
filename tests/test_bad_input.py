"""Whatever a peer sends, it is told what is wrong, and nobody else loses anything by it."""

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator

import httpx2 as httpx
import orjson
import pytest

from tests.support.frames import BINARY, CLOSE, PING, PONG, TEXT, UPGRADE, masked
from tests.support.hub_process import HubProcess
from tests.support.raw_connection import RawConnection, raw_connection
from tests.support.witnesses import witnessed
from tests.transports.peers import Query, WebSocketPeer, publisher

LIMIT = 4096
HANDSHAKE_SECONDS = 0.5
DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate\r\n"


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    with HubProcess(
        HUB_MAX_MESSAGE_BYTES=str(LIMIT),
        HUB_HANDSHAKE_TIMEOUT_SECONDS=str(HANDSHAKE_SECONDS),
        HUB_MAX_HEAD_BYTES="8192",
        HUB_MAX_SUBSCRIPTIONS="4",
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


def command(**fields: object) -> bytes:
    return masked(orjson.dumps({"id": 1} | fields))


# -- WebSocket: a wrong command is a reply -------------------------------------------------


@pytest.mark.parametrize(
    ("text", "code", "id_"),
    [
        (b"", "bad_request", None),
        (b"{", "bad_request", None),
        (b"[]", "bad_request", None),
        (b"null", "bad_request", None),
        (b'"ping"', "bad_request", None),
        (b"[" * 3000, "bad_request", None),
        (b'{"op":"ping"}', "bad_request", None),
        (b'{"op":"ping","id":null}', "bad_request", None),
        (b'{"op":"ping","id":1.5}', "bad_request", None),
        (b'{"op":"ping","id":"%b"}' % (b"x" * 2000), "bad_request", None),
        (b'{"id":1}', "bad_request", 1),
        (b'{"op":"dance","id":2}', "bad_request", 2),
        (b'{"op":7,"id":"s"}', "bad_request", "s"),
        (b'{"op":"subscribe","id":3}', "bad_request", 3),
        (b'{"op":"subscribe","id":4,"channel":["a"]}', "bad_request", 4),
        (b'{"op":"subscribe","id":4,"channel":"a b"}', "bad_request", 4),
        (b'{"op":"subscribe","id":4,"channel":"a\\u0000"}', "bad_request", 4),
        (b'{"op":"subscribe","id":5,"channel":"a","since":"x"}', "bad_request", 5),
        (b'{"op":"publish","id":6,"channel":"a"}', "bad_request", 6),
        (b'{"op":"publish","id":6,"channel":"a","data":"\x01"}', "bad_request", 6),
        (b'{"op":"publish","id":6,"channel":"a","data":NaN}', "bad_request", 6),
        (b'{"op":"publish","id":7,"channel":"a","data":"%b"}' % (b"y" * LIMIT), "too_large", 7),
    ],
    ids=lambda value: repr(value)[:50],
)
async def test_a_wrong_command_is_a_reply(
    hub: HubProcess, text: bytes, code: str, id_: int | str | None
) -> None:
    """The reply carries the command's id if that can be read, and the connection stays open."""
    async with raw_connection(hub.url) as peer:
        await peer.upgrade("/ws")
        peer.send(masked(text))
        reply = await peer.push("reply")
        error = reply["error"]
        assert isinstance(error, dict)
        assert (error["code"], error["retryable"], reply["id"]) == (code, False, id_)
        peer.send(command(op="ping"))
        assert (await peer.push("reply"))["ok"] == {}


async def test_a_subscription_too_many_is_refused_and_the_others_stay(
    hub: HubProcess, http: httpx.AsyncClient, channel: str
) -> None:
    names = [f"{channel}.{number}" for number in range(5)]
    async with WebSocketPeer(hub.url, Query(*names[:4]), {}) as peer:
        reply = await peer.command(op="subscribe", channel=names[4])
        assert reply["error"]["code"] == "too_many_subscriptions"
        await http.post(f"/api/publish/{names[0]}", json=1)
        assert await peer.data(1) == [1]


# -- WebSocket: a broken protocol closes with its code -------------------------------------

_START = masked(b'{"op":', TEXT, fin=False)
_UNMASKED = bytes((0x80 | TEXT, 2)) + b"{}"


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        pytest.param(masked(b"\x00\x01", BINARY), 1003, id="binary"),
        pytest.param(masked(b"\xff\xfe"), 1007, id="invalid UTF-8"),
        pytest.param(masked(b"\xed\xa0\x80"), 1007, id="a surrogate in UTF-8"),
        pytest.param(_UNMASKED, 1002, id="unmasked"),
        pytest.param(masked(b"{}", bits=0x40), 1002, id="compressed without agreement"),
        pytest.param(masked(b"{}", bits=0x20), 1002, id="reserved bit 2"),
        pytest.param(masked(b"{}", bits=0x10), 1002, id="reserved bit 3"),
        pytest.param(masked(b"{}", 0x3), 1002, id="reserved opcode"),
        pytest.param(masked(b"", 0xF), 1002, id="reserved control opcode"),
        pytest.param(masked(b"", PING, fin=False), 1002, id="fragmented ping"),
        pytest.param(masked(b"x" * 126, PING), 1002, id="ping of 126 bytes"),
        pytest.param(masked(b"x", CLOSE), 1002, id="close of one byte"),
        pytest.param(masked(b"\x03\xec", CLOSE), 1002, id="close with 1004"),
        pytest.param(masked(b"{}", 0x0), 1002, id="continuation of nothing"),
        pytest.param(_START + masked(b"{}"), 1002, id="text within a message"),
        pytest.param(masked(b"x" * (6 * LIMIT)), 4413, id="frame over four limits"),
        pytest.param(b"\x81\xff\x00\x00\x00\xff\xff\xff\xff\xff", 4413, id="frame of 2**40 bytes"),
    ],
)
async def test_a_broken_protocol_closes_with_the_right_code(
    hub: HubProcess, frames: bytes, code: int
) -> None:
    """Goodbye says so first, for peers that cannot read close codes."""
    async with raw_connection(hub.url) as peer:
        await peer.upgrade("/ws")
        peer.send(frames)
        goodbye = await peer.push("goodbye")
        assert (goodbye["code"], bool(goodbye["reason"])) == (code, True)
        assert await peer.close_code() == code
        peer.send(masked(code.to_bytes(2), CLOSE))
        assert await peer.rest() == b""


async def test_commands_before_the_breach_are_still_carried_out(
    hub: HubProcess, http: httpx.AsyncClient, channel: str
) -> None:
    publish = command(op="publish", channel=f"{channel}.x", data=1)
    async with WebSocketPeer(hub.url, Query(f"{channel}.x"), {}) as other:
        async with raw_connection(hub.url) as peer:
            await peer.upgrade("/ws")
            peer.send(publish)
            await peer.push("reply")
            peer.send(publish + masked(b"", 0x3))
            assert await peer.close_code() == 1002
        await http.post(f"/api/publish/{channel}.x", json="next")
        assert (await other.data(2))[0] == 1


async def test_a_message_in_a_thousand_fragments_is_one_message(hub: HubProcess) -> None:
    text = b'{"op":"ping","id":"%b"}' % (b"f" * 100)
    async with raw_connection(hub.url) as peer:
        await peer.upgrade("/ws")
        peer.send(masked(text[:1], TEXT, fin=False))
        for at in range(1, len(text)):
            peer.send(masked(text[at : at + 1], 0x0, fin=False))
            peer.send(masked(b"", 0x0, fin=False) * 8)
        peer.send(masked(b"in between", PING))
        assert await peer.frame() is not None  # welcome
        peer.send(masked(b"", 0x0))
        assert (await peer.push("reply"))["ok"] == {}


async def test_fragments_without_end_are_cut(hub: HubProcess) -> None:
    """Empty ones cost the peer nothing, so their number is limited too."""
    async with raw_connection(hub.url) as peer:
        await peer.upgrade("/ws")
        peer.send(masked(b"", TEXT, fin=False))
        peer.send(masked(b"", 0x0, fin=False) * 20_000)
        assert await peer.close_code() == 4413


async def test_fragments_that_together_are_too_large_are_cut(hub: HubProcess) -> None:
    async with raw_connection(hub.url) as peer:
        await peer.upgrade("/ws")
        peer.send(masked(b"x" * LIMIT, TEXT, fin=False))
        peer.send(masked(b"x" * LIMIT, 0x0, fin=False) * 8)
        assert await peer.close_code() == 4413


@pytest.mark.parametrize("size", [LIMIT * 2, 50_000_000])
async def test_a_decompression_bomb_is_cut(hub: HubProcess, size: int) -> None:
    """The limit holds for what comes out, not only for what came in."""
    deflate = zlib.compressobj(wbits=-15)
    packed = deflate.compress(b"x" * size) + deflate.flush(zlib.Z_SYNC_FLUSH)
    async with raw_connection(hub.url) as peer:
        answer = await peer.upgrade("/ws", DEFLATE)
        assert "permessage-deflate" in answer.headers["sec-websocket-extensions"]
        peer.send(masked(packed.removesuffix(b"\x00\x00\xff\xff"), bits=0x40))
        if size > 5 * LIMIT:
            assert await peer.close_code() == 4413
        else:
            assert (await peer.push("reply"))["error"] is not None


async def test_garbage_instead_of_compressed_data_is_cut(hub: HubProcess) -> None:
    async with raw_connection(hub.url) as peer:
        await peer.upgrade("/ws", DEFLATE)
        peer.send(masked(b"\xff\xff\xff\xff", bits=0x40))
        assert await peer.close_code() in {1002, 1007}


# -- URLs ----------------------------------------------------------------------------------

BAD_QUERIES = [
    ("channel=no+space&channel=no%20space", "bad_request"),
    ("channel=", "bad_request"),
    (f"channel={'x' * 201}", "bad_request"),
    ("channel=a&channel=a", "bad_request"),
    ("channel=%ff", "bad_request"),
    ("channel=%zz", "bad_request"),
    ("channel=a%00", "bad_request"),
    ("channel=a%0d%0ax", "bad_request"),
    ("channel=a&since=a", "bad_request"),
    ("channel=a&since=a=b", "bad_request"),
    ("channel=a&since=b=e:1", "bad_request"),
    ("channel=a&since=a=e:1&since=a=e:2", "bad_request"),
    ("channel=a&last=-1", "bad_request"),
    ("channel=a&last=many", "bad_request"),
    ("channel=a&last=1&last=2", "bad_request"),
    ("channel=a&channel=b&channel=c&channel=d&channel=e", "too_many_subscriptions"),
    ("channel=a&token=x.y.z", "unauthorized"),
]


@pytest.mark.parametrize(("query", "code"), BAD_QUERIES)
@pytest.mark.parametrize("path", ["/sse", "/poll"])
async def test_a_wrong_url_is_a_problem_document(
    http: httpx.AsyncClient, path: str, query: str, code: str
) -> None:
    answer = await http.get(f"{path}?{query}&wait=0")
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["code"], problem["status"]) == (code, answer.status_code)
    assert 400 <= answer.status_code < 500
    assert problem["detail"]


@pytest.mark.parametrize(("query", "code"), BAD_QUERIES)
async def test_a_wrong_url_closes_a_websocket_with_its_code(
    hub: HubProcess, query: str, code: str
) -> None:
    """A browser cannot read the status of a refused handshake."""
    async with raw_connection(hub.url) as peer:
        assert (await peer.upgrade(f"/ws?{query}")).status == 101
        goodbye = await peer.push("goodbye")
        expected = 4401 if code == "unauthorized" else 4400
        assert (goodbye["code"], await peer.close_code()) == (expected, expected)


async def test_neither_sse_nor_poll_without_a_channel(http: httpx.AsyncClient) -> None:
    for path in ("/sse", "/poll"):
        answer = await http.get(path)
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")


async def test_an_unmasked_token_or_key_never_stands_in_the_log(
    hub: HubProcess, http: httpx.AsyncClient
) -> None:
    await http.get("/sse?channel=a&token=secret-token-text")
    await http.get("/api/channels", headers={"Authorization": "Bearer secret-key-text"})
    assert "secret-token-text" not in hub.stderr
    assert "secret-key-text" not in hub.stderr


def test_the_handshake_of_another_version_is_told_which_is_spoken(hub: HubProcess) -> None:
    answer = httpx.get(f"{hub.url}/ws")
    assert (answer.status_code, answer.json()["code"]) == (426, "upgrade_required")


async def test_commands_that_come_with_the_handshake_are_all_carried_out(
    hub: HubProcess, channel: str
) -> None:
    """A client need not wait for the answer before it sends, however much it sends."""
    commands = b"".join(
        masked(
            orjson.dumps(
                {"op": "publish", "id": number, "channel": f"{channel}.early", "data": "x" * 1000}
            )
        )
        for number in range(50)
    )
    async with raw_connection(hub.url) as peer:
        peer.send(f"GET /ws HTTP/1.1\r\nHost: localhost\r\n{UPGRADE}\r\n".encode() + commands)
        assert (await peer.answer()).status == 101
        assert [(await peer.push("reply"))["id"] for _ in range(50)] == list(range(50))


@pytest.mark.parametrize(
    "flood",
    [
        pytest.param(masked(b"", PONG) * 400_000, id="pongs"),
        pytest.param(masked(b"", TEXT, fin=False) + masked(b"", 0x0, fin=False) * 4000, id="parts"),
    ],
)
async def test_a_flood_of_frames_holds_nobody_up(hub: HubProcess, flood: bytes) -> None:
    """Others are answered while it is worked off, which is in order and to its end."""
    last = masked(b"", 0x0) if flood[0] == TEXT else b""
    async with raw_connection(hub.url) as peer, raw_connection(hub.url) as other:
        await peer.upgrade("/ws")
        await other.upgrade("/ws")
        peer.send(flood + last + masked(b'{"op":"ping","id":"behind"}'))
        reading = asyncio.create_task(_until_reply(peer, "behind"))
        for number in range(5):
            other.send(masked(b'{"op":"ping","id":%d}' % number))
            assert (await other.push("reply"))["id"] == number
        assert not reading.done() or len(flood) < 100_000
        await reading


async def _until_reply(peer: RawConnection, id_: str) -> None:
    while (await peer.push("reply"))["id"] != id_:
        pass
