"""The whole core on fakes, put together by `hub.node.core`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

from structlog.typing import FilteringBoundLogger

from hub.admin.explain import Evidence
from hub.brokers.idempotency import IdempotencyKeys
from hub.brokers.memory import MemoryBroker
from hub.core.commands import Command, InUrl
from hub.core.fanout.presence import LocalRoster
from hub.core.forensics.explaining import Explainer
from hub.core.forensics.journal import Recall
from hub.core.forensics.question import Explanation, Question
from hub.core.identity import Identity
from hub.core.limits import PeerLimits
from hub.core.options import Namespaces, SessionLimits
from hub.core.ports import Dialect, DirectoryBroker, PublishRequest, PublishResult, WriteEach
from hub.core.publication import Position, Publication
from hub.core.pushes import Change, Gap, GapReason, Member, PresenceReset
from hub.core.session.session import Session
from hub.errors import UnauthorizedError
from hub.node.core import NodeCore, Shared
from hub.wire.websocket import TextDialect
from tests.core.fakes import (
    ENDLESS,
    FakeClock,
    FakeKernel,
    FakeLink,
    LatentBroker,
    ManualLoop,
)

ANYTHING = Identity(subscribe=("*",), publish=("*",))


class NotingBroker(MemoryBroker):
    """The real one; it also keeps a note of everything it was given."""

    def __init__(self, **parts: Any) -> None:  # `MemoryBroker` declares and checks them
        super().__init__(**parts)
        self.notes: dict[tuple[str, str], dict[int, PublishRequest]] = {}
        """By channel and epoch: what was published under which offset."""

    def publish_now(self, request: PublishRequest) -> PublishResult:
        result = super().publish_now(request)
        place = result.position
        self.notes.setdefault((request.channel, place.epoch), {}).setdefault(place.offset, request)
        return result

    def begin_epoch(self, channel: str) -> Position | None:
        """Forget the channel's sequence, as a Redis without its tail does.

        Returns the new head where the node has to be told.
        """
        before = self._logs[channel]
        self._forget(before)
        self._epochs.end(channel)
        after = self.log(channel)
        after.subscribed = before.subscribed
        self.place(after)
        return after.head if after.subscribed else None

    def oldest(self, channel: str, epoch: str) -> int | None:
        """The first offset held of this epoch; None when it is over."""
        log = self._logs.get(channel)
        return log.oldest if log is not None and log.epoch == epoch else None


class FakePolicy:
    """Knows tokens by their text."""

    def __init__(self) -> None:
        self.known: dict[str, Identity] = {}

    def authenticate(self, token: str) -> Identity:
        if token not in self.known:
            raise UnauthorizedError("unknown token")
        return self.known[token]


@dataclass
class Shape:
    """The options of a node that a test chooses."""

    namespaces: Namespaces = field(default_factory=Namespaces)
    limits: SessionLimits = field(default_factory=SessionLimits)
    peer_limits: PeerLimits = field(default_factory=PeerLimits)
    slice_sessions: int = 1000
    outbox_total_bytes: int = 1 << 30
    journal_bytes: int = 1 << 26
    max_age_seconds: float = 0
    latent: bool = False
    """Whether the broker's answers take a while."""
    leave_delay_seconds: float = 0
    max_backlog_bytes: int = 1 << 30
    max_connections: int = 1000
    close_timeout_seconds: float = 5


@dataclass
class _Settings:
    """The settings that a `Shape` stands for: `hub.node.core.CoreSettings`."""

    shape: Shape
    node: str = "node-1"
    heartbeat_seconds: float = 25
    pong_timeout_seconds: float = 10
    expiry_warning_seconds: float = 30

    def __post_init__(self) -> None:
        self.max_connections = self.shape.max_connections
        self.close_timeout_seconds = self.shape.close_timeout_seconds
        self.slice_sessions = self.shape.slice_sessions
        self.leave_delay_seconds = self.shape.leave_delay_seconds
        self.max_connection_age_seconds = self.shape.max_age_seconds
        self.outbox_total_bytes = self.shape.outbox_total_bytes
        self.journal_bytes = self.shape.journal_bytes

    def namespaces(self) -> Namespaces:
        return self.shape.namespaces

    def session_limits(self) -> SessionLimits:
        return self.shape.limits

    def peer_limits(self) -> PeerLimits:
        return self.shape.peer_limits


class NeverStalled:
    """The time of a node that always comes in time."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock

    def __call__(self) -> float:
        return self._clock()

    def behind_seconds(self) -> float:
        return 0.0


class FaultLog:
    """Keeps the errors that are the hub's own, as far as a logger is asked to log them."""

    def __init__(self) -> None:
        self.faults: list[Exception] = []

    def bind(self, **_context: object) -> "FaultLog":
        return self

    def is_enabled_for(self, _level: int) -> bool:
        return False

    def error(self, _event: str, *, exc_info: Exception) -> None:
        self.faults.append(exc_info)

    def warning(self, _event: str, **_context: object) -> None:
        """Refusals are counted elsewhere."""

    info = warning


