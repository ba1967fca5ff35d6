"""The benchmark finds what it is there to find; no absolute speed is asserted anywhere."""

import dataclasses
import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from hub.bench.bare_loop import bare_frame
from hub.bench.connects import AT_A_TIME
from hub.bench.contest import Outcome, run
from hub.bench.intake import WAYS
from hub.bench.load import new_progress
from hub.bench.plan import BenchError, Contestant, Plan
from hub.bench.publisher import told_error
from hub.bench.server import REDIS, own_server, running_server
from hub.cli import build

FAULTY_HUB = "tests.benchmarks.faulty_hub"
SMALL = Plan(subscribers=3, publications=20, rate=200.0, payload_bytes=60)

Bench = Callable[..., Result]
needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="openssl is not installed"
)


class SilentWatch:
    """Tells nobody how far a round is: `hub.bench.phases.PhaseListener`."""

    def phase(self, name: str, total: float) -> None:
        pass

    def reached(self, done: float) -> None:
        pass


@pytest.fixture
def bench(quick_processes: None) -> Bench:
    """Runs `hub bench ... --json` in this process; the hub it measures is one of its own."""

    def invoke(*arguments: str) -> Result:
        asked = ["bench", *arguments, "--json"]
        return CliRunner().invoke(build(), asked, prog_name="hub")

    return invoke


def figures_of(result: Result, contestant: str = "websocket") -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    figures: dict[str, Any] = json.loads(result.stdout)["medians"][contestant]
    return figures


def run_faulty(fault: str) -> Outcome:
    command = (sys.executable, "-m", FAULTY_HUB, fault)
    return run(SMALL, partial(own_server, command=command), SilentWatch())


@pytest.mark.skipif(shutil.which(REDIS) is None, reason="redis-server is not installed")
def test_publications_that_one_node_takes_in_are_delivered_by_the_other(bench: Bench) -> None:
    """Subscribers sit at another node than the publisher; nothing is lost between them."""
    result = bench("--nodes", "2", "--subscribers", "5", "--publications", "50", "--rate", "400")

    figures = figures_of(result)
    assert figures["deliveries"] == 5 * 50
    assert figures["missing"] == figures["duplicates"] == figures["gaps"] == 0


