"""Hub processes on one Redis, publishers that are told the truth, subscribers that note all."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncGenerator, Mapping
from functools import partial

import httpx2 as httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from tests.multi_node.socket_reader import TRY_SECONDS, SocketReader
from tests.support.hub_process import HubProcess
from tests.support.stream import Place, Push, View
from tests.support.waiting import eventually

# Hubs are reached without TLS. Else each client reads the certificates that the system trusts: at
# each attempt 19 ms in which a proxy of the same loop stands still, and Redis seems to be away.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
# Enough that nothing which is published in a test is ever trimmed.
SETTINGS = {"HUB_HISTORY_SIZE": "100000", "HUB_RECONCILE_SECONDS": "1", "HUB_LOG_LEVEL": "warning"}


@contextlib.asynccontextmanager
async def hubs(broker: str, count: int, **settings: str) -> AsyncGenerator[list[HubProcess]]:
    """`count` nodes that are ready; they are started side by side."""
    # "info" because a node tells its address at that level.
    common = SETTINGS | {"HUB_BROKER": broker, "HUB_LOG_LEVEL": "info"} | settings
    made = [
        HubProcess(allow_tracebacks=False, **common, HUB_NODE=f"node-{number}")
        for number in range(count)
    ]
    try:
        await asyncio.gather(*(asyncio.to_thread(hub.start) for hub in made))
        yield made
    finally:
        # Fails where a log holds a traceback.
        endings = [asyncio.to_thread(hub.__exit__, None, None, None) for hub in made]
        for result in await asyncio.gather(*endings, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result


async def publish(
    hub: HubProcess, channel: str, data: object, *, key: str | None = None
) -> httpx.Response:
    """One attempt."""
    headers = {} if key is None else {"Idempotency-Key": key}
    async with httpx.AsyncClient(timeout=TRY_SECONDS, verify=NO_TLS) as client:
        return await client.post(f"{hub.url}/api/publish/{channel}", json=data, headers=headers)


async def publish_one(hub: HubProcess, item: Mapping[str, object]) -> httpx.Response:
    """One attempt, with all that a publication may say of itself."""
    async with httpx.AsyncClient(timeout=TRY_SECONDS, verify=NO_TLS) as client:
        return await client.post(f"{hub.url}/api/publish", json=item)


async def status(hub: HubProcess, path: str) -> int:
    async with httpx.AsyncClient(timeout=TRY_SECONDS, verify=NO_TLS) as client:
        return (await client.get(hub.url + path)).status_code


async def is_ready(hub: HubProcess) -> bool:
    return await status(hub, "/readyz") == 200


async def kept(hub: HubProcess, channel: str) -> tuple[Place, dict[Place, object]]:
    """The channel's head, and all that history holds."""
    path = f"{hub.url}/api/channels/{channel}/history"
    found: dict[Place, object] = {}
    since: str | None = None
    async with httpx.AsyncClient(timeout=TRY_SECONDS, verify=NO_TLS) as client:
        while True:
            query = {"limit": "1000"} | ({} if since is None else {"since": since})
            page = await eventually(partial(_page, client, path, query), what=path)
            epoch = page["epoch"]
            found |= {(epoch, item["offset"]): item["data"] for item in page["publications"]}
            if page["next"] is None:
                return (epoch, int(page["position"].rpartition(":")[2])), found
            since = page["next"]


async def _page(client: httpx.AsyncClient, path: str, query: Mapping[str, str]) -> Push:
    """Empty while the node cannot reach Redis."""
    answer = await client.get(path, params=query)
    if answer.status_code == 503:
        return {}
    page: Push = answer.raise_for_status().json()
    return page


class Seat(SocketReader):
    """A subscriber of one channel that comes and goes, and resumes where it was."""

    def __init__(self, channel: str, name: str) -> None:
        super().__init__()
        self.channel = channel
        self.view = View(name)
        self.connects = 0
        self.id = self.secret = ""
        """Of the connection, as its welcome said."""
        self.more: dict[str, str] = {}
        """Further parameters of its query."""
        self.changes: list[tuple[str, str]] = []
        """The joins and leaves, in the order in which they came."""

    async def _try(self, hub: HubProcess) -> bool:
        query = {"channel": self.channel, **self.more}
        if self.view.position is not None:
            epoch, offset = self.view.position
            query["since"] = f"{self.channel}={epoch}:{offset}"
        url = f"{hub.ws_url}?{httpx.QueryParams(query)}"
        try:
            connection = await connect(url, open_timeout=TRY_SECONDS, max_queue=None)
            while (push := json.loads(await connection.recv()))["op"] != "subscribed":
                assert push["op"] in {"welcome", "heartbeat", "goodbye"}, push
                if push["op"] == "welcome":
                    self.id, self.secret = push["connection"], push["secret"]
        except (OSError, TimeoutError, WebSocketException):
            return False
        self.view.feed(push)
        self.connects += 1
        self._read_on(connection)
        return True

    async def _take(self, _connection: ClientConnection, push: Push) -> None:
        if push.get("channel") == self.channel:
            self.view.feed(push)
            if push["op"] in {"join", "leave"}:
                self.changes.append((push["op"], push["member"]["id"]))

    @property
    def data(self) -> list[object]:
        return list(self.view.delivered.values())


@contextlib.asynccontextmanager
async def seats(channel: str, *at: HubProcess) -> AsyncGenerator[list[Seat]]:
    """A subscriber at each of the nodes."""
    taken = [Seat(channel, f"seat-{number}") for number in range(len(at))]
    try:
        for seat, hub in zip(taken, at, strict=True):
            await seat.join(hub)
        yield taken
    finally:
        for seat in taken:
            await seat.leave()
