"""Stand-ins for what the core is handed: time, tasks, the loop's next iteration, peers.

Nothing here runs by itself: a test says when a task goes on, when the loop turns, and how
many bytes a peer takes, so every interleaving can be tried and tried again.
"""

from array import array
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Sequence
from functools import partial

from hub.core.ports import (
    NO_DESCRIPTOR,
    PAGE_BYTES,
    Appearances,
    Defer,
    DirectoryBroker,
    HistoryPage,
    OnOpen,
    OnPublished,
    PublishRequest,
    PublishResult,
    StatePage,
)
from hub.core.session.session import Session
from hub.errors import HubError

# 2023-11-14: any moment does, it only has to be far from 0.
WALL_START_SECONDS = 1_700_000_000.0
ENDLESS = 1 << 40
"""More bytes than any test writes: a peer that takes everything at once."""
# A task that needs more steps than this is stuck in a loop.
_MAX_STEPS = 20_000


class FakeClock:
    """Monotonic seconds that pass only when told to."""

    def __init__(self, now_seconds: float = 1000.0) -> None:
        self.now_seconds = now_seconds
        self.wall_jump_seconds = 0.0
        """By how much somebody has set the wall clock."""

    def __call__(self) -> float:
        return self.now_seconds

    def wall(self) -> float:
        """Seconds since 1970."""
        return WALL_START_SECONDS + self.now_seconds + self.wall_jump_seconds

    def advance(self, seconds: float) -> None:
        self.now_seconds += seconds


class ManualLoop:
    """The event loop's next iteration, and tasks that go on one step at a time."""

    def __init__(self) -> None:
        self.callbacks: deque[Callable[[], None]] = deque()
        self.tasks: deque[Coroutine[object, object, None]] = deque()

    def defer(self, callback: Callable[[], None]) -> None:
        self.callbacks.append(callback)

    def spawn(self, task: Coroutine[object, object, None]) -> None:
        self.tasks.append(task)

    def turn(self) -> None:
        """Run what was deferred before this turn."""
        for _ in range(len(self.callbacks)):
            self.callbacks.popleft()()

    def step(self) -> None:
        """Let the task that waited longest go on to where it waits again."""
        if self.tasks:
            task = self.tasks.popleft()
            try:
                task.send(None)
            except StopIteration:
                return
            self.tasks.append(task)

    def settle(self) -> None:
        """Turn and step until nothing is left to do."""
        for _ in range(_MAX_STEPS):
            if not self.tasks and not self.callbacks:
                return
            self.turn()
            self.step()
        raise AssertionError(f"not settled after {_MAX_STEPS:,} steps")


class Pause:
    """Awaited, it lets everybody else have a turn, as a broker's answer over a network does."""

    def __await__(self) -> Generator[None, None, None]:
        yield


class LatentBroker:
    """A broker whose every answer takes a while, both on the way there and back."""

    answers_at_once = False
    publish_now = None
    publish_many_now = None
    publish_many = None

    def __init__(self, broker: DirectoryBroker, defer: Defer) -> None:
        self._broker = broker
        self._defer = defer

    def follow(self, appearances: Appearances) -> None:
        self._broker.follow(appearances)

    async def matching(self, pattern: str, most: int) -> Sequence[str]:
        await Pause()
        names = await self._broker.matching(pattern, most)
        await Pause()
        return names

    def expect(self, channels: Sequence[str]) -> None:
        self._broker.expect(channels)

    def unfollow(self) -> None:
        self._broker.unfollow()

    async def publish(self, request: PublishRequest) -> PublishResult:
        await Pause()
        result = await self._broker.publish(request)
        await Pause()
        return result

    def publish_soon(self, request: PublishRequest, on_done: OnPublished) -> None:
        publish_now = self._broker.publish_now
        assert publish_now is not None

        def take() -> None:
            outcome: PublishResult | HubError
            try:
                outcome = publish_now(request)
            except HubError as error:
                outcome = error
            self._defer(partial(on_done, outcome))

        self._defer(take)

    async def subscribe(self, channel: str, on_open: OnOpen) -> None:
        await Pause()
        await self._broker.subscribe(channel, on_open)
        await Pause()

    def unsubscribe(self, channel: str) -> None:
        self._broker.unsubscribe(channel)

    async def history(
        self, channel: str, after: int, limit: int, *, max_bytes: int = PAGE_BYTES
    ) -> HistoryPage:
        await Pause()
        page = await self._broker.history(channel, after, limit, max_bytes=max_bytes)
        await Pause()
        return page

    async def state(
        self,
        channel: str,
        after: str,
        limit: int,
        *,
        upto: int | None = None,
        max_bytes: int = PAGE_BYTES,
    ) -> StatePage:
        await Pause()
        page = await self._broker.state(channel, after, limit, upto=upto, max_bytes=max_bytes)
        await Pause()
        return page

    async def clear(self, channel: str) -> None:
        await Pause()
        await self._broker.clear(channel)
        await Pause()


