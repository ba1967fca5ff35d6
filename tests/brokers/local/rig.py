"""A broker process and its workers in one loop, over real sockets."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import dataclass, field

import structlog

from hub.brokers.idempotency import IdempotencyKeys
from hub.brokers.local.bus import WorkerBus, WorkerRoster
from hub.brokers.local.client import LocalBroker
from hub.brokers.local.link import WorkerLink
from hub.brokers.local.server import BrokerServer
from hub.brokers.memory import MemoryBroker
from hub.core.counters import Counters
from hub.core.ports import Downstream
from tests.brokers.conftest import NAMESPACES
from tests.brokers.rig import Rig
from tests.core.fakes import FakeClock
from tests.support.waiting import eventually

LOG = structlog.get_logger()


def memory_broker(downstream: Downstream, clock: FakeClock) -> MemoryBroker:
    """The broker that is served."""
    return MemoryBroker(
        downstream=downstream,
        namespaces=NAMESPACES,
        clock=clock,
        wall_clock=clock.wall,
        idempotency=IdempotencyKeys(ttl_seconds=300, clock=clock, max_keys=1000),
        position_ttl_seconds=7 * 86400,
        max_channels=100,
    )


class Tasks:
    """Runs coroutines, and fails the test with what they raise."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[object]] = set()
        self._errors: list[BaseException] = []

    def spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[object]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._errors.append(error)

    async def end(self) -> None:
        for task in tuple(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        assert self._errors == []


@dataclass
class BrokerProcess:
    """One that may be killed, and begun anew without what it held."""

    clock: FakeClock
    tasks: Tasks
    server: BrokerServer = field(init=False)
    memory: MemoryBroker = field(init=False)
    is_there: bool = True
    """Whether it takes connections."""
    ends: list[socket.socket] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """As a process does that has just started."""

        def make(downstream: Downstream) -> MemoryBroker:
            self.memory = memory_broker(downstream, self.clock)
            return self.memory

        self.server = BrokerServer(make, clock=self.clock, spawn=self.tasks.spawn, log=LOG)
        self.is_there = True

    def connect(self) -> socket.socket:
        """A worker's end of a new connection."""
        if not self.is_there:
            raise ConnectionRefusedError
        mine, theirs = socket.socketpair()
        theirs.setblocking(False)
        loop = asyncio.get_running_loop()

        async def accept(server: BrokerServer) -> None:
            await loop.create_connection(server.protocol, sock=theirs)

        self.tasks.spawn(accept(self.server))
        return mine

    def cut(self) -> None:
        """All connections end; the process lives."""
        for worker in tuple(self.server._workers):
            worker.frames.abort()

    def die(self) -> None:
        self.is_there = False
        self.cut()


class Worker(Rig):
    """One worker's side of the broker process: its link, its broker and its roster."""

    def __init__(
        self, process: BrokerProcess, tag: str, connect: Callable[[], socket.socket] | None = None
    ) -> None:
        super().__init__(process.clock)
        self.tag = tag
        self.counters = Counters()
        self._seen = 0
        self.link = WorkerLink(
            connect or process.connect,
            tag=tag,
            clock=process.clock,
            log=LOG,
            counters=self.counters,
        )
        self.broker = self.local = LocalBroker(
            self.link,
            downstream=self,
            namespaces=NAMESPACES,
            spawn=process.tasks.spawn,
            clock=process.clock,
            counters=self.counters,
            hold_total_bytes=1 << 20,
        )
        self.roster = WorkerRoster(self.link, spawn=process.tasks.spawn)
        self.bus = WorkerBus(self.link, spawn=process.tasks.spawn)

    @property
    def connects(self) -> int:
        return self.counters.broker_connects["commands"]

    async def is_up(self) -> None:
        await eventually(lambda: self.link.is_up)
        self._seen = self.connects

    async def is_down(self) -> None:
        """Or has been since it was seen to be up: it may be back before anybody looks."""
        await eventually(lambda: not self.link.is_up or self.connects > self._seen)


@dataclass
class Machine:
    process: BrokerProcess
    made: list[Worker] = field(default_factory=list)

    async def worker(self, tag: str = "") -> Worker:
        """One more, connected."""
        worker = Worker(self.process, tag or f"tag{len(self.made)}")
        self.made.append(worker)
        await worker.local.start()
        await worker.is_up()
        return worker


@contextlib.asynccontextmanager
async def machine() -> AsyncGenerator[Machine]:
    """A broker process without workers."""
    tasks = Tasks()
    made = Machine(BrokerProcess(FakeClock(), tasks))
    try:
        yield made
    finally:
        for worker in made.made:
            worker.link.stop()
        made.process.cut()
        await asyncio.sleep(0)
        await tasks.end()
