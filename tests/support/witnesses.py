"""Two subscribers watch the hub beside whatever a test does to it: they must lose nothing by it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2 as httpx

from tests.support.hub_process import HubProcess
from tests.transports.peers import Query, SsePeer, WebSocketPeer


@asynccontextmanager
async def witnessed(hub: HubProcess, http: httpx.AsyncClient, channel: str) -> AsyncIterator[None]:
    """Publish before and after; at the end both must have seen everything, in order."""
    query = Query(channel)
    async with WebSocketPeer(hub.url, query, {}) as one, SsePeer(hub.url, query, {}) as two:
        for number in range(5):
            await http.post(f"/api/publish/{channel}", json=number)
        yield
        for number in range(5, 10):
            await http.post(f"/api/publish/{channel}", json=number)
        assert await one.data(10) == list(range(10))
        assert await two.data(10) == list(range(10))
