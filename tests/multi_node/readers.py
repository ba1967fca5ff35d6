"""Subscribers of one channel or several that keep nothing but what the hub told them last.

`EventStream` is a plain EventSource: it repeats its URL with the last event id. `Polls` follows
`clients/PROTOCOL.md` to the letter: it passes `positions` on as `since`, and no `connection`; or
it passes all it knows. Each is judged channel by channel, by a `Chair` in each lane.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Protocol

import httpx2 as httpx

from tests.multi_node.fleet import NO_TLS, Seat
from tests.multi_node.socket_reader import TRY_SECONDS
from tests.support.event_stream import blocks
from tests.support.hub_process import HubProcess
from tests.support.stream import Push, View, place
from tests.support.waiting import eventually

# More than the 25 s between two heartbeats.
SILENCE_SECONDS = 60.0
WAIT_SECONDS = 2.0
AGAIN_SECONDS = 0.1


class Reader(Protocol):
    """In all channels of a story."""

    connects: int

    @property
    def views(self) -> Mapping[str, View]: ...

    @property
    def seated(self) -> bool: ...

    async def join(self, hub: HubProcess) -> None: ...

    async def leave(self) -> None: ...

    async def close(self) -> None: ...


class Chair(Seat):
    """A reader as one of its channels sees it."""

    def __init__(self, channel: str, name: str, reader: Reader) -> None:
        super().__init__(channel, name)
        self._reader = reader
        self.view = reader.views[channel]

    @property
    def connects(self) -> int:
        return self._reader.connects

    @connects.setter
    def connects(self, count: int) -> None:
        """Set by its base when it is made."""

    @property
    def seated(self) -> bool:
        return self._reader.seated

    async def join(self, hub: HubProcess) -> None:
        await self._reader.join(hub)

    async def leave(self) -> None:
        await self._reader.leave()

    async def close(self) -> None:
        await self._reader.close()


def stream(channel: str, name: str) -> Chair:
    """A subscriber of this channel alone, over server-sent events."""
    return Chair(channel, name, EventStream(name, [channel]))


class _Running:
    """The part that both readers share: a task that reads, and a client for HTTP."""

    def __init__(self, name: str, channels: Sequence[str]) -> None:
        self.channels = channels
        self.views: dict[str, View] = {
            channel: View(f"{name} of {channel}") for channel in channels
        }
        self.connects = 0
        self._reading: asyncio.Task[None] | None = None
        timeout = httpx.Timeout(TRY_SECONDS, read=SILENCE_SECONDS)
        self._client = httpx.AsyncClient(timeout=timeout, verify=NO_TLS)

    @property
    def asks(self) -> dict[str, list[str]]:
        """The parameters that say what for."""
        return {"channel": list(self.channels)}

    @property
    def seated(self) -> bool:
        return self._reading is not None and not self._reading.done()

    async def leave(self) -> None:
        """Without a word, as a cut is."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
            self._reading = None

    async def close(self) -> None:
        await self.leave()
        await self._client.aclose()


class EventStream(_Running):
    """With several channels a cut inside a tick repeats it: what it has, by offset, it passes over
    (PROTOCOL.md). With one nothing is repeated."""

    def __init__(self, name: str, channels: Sequence[str]) -> None:
        super().__init__(name, channels)
        self._last_id = ""
        self._starting: set[str] = set()
        self._has: dict[str, int] = {}
        """By channel, up to which offset what comes is a repeat."""

    async def join(self, hub: HubProcess) -> None:
        await self.leave()
        await eventually(lambda: self._try(hub), seconds=25, what=f"a stream at {hub.url}")

    async def _try(self, hub: HubProcess) -> bool:
        headers = {"Last-Event-ID": self._last_id} if self._last_id else {}
        url = f"{hub.url}/sse"
        request = self._client.build_request("GET", url, params=self.asks, headers=headers)
        try:
            response = await self._client.send(request, stream=True)
        except httpx.TransportError:
            return False
        self._starting = {name for names in self.asks.values() for name in names}
        pushes = self._pushes(response)
        try:
            async with asyncio.timeout(TRY_SECONDS):
                async for push in pushes:
                    self._take(push)
                    if not self._starting:
                        break
        except (TimeoutError, httpx.TransportError):
            pass
        if self._starting:
            await response.aclose()
            return False
        self.connects += 1
        self._reading = asyncio.create_task(self._read_on(response, pushes))
        return True

    async def _pushes(self, response: httpx.Response) -> AsyncGenerator[Push]:
        """As the least of parsers does: the id of a block without data is forgotten."""
        async for block in blocks(response.aiter_lines()):
            if block.data:
                if block.id is not None:
                    self._last_id = block.id
                    self._check_id()
                yield json.loads(block.data)

    @property
    def is_several(self) -> bool:
        return len(self.channels) > 1

    def _check_id(self) -> None:
        """From its first id on it names every channel, where there are several."""
        if not self.is_several:
            return
        names = {pair.partition("=")[0] for pair in self._last_id.split(",")}
        if names != set(self.channels):
            view = self.views[self.channels[0]]
            view.faults.append(f"{view.name}: the id {self._last_id} lacks a channel")

    async def _read_on(self, response: httpx.Response, pushes: AsyncGenerator[Push]) -> None:
        try:
            with contextlib.suppress(httpx.TransportError):
                async for push in pushes:
                    self._take(push)
        finally:
            await response.aclose()

    def _take(self, push: Push) -> None:
        channel = push.get("channel")
        if channel is None:
            return
        view = self.views[channel]
        if push["op"] == "subscribed":
            self._starting.discard(channel)
            self._started(channel, view, push)
        elif not self._is_repeat(channel, push):
            view.feed(push)

    def _started(self, channel: str, view: View, push: Push) -> None:
        self._has.pop(channel, None)
        start, known = place(push["position"]), view.position
        repeats = known is not None and start[0] == known[0] and start[1] <= known[1]
        if known is not None and repeats and self.is_several:
            # Behind what it has got: from there on it is repeated.
            self._has[channel] = known[1]
        else:
            view.feed(push)

    def _is_repeat(self, channel: str, push: Push) -> bool:
        """Whether it had this before the cut. A gap that goes on behind it is cut short."""
        if (has := self._has.get(channel)) is None:
            return False
        if push["op"] == "gap" and push["reason"] == "reset":
            # Of the epoch it is in: it was told, and cut before the id that said so.
            epoch, offset = place(push["position"])
            known = self.views[channel].position
            repeats = known is not None and epoch == known[0] and offset <= has
            if not repeats:
                # Numbers begin anew: none of them is one that it has.
                del self._has[channel]
            return repeats
        last = int(push.get("offset") or push.get("to") or 0)
        if last > has and push["op"] == "gap":
            push["from"] = max(push["from"], has + 1)
        return last <= has


