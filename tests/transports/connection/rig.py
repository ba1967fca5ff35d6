"""A connection on a transport, a clock and an registry that are not real."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hub.auth.policy import Policy
from hub.auth.proxies import TrustedProxies
from hub.core.counters import Counters
from hub.core.eager import begin
from hub.core.limits import Limiter, PeerLimits
from hub.core.ports import OnPublished, PublishRequest, PublishResult
from hub.core.time.deadlines import Deadlines
from hub.errors import HubError, UnavailableError
from hub.transports.connection.application import Application
from hub.transports.connection.arrivals import Arrivals
from hub.transports.connection.connection import Connection
from hub.transports.connection.context import ConnectionContext
from hub.transports.connection.door import Door
from hub.transports.connection.outgoing import WriteTurn
from hub.transports.connection.states import ConnectionLimits
from hub.transports.connection.streams import Streams
from hub.transports.http.answer import Answer, problem
from hub.transports.http.app import make_routes
from hub.transports.http.bodies import BodyBudget
from hub.transports.http.dispatch import Dispatcher
from hub.transports.http.ports import CheckPublish, HttpLimits
from hub.transports.http.routes import StreamKind
from hub.transports.opening import Judged
from hub.transports.request import Request
from hub.transports.turns import Turns
from tests.transports.http.fakes import FakeNode, make_deps

LIMITS = ConnectionLimits(
    max_head_bytes=1024,
    handshake_timeout_seconds=10,
    body_timeout_seconds=20,
    write_timeout_seconds=30,
    keep_alive_seconds=75,
)
BODY_LIMIT = 200


class Swallowing(asyncio.Protocol):
    """Stands for a stream: notes what it is given."""

    def __init__(self, transport: "FakeTransport") -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.to_stream += data


class FakeTransport(asyncio.Transport):
    """Takes `room` bytes at once; what is more waits until `drain`."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.waiting = b""
        self.room: int | None = None
        """None takes everything."""
        self.closing = self.aborted = self.eof = self.paused = False
        self.protocol: Any = None
        self.to_stream = b""
        """The bytes behind a handshake that came after the first piece."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("192.0.2.7", 4711) if name == "peername" else default

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def get_protocol(self) -> Any:
        return Swallowing(self)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert (high, low) == (0, 0)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closing, "written to a transport that is closing"
        taken = bytes(data) if self.room is None else bytes(data)[: self.room]
        self.written += taken
        rest = bytes(data)[len(taken) :]
        if self.room is not None:
            self.room -= len(taken)
        if rest:
            was_empty, self.waiting = not self.waiting, self.waiting + rest
            if was_empty:
                self.protocol.pause_writing()

    def drain(self, room: int | None = None) -> None:
        """The peer reads: all that waits, or `room` bytes of it."""
        taken = self.waiting if room is None else self.waiting[:room]
        self.written += taken
        self.waiting = self.waiting[len(taken) :]
        if room is None:
            self.room = None
        if not self.waiting:
            self.protocol.resume_writing()
            if self.closing:
                self.protocol.connection_lost(None)

    def get_write_buffer_size(self) -> int:
        return len(self.waiting)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.eof = True

    def is_closing(self) -> bool:
        return self.closing or self.aborted

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            if not self.waiting:
                self.protocol.connection_lost(None)

    def abort(self) -> None:
        if not self.aborted:
            self.aborted = self.closing = True
            self.protocol.connection_lost(None)

    def pause_reading(self) -> None:
        assert not self.paused
        self.paused = True

    def resume_reading(self) -> None:
        assert self.paused
        self.paused = False

    @property
    def ended(self) -> bool:
        return self.closing


@dataclass
class WaitingNode(FakeNode):
    """Publishes into the channel `slow` only when it is let go."""

    gate: asyncio.Event = field(default_factory=asyncio.Event)
    telling: set[asyncio.Task[None]] = field(default_factory=set)

    def offer(self, publishes: str) -> None:
        """Have `publish` as a plain call too (`now`), or with a call back (`soon`)."""
        self.publish_now = self._publish_now if publishes == "now" else None
        self.publish_soon = self._publish_soon if publishes == "soon" else None

    def _publish_now(self, request: PublishRequest) -> PublishResult:
        published = begin(FakeNode.publish(self, request))
        assert isinstance(published, PublishResult)
        return published

    def _publish_soon(self, request: PublishRequest, on_done: OnPublished) -> None:
        task = asyncio.get_running_loop().create_task(self._tell(request, on_done))
        self.telling.add(task)
        task.add_done_callback(self.telling.discard)

    async def _tell(self, request: PublishRequest, on_done: OnPublished) -> None:
        outcome: PublishResult | HubError
        try:
            outcome = await self.publish(request)
        except HubError as error:
            outcome = error
        on_done(outcome)

    async def publish(self, request: PublishRequest) -> PublishResult:
        if request.channel == "slow":
            await self.gate.wait()
        return await super().publish(request)


@dataclass
class FakeStreams(Streams):
    """Takes connections over, or refuses them."""

    opened: list[tuple[StreamKind, bytes, bytes]] = field(default_factory=list)
    """The kind of each stream, its target, and the bytes behind its request."""
    refuses: HubError | None = None
    farewell: bytes = b""
    """The bytes for a WebSocket that is refused behind its handshake."""
    judged: Judged | bytes | None = None
    """The verdict that the door gets on each handshake; None for an unknown admission."""

    def open(
        self, stream: StreamKind, request: Request, transport: Any, rest: bytes
    ) -> bytes | None:
        if self.refuses is not None:
            raise self.refuses
        if self.farewell:
            return self.farewell
        assert transport.protocol is not None, "the transport was taken over before"
        transport.set_protocol(None)
        self.opened.append((stream, request.target, rest))
        return None

    def judge(self, stream: StreamKind, request: Request) -> Judged | bytes:
        return self.judged or Judged()

    def refusal(self, stream: StreamKind, request: Request, error: HubError) -> Answer:
        return problem(error)


class FakeSockets:
    """As many as the test says."""

    def __init__(self) -> None:
        self.http: dict[Connection, str] = {}
        self.unsent: dict[Connection, int] = {}
        self.crowded = self.overrun = False
        self.many: set[str] = set()
        """Addresses that stand for many clients."""

    def stands_for_many(self, address: str) -> bool:
        return address in self.many

    def hold(self, connection: Connection, unsent_bytes: int) -> None:
        self.unsent[connection] = unsent_bytes

    def release(self, connection: Connection) -> None:
        self.unsent.pop(connection, None)

    def enter(self, connection: Connection, address: str) -> None:
        self.http[connection] = address

    def leave(self, connection: Connection) -> None:
        self.http.pop(connection, None)

    def refusal(self, address: str) -> HubError | None:
        assert address
        full = self.crowded or self.overrun
        return UnavailableError("the node holds no more connections") if full else None

    def is_overrun(self, address: str) -> bool:
        assert address
        return self.overrun


class Rig:
    """One connection and all that it touches. Enter it in a running loop."""

    def __init__(
        self,
        files: Path,
        *,
        policy: Policy | None = None,
        limits: ConnectionLimits = LIMITS,
        body_total_bytes: int = 10_000,
        application: Application | None = None,
        at_once: bool = True,
        publishes: str = "by coroutine",
        check_publish: CheckPublish | None = None,
        peer_limits: PeerLimits | None = None,
        proxies: str = "",
    ) -> None:
        self.now = 1000.0
        self.deadlines = Deadlines(self.now)
        self.registry = WaitingNode()
        self.registry.offer(publishes)
        self.streams = FakeStreams()
        self.sockets = FakeSockets()
        self.budget = BodyBudget(body_total_bytes)
        self.counters = Counters()
        self.tasks: set[asyncio.Task[None]] = set()
        self.application = application
        self.turns = Turns(lambda: self.now)
        self._deferred: list[Callable[[], None]] = []
        deps = replace(
            make_deps(
                files,
                policy=policy or Policy(),
                limits=HttpLimits(max_message_bytes=BODY_LIMIT, max_body_bytes=5_000),
            ),
            node=self.registry,
            counters=self.counters,
            at_once=at_once,
            check_publish=check_publish,
            fallback=None if application is None else application.app,
            proxies=TrustedProxies(proxies.split()),
        )
        self.limiter = Limiter(peer_limits or PeerLimits(), lambda: self.now, self.counters)
        table = make_routes(deps)
        self.context = ConnectionContext(
            dispatcher=Dispatcher(table, deps),
            streams=self.streams,
            door=Door(
                table,
                self.streams,
                limiter=self.limiter,
                proxies=deps.proxies,
                counters=self.counters,
                policy=deps.policy,
                on_refused=deps.on_refused,
                max_head_bytes=limits.max_head_bytes,
            ),
            budget=self.budget,
            sockets=self.sockets,  # type: ignore[arg-type]
            limits=limits,
            arrivals=Arrivals(self.deadlines, lambda: self.now, limits.handshake_timeout_seconds),
            deadlines=self.deadlines,
            clock=lambda: self.now,
            counters=self.counters,
            turns=self.turns,
            turn=WriteTurn(self._deferred.append),
            spawn=self._spawn,
            application=application,
        )
        self.connect()

    def connect(self) -> None:
        """Another connection in the place of the one before."""
        self.transport = FakeTransport()
        self.connection = Connection(self.context)
        self.transport.protocol = self.connection
        self.connection.connection_made(self.transport)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def receive(self, data: bytes, *, cut: int | None = None) -> None:
        """Bytes come: whole, or in pieces of `cut` bytes. What cannot be taken is dropped."""
        step = cut or max(1, len(data))
        for at in range(0, len(data), step):
            if self.transport.ended:
                return
            self.connection.data_received(data[at : at + step])
            self.end_turn()

    def end_turn(self) -> None:
        """The loop's turn ends: what was put off happens."""
        self.turns.end_reads()
        while self._deferred:
            self._deferred.pop(0)()

    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds
        self.deadlines.tick(self.now)

    async def turn(self) -> None:
        """One turn of the loop."""
        await asyncio.sleep(0)
        self.end_turn()

    async def settle(self) -> None:
        """Let tasks run as far as they can."""
        for _ in range(10):
            await self.turn()

    @property
    def answers(self) -> list[int]:
        """The statuses of all answers written so far."""
        return [status for status, _ in self.whole_answers()]

    def whole_answers(self) -> list[tuple[int, bytes]]:
        """Status and body of each answer, read as a client reads them."""
        found, rest = [], self.transport.written
        while rest:
            head, _, rest = rest.partition(b"\r\n\r\n")
            status = int(head.split(b" ", 2)[1])
            fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
            length = int(fields.get(b"content-length", b"0"))
            found.append((status, rest[:length]))
            rest = rest[length:]
        return found

    @property
    def published(self) -> list[bytes]:
        return [request.data for request in self.registry.published]


AWAY = UnavailableError("away")


def post(channel: str, body: bytes, more: str = "", *, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    head = f"POST /api/publish/{channel} HTTP/1.1\r\nHost: localhost\r\n{more}"
    return f"{head}Content-Length: {size}\r\n\r\n".encode() + body


def get(target: str, more: str = "") -> bytes:
    return f"GET {target} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n".encode()