@pytest.fixture
def few_connects(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a way of connecting count so few that it takes no time."""
    for module in ("hub.bench.intake", "hub.bench.connects"):
        monkeypatch.setattr(f"{module}.CONNECTS", 100)
    monkeypatch.setattr("hub.bench.connects.WARM", AT_A_TIME)


@needs_openssl
@pytest.mark.usefixtures("few_connects")
@pytest.mark.skipif(shutil.which(REDIS) is None, reason="redis-server is not installed")
@pytest.mark.timeout(300)  # a process or two is started for each way
def test_every_way_of_publishing_is_taken_in_and_metered(bench: Bench) -> None:
    """Arrays cost less than single requests; that much holds on any machine."""
    result = bench("--intake", "--seconds", "0.1")
    assert result.exit_code == 0, result.output
    rows = {row["way"]: row for row in json.loads(result.stdout)}
    assert list(rows) == [way.name for way in WAYS]
    assert all(row["per_second"] > 0 and row["core_share"] > 0 for row in rows.values())
    arrays, singles = rows["arrays of 100, 4 at a time"], rows["single POSTs, 16 at a time"]
    assert arrays["cpu_microseconds"] < singles["cpu_microseconds"]
    history = rows["history: pages of 100, 4 at a time"]
    assert history["cpu_microseconds"] < rows["start: until ready"]["cpu_microseconds"]


@needs_openssl
@pytest.mark.usefixtures("few_connects")
def test_publications_and_connections_over_tls_are_metered_beside_their_floors(
    bench: Bench,
) -> None:
    """To encrypt costs something, also the floor."""
    result = bench("--intake", "--seconds", "0.1", "--way", "TLS")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    assert all(r["interpreter"]["version"].startswith(platform.python_version()) for r in rows)
    ways = [(row["way"], row["cpu_microseconds"] > 0) for row in rows]
    assert ways == [
        ("TLS: bare httptools loop, 16 at a time", True),
        ("TLS: single POSTs, 16 at a time", True),
        ("connects: bare httptools loop, TLS", True),
        ("connects: WebSocket with one subscription, TLS", True),
    ]


def test_a_way_that_is_none_is_told_with_the_rows_that_there_are(bench: Bench) -> None:
    result = bench("--intake", "--way", "nosuch")
    assert result.exit_code == 2
    assert "--way is 'nosuch', which no row's name contains; the rows are:" in result.output
    assert "\n  TLS: single POSTs, 16 at a time\n" in result.output


def test_the_intake_is_measured_against_nchan_only(bench: Bench) -> None:
    """Another version of the hub is measured by a scenario."""
    result = bench("--intake", "--way", "TLS", "--against", sys.executable)
    assert result.exit_code == 2
    assert "nchan" in result.output


def test_nodes_of_its_own_and_a_running_hub_exclude_each_other(bench: Bench) -> None:
    result = bench("--nodes", "2", "--url", "http://127.0.0.1:1")

    assert result.exit_code == 2
    assert "--nodes" in result.output


@pytest.mark.parametrize("transport", ["websocket", "sse"])
def test_a_calm_hub_delivers_everything_once(bench: Bench, transport: str) -> None:
    """20 subscribers and 50 publications: nothing is missing, repeated or announced as lost."""
    result = bench(
        "--subscribers", "20", "--publications", "50", "--rate", "400", "--transport", transport
    )

    figures = figures_of(result, transport)
    assert figures["deliveries"] == 20 * 50
    assert figures["missing"] == figures["duplicates"] == figures["gaps"] == 0
    assert figures["alive"] == 20
    assert figures["latency_p50_ms"] <= figures["latency_p99_ms"] <= figures["latency_max_ms"]
    assert figures["cpu_us_per_delivery"] > 0
    assert figures["cpu_us_per_connect"] > 0


def test_flat_out_loses_nothing(bench: Bench) -> None:
    """The closed loop keeps the publisher no further ahead than outboxes allow."""
    figures = figures_of(bench("--subscribers", "20", "--rate", "0", "--seconds", "1"))

    assert figures["published"] > 0
    assert figures["deliveries"] == 20 * figures["published"]
    assert figures["missing"] == figures["duplicates"] == figures["gaps"] == 0


@pytest.mark.skipif(shutil.which("cc") is None, reason="the send loop needs a C compiler")
def test_the_baseline_is_measured_in_the_same_run(bench: Bench) -> None:
    """Hub and send loop send the same number of frames of the same size.

    The ratio's limits are a sanity check of the method, not of the hub: far below 1 the load
    or the accounting is broken; 20 subscribers are too few to say more.
    """
    result = bench(
        "--subscribers",
        "20",
        "--publications",
        "50",
        "--rate",
        "400",
        "--baseline",
        "--rounds",
        "1",
    )

    hub, loop = figures_of(result), figures_of(result, "send_loop")
    assert loop["deliveries"] == hub["deliveries"] == 20 * 50
    assert loop["frame_bytes"] == pytest.approx(hub["frame_bytes"], rel=0.05)
    assert loop["missing"] == loop["duplicates"] == 0
    assert 0.5 < json.loads(result.stdout)["ratios"]["websocket/send_loop"] < 50


def test_connections_that_are_held_idle_answer_pings() -> None:
    """Held for longer than heartbeat and pong time-out together, all are alive at the end."""
    plan = dataclasses.replace(SMALL, subscribers=20, publications=2, hold_seconds=3.0)
    quick = {"HUB_HEARTBEAT_SECONDS": "1", "HUB_PONG_TIMEOUT_SECONDS": "1"}

    outcome = run(plan, partial(own_server, settings=quick), SilentWatch())

    figures = outcome.medians[Contestant.WEBSOCKET]
    assert (figures.alive, figures.failures) == (20, ())
    assert figures.fewest_heartbeats >= 1
    assert figures.idle_cpu_share is not None


@pytest.mark.usefixtures("quick_processes")
def test_a_sound_stream_is_found_sound() -> None:
    """The faulty hub without a fault passes, so what the others find is their fault."""
    outcome = run_faulty("none")

    assert outcome.sound
    assert outcome.medians[Contestant.WEBSOCKET].deliveries == 60


@pytest.mark.usefixtures("quick_processes")
def test_a_message_lost_silently_is_found() -> None:
    """Each of three subscribers misses one message and no gap says so."""
    outcome = run_faulty("lose")

    figures = outcome.medians[Contestant.WEBSOCKET]
    assert (figures.missing, figures.silently_missing, figures.gaps) == (3, 3, 0)
    assert not outcome.sound


@pytest.mark.usefixtures("quick_processes")
def test_a_message_that_comes_twice_is_found() -> None:
    """Each of three subscribers gets one message twice."""
    outcome = run_faulty("repeat")

    figures = outcome.medians[Contestant.WEBSOCKET]
    assert (figures.duplicates, figures.missing) == (3, 0)
    assert not outcome.sound


@pytest.mark.usefixtures("quick_processes")
def test_an_announced_loss_is_missing_but_not_silent() -> None:
    """A gap in the place of the message makes the run sound, and is counted."""
    outcome = run_faulty("announce")

    figures = outcome.medians[Contestant.WEBSOCKET]
    assert (figures.missing, figures.silently_missing, figures.gaps) == (3, 0, 3)
    assert outcome.sound


def test_a_server_that_does_not_start_is_told_with_its_words() -> None:
    """The error holds what the server wrote before it ended."""
    command = (sys.executable, "-c", "raise SystemExit('no such setting')")

    with pytest.raises(BenchError, match="no such setting"):
        run(SMALL, partial(own_server, command=command), SilentWatch())


def test_a_refusal_of_the_hub_is_told_to_the_publisher_in_the_hubs_words() -> None:
    """Not as the frames that came: one line."""
    refusal = (
        b'\x81\x50{"op":"reply","id":7,"error":{"code":"unavailable","message":"the hub stops",'
        b'"retryable":true}}\x81\x02{}'
    )
    assert told_error(refusal) == "unavailable: the hub stops"
    goodbye = b'\x81\x20{"op":"goodbye","code":1012,"reason":"drain"}'
    assert told_error(goodbye) == "the hub said goodbye: drain"
    assert told_error(b'\x81\x20{"op":"reply","id":7,"ok":{"offset":1}}') is None


def test_a_hub_that_cannot_be_reached_is_one_line() -> None:
    """Also where a process of the load finds it out."""
    command = (
        sys.executable,
        "-m",
        "hub",
        "bench",
        "--url",
        "http://127.0.0.1:1",
        "--seconds",
        "1",
    )
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "127.0.0.1:1: [Errno 111] Connection refused" in done.stderr


def test_a_machine_without_shared_memory_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as one whose /dev/shm is read-only."""

    class Full:
        def RawArray(self, *_: object) -> object:  # noqa: N802 - multiprocessing's name
            raise OSError("nothing left")

    monkeypatch.setattr("hub.bench.load._SPAWN", Full())

    with pytest.raises(BenchError, match="nothing left"):
        new_progress(SMALL)


@pytest.mark.parametrize("url", ["https://hub.example", "hub.example:8000", "http://"])
def test_a_url_that_cannot_be_measured_is_refused(url: str) -> None:
    """Bare sockets speak plain HTTP only."""
    with pytest.raises(BenchError, match="--url"):
        running_server(url, token=None, pid=None)


def test_an_unknown_transport_ends_with_a_message(bench: Bench) -> None:
    """The message lists the transports that there are."""
    result = bench("--transport", "pigeon")

    assert result.exit_code == 2
    assert "websocket, sse" in result.stderr


@pytest.mark.parametrize("size", [107, 290, 60_000])
def test_a_bare_frame_has_the_size_of_the_hubs(size: int) -> None:
    """The send loop's frames are as long as those it is compared with."""
    assert len(bare_frame(size)) == size


@pytest.mark.usefixtures("quick_processes")
def test_disturbed_rounds_are_left_out_while_there_are_others() -> None:
    """Late messages are joined and cheap, so such a round would flatter the hub."""
    calm = run_faulty("none").rounds[0]
    calm = dataclasses.replace(calm, cpu_us_per_delivery=8.0, waited_share=0.0, bunched=0)
    loop = dataclasses.replace(calm, contestant=Contestant.SEND_LOOP, cpu_us_per_delivery=4.0)
    busy = dataclasses.replace(calm, cpu_us_per_delivery=1.0, waited_share=0.5)
    both = (Contestant.WEBSOCKET, Contestant.SEND_LOOP)
    plan = dataclasses.replace(SMALL, contestants=both, rounds=3)

    mixed = Outcome(plan, (busy, loop, calm, loop, busy, loop))
    only_busy = Outcome(plan, (busy, loop, busy, loop))

    assert mixed.ratios == {"websocket/send_loop": 2.0}
    assert mixed.medians[Contestant.WEBSOCKET].cpu_us_per_delivery == 8.0
    assert only_busy.ratios == {"websocket/send_loop": 0.25}
