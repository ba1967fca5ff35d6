"""The application is told once, whichever node has the sessions: over Redis and between workers."""

import asyncio
from typing import Any

import pytest

from tests.multi_node.fleet import hubs
from tests.multi_node.workers import WorkersHub
from tests.support.application import Application
from tests.support.redis_server import RedisServer
from tests.transports.peers import Query, WebSocketPeer

pytestmark = pytest.mark.timeout(240)
CHANNEL = "room:1"
PRESENT = {"HUB_NAMESPACES": '{"room":{"presence":true}}', "HUB_LEAVE_DELAY_SECONDS": "0"}


def told(app: Application, *types: str) -> list[Any]:
    events = [event for asked in app.asked for event in asked.json["events"]]
    return [event for event in events if event["type"] in types]


async def test_over_redis_one_node_tells(redis: RedisServer) -> None:
    """Two nodes have sessions in turn: the channel is occupied once, and vacated once."""
    async with (
        Application() as app,
        hubs(redis.url, 2, HUB_WEBHOOK_URL=app.url, **PRESENT) as (one, two),
    ):
        async with WebSocketPeer(two.url, Query(CHANNEL), {}):
            await app.until(lambda: len(told(app, "channel.occupied")) == 1)
            async with WebSocketPeer(one.url, Query(CHANNEL), {}):
                await app.until(lambda: len(told(app, "session.opened")) == 2)
        await app.until(lambda: bool(told(app, "channel.vacated")))
        await app.until(lambda: len(told(app, "member.left")) == 2)
    assert len(told(app, "channel.occupied", "channel.vacated")) == 2
    assert len(told(app, "member.joined")) == 2


async def test_between_workers_one_tells() -> None:
    """Several sessions come and go together, each at any worker."""
    async with Application() as app:
        with WorkersHub(2, HUB_WEBHOOK_URL=app.url, **PRESENT) as hub:
            peers = [WebSocketPeer(hub.url, Query(CHANNEL), {}) for _ in range(8)]
            await asyncio.gather(*(peer.__aenter__() for peer in peers))
            await app.until(lambda: len(told(app, "session.opened")) == 8)
            await asyncio.gather(*(peer.close() for peer in peers))
            await app.until(lambda: len(told(app, "member.left")) == 8)
            await app.until(lambda: bool(told(app, "channel.vacated")))
            for peer in peers:
                await peer._http.aclose()
            await asyncio.to_thread(hub.stop)
    assert len(told(app, "channel.occupied")) == len(told(app, "channel.vacated")) == 1
    assert len(told(app, "member.joined")) == len(told(app, "member.left")) == 8
