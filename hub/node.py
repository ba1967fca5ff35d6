"""One node without a listener: the composition root of the core.

Makes the parts and hands them to each other; what is asked of a node is `hub.node_api`.
"""

import logging
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version

from structlog.typing import FilteringBoundLogger

from hub.auth.policy import Policy
from hub.brokering import Surroundings, make_broker, make_peers, make_roster, make_tag
from hub.channel_lists import ChannelLists
from hub.core.aging import Aging
from hub.core.deadlines import Deadlines
from hub.core.engine import Engine, NodeOptions, Runtime
from hub.core.exchange import Exchange
from hub.core.executor import Executor
from hub.core.heartbeats import Heartbeats
from hub.core.journal import Journal
from hub.core.outbox import Pressure
from hub.core.ports import Defer, Spawn
from hub.core.presence import PresenceTable
from hub.core.publication import Position, Publication
from hub.core.pushes import Gap, Join, Leave, PresenceReset
from hub.core.rates import Rates
from hub.core.replay import Replay
from hub.core.reserved import STATS_CHANNEL
from hub.core.session import Session
from hub.core.session_context import SessionContext
from hub.core.subscribing import Subscribing
from hub.core.tally import Tally
from hub.draining import Drainer
from hub.errors import HubError
from hub.node_api import KnownChannels, NodeApi
from hub.observe.log_levels import BROKER, SESSION
from hub.observe.logs import session_log
from hub.observe.sampling import make_tracing
from hub.operating import Operations, Windows
from hub.overseeing import Overseeing
from hub.reporting import Limits, Reporter, publish_stats
from hub.settings import Settings
from hub.settings.memory import usable_bytes
from hub.transports.commanding import Commanding
from hub.transports.poll import PollTransport
from hub.transports.waiting_polls import WaitingPolls
from hub.wire.codes import CloseCode, close_code
from hub.wire.poll import PollDialect, SessionPollDialect

VERSION = version("broadcast-hub")

# Of payload taken in and not yet written; a broadcast at 1 us a delivery empties it in
# well under a second for 1,000 sessions. Guess, not measured.
_MAX_BACKLOG_BYTES = 32 * 1024 * 1024
# Ages differ by themselves, so whoever is too old may come back soon.
_MAX_AGE_RECONNECT_MS = 1000


