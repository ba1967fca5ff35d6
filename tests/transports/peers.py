"""One way to speak to the hub over three transports, so that one suite can ask the same of all.

A peer asks the questions of its constructor in the URL. `push` is the next thing that is not
a welcome, a heartbeat or a reply; where a transport leaves `subscribed` out, so does its peer.
"""

import asyncio
import itertools
import json
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

import httpx2 as httpx
from websockets.asyncio.client import ClientConnection, connect

Json = dict[str, Any]
TIMEOUT_SECONDS = 15.0
_BETWEEN = {"heartbeat"}


def http_client(
    *, base_url: str = "", headers: Mapping[str, str] | None = None
) -> httpx.AsyncClient:
    """A client for plain HTTP: reading the certificates it never needs takes 20 ms."""
    return httpx.AsyncClient(
        base_url=base_url, headers=headers, timeout=TIMEOUT_SECONDS, verify=False
    )


class Query:
    """The query of a peer's URL."""

    def __init__(self, *channels: str, since: Mapping[str, str] | None = None, **more: str) -> None:
        pairs = [("channel", channel) for channel in channels]
        pairs += [("since", f"{name}={position}") for name, position in (since or {}).items()]
        self.text = urlencode([*pairs, *more.items()])


class Peer:
    """Common to all: what came and was not asked for yet, and commands over HTTP."""

    transport = ""

    def __init__(self, url: str, query: Query, headers: Mapping[str, str]) -> None:
        self.url = url
        self.query = query
        self.headers = dict(headers)
        self.welcome: Json = {}
        self.heartbeats = 0
        self._came: deque[Json] = deque()
        self._ids = itertools.count(1)
        self._http = http_client(headers=self.headers)

    async def __aenter__(self) -> Self:
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await self.open()
        except BaseException:
            await self._http.aclose()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()
        await self._http.aclose()

    async def open(self) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError

    async def _read(self) -> None:
        """Wait until something more came and put it where it belongs."""
        raise NotImplementedError

    def _sort(self, push: Json) -> None:
        if push["op"] == "welcome":
            self.welcome = push
        elif push["op"] == "heartbeat":
            self.heartbeats += 1
        else:
            self._came.append(push)

    async def push(self) -> Json:
        """The next push, in the order in which they came."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while not self._came:
                await self._read()
        return self._came.popleft()

    async def pushes(self, count: int) -> list[Json]:
        return [await self.push() for _ in range(count)]

    async def message(self) -> Json:
        """The next push that is a message; fails on a gap."""
        while True:
            push = await self.push()
            assert push["op"] not in {"gap", "goodbye"}, push
            if push["op"] == "message":
                return push

    async def data(self, count: int) -> list[Any]:
        """The data of the next messages."""
        return [(await self.message())["data"] for _ in range(count)]

    async def command(self, **fields: object) -> Json:
        """Have a command carried out over `POST /command`; returns the reply."""
        answer = await self._http.post(
            f"{self.url}/command",
            params={"connection": self.welcome["connection"]},
            headers={"Authorization": f"Bearer {self.welcome['secret']}"},
            content=json.dumps({"id": next(self._ids)} | fields),
        )
        assert answer.status_code == 200, answer.text
        reply: Json = answer.json()
        return reply


class WebSocketPeer(Peer):
    transport = "websocket"
    _socket: ClientConnection

    async def open(self) -> None:
        address = f"ws{self.url.removeprefix('http')}/ws?{self.query.text}"
        self._socket = await connect(address, additional_headers=self.headers, max_size=None)
        try:
            while not self.welcome:
                await self._read()
        except BaseException:
            await self._socket.close()
            raise

    async def close(self) -> None:
        await self._socket.close()

    async def wait_closed(self) -> int | None:
        """The close code, as soon as there is one."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await self._socket.wait_closed()
        return self._socket.close_code

    async def _read(self) -> None:
        self._sort(json.loads(await self._socket.recv()))

    async def command(self, **fields: object) -> Json:
        """Send the command in the connection itself; returns the reply."""
        id_ = next(self._ids)
        await self._socket.send(json.dumps({"id": id_} | fields))
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while True:
                for push in self._came:
                    if push["op"] == "reply" and push["id"] == fields.get("id", id_):
                        self._came.remove(push)
                        return push
                await self._read()


class SsePeer(Peer):
    """Reads the stream by the rules of WHATWG HTML section 9.2.6."""

    transport = "sse"

    def __init__(self, url: str, query: Query, headers: Mapping[str, str]) -> None:
        super().__init__(url, query, headers)
        self.last_event_id = ""
        self.retry = 0
        self._lines: AsyncIterator[str]
        self._response: httpx.Response

    async def open(self) -> None:
        request = self._http.build_request("GET", f"{self.url}/sse?{self.query.text}")
        self._response = await self._http.send(request, stream=True)
        if self._response.status_code != 200:
            raise AssertionError(await self._response.aread())
        assert self._response.headers["content-type"].startswith("text/event-stream")
        self._lines = self._response.aiter_lines()
        while not self.welcome:
            await self._read()

    async def close(self) -> None:
        await self._response.aclose()

    async def _read(self) -> None:
        """One block, up to its empty line."""
        event, data = "message", ""
        async for line in self._lines:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            match name:
                case "event":
                    event = value
                case "data":
                    data += value
                case "id":
                    self.last_event_id = value
                case "retry":
                    self.retry = int(value)
                case "" if line:
                    self.heartbeats += value == "heartbeat"
                case "":
                    break
        else:
            raise EOFError("the stream has ended")
        if data:
            push: Json = json.loads(data)
            assert push["op"] == event
            self._sort(push)


class PollPeer(Peer):
    """Asks again as soon as it was answered."""

    transport = "poll"
    wait = 5

    def __init__(self, url: str, query: Query, headers: Mapping[str, str]) -> None:
        super().__init__(url, query, headers)
        self.positions: dict[str, str] = {}

    async def open(self) -> None:
        await self.poll(f"{self.query.text}&wait=0")

    async def close(self) -> None:
        pass

    async def _read(self) -> None:
        since = [("since", f"{name}={position}") for name, position in self.positions.items()]
        channels = [("channel", name) for name in self.positions]
        await self.poll(
            urlencode(
                [*channels, *since, ("wait", self.wait), ("connection", self.welcome["connection"])]
            )
        )

    async def poll(self, query: str) -> Json:
        headers = {"Authorization": f"Bearer {self.welcome['secret']}"} if self.welcome else {}
        answer = await self._http.get(f"{self.url}/poll?{query}", headers=headers)
        assert answer.status_code == 200, answer.text
        said: Json = answer.json()
        self.welcome, self.positions = said["welcome"], said["positions"]
        for push in said["pushes"]:
            self._sort(push)
        return said


PEERS: Mapping[str, type[Peer]] = {
    peer.transport: peer for peer in (WebSocketPeer, SsePeer, PollPeer)
}


@asynccontextmanager
async def publisher(url: str) -> AsyncIterator[httpx.AsyncClient]:
    """A backend's HTTP client whose base is the hub's."""
    async with http_client(base_url=url) as http:
        yield http
