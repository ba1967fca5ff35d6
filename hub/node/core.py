"""The core of a node put together: all that serves sessions, on whatever broker.

It makes the parts and hands them to each other. The parts that talk to other nodes and to operators
are put around it by `hub.node.node`.
"""

import logging
from collections.abc import Callable
from importlib import metadata
from typing import TYPE_CHECKING, Protocol

from structlog.typing import FilteringBoundLogger

from hub.core.command_handler import CommandHandler
from hub.core.counters import Counters
from hub.core.eager import begin
from hub.core.fanout.fanout import Fanout, FanoutRuntime
from hub.core.fanout.membership import Membership
from hub.core.fanout.open_channels import OpenChannels
from hub.core.fanout.presence import PresenceCommands, PresenceTable
from hub.core.forensics.journal import Journal
from hub.core.hooks import Hooks
from hub.core.limits import Limiter, PeerLimits
from hub.core.options import MIB, Namespaces, NodeOptions, SessionLimits
from hub.core.ports import (
    Defer,
    DirectoryBroker,
    InTurn,
    Monotonic,
    Roster,
    Spawn,
    TokenPolicy,
    WriteEach,
)
from hub.core.publishing import ChannelDownstream, Publishing
from hub.core.reading import ChannelReading
from hub.core.recovery.pattern_subscribing import PatternSubscribing
from hub.core.recovery.replay import Replay
from hub.core.recovery.subscribing import Subscribing
from hub.core.refused import RefusedTable
from hub.core.registry import Runtime, SessionRegistry
from hub.core.session.link import SessionContext
from hub.core.session.outbox_budget import OutboxBudget
from hub.core.session.session import Session
from hub.core.time.deadlines import Deadlines
from hub.core.time.heartbeats import Heartbeats
from hub.core.time.lifetimes import Aging, Expiry
from hub.errors import HubError, SettingsError
from hub.observe.log_levels import SESSION
from hub.observe.logs import session_log
from hub.observe.refusals import Refusals
from hub.transports.stream import write_each
from hub.wire.codes import CloseCode, close_code

if TYPE_CHECKING:
    from hub.observe.tracing import Tracing

VERSION = metadata.version("broadcast-hub")

# Ages differ by themselves, so a session that is too old may come back soon.
_MAX_AGE_RECONNECT_MS = 1000


class CoreSettings(Protocol):
    """The settings that the core is made from."""

    node: str
    slice_sessions: int
    heartbeat_seconds: float
    pong_timeout_seconds: float
    leave_delay_seconds: float
    max_connections: int
    close_timeout_seconds: float
    max_connection_age_seconds: float
    expiry_warning_seconds: float
    outbox_total_bytes: int
    journal_bytes: int

    def namespaces(self) -> Namespaces: ...

    def session_limits(self) -> SessionLimits: ...

    def peer_limits(self) -> PeerLimits: ...


class Awake(Protocol):
    """Time that counts no stall of the node; `hub.core.time.deadlines.AwakeClock`."""

    def __call__(self) -> float: ...

    def behind_seconds(self) -> float: ...


class Shared:
    """Parts that all of a node share, and those that the process lends it.

    Args:
        wall_clock: seconds since 1970 UTC.
    """

    max_backlog_bytes = 32 * MIB
    """Bytes of payload taken in and not yet written; at 1 us a delivery a broadcast to 1,000
    sessions writes them in well under a second. Guess, not measured."""

    def __init__(
        self,
        settings: CoreSettings,
        *,
        log: FilteringBoundLogger,
        clock: Monotonic,
        wall_clock: Callable[[], float],
        awake: Awake,
        spawn: Spawn,
        defer: Defer,
    ) -> None:
        self.log = log
        self.clock = clock
        self.wall_clock = wall_clock
        self.awake = awake
        self.spawn = spawn
        self.defer = defer
        self.in_turn: InTurn = lambda work, _address: defer(work)
        self.write_each: WriteEach = write_each
        self.counters = Counters()
        self.deadlines = Deadlines(
            clock(), behind_seconds=awake.behind_seconds, clock=clock, defer=defer
        )
        self.outbox_budget = OutboxBudget(settings.outbox_total_bytes)
        self.journal = Journal(clock=clock, wall_clock=wall_clock, max_bytes=settings.journal_bytes)
        self.refusals = Refusals(
            log=log,
            table=RefusedTable(settings.node, lambda: int(wall_clock() * 1000)),
            in_seconds=lambda seconds, then: self.deadlines.at(clock() + seconds, then),
        )