class SmallNode:
    """Nothing moves until `loop` is turned."""

    def __init__(self, shape: Shape | None = None, write_each: WriteEach | None = None) -> None:
        shape = shape or Shape()
        self.kernel = FakeKernel()
        self.shape = shape
        self.clock = FakeClock()
        self.loop = ManualLoop()
        self.policy = FakePolicy()
        self.lost_offsets: set[tuple[str, str, int]] = set()
        self.losing = False
        """Whether what is published now gets lost between the broker and this node."""
        log = FaultLog()
        self.faults = log.faults
        settings = _Settings(shape)
        shared = Shared(
            settings,
            log=cast("FilteringBoundLogger", log),
            clock=self.clock,
            wall_clock=self.clock.wall,
            awake=NeverStalled(self.clock),
            spawn=self.loop.spawn,
            defer=self.loop.defer,
        )
        shared.write_each = write_each or self.kernel.write_each
        shared.max_backlog_bytes = shape.max_backlog_bytes
        self.counters = shared.counters
        self.deadlines = shared.deadlines
        self.outbox_budget = shared.outbox_budget
        self.journal = shared.journal
        self.memory = NotingBroker(
            downstream=self,
            namespaces=shape.namespaces,
            clock=self.clock,
            wall_clock=self.clock.wall,
            idempotency=IdempotencyKeys(ttl_seconds=300, clock=self.clock),
            position_ttl_seconds=7 * 86400,
            max_channels=1000,
        )
        self.broker: DirectoryBroker = (
            LatentBroker(self.memory, self.loop.defer) if shape.latent else self.memory
        )
        core = NodeCore(
            settings,
            shared,
            tag="",
            broker=self.broker,
            roster=LocalRoster(self.announce),
            policy=self.policy,
        )
        self.fanout, self.presence = core.fanout, core.presence
        self.subscribing, self.command_handler = core.subscribing, core.command_handler
        self.channels, self.membership = core.channels, core.membership
        self.downstream, self.presence_commands = core.downstream, core.presence_commands
        self.heartbeats, self.replay = core.heartbeats, core.replay
        self.registry, self.patterns = core.registry, core.patterns
        self.commands = core.registry.commands
        self.publishing, self.reading = core.publishing, core.reading

    # -- hub.core.ports.Downstream -----------------------------------------------------------

    def deliver(self, publication: Publication) -> None:
        if self.losing:
            name, offset = publication.channel, publication.offset
            epoch = self.channels[name].epoch
            self.lost_offsets.add((name, epoch, offset))
            self.lost(Gap(name, epoch, offset, offset, GapReason.BROKER))
        else:
            self.downstream.deliver(publication)

    def lost(self, gap: Gap) -> None:
        self.downstream.lost(gap)

    def reset(self, channel: str, head: Position) -> None:
        self.downstream.reset(channel, head)

    def announce(self, channel: str, change: Change | PresenceReset) -> None:
        self.downstream.announce(channel, change)

    # -- what tests do -------------------------------------------------------------------------

    @contextmanager
    def losing_all(self) -> Iterator[None]:
        """Publications during the block never reach the node, and the broker announces the loss."""
        self.losing = True
        yield
        self.losing = False

    def open(
        self,
        *,
        room: int = ENDLESS,
        dialect: Dialect | None = None,
        identity: Identity = ANYTHING,
        answers_pings: bool = False,
        transport: str = "websocket",
        subscriptions: Sequence[InUrl] = (),
        plain: bool = True,
    ) -> tuple[Session, FakeLink]:
        """A session of a peer that takes `room` bytes, and asks for this in its URL.

        `plain` is whether its socket may be written to past its link.
        """
        link = FakeLink(
            self.loop.defer,
            room=room,
            answers_pings=answers_pings,
            transport=transport,
            kernel=self.kernel if plain else None,
        )
        session = self.registry.open(link, dialect or TEXT, identity, subscriptions=subscriptions)
        return session, link

    def do(self, session: Session, command: Command) -> None:
        """Have the command carried out, and everything that follows from it."""
        self.commands.submit(session, command)
        self.loop.settle()

    def wait(self, seconds: float) -> None:
        """Let time pass, and do what is due then."""
        self.clock.advance(seconds)
        self.deadlines.tick(self.clock())
        self.loop.settle()

    def publish(self, channel: str, data: bytes = b"1", key: str | None = None) -> PublishResult:
        """Publish from outside; nothing is written before the loop turns."""
        return self.request(PublishRequest(channel, data, "backend", key=key))

    def request(self, request: PublishRequest) -> PublishResult:
        """Publish at once, also where the broker is latent."""
        results: list[PublishResult] = []

        async def publish() -> None:
            results.append(await self.memory.publish(request))

        coroutine = publish()
        try:
            coroutine.send(None)
        except StopIteration:
            return results[0]
        raise AssertionError("the memory broker waited while publishing")

    def evidence(self, recall: Recall | None = None) -> Evidence:
        """Returns what this node knows of the fate of publications."""
        return Evidence(self.registry, self.journal, self.channels, self.memory, recall)

    def members(self, channel: str) -> Sequence[Member]:
        """Returns the members of a channel; the local roster never waits."""
        asking = self.presence_commands.members(channel)
        try:
            asking.send(None)
        except StopIteration as stop:
            members: Sequence[Member] = stop.value
            return members
        raise AssertionError("the local roster waited")

    def explain(self, session: Session, question: Question) -> Explanation:
        """Returns what became of a publication on its way to a session, open or ended."""
        closed = self.journal.closed.get(session.id)
        open_ = self.registry.sessions.get(session.id)
        return Explainer(question, self.journal, session=open_, closed=closed).explain()

    def begin_epoch(self, channel: str) -> None:
        """The broker lost the channel's sequence; subscribers are told."""
        if (head := self.memory.begin_epoch(channel)) is not None:
            self.reset(channel, head)


TEXT = TextDialect()


def limits(**changes: int) -> SessionLimits:
    """Returns the default limits with `changes`."""
    return replace(SessionLimits(), **changes)
