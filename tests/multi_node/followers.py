"""Subscribers by a pattern that keep nothing but what the hub told them last.

`Follower` speaks WebSocket and resumes with all its positions; `StreamFollower` is a plain
EventSource; `PollFollower` passes `positions` on as `since`. Each is judged channel by channel,
also in channels that came to be after it had begun.
"""

import asyncio
import json
from collections.abc import Sequence

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from tests.multi_node.readers import EventStream, Polls
from tests.multi_node.socket_reader import TRY_SECONDS, SocketReader
from tests.support.hub_process import HubProcess
from tests.support.stream import Push, View


class _Views(dict[str, View]):
    """One for each channel, made when it is first asked for."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __missing__(self, channel: str) -> View:
        view = self[channel] = View(f"{self._name} of {channel}")
        return view

    def begin(self, positions: dict[str, str]) -> None:
        """Begins each channel's view at the position that the pattern's answer gives."""
        for channel, position in positions.items():
            self[channel].feed({"op": "subscribed", "position": position})

    @property
    def positions(self) -> dict[str, str]:
        known = {name: view.position for name, view in self.items()}
        return {name: f"{at[0]}:{at[1]}" for name, at in known.items() if at is not None}


class Follower(SocketReader):
    """Over WebSocket; a `hub.tests.multi_node.readers.Reader`."""

    def __init__(self, name: str, pattern: str) -> None:
        super().__init__()
        self.pattern = pattern
        self.views = _Views(name)
        self.connects = 0

    async def _try(self, hub: HubProcess) -> bool:
        command: dict[str, object] = {"op": "subscribe", "id": 1, "pattern": self.pattern}
        if self.connects:
            command["since"] = self.views.positions
        try:
            connection = await connect(hub.ws_url, open_timeout=TRY_SECONDS, max_queue=None)
            await connection.send(json.dumps(command))
            async with asyncio.timeout(TRY_SECONDS):
                while (push := json.loads(await connection.recv()))["op"] != "reply":
                    assert push["op"] in {"welcome", "heartbeat", "goodbye"}, push
        except (OSError, TimeoutError, WebSocketException):
            return False
        if "error" in push:
            assert push["error"]["retryable"], push
            await connection.close()
            return False
        self.views.begin(push["ok"]["positions"])
        self.connects += 1
        self._read_on(connection)
        return True

    async def _take(self, _connection: ClientConnection, push: Push) -> None:
        assert push["op"] != "unsubscribed" or push["reason"] == "ended", push
        if "channel" in push:
            self.views[push["channel"]].feed(push)


class StreamFollower(EventStream):
    """Over server-sent events, by the last event id."""

    def __init__(self, name: str, pattern: str) -> None:
        super().__init__(name, ())
        self.views = _Views(name)
        self._pattern = pattern

    @property
    def asks(self) -> dict[str, list[str]]:
        return {"pattern": [self._pattern]}

    @property
    def is_several(self) -> bool:
        return True

    def _check_id(self) -> None:
        """Checks nothing: the id is judged by what a resume brings."""

    def _take(self, push: Push) -> None:
        assert push["op"] != "unsubscribed" or push["reason"] == "ended", push
        if push["op"] == "subscribed" and "pattern" in push:
            self._starting.discard(self._pattern)
            for channel, position in push["positions"].items():
                self._started(
                    channel, self.views[channel], {"op": "subscribed", "position": position}
                )
        else:
            super()._take(push)


class PollFollower(Polls):
    """By polling; no poll names a session."""

    def __init__(self, name: str, pattern: str) -> None:
        super().__init__(name, (), says_all=False)
        self.views = _Views(name)
        self._pattern = pattern

    @property
    def asks(self) -> dict[str, list[str]]:
        return {"pattern": [self._pattern]}

    def _check_named(self, told: Push) -> Sequence[str]:
        return [name for name in told["positions"] if name != self._pattern]