class Node:
    """Owned by one event loop; call `tick` every `hub.core.deadlines.GRANULARITY_SECONDS`."""

    def __init__(
        self,
        settings: Settings,
        *,
        log: FilteringBoundLogger,
        spawn: Spawn,
        defer: Defer,
        lag_seconds: Callable[[], float],
    ) -> None:
        self.settings = settings
        self.log = log
        self._session_log = log.bind(subsystem=SESSION)
        self.clock = time.monotonic
        self.tally = Tally()
        self.started_seconds = time.time()
        self.deadlines = Deadlines(self.clock())
        self.pressure = Pressure(settings.outbox_total_bytes)
        self.policy = Policy(
            publish_keys=[key.get_secret_value() for key in settings.publish_keys],
            operator_keys=[key.get_secret_value() for key in settings.operator_keys],
            token_keys=[key.get_secret_value() for key in settings.token_keys],
            origins=settings.origins,
        )
        self.tag = make_tag()
        around = Surroundings(self, self.clock, spawn, log.bind(subsystem=BROKER), self.tally)
        self.broker = make_broker(settings, around)
        self._roster = make_roster(self.broker, around, tag=self.tag)
        self._rates = Rates(self.tally, self.clock)
        self._spawn = spawn
        self.journal = Journal(
            clock=self.clock, wall_clock=time.time, max_bytes=settings.journal_bytes
        )
        self._replay = Replay(self.broker, self.tally, self.journal)
        self.tracing = make_tracing(settings.trace_sample, node=settings.node, version=VERSION)
        self._exchange = Exchange(
            defer=defer,
            clock=self.clock,
            tally=self.tally,
            journal=self.journal,
            slice_sessions=settings.slice_sessions,
            on_written=self.tracing.written if self.tracing else None,
        )
        self._presence = PresenceTable(
            roster=self._roster,
            deadlines=self.deadlines,
            clock=self.clock,
            leave_delay_seconds=settings.leave_delay_seconds,
        )
        self._subscribing = Subscribing(
            broker=self.broker,
            exchange=self._exchange,
            presence=self._presence,
            namespaces=settings.namespaces(),
            limits=settings.session_limits(),
            tally=self.tally,
            journal=self.journal,
        )
        self._executor = Executor(
            broker=self.tracing.traced(self.broker) if self.tracing else self.broker,
            exchange=self._exchange,
            subscribing=self._subscribing,
            policy=self.policy,
            tally=self.tally,
            max_backlog_bytes=_MAX_BACKLOG_BYTES,
        )
        self.heartbeats = Heartbeats(
            heartbeat_seconds=settings.heartbeat_seconds,
            pong_timeout_seconds=settings.pong_timeout_seconds,
            clock=self.clock,
            tally=self.tally,
        )
        self.engine = Engine(
            options=NodeOptions(
                node=settings.node,
                version=VERSION,
                heartbeat_seconds=settings.heartbeat_seconds,
                max_connections=settings.max_connections,
                expiry_warning_seconds=settings.expiry_warning_seconds,
                close_timeout_seconds=settings.close_timeout_seconds,
                tag=self.tag,
            ),
            context=self._context(),
            executor=self._executor,
            heartbeats=self.heartbeats,
            aging=Aging(
                max_age_seconds=settings.max_connection_age_seconds,
                deadlines=self.deadlines,
                clock=self.clock,
                close=lambda session: session.close(
                    CloseCode.SERVICE_RESTART, "max_age", _MAX_AGE_RECONNECT_MS
                ),
            ),
            runtime=Runtime(spawn, self.deadlines, time.time, self._on_fault),
        )
        polling = PollTransport(
            engine=self.engine,
            dialect=PollDialect(),
            session_dialect=SessionPollDialect(),
            deadlines=self.deadlines,
            clock=self.clock,
        )
        self.drainer = Drainer(self.engine, self._is_alone)
        self.reporter = Reporter(
            node=settings.node,
            version=VERSION,
            started_seconds=self.started_seconds,
            engine=self.engine,
            subscribing=self._subscribing,
            pressure=self.pressure,
            broker=self.broker,
            tally=self.tally,
            rates=self._rates,
            clock=self.clock,
            limits=Limits(settings.max_connections, settings.outbox_total_bytes, usable_bytes()),
            problems=self.ready,
            lag_seconds=lag_seconds,
            drainer=self.drainer,
            journal=self.journal,
        )
        self.operations = Operations(
            engine=self.engine,
            journal=self.journal,
            subscribing=self._subscribing,
            broker=self.broker,
            drainer=self.drainer,
            windows=Windows(settings.drain_seconds, settings.ready_delay_seconds),
        )
        self.waiting_polls = WaitingPolls()
        self._peers = make_peers(
            self.broker,
            around,
            tag=self.tag,
            record=self.reporter.record,
            connections=Commanding(
                self.engine,
                polling.poll,
                node=settings.node,
                max_message_bytes=settings.max_message_bytes,
            ),
            operate=self.operations.carry_out,
        )
        self.operators = Overseeing(self._peers, self.operations.carry_out)
        known = KnownChannels(self.broker, self._subscribing)
        lists = ChannelLists(known.all, self._peers, clock=self.clock)
        self.operations.also("channels", lists.part)
        self.api = NodeApi(
            executor=self._executor,
            subscribing=self._subscribing,
            peers=self._peers,
            polling=polling,
            waiting_polls=self.waiting_polls,
            known=known,
            lists=lists,
            reporter=self.reporter,
        )

    def _context(self) -> SessionContext:
        return SessionContext(
            limits=self.settings.session_limits(),
            clock=self.clock,
            tally=self.tally,
            pressure=self.pressure,
            journal=self.journal,
            close_code=close_code,
            on_replay=lambda session: self._spawn(self._run_replay(session)),
            on_mark=self._exchange.mark,
            on_closed=self._on_closed,
            on_gone=lambda session: self.engine.gone(session),
        )

    # -- what the parts call; to the broker this is `hub.core.ports.Downstream`

    def deliver(self, publication: Publication) -> None:
        self._subscribing.deliver(publication)

    def lost(self, gap: Gap) -> None:
        self._subscribing.lost(gap)

    def reset(self, channel: str, head: Position) -> None:
        self._subscribing.reset(channel, head)
        if self._subscribing.options(channel).presence:
            self.announce(channel, PresenceReset(channel))

    def announce(self, channel: str, change: Join | Leave | PresenceReset) -> None:
        self._subscribing.announce(channel, change)
        if isinstance(change, PresenceReset):
            self._roster.refresh(channel)

    async def _run_replay(self, session: Session) -> None:
        try:
            await self._replay.run(session)
        except HubError as error:
            session.close_error(error)
        except Exception as error:  # noqa: BLE001 - logged; to go on would hide what is missing
            self._on_fault(session, error)
            session.close_error(HubError("internal error"))

    def _on_fault(self, session: Session, error: Exception) -> None:
        session_log(self.log, session).error("command_failed", exc_info=error)

    def _on_closed(self, session: Session, code: int, reason: str) -> None:
        self.engine.ended(session, code, reason)
        # Bound once: a close is too frequent to bind a logger only to hear that nobody listens.
        if self._session_log.is_enabled_for(logging.DEBUG):
            session_log(self.log, session).debug("session_closed", code=code, reason=reason)

    async def start(self) -> None:
        """Begin to connect to the broker; returns also when it is away, `ready` says so then."""
        await self.broker.start()
        await self._roster.start()
        await self._peers.start()
        if (interval_seconds := self.settings.stats_seconds) > 0:
            stats = publish_stats(
                self.broker.publish,
                self.reporter.record,
                interval_seconds=interval_seconds,
                wanted=self._stats_wanted,
            )
            self._spawn(stats)

    def _stats_wanted(self) -> bool:
        """With other nodes always: who reads there is not known here."""
        here = STATS_CHANNEL in self._subscribing.channels
        return here or self.broker.record().servers > 0

    async def stop(self) -> None:
        await self._peers.stop()
        await self.broker.stop()
        if self.tracing is not None:
            await self.tracing.stop()

    def tick(self) -> None:
        """What is due: deadlines, heartbeats, and a part of the broker's housekeeping."""
        self.deadlines.tick(self.clock())
        self.heartbeats.tick()
        self._rates.tick()
        self.journal.sweep()
        self.broker.sweep()

    def ready(self) -> Sequence[str]:
        """Why the node should get no traffic; empty when it should."""
        draining = ["draining"] if self.engine.draining else []
        return [*draining, *self.broker.problems()]

    async def _is_alone(self) -> bool:
        """True as well where the others cannot be asked: nobody may count on them then."""
        try:
            nodes = await self._peers.nodes()
        except HubError:
            return True
        return all(record.draining for record in nodes if record.node != self.settings.node)