class FakeKernel:
    """Sockets by their numbers. A new one gets the lowest that is free (POSIX, `open`).

    What is written past a link must not be: to a number that was closed, over what the link
    holds back, or behind its end.
    """

    def __init__(self) -> None:
        self.links: dict[int, FakeLink] = {}

    def open(self, link: "FakeLink") -> int:
        number = next(n for n in range(len(self.links) + 1) if n not in self.links)
        self.links[number] = link
        return number

    def write_each(
        self, descriptors: "array[int]", start: int, data: bytes
    ) -> tuple[int, int] | None:
        """Implements `hub.core.ports.WriteEach`."""
        for descriptor in descriptors[start:]:
            if descriptor == NO_DESCRIPTOR:
                continue
            assert descriptor in self.links, f"{descriptor} is no open socket"
            link = self.links[descriptor]
            assert link.descriptor == descriptor, f"written past what {descriptor} holds back"
            if (taken := link.send(data)) != len(data):
                return descriptor, taken
        return None


class FakeLink:
    """A peer that takes `room` more bytes and then blocks until it is drained.

    What is in `received` has reached the peer; what was handed over behind it waits in
    `pending`, as in a transport's own buffer.
    """

    address = "192.0.2.1"
    user_agent = "fake"

    def __init__(
        self,
        defer: Callable[[Callable[[], None]], object],
        *,
        room: int = ENDLESS,
        answers_pings: bool = False,
        transport: str = "websocket",
        kernel: FakeKernel | None = None,
    ) -> None:
        """`kernel` has its socket; None where it has no plain one."""
        self._kernel = kernel
        self._number = None if kernel is None else kernel.open(self)
        self._defer = defer
        self.room = room
        self.answers_pings = answers_pings
        self.transport = transport
        self.session: Session | None = None
        self.received = bytearray()
        self.pending = bytearray()
        self.corked: bytearray | None = None
        self.writes = 0
        """How often the peer's socket was written to."""
        self.acknowledged = 0
        self.asked_of_kernel = 0
        """How often what is acknowledged was asked for."""
        self.unsent = 0
        self.reading = True
        self.closed: tuple[int, str] | None = None
        self.aborted = False
        self.was_short = False
        """Whether the peer ever took less than it was offered."""

    @property
    def descriptor(self) -> int | None:
        held_back = self.pending or self.corked is not None
        return NO_DESCRIPTOR if held_back and self._number is not None else self._number

    def _close_socket(self) -> None:
        if self._kernel is not None and self._number is not None:
            del self._kernel.links[self._number]
            self._number = None
        self._stand_apart()

    def _stand_apart(self) -> None:
        if self.session is not None:
            self.session.stand_apart()

    def send(self, data: bytes) -> int:
        if self.closed or self.aborted:
            return len(data)
        if self.pending:
            return 0
        if self.corked is not None:
            self.corked += data
            return len(data)
        self.writes += 1
        taken = min(self.room, len(data))
        self.room -= taken
        self.received += data[:taken]
        self.was_short |= taken < len(data)
        return taken

    def cork(self, head: bytes = b"") -> None:
        self.corked = bytearray(head)

    def uncork(self) -> bool:
        gathered, self.corked = self.corked, None
        if not gathered:
            return True
        taken = self.send(bytes(gathered))
        if complete := taken == len(gathered):
            return complete
        self.finish(bytes(gathered[taken:]))
        return False

    def finish(self, rest: bytes) -> None:
        if self.closed or self.aborted:
            return
        self.pending += rest
        self._move()
        if not self.pending:
            self._defer(self._on_writable)
        else:
            self._stand_apart()

    def drain(self, size: int = ENDLESS) -> None:
        """The peer takes `size` bytes more."""
        self.room += size
        waited = bool(self.pending)
        self._move()
        if waited and not self.pending:
            self._on_writable()

    def _move(self) -> None:
        taken = min(self.room, len(self.pending))
        self.room -= taken
        self.received += self.pending[:taken]
        del self.pending[:taken]

    def _on_writable(self) -> None:
        if self.session is not None and not self.pending and not self.aborted:
            self.session.on_writable()

    def ping(self, payload: bytes) -> bytes:
        return b"\x89" + bytes((len(payload),)) + payload

    def acknowledged_bytes(self) -> int:
        self.asked_of_kernel += 1
        return self.acknowledged

    def unsent_bytes(self) -> int:
        return self.unsent

    @property
    def unread(self) -> bool:
        return not self.reading

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self, code: int, reason: str) -> None:
        self.uncork()
        self.closed = code, reason
        self._close_socket()

    def abort(self) -> None:
        self.aborted = True
        self._close_socket()
