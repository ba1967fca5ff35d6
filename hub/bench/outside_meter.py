"""What a round costs the server, read from outside at the borders of its phases."""

from hub.bench.figures import Outside
from hub.bench.meter import Memory, ProcessMeter, Usage


class OutsideMeter:
    """Reads the server's meter at the borders of the phases, where there is a meter."""

    def __init__(self, meter: ProcessMeter | None) -> None:
        self._meter = meter
        self._before: Memory | None = meter.wait_settled() if meter else None
        self._after: Memory | None = None
        self._usage = meter.usage() if meter else None
        self._connect: Usage | None = None
        self._idle_share: float | None = None
        self._measured: Usage | None = None

    def lap(self) -> Usage | None:
        """What the server used since the last lap."""
        if self._meter is None or self._usage is None:
            return None
        before, self._usage = self._usage, self._meter.usage()
        return self._usage.since(before)

    def connected(self) -> None:
        """All connections stand: their CPU, and what they hold once memory has settled."""
        self._connect = self.lap()
        if self._meter is not None:
            self._after = self._meter.wait_settled()
        self.lap()

    def held(self, seconds: float) -> None:
        """The connections were idle for this long."""
        spent = self.lap()
        self._idle_share = spent.cpu_seconds / seconds if spent else None

    def measured(self) -> None:
        """The measured phase is over."""
        self._measured = self.lap()

    def result(self, warm_publications: int) -> Outside:
        """Everything that was read."""
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
