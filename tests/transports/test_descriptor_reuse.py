"""Connections come and go while their channels are published in, on a real kernel and uvloop.

The kernel gives the number of a closed socket to the next connection at once. A broadcast that
still wrote to that number would reach a stranger: each stream here is checked for that.
"""

import asyncio
import re

import httpx2 as httpx

from tests.support.hub_process import HubProcess

PEERS = 30
LIVES = 12
"""Connections of each peer, one after another, each in another channel."""
_SUBSCRIBED = re.compile(rb'"op":"subscribed","channel":"([^"]+)","position":"[^":]+:(\d+)"')
_MESSAGE = re.compile(rb'"op":"message","channel":"([^"]+)","offset":(\d+),')


async def live(url: str, channel: str, messages: int) -> int:
    """Follow a channel for some messages, then vanish; return how many were right."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET /sse?channel={channel} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
    text = b""
    while len(_MESSAGE.findall(text)) < messages:
        more = await reader.read(65536)
        assert more, text
        text += more
    # With a reset, as a phone that lost its network: the transport has no time to say goodbye.
    writer.transport.abort()
    begun = _SUBSCRIBED.search(text)
    assert begun is not None, text
    found = [(name.decode(), int(offset)) for name, offset in _MESSAGE.findall(text)]
    first = int(begun[2]) + 1
    assert found == [(channel, first + n) for n in range(len(found))]
    return len(found)


async def test_a_number_that_is_reused_gets_nothing_of_the_connection_before(
    process: HubProcess, http: httpx.AsyncClient, channel: str
) -> None:
    """In the middle of broadcasts in two channels: every stream is its own, whole and in order."""
    channels = (f"{channel}-one", f"{channel}-two")
    ended = asyncio.Event()

    async def publish(name: str) -> None:
        number = 0
        while not ended.is_set():
            number += 1
            answer = await http.post("/api/publish", json={"channel": name, "data": number})
            assert answer.status_code == 200, answer.text

    async def lives(peer: int) -> int:
        each = [(channels[(peer + life) % 2], 1 + (peer + life) % 5) for life in range(LIVES)]
        return sum([await live(process.url, name, messages) for name, messages in each])

    publishing = [asyncio.create_task(publish(name)) for name in channels]
    try:
        seen = await asyncio.gather(*(lives(peer) for peer in range(PEERS)))
    finally:
        ended.set()
        await asyncio.gather(*publishing)
    assert min(seen) >= LIVES