class Polls(_Running):
    """`says_all`: it names its session too."""

    def __init__(self, name: str, channels: Sequence[str], *, says_all: bool) -> None:
        super().__init__(name, channels)
        self._says_all = says_all
        self._positions: dict[str, str] = {}
        self._welcome: dict[str, str] = {}
        self._hub: HubProcess | None = None
        self._first = asyncio.Event()
        # It never just stays: what comes between two polls is read from history, if that has it.
        self.connects = 1

    async def join(self, hub: HubProcess) -> None:
        """Go on there; each poll may come to another node."""
        await self.leave()
        self._hub = hub
        self._first.clear()
        self._reading = asyncio.create_task(self._run())
        async with asyncio.timeout(30):
            await self._first.wait()
        self.connects += 1

    async def _run(self) -> None:
        while True:
            try:
                answered = await self._poll(WAIT_SECONDS if self._first.is_set() else 0)
            except httpx.TransportError:
                answered = False
            if answered:
                self._first.set()
            else:
                await asyncio.sleep(AGAIN_SECONDS)

    async def _poll(self, wait: float) -> bool:
        assert self._hub is not None
        params: dict[str, object] = {**self.asks, "wait": wait}
        params["since"] = [f"{name}={at}" for name, at in self._positions.items()]
        headers = {}
        if self._says_all and self._welcome:
            params["connection"] = self._welcome["connection"]
            headers["Authorization"] = f"Bearer {self._welcome['secret']}"
        url = f"{self._hub.url}/poll"
        answer = await self._client.get(url, params=params, headers=headers)  # type: ignore[arg-type] # lists are repeated
        if answer.status_code in {401, 404}:
            self._welcome = {}
            return False
        if answer.status_code == 503:
            return False
        self._take(answer.raise_for_status().json())
        return True

    def _check_named(self, told: Push) -> Sequence[str]:
        """The channels that an answer says something of."""
        if told["positions"].keys() != set(self.channels):
            # Only a goodbye of a hub that could not open them has an excuse.
            assert any(push["op"] == "goodbye" for push in told["pushes"]), told
        return list(told["positions"])

    def _take(self, told: Push) -> None:
        positions = told["positions"]
        for channel in self._check_named(told):
            position = positions[channel]
            view = self.views[channel]
            pushes = [push for push in told["pushes"] if push.get("channel") == channel]
            if view.position is None:
                self._begin(view, position, pushes)
            for push in pushes:
                view.feed(push)
            if view.position != place(position):
                view.faults.append(f"{view.name}: at {view.position}, told to be at {position}")
        self._positions |= positions
        for marker in self._positions.keys() - positions.keys():
            # The name of a pattern, which stood for none of its channels.
            if "*" in marker:
                del self._positions[marker]
        self._welcome = told["welcome"]

    def _begin(self, view: View, position: str, pushes: Sequence[Push]) -> None:
        """Where a channel starts shows in what comes first of it, or is the position told."""
        epoch, offset = place(position)
        for push in pushes:
            first = push.get("offset", push.get("from"))
            if isinstance(first, int):
                offset = first - 1
                break
        view.feed({"op": "subscribed", "position": f"{epoch}:{offset}"})
