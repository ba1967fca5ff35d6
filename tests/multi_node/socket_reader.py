"""A WebSocket that is opened as often as it takes, and read until somebody leaves it."""

import abc
import asyncio
import contextlib
import json

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from tests.support.hub_process import HubProcess
from tests.support.stream import Push
from tests.support.waiting import eventually

TRY_SECONDS = 10.0


class SocketReader(abc.ABC):
    """Comes and goes; what it does with pushes is its kind's."""

    def __init__(self) -> None:
        self._connection: ClientConnection | None = None
        self._reading: asyncio.Task[None] | None = None

    @property
    def seated(self) -> bool:
        return self._reading is not None and not self._reading.done()

    async def join(self, hub: HubProcess) -> None:
        """Leave where it is, and connect and subscribe there."""
        await self.leave()
        await eventually(lambda: self._try(hub), seconds=25, what=f"a seat at {hub.url}")

    async def leave(self) -> None:
        """Disconnect; what was read until now counts."""
        if self._connection is not None and self._reading is not None:
            await self._connection.close()
            await self._reading
            self._connection = self._reading = None

    async def close(self) -> None:
        """Leave for good."""
        await self.leave()

    @abc.abstractmethod
    async def _try(self, hub: HubProcess) -> bool:
        """Connect and subscribe, and `_read_on`; False where that is to be tried again."""

    @abc.abstractmethod
    async def _take(self, connection: ClientConnection, push: Push) -> None:
        """Takes a push that came behind the start."""

    def _read_on(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._reading = asyncio.create_task(self._read(connection))

    async def _read(self, connection: ClientConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for text in connection:
                await self._take(connection, json.loads(text))
