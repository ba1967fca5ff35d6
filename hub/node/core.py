"""The core of a node put together: all that serves sessions, on whatever broker.

Makes the parts and hands them to each other. What talks to other nodes and to operators is
put around it by `hub.node`.
"""

import logging
import time
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

from structlog.typing import FilteringBoundLogger

from hub.auth.policy import Policy
from hub.core.aging import Aging
from hub.core.deadlines import Deadlines
from hub.core.eager import begin
from hub.core.engine import Engine, Runtime
from hub.core.exchange import Exchange
from hub.core.executor import Executor
from hub.core.expiry import Expiry
from hub.core.heartbeats import Heartbeats
from hub.core.journal import Journal
from hub.core.options import NodeOptions
from hub.core.ports import Broker, Defer, Monotonic, Roster, Spawn
from hub.core.presence import PresenceTable
from hub.core.pressure import Pressure
from hub.core.replay import Replay
from hub.core.session import Session
from hub.core.session_context import SessionContext
from hub.core.subscribing import Subscribing
from hub.core.tally import Tally
from hub.errors import HubError
from hub.observe.log_levels import SESSION
from hub.observe.logs import session_log
from hub.observe.refusals import Refusals
from hub.settings import Settings
from hub.wire.codes import CloseCode, close_code

if TYPE_CHECKING:
    from hub.observe.tracing import Tracing

VERSION = version("broadcast-hub")

# Of payload taken in and not yet written; a broadcast at 1 us a delivery empties it in
# well under a second for 1,000 sessions. Guess, not measured.
_MAX_BACKLOG_BYTES = 32 * 1024 * 1024
# Ages differ by themselves, so whoever is too old may come back soon.
_MAX_AGE_RECONNECT_MS = 1000


@dataclass(frozen=True, slots=True)
class Shared:
    """What all parts of a node share, and what the process lends them."""

    log: FilteringBoundLogger
    clock: Monotonic
    spawn: Spawn
    defer: Defer
    tally: Tally
    awake: Monotonic
    """Counts no stall of the node (`hub.core.awake`)."""
    deadlines: Deadlines
    pressure: Pressure
    journal: Journal
    refusals: Refusals


class NodeCore:
    """One per node.

    Args:
        tag: what this node's connections begin with, and no other's.
        tracing: None where nothing is traced.
    """

    def __init__(
        self,
        settings: Settings,
        shared: Shared,
        *,
        tag: str,
        broker: Broker,
        roster: Roster,
        policy: Policy,
        tracing: "Tracing | None",
    ) -> None:
        self._settings = settings
        self._shared = shared
        self._broker = broker
        self._session_log = shared.log.bind(subsystem=SESSION)
        self.replay = Replay(broker, shared.tally, shared.journal)
        self._exchange = Exchange(
            defer=shared.defer,
            clock=shared.clock,
            tally=shared.tally,
            journal=shared.journal,
            slice_sessions=settings.slice_sessions,
            on_written=tracing.written if tracing else None,
        )
        self.subscribing = self._subscribing(broker, roster)
        self.executor = Executor(
            broker=tracing.traced(broker) if tracing else broker,
            exchange=self._exchange,
            subscribing=self.subscribing,
            policy=policy,
            tally=shared.tally,
            max_backlog_bytes=_MAX_BACKLOG_BYTES,
            on_refused=self._on_refused,
        )
        self.heartbeats = Heartbeats(
            heartbeat_seconds=settings.heartbeat_seconds,
            pong_timeout_seconds=settings.pong_timeout_seconds,
            clock=shared.clock,
            tally=shared.tally,
            awake=shared.awake,
        )
        self.engine = self._engine(tag)

    def _subscribing(self, broker: Broker, roster: Roster) -> Subscribing:
        settings, shared = self._settings, self._shared
        return Subscribing(
            broker=broker,
            exchange=self._exchange,
            presence=PresenceTable(
                roster=roster,
                deadlines=shared.deadlines,
                clock=shared.clock,
                leave_delay_seconds=settings.leave_delay_seconds,
            ),
            namespaces=settings.namespaces(),
            limits=settings.session_limits(),
            tally=shared.tally,
            journal=shared.journal,
        )

    def _engine(self, tag: str) -> Engine:
        settings, shared = self._settings, self._shared
        return Engine(
            options=NodeOptions(
                node=settings.node,
                version=VERSION,
                heartbeat_seconds=settings.heartbeat_seconds,
                max_connections=settings.max_connections,
                close_timeout_seconds=settings.close_timeout_seconds,
                tag=tag,
            ),
            context=self._context(),
            executor=self.executor,
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
                wall_clock=time.time,
            ),
            runtime=Runtime(shared.spawn, shared.deadlines, time.time, self._on_fault),
        )

    def _context(self) -> SessionContext:
        shared = self._shared
        return SessionContext(
            limits=self._settings.session_limits(),
            clock=shared.clock,
            tally=shared.tally,
            pressure=shared.pressure,
            journal=shared.journal,
            close_code=close_code,
            on_replay=self._on_replay,
            on_mark=self._exchange.mark,
            on_closed=self._on_closed,
            on_gone=lambda session: self.engine.gone(session),
        )

    # -- what sessions call ----------------------------------------------------------------

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
            error.code, address=session.link.address, reason=error.message
        )

    def _on_closed(self, session: Session, code: int, reason: str) -> None:
        self.engine.ended(session, code, reason)
        # Bound once: a close is too frequent to bind a logger only to hear that nobody listens.
        if self._session_log.is_enabled_for(logging.DEBUG):
            session_log(self._shared.log, session).debug("session_closed", code=code, reason=reason)
