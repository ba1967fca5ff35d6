"""An application behind the hub: a small HTTP server that answers what a test says."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

Json = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """A request that came."""

    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Answer = tuple[int, bytes]
Answering = Callable[[Asked], Awaitable[Answer]]


def says(**fields: object) -> Answer:
    return 200, json.dumps(fields).encode()


class Application:
    """Listens from `async with` to its end; `answer` may be replaced at any time."""

    def __init__(self, answer: Answering | None = None) -> None:
        self.asked: list[Asked] = []
        self.connections = 0
        self.came = asyncio.Event()
        self.answer: Answering = answer or self._yes
        self.fields: Callable[[], str] = lambda: ""
        """Header lines that an answer has besides."""
        self._port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def _yes(self, _asked: Asked) -> Answer:
        return says(allow=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/hub"

    def questions(self, hook: str) -> list[Json]:
        return [each.json for each in self.asked if each.json.get("hook") == hook]

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def listen(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.end()

    async def end(self) -> None:
        """Stops listening; `listen` begins again at the same port."""
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait for what `holds` says, looking whenever something came."""
        async with asyncio.timeout(30):
            while not holds():
                self.came.clear()
                await self.came.wait()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            while True:
                await self._one(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = {}
        for line in head.split("\r\n")[1:-2]:
            name, _, value = line.partition(": ")
            headers[name.lower()] = value
        body = await reader.readexactly(int(headers["content-length"]))
        asked = Asked(headers, body)
        self.asked.append(asked)
        self.came.set()
        status, answer = await self.answer(asked)
        writer.write(
            b"HTTP/1.1 %d x\r\n%bContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            % (status, self.fields().encode(), len(answer), answer)
        )
        await writer.drain()
