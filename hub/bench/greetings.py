"""The bytes a bare socket sends: requests to subscribe, frames to publish, pongs.

A client must mask its frames with a key nobody can guess (RFC 6455 section 5.3). The key here
is zero: nothing stands between these processes that could be poisoned, masking costs the
server the same whatever the key is, and the load stays cheap. No I/O.
"""

import random
from urllib.parse import quote

from hub.bench.plan import FLOORS, BenchError, Contestant, ServerAddress

AT_NEEDLE = b'"at":"'
AT_DIGITS = 19
"""Digits of a monotonic time in nanoseconds, enough for 317 years."""

_WORDS = ("price", "bid", "ask", "volume", "symbol", "open", "close", "high", "city", "status")
_dice = random.Random(1)
_PROSE = " ".join(
    f"{_dice.choice(_WORDS)} {_dice.randrange(100_000) / 100:.2f}" for _ in range(6000)
).encode()
"""The text has over 60 KB; deflate makes a third of it."""
_NO_MASK = b"\0\0\0\0"
_MASKED = 0x80
_TEXT = 0x81
_PONG = 0x8A
# A fixed key: the answer to it is not checked, the hub is tested elsewhere.
# RFC 7692 section 7.1.1: without it no frame could be shared by connections.
_DEFLATE = (
    "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; "
    "client_no_context_takeover\r\n"
)
_KEY = "AAAAAAAAAAAAAAAAAAAAAA=="


def channel_name(name: str, number: int, count: int) -> str:
    """Return one of `count` channels that share a name; a single one has that name."""
    return name if count == 1 else f"{name}-{number % count}"


def subscribe_request(
    target: ServerAddress, contestant: Contestant, *channels: str, more: str = ""
) -> bytes:
    """Return the request head that opens a stream of these channels; nothing for a bare loop.

    `more` are further fields, each with its line end.
    """
    if contestant in FLOORS:
        return b""
    if contestant is Contestant.NCHAN:
        return _head(target, f"/sub/{quote(','.join(channels), safe=',')}", _upgrade())
    path = "/sse" if contestant is Contestant.SSE else "/ws"
    fields = "Accept: text/event-stream\r\n" if contestant is Contestant.SSE else _upgrade()
    if contestant is Contestant.COMPRESSED:
        fields += _DEFLATE
    query = "&".join(f"channel={quote(channel)}" for channel in channels)
    return _head(target, f"{path}?{query}", fields + more)


def publisher_request(target: ServerAddress) -> bytes:
    """Return the request head of a WebSocket that subscribes to nothing."""
    return _head(target, "/ws", _upgrade())


def publish_frame(number: int, channel: str, data: bytes) -> bytes:
    """Return a masked text frame with one publish command."""
    head = f'{{"op":"publish","id":{number},"channel":"{channel}","data":'
    return _client_frame(_TEXT, head.encode() + data + b"}")


def nchan_post(target: ServerAddress, number: int, channel: str, data: bytes) -> bytes:
    """Return a request that publishes to nchan the message that the hub makes of the same
    publication."""
    head = f'{{"op":"message","channel":"{channel}","offset":{number},"data":'
    body = head.encode() + data + b"}"
    request = (
        f"POST /pub/{quote(channel)} HTTP/1.1\r\nHost: {target.host}:{target.port}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return request.encode() + body


def command_frame(op: str, number: int, channel: str) -> bytes:
    """Return a masked text frame with a command that names a channel and nothing else."""
    return _client_frame(_TEXT, f'{{"op":"{op}","id":{number},"channel":"{channel}"}}'.encode())


def pong_frame(payload: bytes) -> bytes:
    """Return the answer to a ping (RFC 6455 section 5.5.3: the same payload)."""
    return _client_frame(_PONG, payload)


def payload(now_ns: int, size_bytes: int, *, prose: bool = False) -> bytes:
    """Return JSON of `size_bytes` with the time of its making; at least 37 bytes.

    `prose` fills it with words and numbers, which compress as JSON usually does.
    """
    bare = b'{"at":"%019d","pad":""}' % now_ns
    size = size_bytes - len(bare)
    return bare[:-2] + (_PROSE[:size] if prose else b"x" * size) + b'"}'


def made_at(buffer: bytearray, at: int) -> int:
    """Return the time that `payload` wrote behind the needle at `at`."""
    start = at + len(AT_NEEDLE)
    return int(buffer[start : start + AT_DIGITS])


def _upgrade() -> str:
    return (
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: {_KEY}\r\n"
    )


def _head(target: ServerAddress, path: str, fields: str) -> bytes:
    token = f"Authorization: Bearer {target.token}\r\n" if target.token else ""
    head = (
        f"GET {target.base_path}{path} HTTP/1.1\r\nHost: {target.host}:{target.port}\r\n"
        f"{fields}{token}\r\n"
    )
    if "\r\n\r\n" in head[:-4]:
        raise BenchError("the URL or the token holds a line break")
    return head.encode()


def _client_frame(opcode: int, body: bytes) -> bytes:
    """Return a frame of RFC 6455 section 5.2, for up to 65,535 bytes."""
    size = len(body)
    if size < 126:
        return bytes((opcode, _MASKED | size)) + _NO_MASK + body
    return bytes((opcode, _MASKED | 126)) + size.to_bytes(2, "big") + _NO_MASK + body
