"""One node without a listener: its core, and around it the parts for other nodes and operators.

It makes the parts and hands them to each other (those of the core: `hub.node.core`); calls to a
node are `hub.node.api`.
"""

import time
from collections.abc import Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry
from structlog.typing import FilteringBoundLogger

from hub.admin.channels import ChannelHandlers, Patterns
from hub.admin.connections import ConnectionHandlers, SubjectHandlers
from hub.admin.debugging import DebuggingHandlers
from hub.admin.drain import Drainer, Draining
from hub.admin.explain import Evidence, Explaining
from hub.admin.refused import RefusedHandlers
from hub.admin.requests import Handlers
from hub.admin.rpc import AdminRpc
from hub.admin.scraping import Scraped, scraping
from hub.admin.sessions import SessionHandlers
from hub.admin.subject_here import SubjectExplaining
from hub.archive.disk_journal import DiskJournal
from hub.archive.writer import Writer
from hub.auth.keys import HeldKey
from hub.auth.proxies import TrustedProxies
from hub.core.counters import Rates
from hub.core.options import ACCESS_CHANNEL
from hub.core.ports import Defer, Roster, Spawn
from hub.core.publication import Position, Publication
from hub.core.pushes import Change, Gap, PresenceReset
from hub.core.time.deadlines import AwakeClock
from hub.errors import HubError
from hub.node.access import end_without_key, policy_of, provider_of
from hub.node.api import KnownChannels, NodeApi
from hub.node.bans_file import access_log_of
from hub.node.broker import is_all_here, make_brokerage, make_tag
from hub.node.core import VERSION, NodeCore, Shared, make_tracing
from hub.node.file_watch import KeyWatch, TokenKeyWatch, key_files, watched_file
from hub.node.hooks import held_elsewhere, held_handlers, hooks_of, watched, watching_of
from hub.node.stats import Outage, Reporter, publish_stats, say_farewell
from hub.node.supervisor.roles import Worker
from hub.observe.background import QUIET_SECONDS
from hub.observe.log_levels import BROKER, HTTP
from hub.observe.loop_lag import LoopLag
from hub.observe.metrics import HubCollector, Metrics
from hub.settings import Settings
from hub.settings.machine import usable_bytes
from hub.transports.connection.sockets import Sockets
from hub.transports.http.bodies import BodyBudget
from hub.transports.poll import PollTransport, WaitingPolls
from hub.transports.poll_link import is_between_polls
from hub.transports.poll_sessions import PollSessions
from hub.transports.turns import Turns


