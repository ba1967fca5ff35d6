"""A program: what somebody may do to a hub, as fast as one process can, until it is ended.

    python -m tests.chaos.attackers empty_pongs 8000

It comes from 127.0.0.2, so that what is limited by address is limited for it alone, and gives way
to others on a busy machine: a hub is judged by what it does, not by who gets a core.
"""

import asyncio
import json
import os
import random
import sys
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import jwt

from tests.support.frames import PONG, UPGRADE, masked
from tests.support.raw_connection import RawConnection

ADDRESS = "127.0.0.2"
KEY = "the-publisher-key-that-somebody-has-taken"
CROWD = 200
STRANGE_SECRET = "a-key-that-nobody-here-has-ever-had!"
_DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate\r\n"

Attack = Callable[[int], Awaitable[None]]


@asynccontextmanager
async def _connected(
    port: int, *, receive_buffer_bytes: int | None = None
) -> AsyncIterator[RawConnection]:
    peer = await RawConnection.connect(
        port, from_host=ADDRESS, receive_buffer_bytes=receive_buffer_bytes
    )
    try:
        yield peer
    finally:
        peer.close()


def _get(target: str, more: str = "") -> bytes:
    return f"GET {target} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n".encode()


def _post(target: str, size: int) -> bytes:
    fields = f"Host: localhost\r\nAuthorization: Bearer {KEY}\r\nContent-Length: {size}\r\n"
    return f"POST {target} HTTP/1.1\r\n{fields}\r\n".encode()


async def _again(one: Callable[[], Awaitable[None]]) -> None:
    """Again and again, whatever the hub makes of it."""
    while True:
        with suppress(OSError, AssertionError, TimeoutError):
            await one()
        await asyncio.sleep(0)


async def _crowd(one: Callable[[], Awaitable[None]], size: int = CROWD) -> None:
    await asyncio.gather(*(_again(one) for _ in range(size)))


async def _until_end(peer: RawConnection) -> None:
    while await peer.receive():
        pass


async def _drip(port: int, start: bytes, drop: bytes) -> None:
    """Begin a request, and send a little more of it now and then."""
    async with _connected(port) as peer:
        ending = asyncio.create_task(_until_end(peer))
        try:
            peer.send(start)
            while not ending.done():
                peer.send(drop)
                await asyncio.sleep(random.random() / 5)
        finally:
            ending.cancel()


async def _flood(port: int, target: str, what: bytes, more: str = "") -> None:
    """Send the same over a WebSocket as fast as it is taken, and read what comes."""
    async with _connected(port) as peer:
        await peer.upgrade(target, more)
        ending = asyncio.create_task(_until_end(peer))
        try:
            while not ending.done():
                peer.send(what)
                await peer.sent()
                await asyncio.sleep(0)
        finally:
            ending.cancel()


async def _ask(port: int, request: bytes) -> None:
    """Send a request, read some of the answer, and go."""
    async with _connected(port) as peer:
        peer.send(request)
        await peer.receive()


# -- the attacks ---------------------------------------------------------------------------------


async def silent_connections(port: int) -> None:
    async def one() -> None:
        async with _connected(port) as peer:
            await _until_end(peer)

    await _crowd(one)


async def slow_heads(port: int) -> None:
    await _crowd(lambda: _drip(port, b"GET /ws HTTP/1.1\r\nX: ", b"x"))


async def slow_bodies(port: int) -> None:
    head = _post("/api/publish/news", 60_000)
    await _crowd(lambda: _drip(port, head, b" "))


async def deaf_readers(port: int) -> None:
    async def one() -> None:
        async with _connected(port, receive_buffer_bytes=2048) as peer:
            peer.send(_get("/ws?channel=news", UPGRADE))
            await asyncio.sleep(3600)

    await _crowd(one, 100)


async def empty_pongs(port: int) -> None:
    await _crowd(lambda: _flood(port, "/ws", masked(b"", PONG) * 5000), 4)


async def tiny_compressed_frames(port: int) -> None:
    deflate = zlib.compressobj(wbits=-15)
    packed = (deflate.compress(b"1") + deflate.flush(zlib.Z_SYNC_FLUSH)).removesuffix(
        b"\x00\x00\xff\xff"
    )
    await _crowd(lambda: _flood(port, "/ws", masked(packed, bits=0x40) * 5000, _DEFLATE), 4)


async def refused_tokens(port: int) -> None:
    token = jwt.encode({"sub": "x", "exp": 1 << 40}, STRANGE_SECRET, "HS256")
    await _crowd(lambda: _ask(port, _get(f"/ws?token={token}", UPGRADE)), 50)


async def unknown_keys(port: int) -> None:
    """Tokens that name keys which only the identity provider could know."""
    claims = {"sub": "x", "exp": 1 << 40}

    async def one() -> None:
        token = jwt.encode(claims, STRANGE_SECRET, "HS256", {"kid": f"{random.random()}"})
        await _ask(port, _get(f"/sse?channel=news&token={token}"))

    await _crowd(one, 50)


async def publish_flood(port: int) -> None:
    body = json.dumps("x" * 200).encode()
    head = _post("/api/publish/other", len(body))

    async def one() -> None:
        async with _connected(port) as peer:
            while True:
                peer.send((head + body) * 20)
                for _ in range(20):
                    await peer.until(b"}")

    await _crowd(one, 4)


async def subscription_churn(port: int) -> None:
    names = [f"churn.{number}" for number in range(100)]
    commands = b"".join(
        masked(json.dumps({"op": op, "id": 1, "channel": name}).encode())
        for name in names
        for op in ("subscribe", "unsubscribe")
    )
    await _crowd(lambda: _flood(port, "/ws", commands), 4)


async def presence_churn(port: int) -> None:
    """In and out of the bystander's channel, in sight of it."""
    commands = b"".join(
        masked(json.dumps({"op": op, "id": 1, "channel": "seen:news"}).encode())
        for op in ("subscribe", "unsubscribe") * 50
    )
    await _crowd(lambda: _flood(port, "/ws", commands), 20)


async def polls_that_leave(port: int) -> None:
    await _crowd(
        lambda: _ask(port, _get(f"/poll?channel=poll.{random.randrange(1000)}&wait=0")), 50
    )


async def deep_commands(port: int) -> None:
    command = b'{"op":"publish","id":1,"channel":"a","data":%b}' % (b"[" * 60_000)
    await _crowd(lambda: _flood(port, "/ws", masked(command)), 4)


async def deep_bodies(port: int) -> None:
    body = b'[{"channel":"a","data":%b}]' % (b"[" * 60_000)
    head = _post("/api/publish", len(body))
    await _crowd(lambda: _ask(port, head + body), 4)


ATTACKS: tuple[Attack, ...] = (
    silent_connections, slow_heads, slow_bodies, deaf_readers, empty_pongs, tiny_compressed_frames,
    refused_tokens, unknown_keys, publish_flood, subscription_churn, presence_churn,
    polls_that_leave, deep_commands, deep_bodies,
)  # fmt: skip

if __name__ == "__main__":
    os.nice(10)
    chosen = {each.__name__: each for each in ATTACKS}[sys.argv[1]]
    asyncio.run(chosen(int(sys.argv[2])))  # type: ignore[arg-type]  # they are coroutines
