"""Three nodes on one Redis with subscribers of every transport, one of them too slow, and traffic.

What the dashboard shows has to come from somewhere: publications every few milliseconds, a
reader that takes nothing, so that something is dropped, and keys as in production.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx2 as httpx
import jwt
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from tests.multi_node.fleet import hubs
from tests.support.hub_process import HubProcess
from tests.support.raw_connection import RawConnection, get
from tests.support.redis_server import RedisServer

OPERATOR_KEY = "an-operator-key-of-the-dashboard"
PUBLISH_KEY = "a-publish-key-of-the-dashboard"
TOKEN_KEY = "a-token-key-of-at-least-32-bytes"
SETTINGS = {
    "HUB_OPERATOR_KEYS": OPERATOR_KEY,
    "HUB_PUBLISH_KEYS": PUBLISH_KEY,
    "HUB_TOKEN_KEYS": TOKEN_KEY,
    "HUB_NAMESPACES": '{"chat":{"presence":true}}',
    # So that the reader who takes nothing loses something soon.
    "HUB_OUTBOX_MAX_MESSAGES": "20",
    "HUB_HISTORY_SIZE": "200",
    "HUB_HEARTBEAT_SECONDS": "5",
    # Else the reader who takes nothing is cut before a test has looked at it.
    "HUB_PONG_TIMEOUT_SECONDS": "600",
}
OPERATOR = {"Authorization": f"Bearer {OPERATOR_KEY}"}
PEOPLE = ("ada", "bob", "cyd", "dan", "eve", "fay", "gus", "hal", "ida")
CHANNELS = ("prices", "news", "chat:42")
SLOW = "slow-sam"
MANY = 80
LOST = 10
"""The offset in bulk of a publication that the slow one has lost once it has lost `3 * LOST`."""


def token(subject: str) -> str:
    claims = {"sub": subject, "hub": {"subscribe": ["*"], "publish": ["*"]}}
    return jwt.encode(claims, TOKEN_KEY, algorithm="HS256")


@dataclass(frozen=True, slots=True)
class WatchedHub:
    nodes: Sequence[HubProcess]

    @property
    def url(self) -> str:
        """Of the node whose dashboard is opened; the others are seen through it."""
        return self.nodes[0].url

    async def ask(self, path: str, **query: str | int) -> dict[str, Any]:
        async with httpx.AsyncClient(timeout=10, headers=OPERATOR) as client:
            answer = await client.get(f"{self.url}{path}", params=query)
            found: dict[str, Any] = answer.raise_for_status().json()
            return found

    async def connection_of(self, subject: str) -> str:
        """Its id; raises unless there is exactly one."""
        found = await self.ask("/api/connections", subject=subject)
        (row,) = found["connections"]
        return str(row["connection"])


@contextlib.asynccontextmanager
async def watched_hub() -> AsyncGenerator[WatchedHub]:
    with RedisServer() as redis:
        async with hubs(redis.url, 3, **SETTINGS) as nodes:
            async with _crowd(nodes):
                yield WatchedHub(nodes)


@contextlib.asynccontextmanager
async def _crowd(nodes: list[HubProcess]) -> AsyncGenerator[None]:
    """Everybody listens and the traffic runs until the end of `with`."""
    work = [_listen(nodes[place % 3], subject) for place, subject in enumerate(PEOPLE)]
    work += [_stream(nodes[1], "sse-sue"), _poll(nodes[2], "poll-pat")]
    tasks = [asyncio.create_task(each) for each in work]
    slow = await RawConnection.connect(nodes[2].port, receive_buffer_bytes=4096)
    query = f"channel=bulk&channel=news&token={token(SLOW)}"
    slow.send(get(f"/ws?{query}", upgrade=True))
    # It has subscribed before anything is published: what fits into the network's buffers is first.
    await slow.until(b'"channel":"news"')
    tasks.append(asyncio.create_task(_publish(nodes)))
    try:
        yield
    finally:
        slow.reset()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _listen(hub: HubProcess, subject: str) -> None:
    """Over WebSocket; comes back when it was closed, unless it may not."""
    url = f"{hub.ws_url}?channel=prices&channel=chat:42&token={token(subject)}"
    while True:
        with contextlib.suppress(OSError, TimeoutError, WebSocketException):
            async with connect(url, user_agent_header="Chromium 140, as it were") as connection:
                with contextlib.suppress(ConnectionClosed):
                    async for _ in connection:
                        pass
                if connection.close_code == 4403:
                    return
        await asyncio.sleep(1)


async def _stream(hub: HubProcess, subject: str) -> None:
    query = {"channel": ["prices", "news"], "token": token(subject)}
    async with httpx.AsyncClient(timeout=None) as client:
        async with client.stream("GET", f"{hub.url}/sse", params=query) as answer:
            async for _ in answer.aiter_bytes():
                pass


async def _poll(hub: HubProcess, subject: str) -> None:
    query: dict[str, str] = {"channel": "news", "token": token(subject), "wait": "5"}
    headers: dict[str, str] = {}
    async with httpx.AsyncClient(timeout=10) as client:
        while True:
            answer = await client.get(f"{hub.url}/poll", params=query, headers=headers)
            if answer.status_code in {401, 404}:
                # Its session has ended: begin another (PROTOCOL.md, at any node).
                query.pop("connection")
                headers = {}
                continue
            told = answer.raise_for_status().json()
            if welcome := told.get("welcome"):
                headers = {"Authorization": f"Bearer {welcome['secret']}"}
                query["connection"] = welcome["connection"]
            query["since"] = f"news={told['positions']['news']}"


async def _publish(nodes: list[HubProcess]) -> None:
    """At all nodes in turn; one that fails is not missed.

    Some 40 a second until the slow one has lost many, and then as many as charts need to move.
    """
    headers = {"Authorization": f"Bearer {PUBLISH_KEY}"}
    bulk = {"orders": [{"id": number, "eur": 1.08, "amount": 7} for number in range(500)]}
    async with httpx.AsyncClient(timeout=10, headers=headers) as client:
        number = 0
        while True:
            number += 1
            items: list[dict[str, object]] = [
                {"channel": "prices", "data": {"eur": 1.08, "number": number}},
                {"channel": "bulk", "data": bulk},
            ]
            if number % 4 == 0:
                items.append({"channel": "news", "data": {"at": time.time(), "number": number}})
            if number % 10 == 0:
                items.append({"channel": "chat:42", "data": "hello", "key": "greeting"})
            with contextlib.suppress(httpx.HTTPError):
                await client.post(f"{nodes[number % 3].url}/api/publish", json=items)
            await asyncio.sleep(0.05 if number < MANY else 0.15)
