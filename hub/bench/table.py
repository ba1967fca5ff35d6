"""The figures as a table: one column per contestant, medians of the rounds."""

from collections.abc import Callable, Sequence

from rich.table import Table

from hub.bench.contest import Outcome
from hub.bench.figures import Figures
from hub.bench.intake import Intake
from hub.bench.server import Interpreter
from hub.bench.workers import WorkersFigures

Row = tuple[str, Callable[[Figures], float | None], str]

_ROWS: tuple[Row, ...] = (
    ("deliveries", lambda each: each.deliveries, ",.0f"),
    ("deliveries per second", lambda each: each.deliveries_per_second, ",.0f"),
    ("server CPU per delivery, us", lambda each: each.cpu_us_per_delivery, ",.2f"),
    ("server CPU per connect, us", lambda each: each.cpu_us_per_connect, ",.0f"),
    ("memory per connection, KB (RSS)", lambda each: _kilo(each.rss_bytes_per_connection), ",.2f"),
    ("memory per connection, KB (USS)", lambda each: _kilo(each.uss_bytes_per_connection), ",.2f"),
    ("server CPU while held idle, %", lambda each: _percent(each.idle_cpu_share), ",.1f"),
    ("latency p50, ms", lambda each: each.latency_p50_ms, ",.2f"),
    ("latency p90, ms", lambda each: each.latency_p90_ms, ",.2f"),
    ("latency p99, ms", lambda each: each.latency_p99_ms, ",.2f"),
    ("latency max, ms", lambda each: each.latency_max_ms, ",.2f"),
    ("gaps announced", lambda each: each.gaps, ",.0f"),
    ("missing", lambda each: each.missing, ",.0f"),
    ("missing without a gap", lambda each: each.silently_missing, ",.0f"),
    ("duplicates", lambda each: each.duplicates, ",.0f"),
    ("connections failed or lost", lambda each: each.failed, ",.0f"),
    ("alive at the end", lambda each: each.alive, ",.0f"),
    ("heartbeats, fewest on a connection", lambda each: each.fewest_heartbeats, ",.0f"),
    ("server waited for its core, %", lambda each: _percent(each.waited_share), ",.1f"),
    ("publications sent late, bunched", lambda each: each.bunched, ",.0f"),
    ("bytes per delivery", lambda each: each.frame_bytes, ",.0f"),
    ("load CPU, busiest reader, %", lambda each: _percent(each.load_cpu_share), ",.0f"),
)


def table(outcome: Outcome, by: Interpreter | None) -> Table:
    """Return a row per figure; an unknown one is a dash. `by` runs the hub, if that is known."""
    caption = _caption(outcome) + (f"\n{by}" if by is not None else "")
    made = Table(title=_title(outcome), caption=caption)
    made.add_column("")
    for contestant in outcome.medians:
        made.add_column(contestant.value, justify="right")
    for name, value, form in _ROWS:
        cells = [value(figures) for figures in outcome.medians.values()]
        made.add_row(name, *("-" if cell is None else format(cell, form) for cell in cells))
    for name, ratio in outcome.ratios.items():
        made.add_row(f"CPU per delivery, {name}", f"{ratio:.2f}")
    return made


def intake_table(rows: Sequence[Intake], by: Interpreter) -> Table:
    """Return a row for each way of publishing or connecting, beside the bare loop before it."""
    made = Table(title="publications and connections that one node took in", caption=str(by))
    made.add_column("")
    for name in (
        "per second",
        "CPU, us",
        "times the loop",
        "of its core, %",
        "waited for it, %",
    ):
        made.add_column(name, justify="right")
    floor = None
    for row in rows:
        if "loop" in row.way:
            floor = row.cpu_microseconds
        times = "-" if floor is None else f"{row.cpu_microseconds / floor:.2f}"
        cpu, share = f"{row.cpu_microseconds:.1f}", f"{row.core_share * 100:.0f}"
        waited = f"{row.waited_share * 100:.0f}"
        made.add_row(row.way, f"{row.per_second:,.0f}", cpu, times, share, waited)
    return made


def workers_table(rows: Sequence[WorkersFigures], by: Interpreter) -> Table:
    """Return a column for one process and one for several."""
    made = Table(title="the same load on one process and on several", caption=str(by))
    made.add_column("")
    for row in rows:
        made.add_column(f"{row.workers} worker{'s' * (row.workers > 1)}", justify="right")
    named: tuple[tuple[str, Callable[[WorkersFigures], float | None]], ...] = (
        ("CPU per delivery, all processes, us", lambda row: row.cpu_us_per_delivery),
        ("CPU per delivery, busiest worker, us", lambda row: row.worker_us_per_delivery),
        ("the same at an even split, us", lambda row: row.even_us_per_delivery),
        ("broker process, CPU per publication, us", lambda row: row.broker_us_per_publication),
        ("latency p50, ms", lambda row: row.latency_p50_ms),
        ("latency p99, ms", lambda row: row.latency_p99_ms),
        ("lost, twice, or missing without a gap", lambda row: row.faults),
    )
    for name, read in named:
        cells = [read(row) for row in rows]
        made.add_row(name, *("-" if cell is None else f"{cell:,.2f}" for cell in cells))
    if any(row.disturbed for row in rows):
        made.caption = "DISTURBED by other work: stop it, or take more --rounds"
    return made


def _title(outcome: Outcome) -> str:
    plan = outcome.plan
    pace = f"{plan.rate:g}/s" if plan.rate else f"flat out, window {plan.window}"
    return f"{plan.subscribers:,} subscribers, {pace}, {plan.payload_bytes:,} bytes"


def _caption(outcome: Outcome) -> str:
    rounds = f"medians of {outcome.plan.rounds} rounds" if outcome.plan.rounds > 1 else "one round"
    if disturbed := sum(each.disturbed for each in outcome.rounds):
        rounds += f"; {disturbed} of {len(outcome.rounds)} measurements DISTURBED by other work"
        rounds += ": stop it, or take more --rounds"
    failures = [reason for each in outcome.rounds for reason in each.failures]
    return rounds + (f"; first failure: {failures[0]}" if failures else "")


def _kilo(amount: float | None) -> float | None:
    return None if amount is None else amount / 1000


def _percent(share: float | None) -> float | None:
    return None if share is None else share * 100
