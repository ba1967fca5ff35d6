"""Figures of a node for operators and other nodes, once a second on a channel, and its outages.

`Outage` remembers since when servers of the broker are away, and the cost of their return, and logs
both once. The broker's own answer about a moment has no memory, and lines about single connections
come by the dozen. An operator needs to know which servers are away, since when, and whether they
are back.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, replace

import orjson
from structlog.typing import FilteringBoundLogger

from hub.admin.drain import Drainer
from hub.core.counters import Counters, Rates
from hub.core.fanout.membership import Membership
from hub.core.fanout.open_channels import OpenChannels
from hub.core.forensics.journal import Journal
from hub.core.node_records import NodeRecord
from hub.core.options import STATS_CHANNEL
from hub.core.ports import Monotonic, PublishRequest
from hub.core.registry import SessionRegistry
from hub.core.session.outbox_budget import OutboxBudget
from hub.errors import HubError
from hub.node.broker import NodeBroker
from hub.observe.metrics import Gauges
from hub.settings import Settings

# Guesses, not measured. A connection that is made anew at once is no outage; channels are compared
# within some seconds of a server's return.
HOLD_SECONDS = 1.0
_LOOK_SECONDS = 0.25
SETTLED_SECONDS = 10.0


class Outage:
    """Remembers which servers of the broker are away; `tick` is called many times a second.

    Args:
        away: returns servers that cannot be reached now, each with the reason.
        clock: seconds that only rise.
        wall_clock: seconds since 1970 UTC.
    """

    def __init__(
        self,
        away: Callable[[], Sequence[str]],
        *,
        counters: Counters,
        clock: Monotonic,
        wall_clock: Callable[[], float],
        log: FilteringBoundLogger,
    ) -> None:
        self._away = away
        self._counters = counters
        self._clock = clock
        self._wall_clock = wall_clock
        self._log = log
        self._looked_at = clock()
        self._troubled_at: float | None = None
        """When a server was first seen to be away; None while all are there."""
        self._troubled_ms = 0
        self._back_at: float | None = None
        """When all were back; None once the cost of that is logged."""
        self._resets_before = 0
        self.servers: tuple[str, ...] = ()
        """Servers that have been away for a while, each with the reason."""
        self.since_ms = 0
        """Since when the first of them is away, in milliseconds since 1970 UTC; 0 where none is."""
        self.back_ms = 0
        """When they were back last, in milliseconds since 1970 UTC; 0 where none was ever away."""

    @property
    def reset_channels(self) -> int:
        """Return how many channels began a new epoch here since servers were away last."""
        ever = self.since_ms or self.back_ms
        return self._counters.broker_resets - self._resets_before if ever else 0

    def tick(self) -> None:
        """Look at the servers, where it is time to."""
        now = self._clock()
        if now - self._looked_at < _LOOK_SECONDS:
            return
        self._looked_at = now
        if away := tuple(self._away()):
            self._is_away(away, now)
        else:
            self._is_there(now)

    def _is_away(self, away: tuple[str, ...], now: float) -> None:
        if self._troubled_at is None:
            self._troubled_at, self._troubled_ms = now, int(self._wall_clock() * 1000)
        if self.since_ms:
            self.servers = away
        elif now - self._troubled_at >= HOLD_SECONDS:
            self.servers, self.since_ms = away, self._troubled_ms
            self._resets_before, self._back_at = self._counters.broker_resets, None
            self._log.warning("broker_away", servers=list(away), since_ms=self.since_ms)

    def _is_there(self, now: float) -> None:
        if self._troubled_at is not None and self.since_ms:
            self.servers, self.since_ms = (), 0
            self.back_ms, self._back_at = int(self._wall_clock() * 1000), now
            self._log.warning("broker_back", away_seconds=round(now - self._troubled_at, 1))
        self._troubled_at = None
        if self._back_at is not None and now - self._back_at >= SETTLED_SECONDS:
            self._back_at = None
            if self.reset_channels:
                self._log.warning("broker_reset_channels", channels=self.reset_channels)


# The scope of idempotency keys, of which these publications use none.
_PUBLISHER = "hub"
# A stop waits no longer for a broker that is away.
_FAREWELL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Reporter:
    """Makes records and gauges from live state; counts no large collection. One per node."""

    settings: Settings
    version: str
    worker: int
    """The number of a worker; 0 where there is only one process."""
    started_seconds: float
    """Since 1970 UTC."""
    registry: SessionRegistry
    membership: Membership
    channels: OpenChannels
    outbox_budget: OutboxBudget
    broker: NodeBroker
    outage: Outage
    counters: Counters
    rates: Rates
    clock: Monotonic
    memory_limit_bytes: int
    """Bytes that the machine or the cgroup lets this process use; read from files once."""
    problems: Callable[[], Sequence[str]]
    lag_seconds: Callable[[], float]
    drainer: Drainer
    journal: Journal
    journal_disk_bytes: Callable[[], int]
    http_connections: Callable[[], int]
    """Returns the number of connections that no stream has taken over."""
    body_bytes: Callable[[], int]
    bans: Callable[[], int] = lambda: 0
    """Returns the number of bans and revocations that are known here."""
    patterns: Callable[[], int] = lambda: 0
    """Returns the number of patterns of all sessions."""

    def gauges(self) -> Gauges:
        oldest_at = self.outbox_budget.oldest_at()
        return Gauges(
            connections=dict(self.registry.by_transport),
            subscriptions=self.membership.held,
            channels=len(self.channels),
            outbox_bytes=self.outbox_budget.bounded_bytes,
            outbox_oldest_age_seconds=0.0 if oldest_at is None else self.clock() - oldest_at,
            congested_sessions=len(self.outbox_budget.sessions),
            ready=not self.problems(),
            draining=self.registry.draining,
            to_leave=0 if (going := self.drainer.progress) is None else going.left,
            journal_bytes=self.journal.bytes,
            journal_disk_bytes=self.journal_disk_bytes(),
            http_connections=self.http_connections(),
            body_bytes=self.body_bytes(),
            connections_limit=self.settings.max_connections,
            outbox_limit_bytes=self.settings.outbox_total_bytes,
            memory_limit_bytes=self.memory_limit_bytes,
            bans=self.bans(),
            patterns=self.patterns(),
            unkept_bytes=self.outbox_budget.unkept_bytes,
            broker=self.broker.record(),
        )

    def record(self) -> NodeRecord:
        gauges, rates, counters, now = self.gauges(), self.rates, self.counters, time.time()
        progress = self.drainer.progress
        return NodeRecord(
            node=self.settings.node,
            version=self.version,
            started_ms=int(self.started_seconds * 1000),
            uptime_seconds=round(now - self.started_seconds, 3),
            connections=sum(gauges.connections.values()),
            subscriptions=gauges.subscriptions,
            channels=gauges.channels,
            publications=counters.publications,
            deliveries=counters.deliveries,
            draining=gauges.draining,
            publications_per_second=rates.publications_per_second,
            deliveries_per_second=rates.deliveries_per_second,
            dropped=counters.dropped.total(),
            dropped_per_second=rates.dropped_per_second,
            gaps=counters.gaps.total(),
            gaps_per_second=rates.gaps_per_second,
            opened=counters.opened.total(),
            closed=counters.closed.total(),
            transports=dict(gauges.connections),
            latency_p50_ms=_milliseconds(rates.latency_p50_seconds),
            latency_p99_ms=_milliseconds(rates.latency_p99_seconds),
            loop_lag_ms=round(self.lag_seconds() * 1000, 3),
            outbox_bytes=gauges.outbox_bytes,
            congested=gauges.congested_sessions,
            problems=tuple(self.problems()),
            impaired=tuple(self.broker.impaired()),
            broker_servers=gauges.broker.servers,
            broker_round_trip_ms=round(gauges.broker.canary_round_trip_seconds * 1000, 3),
            broker_away=self.outage.servers,
            broker_away_since_ms=self.outage.since_ms,
            broker_back_ms=self.outage.back_ms,
            broker_reset_channels=self.outage.reset_channels,
            leaving="" if progress is None else progress.reason,
            leaving_connections=0 if progress is None else progress.sessions,
            left_connections=0 if progress is None else progress.closed,
            at_ms=int(now * 1000),
            worker=self.worker,
        )


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


async def publish_stats(
    publish: Callable[[PublishRequest], Awaitable[object]],
    record: Callable[[], NodeRecord],
    *,
    interval_seconds: float,
) -> None:
    """Publish the record on `STATS_CHANNEL` until cancelled, also without a reader: a dashboard
    that is opened begins with the last two minutes.

    Not through the command handler: these are no application's publications and would count as
    such. Where the broker does not take one, the next has all of it again.
    """
    while True:
        await asyncio.sleep(interval_seconds)
        try:
            await publish(_figures(record()))
        except HubError:
            continue


async def say_farewell(
    publish: Callable[[PublishRequest], Awaitable[object]], record: NodeRecord
) -> None:
    """Publish the node's last record: it stops, and was not lost."""
    try:
        async with asyncio.timeout(_FAREWELL_SECONDS):
            await publish(_figures(replace(record, ended_ms=record.at_ms)))
    except (HubError, TimeoutError):
        # Unheard: the others will find out by its lease.
        return


def _figures(record: NodeRecord) -> PublishRequest:
    return PublishRequest(STATS_CHANNEL, orjson.dumps(asdict(record)), _PUBLISHER, key=record.node)