class Node:
    """Owned by one event loop; call `tick` every `hub.core.time.deadlines.GRANULARITY_SECONDS`."""

    def __init__(
        self,
        settings: Settings,
        *,
        log: FilteringBoundLogger,
        spawn: Spawn,
        defer: Defer,
        lag: LoopLag,
        worker: Worker | None = None,
    ) -> None:
        self.settings = settings
        self.log = log
        self.clock = time.monotonic
        self.started_seconds = time.time()
        self.awake = AwakeClock(self.clock)
        shared = Shared(
            settings,
            log=log,
            clock=self.clock,
            wall_clock=time.time,
            awake=self.awake,
            spawn=spawn,
            defer=defer,
        )
        self.turns = Turns(self.clock, time.thread_time)
        shared.in_turn = self.turns.crowd.wait
        self.counters = shared.counters
        self.deadlines = shared.deadlines
        self.outbox_budget = shared.outbox_budget
        self.journal = shared.journal
        self.refusals = shared.refusals
        self.archive = make_archive(settings, shared)
        self.journal.archive = self.archive
        self._provider = provider_of(settings, shared)
        self.tag = make_tag()
        brokerage = make_brokerage(settings, shared, tag=self.tag, downstream=self, worker=worker)
        self.broker, self._roster = brokerage.broker, brokerage.roster
        alone = is_all_here(settings, worker)
        self.access_log = access_log_of(
            settings,
            shared,
            broker=None if alone else self.broker,
            registry=lambda: self.registry,
        )
        self.policy = policy_of(
            settings,
            provider=self._provider,
            check_token=self.access_log.check,
            refusals=self.counters.refusals,
        )
        self.hooks = hooks_of(settings, shared, self.policy)
        self._rates = Rates(self.counters, self.clock)
        self._outage = Outage(
            self.broker.away,
            counters=self.counters,
            clock=self.clock,
            wall_clock=shared.wall_clock,
            log=log.bind(subsystem=BROKER),
        )
        self._spawn = spawn
        self.tracing = make_tracing(settings.trace_sample, node=settings.node, version=VERSION)
        self._event_sender, self._event_watcher = watching_of(
            settings,
            shared,
            ask_others=None if alone else self._held_elsewhere,
        )
        roster: Roster = self._roster
        if self._event_watcher is not None:
            roster = watched(roster, self._event_watcher)
        self.core = NodeCore(
            settings,
            shared,
            tag=self.tag,
            broker=self.broker,
            roster=roster,
            policy=self.policy,
            tracing=self.tracing,
            hooks=self.hooks,
        )
        self.registry = self.core.registry
        if self._event_watcher is not None:
            self.registry.watch = self._event_watcher
            self.core.membership.watch = self._event_watcher.used
        polling = PollTransport(
            PollSessions(
                registry=self.registry,
                deadlines=self.deadlines,
                clock=self.clock,
                outbox_budget=self.outbox_budget,
            )
        )
        self.proxies = TrustedProxies(settings.trusted_proxies)
        self.sockets = Sockets(
            self.registry,
            max_connections=settings.max_connections,
            max_unsent_bytes=settings.body_total_bytes,
            proxies=self.proxies,
        )
        self.bodies = BodyBudget(settings.body_total_bytes)
        self.drainer = Drainer(self.registry, self._is_alone, is_between_polls)
        self.reporter = self._new_reporter(worker, lag)
        self.metrics = Metrics(
            CollectorRegistry(),
            HubCollector(self.counters, self.reporter.gauges, lag, version=VERSION),
            defer=defer,
            worker=self.reporter.worker,
        )
        self.scraped = Scraped(
            self.tag, worker.supervisor if worker else "", self.metrics.render, self.reporter.record
        )
        self.waiting_polls = WaitingPolls()
        known = KnownChannels(self.broker, self.core.channels, brokerage.look)
        lists = ChannelHandlers(known, self.registry.origin)
        self.rpc = AdminRpc(
            tag=self.tag,
            bus=brokerage.bus,
            handlers=self._handlers(polling, lists, lag),
            record=self.reporter.record,
            log=log.bind(subsystem=BROKER),
        )
        self.api = NodeApi(
            publishing=self.core.publishing,
            reading=self.core.reading,
            presence_commands=self.core.presence_commands,
            rpc=self.rpc,
            polling=polling,
            waiting_polls=self.waiting_polls,
            known=known,
            lists=lists,
            reporter=self.reporter,
        )

    def _new_reporter(self, worker: Worker | None, lag: LoopLag) -> Reporter:
        """Return the figures of the node, read from all its parts."""
        return Reporter(
            version=VERSION,
            worker=0 if worker is None else worker.number,
            started_seconds=self.started_seconds,
            registry=self.registry,
            membership=self.core.membership,
            channels=self.core.channels,
            outbox_budget=self.outbox_budget,
            broker=self.broker,
            outage=self._outage,
            counters=self.counters,
            rates=self._rates,
            clock=self.clock,
            settings=self.settings,
            memory_limit_bytes=usable_bytes(),
            problems=self.ready,
            lag_seconds=lambda: lag.lag_seconds,
            drainer=self.drainer,
            journal=self.journal,
            journal_disk_bytes=lambda: 0 if self.archive is None else self.archive.bytes,
            http_connections=lambda: len(self.sockets.http),
            body_bytes=lambda: self.bodies.bytes,
            bans=lambda: len(self.access_log.standings),
            patterns=lambda: self.core.patterns.held,
        )

    def _handlers(
        self, polling: PollTransport, channels: ChannelHandlers, lag: LoopLag
    ) -> Handlers:
        """Return the handlers of all requests to this node, from here or from another node."""
        settings, registry, membership = self.settings, self.registry, self.core.membership
        sessions = SessionHandlers(
            registry, polling.poll, max_message_bytes=settings.max_message_bytes
        )
        evidence = Evidence(
            registry=registry,
            journal=self.journal,
            channels=self.core.channels,
            broker=self.broker,
            recall=self.archive,
        )
        draining = Draining(
            registry,
            self.drainer,
            drain_seconds=settings.drain_seconds,
            ready_delay_seconds=settings.ready_delay_seconds,
        )
        return {
            **sessions.handlers(),
            **ConnectionHandlers(registry, membership, self.journal).handlers(),
            **SubjectHandlers(registry, membership).handlers(),
            **RefusedHandlers(self.refusals.table, registry.origin).handlers(),
            **Patterns(self.core.patterns.counts).handlers(),
            **self.access_log.handlers(),
            **channels.handlers(),
            **held_handlers(self._event_watcher),
            **Explaining(evidence).handlers(),
            **SubjectExplaining(evidence).handlers(),
            **draining.handlers(),
            **scraping(self.scraped),
            **DebuggingHandlers(lag=lag, log=self.log, spawn=self._spawn).handlers(),
        }

    # -- hub.core.ports.Downstream -----------------------------------------------------------

    def deliver(self, publication: Publication) -> None:
        if publication.channel == ACCESS_CHANNEL:
            self.access_log.deliver(publication)
        else:
            self.core.downstream.deliver(publication)

    def lost(self, gap: Gap) -> None:
        if gap.channel == ACCESS_CHANNEL:
            self.access_log.read_again()
        self.core.downstream.lost(gap)

    def reset(self, channel: str, head: Position) -> None:
        if channel == ACCESS_CHANNEL:
            self.access_log.read_again()
        self.core.downstream.reset(channel, head)
        if self.core.channels.options(channel).presence:
            self.announce(channel, PresenceReset(channel))

    def announce(self, channel: str, change: Change | PresenceReset) -> None:
        self.core.downstream.announce(channel, change)
        if isinstance(change, PresenceReset):
            self._roster.refresh(channel)

    # -- while it runs ---------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to connect to the broker; while it is away this returns too, and `ready` says
        so."""
        if self.archive is not None:
            self.archive.start(self.registry)
        if self._provider is not None:
            self._spawn(self._provider.run())
        if (path := watched_file(self.settings)) is not None:
            watch = KeyWatch(
                path,
                replace=self._replace_publish_keys,
                counters=self.counters,
                log=self.log.bind(subsystem=HTTP),
            )
            self._spawn(watch.run())
        if key_files(self.settings):
            token_watch = TokenKeyWatch(
                self.settings,
                replace=self.policy.replace_token_keys,
                counters=self.counters,
                log=self.log.bind(subsystem=HTTP),
            )
            self._spawn(token_watch.run())
        if self._event_sender is not None:
            self._event_sender.start()
        await self.broker.start()
        await self._roster.start()
        await self.rpc.start()
        self.access_log.start(self._spawn)
        if (interval_seconds := self.settings.stats_seconds) > 0:
            stats = publish_stats(
                self.broker.publish,
                self.reporter.record,
                interval_seconds=interval_seconds,
            )
            self._spawn(stats)

    async def _replace_publish_keys(self, keys: list[HeldKey]) -> int:
        """Take these keys from now on, and end sessions of other keys; return how many."""
        self.policy.replace_publish_keys(keys)
        return await end_without_key(self.registry, self.policy)

    async def stop(self) -> None:
        self.refusals.flush()
        if self.settings.stats_seconds > 0 and self.broker.record().servers:
            await say_farewell(self.broker.publish, self.reporter.record())
        if self.hooks is not None:
            await self.hooks.close()
        if self._event_sender is not None and self._event_watcher is not None:
            await self._event_watcher.finish()
            await self._event_sender.stop()
        await self.rpc.stop()
        await self.broker.stop()
        if self.tracing is not None:
            await self.tracing.stop()
        if self.archive is not None:
            await self.archive.stop()

    def tick(self) -> None:
        """Do the due work: deadlines, heartbeats, and a part of the broker's housekeeping."""
        may_judge = self.awake.tick()
        if self.awake.stall_seconds:
            self.outbox_budget.forgive(self.awake.stall_seconds)
        if may_judge:
            self.deadlines.tick(self.clock())
            self.core.heartbeats.tick()
        self.outbox_budget.look()
        self._rates.tick()
        self.journal.sweep()
        if self.archive is not None:
            self.archive.tick()
        self.broker.sweep()
        self._outage.tick()

    def is_quiet(self) -> bool:
        """Whether nothing is due before the tick after the next."""
        return self.archive is None and not self.deadlines.due_within(QUIET_SECONDS)

    async def _held_elsewhere(self, moments: Sequence[tuple[str, float]]) -> Sequence[bool]:
        return await held_elsewhere(self.rpc, moments)

    def ready(self) -> Sequence[str]:
        """Return why the node should get no traffic; empty when it should."""
        draining = ["draining"] if self.registry.draining else []
        return [*draining, *self.broker.problems()]

    async def _is_alone(self) -> bool:
        """Return whether no other node takes sessions; True as well where they cannot be asked."""
        try:
            nodes = await self.rpc.nodes()
        except HubError:
            return True
        return all(
            record.draining for record in nodes.values() if record.node != self.settings.node
        )


def make_archive(settings: Settings, shared: Shared) -> DiskJournal | None:
    """Make the archive of notes about connections; None where the settings name none."""
    if not (settings.journal_path and settings.journal_bytes):
        return None
    counters = shared.counters

    def lost(notes: int) -> None:
        counters.journal_lost += notes

    writer = Writer(
        Path(settings.journal_path), settings.journal_disk_bytes, log=shared.log, on_lost=lost
    )
    offset = shared.wall_clock() - shared.clock()
    return DiskJournal(writer, clock=shared.clock, wall_offset_seconds=offset)
