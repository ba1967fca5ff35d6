"""The demo feed, with counters and a publish callable that are fakes."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count

import orjson

from hub.errors import NotPublishedError
from hub.node.demo import MachineSample, messages, run_demo, take_reading
from tests.support.background import run_until

CHANNELS = {"demo.cpu", "demo.memory", "demo.disk", "demo.network"}
BASE = MachineSample(
    cores=(10.0, 30.0),
    memory_used_bytes=1_000,
    memory_total_bytes=4_000,
    swap_percent=0.0,
    disk_used_bytes=500,
    disk_total_bytes=1_000,
    disk_read_bytes=10_000,
    disk_written_bytes=20_000,
    network_received_bytes=30_000,
    network_sent_bytes=40_000,
)


class FakeLog:
    def __init__(self) -> None:
        self.events: list[str] = []

    def info(self, event: str, **context: object) -> None:
        self.events.append(event)

    def warning(self, event: str, **context: object) -> None:
        self.events.append(event)


class FakeHub:
    """Remembers what was published; `refuse` says which publications fail."""

    def __init__(self, refuse: Callable[[int], bool] = lambda number: False) -> None:
        self.published: list[tuple[str, object]] = []
        self._refuse = refuse
        self._numbers = count(1)

    async def publish(self, channel: str, data: object) -> None:
        if self._refuse(next(self._numbers)):
            raise NotPublishedError("the broker is away")
        self.published.append((channel, data))


def ticking() -> Callable[[], float]:
    seconds: Iterator[int] = count(100)
    return lambda: float(next(seconds))


async def demo_until(
    hub: FakeHub, log: FakeLog, enough: Callable[[], bool], **options: object
) -> None:
    """Run the demo without pauses until `enough()`, then cancel it."""
    options = {"read": lambda: BASE, "clock": ticking(), "interval_seconds": 0.0} | options
    await run_until(enough, run_demo(hub.publish, log=log, **options))  # type: ignore[arg-type]  # built per test


def test_rates_are_differences_divided_by_the_seconds_between_two_readings() -> None:
    """5,000 bytes in 2 s are 2,500 bytes per second."""
    now = replace(BASE, disk_read_bytes=15_000, network_sent_bytes=40_200)
    sent = messages(BASE, now, 2.0)
    assert sent["demo.disk"] == {
        "percent": 50.0,
        "used_bytes": 500,
        "total_bytes": 1_000,
        "read_bytes_per_second": 2_500,
        "written_bytes_per_second": 0,
    }
    assert sent["demo.network"] == {
        "received_bytes_per_second": 0,
        "sent_bytes_per_second": 100,
    }
    assert sent["demo.cpu"] == {"percent": 20.0, "cores": [10.0, 30.0]}


def test_a_counter_that_starts_again_gives_no_negative_rate() -> None:
    """A device that was unplugged counts from 0."""
    sent = messages(BASE, replace(BASE, network_received_bytes=5), 1.0)
    assert sent["demo.network"] == {"received_bytes_per_second": 0, "sent_bytes_per_second": 0}


def test_a_machine_without_memory_figures_does_not_divide_by_zero() -> None:
    """Containers may report nothing at all."""
    bare = replace(BASE, cores=(), memory_total_bytes=0, disk_total_bytes=0)
    assert messages(bare, bare, 1.0)["demo.cpu"] == {"percent": 0.0, "cores": []}


def test_this_machine_can_be_read() -> None:
    """A real reading makes JSON on the four demo channels."""
    now = take_reading()
    assert now.memory_total_bytes > now.memory_used_bytes > 0
    sent = messages(now, now, 1.0)
    assert set(sent) == CHANNELS
    assert orjson.loads(orjson.dumps(sent)) == sent


async def test_every_reading_after_the_first_is_published_on_four_channels() -> None:
    """The first reading only gives the rates a beginning."""
    hub, log = FakeHub(), FakeLog()
    await demo_until(hub, log, lambda: len(hub.published) >= 8)
    assert {channel for channel, _ in hub.published[:4]} == CHANNELS
    assert {channel for channel, _ in hub.published[4:8]} == CHANNELS
    assert log.events == []


async def test_publish_errors_are_logged_once_and_survived() -> None:
    """Three failures in a row are one line, and their end is another."""
    hub, log = FakeHub(refuse=lambda number: number <= 3), FakeLog()
    await demo_until(hub, log, lambda: len(hub.published) >= 4)
    assert log.events == ["demo_failing", "demo_recovered"]


async def test_a_reading_that_fails_is_survived() -> None:
    """A disk that went away must not end the feed."""
    hub, log = FakeHub(), FakeLog()
    readings: Iterator[int] = count()

    def read() -> MachineSample:
        if next(readings) == 1:
            raise OSError("no such device")
        return BASE

    await demo_until(hub, log, lambda: len(hub.published) >= 4, read=read)
    assert log.events == ["demo_failing", "demo_recovered"]