class NodeCore:
    """The parts that serve the sessions of a node.

    Args:
        tag: begins the ids of this node's connections, and of no other's.
        tracing: None where nothing is traced.
        hooks: None where the application is asked nothing.
    """

    def __init__(  # noqa: PLR0913 - made once, of all that has a say
        self,
        settings: CoreSettings,
        shared: Shared,
        *,
        tag: str,
        broker: DirectoryBroker,
        roster: Roster,
        policy: TokenPolicy,
        tracing: "Tracing | None" = None,
        hooks: Hooks | None = None,
    ) -> None:
        self._settings = settings
        self._shared = shared
        self._broker = broker
        self.limiter = Limiter(
            settings.peer_limits(), shared.clock, shared.counters, shared.refusals.held
        )
        self._session_log = shared.log.bind(subsystem=SESSION)
        self.replay = Replay(broker, shared.counters, shared.journal)
        self.fanout = Fanout(
            runtime=FanoutRuntime(shared.defer, shared.clock, shared.write_each, shared.deadlines),
            counters=shared.counters,
            journal=shared.journal,
            outbox_budget=shared.outbox_budget,
            find_session=lambda connection: self.registry.sessions.get(connection),
            slice_sessions=settings.slice_sessions,
            on_written=tracing.written if tracing else None,
        )
        self.presence = PresenceTable(
            roster=roster,
            deadlines=shared.deadlines,
            clock=shared.clock,
            wall_clock=shared.wall_clock,
            leave_delay_seconds=settings.leave_delay_seconds,
        )
        namespaces = settings.namespaces()
        self.channels = OpenChannels(broker, namespaces, group_members=settings.slice_sessions)
        self.downstream = ChannelDownstream(
            self.channels, self.fanout, counters=shared.counters, journal=shared.journal
        )
        self.presence_commands = PresenceCommands(self.channels, self.fanout, self.presence)
        self.membership = Membership(
            channels=self.channels,
            fanout=self.fanout,
            presence=self.presence,
            journal=shared.journal,
            in_turn=shared.in_turn,
        )
        self.subscribing = Subscribing(
            membership=self.membership,
            replay=self.replay,
            fanout=self.fanout,
            presence=self.presence,
            limits=settings.session_limits(),
            counters=shared.counters,
            journal=shared.journal,
        )
        self.patterns = PatternSubscribing(
            membership=self.membership,
            subscribing=self.subscribing,
            fanout=self.fanout,
            broker=broker,
            limits=settings.session_limits(),
            spawn=shared.spawn,
            on_fault=self._on_fault,
        )
        traced = tracing.traced(broker) if tracing else broker
        self.publishing = Publishing(
            traced, self.fanout, shared.counters, max_backlog_bytes=shared.max_backlog_bytes
        )
        self.reading = ChannelReading(traced, namespaces)
        self.command_handler = CommandHandler(
            publishing=self.publishing,
            reading=self.reading,
            membership=self.membership,
            subscribing=self.subscribing,
            patterns=self.patterns,
            presence=self.presence_commands,
            policy=policy,
            counters=shared.counters,
            answers_at_once=traced.answers_at_once,
            on_refused=self._on_refused,
            hooks=hooks,
        )
        self.heartbeats = Heartbeats(
            heartbeat_seconds=settings.heartbeat_seconds,
            pong_timeout_seconds=settings.pong_timeout_seconds,
            clock=shared.clock,
            counters=shared.counters,
            defer=shared.defer,
            awake=shared.awake,
        )
        self.registry = self._registry(tag)

    def _registry(self, tag: str) -> SessionRegistry:
        settings, shared = self._settings, self._shared
        return SessionRegistry(
            options=NodeOptions(
                node=settings.node,
                version=VERSION,
                heartbeat_seconds=settings.heartbeat_seconds,
                max_connections=settings.max_connections,
                close_timeout_seconds=settings.close_timeout_seconds,
                tag=tag,
            ),
            context=self._context(),
            command_handler=self.command_handler,
            heartbeats=self.heartbeats,
            aging=Aging(
                max_age_seconds=settings.max_connection_age_seconds,
                deadlines=shared.deadlines,
                clock=shared.clock,
                close=lambda session: session.close(
                    CloseCode.SERVICE_RESTART, "max_age", _MAX_AGE_RECONNECT_MS
                ),
            ),
            expiry=Expiry(
                warning_seconds=settings.expiry_warning_seconds,
                deadlines=shared.deadlines,
                clock=shared.clock,
                wall_clock=shared.wall_clock,
                on_refused=self._on_refused,
            ),
            runtime=Runtime(
                shared.spawn, shared.defer, shared.deadlines, shared.wall_clock, self._on_fault
            ),
        )

    def _context(self) -> SessionContext:
        shared = self._shared
        return SessionContext(
            limits=self._settings.session_limits(),
            limiter=self.limiter,
            clock=shared.clock,
            counters=shared.counters,
            outbox_budget=shared.outbox_budget,
            journal=shared.journal,
            close_code=close_code,
            on_replay=self._on_replay,
            on_mark=self.fanout.mark,
            on_closed=self._on_closed,
            on_gone=lambda session: self.registry.gone(session),
        )

    # -- called by sessions ----------------------------------------------------------------

    def _on_replay(self, session: Session) -> None:
        replay = self._run_replay(session)
        if not self._broker.answers_at_once:
            self._shared.spawn(replay)
        elif (rest := begin(replay)) is not None:
            self._shared.spawn(rest.run())

    async def _run_replay(self, session: Session) -> None:
        try:
            await self.replay.run(session)
        except HubError as error:
            session.close_error(error)
        except Exception as error:  # noqa: BLE001 - logged; to go on would hide what is missing
            self._on_fault(session, error)
            session.close_error(HubError("internal error"))

    def _on_fault(self, session: Session, error: Exception) -> None:
        session_log(self._shared.log, session).error("command_failed", exc_info=error)

    def _on_refused(self, session: Session, error: HubError) -> None:
        self._shared.refusals.refused(
            error.code,
            address=session.link.address,
            reason=error.message,
            refusal=error.refusal,
        )

    def _on_closed(self, session: Session, code: int, reason: str) -> None:
        self.registry.ended(session, code, reason)
        # Bound once: a close is too frequent to bind a logger only to find the level off.
        if self._session_log.is_enabled_for(logging.DEBUG):
            session_log(self._shared.log, session).debug("session_closed", code=code, reason=reason)


def make_tracing(share: float, *, node: str, version: str) -> "Tracing | None":
    """Make the tracing of `share` of the publications; None where it is 0.

    OpenTelemetry is an extra, loaded only where it is wanted.

    Raises:
        SettingsError: the extra is not installed.
    """
    if not share:
        return None
    try:
        from hub.observe.tracing import Tracing  # noqa: PLC0415 - an extra that few install
    except ImportError as error:
        raise SettingsError(
            f"HUB_TRACE_SAMPLE is {share:g}, but OpenTelemetry is not installed ({error}): "
            "install broadcast-hub[otel]; allowed without it: 0"
        ) from error
    return Tracing(share, node=node, version=version)
