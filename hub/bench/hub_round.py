"""One round against a hub: connect, hold idle, warm up, measure, add up."""

import secrets
import time
from collections.abc import Callable

from hub.bench.figures import Figures, Outside, round_figures
from hub.bench.load import (
    STEP_SECONDS,
    LoadProcess,
    await_connected,
    await_delivered,
    begin,
    finish,
    new_progress,
    publisher,
    readers,
)
from hub.bench.meter import Memory, ProcessMeter, Usage
from hub.bench.phases import PhaseListener
from hub.bench.plan import BenchError, Contestant, Plan, PublishReport, PublishSeries
from hub.bench.progress import Progress
from hub.bench.reader import check_open_files
from hub.bench.server import BenchServer


class OutsideMeter:
    """Read the server's meter at the borders of the phases, where there is a meter."""

    def __init__(self, meter: ProcessMeter | None) -> None:
        self._meter = meter
        self._before: Memory | None = meter.wait_settled() if meter else None
        self._after: Memory | None = None
        self._usage = meter.usage() if meter else None
        self._connect: Usage | None = None
        self._idle_share: float | None = None
        self._measured: Usage | None = None

    def lap(self) -> Usage | None:
        """Return the usage of the server since the last lap."""
        if self._meter is None or self._usage is None:
            return None
        before, self._usage = self._usage, self._meter.usage()
        return self._usage.since(before)

    def connected(self) -> None:
        """Note the CPU of connecting, and the memory of all connections once it has settled."""
        self._connect = self.lap()
        if self._meter is not None:
            self._after = self._meter.wait_settled()
        self.lap()

    def held(self, seconds: float) -> None:
        """Note that the connections were idle for this long."""
        spent = self.lap()
        self._idle_share = spent.cpu_seconds / seconds if spent else None

    def measured(self) -> None:
        """Note the end of the measured phase."""
        self._measured = self.lap()

    def result(self, warm_publications: int) -> Outside:
        """Return all readings."""
        before, after = self._before, self._after
        return Outside(
            cpu_seconds=self._measured.cpu_seconds if self._measured else None,
            waited_seconds=self._measured.waited_seconds if self._measured else None,
            connect_cpu_seconds=self._connect.cpu_seconds if self._connect else None,
            rss_bytes=after.rss_bytes - before.rss_bytes if before and after else None,
            uss_bytes=after.uss_bytes - before.uss_bytes if before and after else None,
            idle_cpu_share=self._idle_share,
            warm_publications=warm_publications,
        )


WARM_RATE = 100.0
_SERVERS_OTHER_FILES = 64


def measure_hub(
    plan: Plan, server: BenchServer, contestant: Contestant, phases: PhaseListener
) -> Figures:
    """Run one round.

    Raises:
        BenchError: The publisher was refused, a process of the load ended, or the system allows
            fewer open files than there are subscribers.
    """
    if server.meter is not None:
        # It is on this machine, and nearly always our own child.
        check_open_files(plan.subscribers + _SERVERS_OTHER_FILES)
    progress = new_progress(plan)
    channel = f"bench-{secrets.token_hex(4)}"
    with publisher(server.entry or server.target, contestant, progress) as writer:
        # Whatever the server loads and builds at first use is not a connection's cost.
        _publish(writer, _batch(plan, f"{channel}-warm", warm=True), lambda: None)
        outside = OutsideMeter(server.meter)
        with readers(plan, server.target, contestant, channel, progress) as herd:
            await_connected(plan, progress, phases, contestant)
            outside.connected()
            _hold(plan, outside, phases)
            warm = _publish(writer, _batch(plan, channel, warm=True), lambda: None)
            await_delivered(progress, warm.count * plan.receivers, lambda: None)
            begin(herd)
            published = _measure(plan, writer, channel, progress, outside, phases)
            reports = finish(herd)
    return round_figures(contestant, plan, reports, published, outside.result(warm.count))


def _hold(plan: Plan, outside: OutsideMeter, phases: PhaseListener) -> None:
    if not plan.hold_seconds:
        return
    phases.phase("holding connections, seconds", plan.hold_seconds)
    start = time.monotonic()
    while (passed := time.monotonic() - start) < plan.hold_seconds:
        phases.reached(passed)
        time.sleep(min(1.0, plan.hold_seconds - passed))
    outside.held(time.monotonic() - start)


def _measure(
    plan: Plan,
    writer: LoadProcess,
    channel: str,
    progress: Progress,
    outside: OutsideMeter,
    phases: PhaseListener,
) -> PublishReport:
    base = progress.delivered
    expected = (plan.measured_publications or 0) * plan.receivers
    phases.phase("deliveries", expected)

    def show() -> None:
        phases.reached(progress.delivered - base)

    outside.lap()
    published = _publish(writer, _batch(plan, channel, warm=False), show)
    await_delivered(progress, base + published.count * plan.receivers, show)
    outside.measured()
    return published


def _batch(plan: Plan, channel: str, *, warm: bool) -> PublishSeries:
    return PublishSeries(
        channel=channel,
        count=plan.warm_publications if warm else plan.measured_publications,
        seconds=plan.seconds,
        rate=(plan.rate or WARM_RATE) if warm else plan.rate,
        window=plan.window,
        payload_bytes=plan.payload_bytes,
        subscribers=plan.receivers,
        channels=plan.channels,
        prose=Contestant.COMPRESSED in plan.contestants,
    )


def _publish(writer: LoadProcess, batch: PublishSeries, show: Callable[[], None]) -> PublishReport:
    writer.order(batch)
    while not writer.has_answered(STEP_SECONDS):
        show()
    published = writer.answer()
    if not isinstance(published, PublishReport):
        raise BenchError("the publisher gave no account of what it published")
    if published.error or published.acknowledged != published.count:
        raise BenchError(
            f"{published.count:,} published, {published.acknowledged:,} acknowledged: "
            f"{published.error or 'no error was given'}"
        )
    return published
