"""A Redis without a socket: a test says what it answers, and when a connection breaks.

`FakeEndpoint` makes a `FakeConnection` for each attempt and keeps them all, so that a test sees
what was written on which.
"""

import asyncio
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any, Self, cast

import hiredis
import structlog
from redis.asyncio.connection import AbstractConnection
from structlog.testing import ReturnLogger
from structlog.typing import FilteringBoundLogger

from hub.brokers.redis.link.calls import CallConnection
from hub.brokers.redis.link.connection import Connector, Endpoint, pack
from hub.brokers.redis.link.outcomes import LostError
from hub.brokers.redis.link.replication import ReplicationLine
from hub.brokers.redis.options import RedisOptions
from hub.core.counters import Counters
from tests.core.fakes import FakeClock
from tests.support.waiting import eventually

Command = tuple[bytes, ...]
SILENCE = object()
"""Says that there is no answer (yet)."""


def silent(command: Command) -> object:
    return SILENCE


def let_be(*answers: asyncio.Future[object]) -> None:
    """No test waits for these: they may end with an error."""
    for answer in answers:
        answer.add_done_callback(asyncio.Future.exception)


class FakeConnection:
    """The part of redis-py's connection that the hub uses."""

    def __init__(self, answer: Callable[[Command], object]) -> None:
        self.writes: list[list[Command]] = []
        self.closed = False
        self.takes_writes = asyncio.Event()
        """Cleared: a write waits, as one into a full socket does."""
        self.takes_writes.set()
        self._answer = answer
        self._reader = hiredis.Reader()
        self._incoming: asyncio.Queue[object] = asyncio.Queue()

    @property
    def commands(self) -> list[Command]:
        return [command for write in self.writes for command in write]

    def say(self, *replies: object) -> None:
        """Have these arrive; an exception is raised where a reply is read."""
        for reply in replies:
            self._incoming.put_nowait(reply)

    def breaks(self, why: str = "reset by peer") -> None:
        self.say(ConnectionResetError(why))

    async def connect(self) -> None:
        return

    async def disconnect(self, nowait: bool = False) -> None:
        self.closed = True

    def pack_command(self, *command: str | bytes | int) -> list[bytes]:
        return [pack(*command)]

    async def send_packed_command(
        self, packed: bytes | Sequence[bytes], check_health: bool = True
    ) -> None:
        self._reader.feed(packed if isinstance(packed, bytes) else b"".join(packed))
        write: list[Command] = []
        while (command := self._reader.gets()) is not False:
            write.append(tuple(command))
        self.writes.append(write)
        await self.takes_writes.wait()
        self.say(*(reply for each in write if (reply := self._answer(each)) is not SILENCE))

    async def read_response(self, **_: object) -> object:
        reply = await self._incoming.get()
        if isinstance(reply, Exception):
            raise reply
        return reply


class FakeEndpoint(Endpoint):
    """One server; `answer` is what it says to each command."""

    name = "redis://fake"

    def __init__(self, answer: Callable[[Command], object] = silent) -> None:
        self.answer = answer
        self.connections: list[FakeConnection] = []
        self.refuses: Exception | None = None
        """Raised in place of the next connections."""
        self.replaced = False
        """Whether another server has taken over."""
        self.asked_anew = 0
        self.moves = asyncio.Event()

    @property
    def newest(self) -> FakeConnection:
        return self.connections[-1]

    async def connection(self, client_name: str) -> AbstractConnection:
        if self.refuses is not None:
            raise self.refuses
        made = FakeConnection(lambda command: self.answer(command))
        self.connections.append(made)
        return cast("AbstractConnection", made)

    async def confirm(self, connection: AbstractConnection) -> None:
        self.asked_anew += 1
        if self.replaced:
            raise LostError("another server has taken over")

    async def moved(self) -> None:
        await self.moves.wait()
        self.moves.clear()


class Log:
    """Keeps what is logged."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []
        """Level and event of each."""
        self.events: list[Mapping[str, object]] = []
        self.logger: FilteringBoundLogger = structlog.wrap_logger(
            ReturnLogger(), wrapper_class=structlog.BoundLogger, processors=[self._keep]
        )

    def _keep(self, _: object, level: str, event: MutableMapping[str, Any]) -> str:
        self.lines.append((level, str(event["event"])))
        self.events.append(event)
        return ""


class FakeLine:
    """A line that every server is in; functions are commands of their own names."""

    def __init__(self) -> None:
        self.entered = True
        self.met: list[object] = []
        self.library = self

    async def enter(self, connection: AbstractConnection) -> bool:
        return self.entered

    def command(self) -> tuple[str, ...]:
        return ("ENTER",)

    def meet(self, name: object) -> None:
        self.met.append(name)

    def call(
        self, name: str, keys: tuple[str, ...], arguments: tuple[str, ...]
    ) -> tuple[str | int, ...]:
        return (name, len(keys), *keys, *arguments)


class Rig:
    """A `CallConnection` to a fake server; use it as a context."""

    def __init__(self, endpoint: FakeEndpoint | None = None, **options: Any) -> None:
        self.endpoint = endpoint or FakeEndpoint()
        self.clock = FakeClock()
        self.log = Log()
        self.counters = Counters()
        self.line = FakeLine()
        self.options = RedisOptions(
            **{"command_timeout_seconds": 0.05, "backoff_first_seconds": 0.0} | options
        )
        self.connector = Connector(
            self.endpoint, self.options, self.clock, self.log.logger, self.counters
        )
        self.ups = 0
        self.calls = CallConnection(
            self.connector, line=cast("ReplicationLine", self.line), on_up=self._on_up
        )

    def _on_up(self) -> None:
        self.ups += 1

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self.calls.run())
        await self.calls.up.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    @property
    def server(self) -> FakeConnection:
        return self.endpoint.newest

    async def written(self, count: int) -> list[Command]:
        """The commands of the newest connection, once there are so many."""
        await eventually(lambda: len(self.server.commands) >= count, what=f"{count} commands")
        return self.server.commands
