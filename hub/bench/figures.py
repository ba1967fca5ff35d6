"""The figures of a round, as numbers with units, and the medians of several rounds."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

from hub.bench.latencies import Latencies
from hub.bench.meter import DISTURBED_SHARE
from hub.bench.plan import Contestant, Plan, PublishReport, ReaderReport

_FAULTS = frozenset({"failed", "gaps", "announced", "missing", "duplicates"})


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one round. None stands for an unknown one (a server elsewhere, no
    deliveries)."""

    contestant: Contestant
    subscribers: int
    failed: int
    alive: int
    """Connections that are still open at the end."""
    published: int
    deliveries: int
    seconds: float
    deliveries_per_second: float
    cpu_us_per_delivery: float | None
    cpu_us_per_connect: float | None
    rss_bytes_per_connection: float | None
    uss_bytes_per_connection: float | None
    latency_p50_ms: float | None
    latency_p90_ms: float | None
    latency_p99_ms: float | None
    latency_max_ms: float | None
    gaps: int
    announced: int
    """The number of offsets in those gaps, over all subscribers."""
    missing: int
    """The number of deliveries that never came, announced or not."""
    duplicates: int
    heartbeats: int
    fewest_heartbeats: int
    """The number of the connection that had the fewest."""
    idle_cpu_share: float | None
    """The share of one core while the connections were held idle."""
    waited_share: float | None
    """The share of the measured phase in which something else had the server's core."""
    bunched: int
    """The number of publications that were so late that they left together with the next."""
    frame_bytes: float
    load_cpu_share: float
    """The busiest reader's share of one core: near 1 the load itself is the limit."""
    failures: tuple[str, ...] = ()

    @property
    def silently_missing(self) -> int:
        """The number of deliveries that never came and that no gap named."""
        return max(0, self.missing - self.announced)

    @property
    def disturbed(self) -> bool:
        """Whether other work on the machine delayed server or publisher enough to be felt.

        A late publication is joined with the next and costs less to deliver: the figures of a
        disturbed round flatter a hub, and not a loop that sends singly.
        """
        return self.is_late or (self.waited_share or 0.0) > DISTURBED_SHARE

    @property
    def is_late(self) -> bool:
        """Whether other work delayed the publisher."""
        return self.bunched > DISTURBED_SHARE * self.published

    @property
    def sound(self) -> bool:
        """Whether no connection was lost, and nothing was lost silently or came twice."""
        lost = self.failed or self.alive != self.subscribers
        return not (lost or self.silently_missing or self.duplicates)


@dataclass(frozen=True, slots=True)
class Outside:
    """The measurements from outside in a round, beside the readers' reports."""

    cpu_seconds: float | None = None
    waited_seconds: float | None = None
    """The time for which the server was ready to run while something else had its core."""
    connect_cpu_seconds: float | None = None
    rss_bytes: int | None = None
    """The growth of the server by the connections."""
    uss_bytes: int | None = None
    idle_cpu_share: float | None = None
    warm_publications: int = 0


def round_figures(
    contestant: Contestant,
    plan: Plan,
    reports: Sequence[ReaderReport],
    published: PublishReport,
    outside: Outside,
) -> Figures:
    """Add up a round."""
    subscribers, receivers = plan.subscribers, plan.receivers
    received = sum(report.received for report in reports)
    total = published.count + outside.warm_publications
    deliveries = received - outside.warm_publications * receivers
    seconds = max(1e-9, (max(report.last_ns for report in reports) - published.first_ns) / 1e9)
    latencies = _merged(reports)
    return Figures(
        contestant=contestant,
        subscribers=subscribers,
        failed=subscribers - sum(report.alive for report in reports),
        alive=sum(report.alive for report in reports),
        published=published.count,
        deliveries=deliveries,
        seconds=seconds,
        deliveries_per_second=deliveries / seconds,
        cpu_us_per_delivery=_each(outside.cpu_seconds, deliveries, 1e6),
        cpu_us_per_connect=_each(outside.connect_cpu_seconds, subscribers, 1e6),
        rss_bytes_per_connection=_each(outside.rss_bytes, subscribers),
        uss_bytes_per_connection=_each(outside.uss_bytes, subscribers),
        latency_p50_ms=latencies.percentile_ms(0.50),
        latency_p90_ms=latencies.percentile_ms(0.90),
        latency_p99_ms=latencies.percentile_ms(0.99),
        latency_max_ms=latencies.percentile_ms(1.0),
        gaps=sum(report.gaps for report in reports),
        announced=sum(report.announced for report in reports),
        missing=_missing(reports, total * receivers),
        duplicates=sum(report.duplicates for report in reports),
        heartbeats=sum(report.heartbeats for report in reports),
        fewest_heartbeats=min(report.fewest_heartbeats for report in reports),
        idle_cpu_share=outside.idle_cpu_share,
        waited_share=_each(outside.waited_seconds, seconds),
        bunched=published.bunched,
        frame_bytes=sum(report.measured_bytes for report in reports) / max(1, deliveries),
        load_cpu_share=max(report.cpu_seconds for report in reports) / seconds,
        failures=tuple(reason for report in reports for reason in report.failures),
    )


def known_median(values: Iterable[float | None]) -> float | None:
    """Return the median of the values that are known; None where none is."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def medians(rounds: Sequence[Figures]) -> Figures:
    """Each number's median over one contestant's undisturbed rounds (all, where there are none).

    Counts of faults are the sum of all rounds.
    """
    calm = [figures for figures in rounds if not figures.disturbed] or rounds
    values: dict[str, object] = {}
    for each in fields(Figures):
        chosen = rounds if each.name in _FAULTS else calm
        column = [getattr(figures, each.name) for figures in chosen]
        known = [value for value in column if isinstance(value, int | float)]
        if not known:
            values[each.name] = column[0]
        elif each.name in _FAULTS:
            values[each.name] = sum(known)
        else:
            values[each.name] = statistics.median(known)
    values["alive"] = min(figures.alive for figures in rounds)
    values["failures"] = tuple(reason for figures in rounds for reason in figures.failures)
    return Figures(**values)  # type: ignore[arg-type]  # the fields' own values, by their names


def _missing(reports: Sequence[ReaderReport], expected: int) -> int:
    """Return distinct offsets that did not come: in the middle, at the end, or to lost
    connections."""
    distinct = sum(report.received - report.duplicates for report in reports)
    return max(0, expected - distinct)


def _each(amount: float | None, count: float, unit: float = 1.0) -> float | None:
    return None if amount is None or count <= 0 else amount * unit / count


def _merged(reports: Sequence[ReaderReport]) -> Latencies:
    latencies = Latencies()
    for report in reports:
        latencies.merge(report.latency_counts, report.latency_max_ns)
    return latencies
