"""Scenarios measure what their rows say, beside whom they are told to; no speed is asserted."""

import contextlib
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import psutil
import pytest
from typer.testing import CliRunner, Result

from hub.bench import disk, peers
from hub.bench.cores import Cores
from hub.bench.greetings import subscribe_request
from hub.bench.loop_watch import FILE_VARIABLE, WATCHED_COMMAND, LoopStall, stalls_between
from hub.bench.plan import BenchError, Contestant, Plan, ServerAddress
from hub.bench.scenarios.picture import DISTURBED, goal_line, picture
from hub.bench.scenarios.registry import SCENARIOS
from hub.bench.scenarios.scenario import Bar, Goal
from hub.bench.scenarios.scenario import Result as ScenarioResult
from hub.bench.server import interpreter, own_server
from hub.bench.stream_check import ChannelsCheck
from hub.cli import build
from tests.support.waiting import eventually_blocking

README = Path(__file__).with_name("README.md")
ROOT = Path(__file__).parents[2]
Measure = Callable[..., Result]


@pytest.fixture
def measure(tmp_path: Path, quick_processes: None) -> Measure:
    def run(name: str, *arguments: str) -> Result:
        options = ("--rounds", "1", "--seconds", "0.5", "--out", str(tmp_path))
        return CliRunner().invoke(build(), ["bench", "--scenario", name, *options, *arguments])

    return run


@pytest.fixture
def noisy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which each wait for a core counts as a disturbance, also one of no time."""
    for module in ("meter", "figures", "scenarios.durable"):
        monkeypatch.setattr(f"hub.bench.{module}.DISTURBED_SHARE", -1)


def written(folder: Path, name: str) -> dict[str, object]:
    ET.parse(folder / f"bench-{name}.svg")
    found: dict[str, object] = json.loads((folder / f"bench-{name}.json").read_text())
    return found


@pytest.mark.parametrize(
    ("goal", "met", "line"),
    [
        (Goal("x", 1.3, at_most=1.4), True, "x: 1.3 (at most 1.4: reached)"),
        (Goal("x", 1.5, at_most=1.4), False, "x: 1.5 (at most 1.4: not reached)"),
        (Goal("x", 5.0, at_least=6), False, "x: 5 (at least 6: not reached)"),
        (Goal("x", 2e6, at_least=1e6), True, "x: 2,000,000 (at least 1e+06: reached)"),
        (Goal("x", 7.0, unit="ms"), None, "x: 7 ms"),
        (Goal("x", None, at_most=1), None, "x: not known"),
    ],
)
def test_a_goal_says_whether_it_is_reached(goal: Goal, met: bool | None, line: str) -> None:
    assert goal.met is met
    assert goal_line(goal) == line


def test_the_documents_name_every_scenario() -> None:
    text = README.read_text()
    assert [name for name in SCENARIOS if f"`{name}`" not in text] == []


def test_the_picture_of_the_documents_shows_the_goals_and_figures_of_today() -> None:
    """README and the page of figures show the same one; a goal that moves asks for a new run."""
    name = "pictures/bench-fanout.svg"
    figures, text = (
        (ROOT / "hub/docs/figures.md").read_text(),
        (ROOT / "hub/docs" / name).read_text(),
    )
    assert f"({name})" in figures
    assert f"(hub/docs/{name})" in (ROOT / "README.md").read_text()
    assert SCENARIOS["fanout"].about in text
    assert "(at most 1.4: " in text
    assert "(at most 1.1: " in text
    shown = [Decimal(value) for value in re.findall(r">(\d+\.\d\d)<", text)]
    assert len(shown) == 4
    rounded = [value.quantize(Decimal("0.1"), ROUND_HALF_UP) for value in shown]
    assert [value for value in rounded if f"{value} us" not in figures] == []


def test_a_scenario_writes_figures_and_a_picture(measure: Measure, tmp_path: Path) -> None:
    """The command writes the JSON and the SVG, and prints the figure to reach."""
    result = measure("fanout", "--subscribers", "20")
    assert result.exit_code == 0, result.output
    told = written(tmp_path, "fanout")
    assert told["sound"] is True
    assert "here with 20 subscribers" in str(told["about"])
    assert told["interpreter"] == asdict(interpreter())
    assert f"  {interpreter()}\n" in result.stdout
    drawn = (tmp_path / "bench-fanout.svg").read_text()
    assert ">os.write loop in Python<" in drawn
    assert "times the os.write loop in Python: " in drawn
    assert f"wrote {tmp_path / 'bench-fanout.json'} and " in result.stderr
    assert "--out names another folder" in result.stderr


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_measured(
    tmp_path: Path,
) -> None:
    """Else the figures of some minutes are lost."""
    (tmp_path / "file").touch()
    arguments = ["bench", "--scenario", "idle", "--out", str(tmp_path / "file")]
    result = CliRunner().invoke(build(), arguments)
    assert result.exit_code == 2
    assert "bench-idle.json cannot be written: File exists (--out names another" in result.stderr


def test_a_scenario_that_fails_leaves_no_empty_files(measure: Measure, tmp_path: Path) -> None:
    """The message names the program that did not start, and repeats what it said."""
    peer = "sh -c 'echo no such port; exit 3'"
    result = measure("few-flat-out", "--subscribers", "5", "--against", peer)
    assert result.exit_code == 2
    assert f"`{peer}` ended with 3: no such port" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_afterwards_costs_only_the_files(
    measure: Measure, tmp_path: Path
) -> None:
    """The figures are on the screen, and the error names the file."""
    (tmp_path / "bench-few-flat-out.json").symlink_to("/dev/full")
    result = measure("few-flat-out", "--subscribers", "5")
    assert result.exit_code == 2
    assert "deliveries per second" in result.stdout
    assert "bench-few-flat-out.json cannot be written: No space left" in result.stderr


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (["--scenario", "fanout", "--url", "http://h:1"], "--url does not go with --scenario"),
        (["--scenario", "fanout", "--rate", "5"], "--rate does not go with --scenario"),
        (["--intake", "--payload-bytes", "99"], "--payload-bytes does not go with --intake"),
        (["--against", "nchan"], "--against goes with --scenario or --intake only"),
        (["--idle", "5", "--out", "x"], "--out goes with --scenario only"),
        (["--way", "TLS"], "--way goes with --intake only"),
    ],
)
def test_no_option_is_forgotten_silently(given: Sequence[str], why: str) -> None:
    """Else a bench of some minutes measures something else than was asked for."""
    result = CliRunner().invoke(build(), ["bench", *given])
    assert (result.exit_code, result.stderr) == (2, f"hub bench: {why}\n")


@pytest.mark.parametrize(
    ("scenario", "child"), [("few-flat-out", "multiprocessing.spawn"), ("sqlite", "hub.bench.disk")]
)
def test_ctrl_c_ends_a_scenario_and_all_its_processes(
    tmp_path: Path, scenario: str, child: str
) -> None:
    """Quietly, although a terminal sends the signal to each of them."""
    command = (sys.executable, "-m", "hub", "bench", "--scenario", scenario, "--out", tmp_path)
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, process_group=0
    )
    children: list[psutil.Process] = []

    def are_there() -> bool:
        children[:] = psutil.Process(process.pid).children(recursive=True)
        with contextlib.suppress(psutil.NoSuchProcess):
            return any(child in " ".join(each.cmdline()) for each in children)
        return False

    try:
        eventually_blocking(are_there)
        os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    except BaseException:
        # One that is left is found by the collector, and fails whichever test runs then.
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    assert process.returncode == 130, output
    assert b"Traceback" not in output, output
    eventually_blocking(lambda: not any(each.is_running() for each in children))


@pytest.mark.parametrize("scenario", ["many", "storm", "patterns"])
def test_more_subscribers_than_open_files_are_told_at_once(scenario: str, tmp_path: Path) -> None:
    """In one line, with both numbers. A hard limit cannot be taken back, so in another process."""
    program = (
        "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (512, 512)); "
        "runpy.run_module('hub', run_name='__main__')"
    )
    command = (sys.executable, "-c", program, "bench", "--scenario", scenario, "--out", tmp_path)
    done = subprocess.run(
        (*command, "--subscribers", "900"), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "open files, and the system lets a process open 512 (ulimit -Hn)" in done.stderr


def test_a_disk_without_room_for_the_bare_loop_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "not-there"))
    with pytest.raises(BenchError, match=r"not-there failed: .*No such file") as found:
        disk.measured(1, 0.1)
    assert "\n" not in found.value.message


def test_a_picture_has_room_for_its_longest_texts() -> None:
    """No label reaches into its bar, and no line is cut off. A letter is 7 pixels wide."""
    label, about = "sqlite: with a key and an Idempotency-Key, 64 at a time", "x" * 120
    found = ScenarioResult([Goal("y" * 110, 1.0)], [Bar(label, 1)], "us", True, True)
    text = picture(about, found)
    root = ET.fromstring(text)
    space = "{http://www.w3.org/2000/svg}"
    bar = root.find(f"{space}rect")
    assert bar is not None
    assert float(bar.attrib["x"]) > 10 + 7 * len(label)
    assert float(root.attrib["viewBox"].split()[2]) > 10 + 8 * len(about)
    assert DISTURBED in text


def test_each_subscriber_may_be_in_many_channels(measure: Measure, tmp_path: Path) -> None:
    """Every publication goes to its channel's subscribers, and each gets all of its channels."""
    result = measure("channels", "--subscribers", "20")
    assert result.exit_code == 0, result.output
    details = written(tmp_path, "channels")["details"]
    assert isinstance(details, dict)
    hub = details["medians"]["websocket"]
    assert hub["deliveries"] == hub["published"] * 10
    assert hub["missing"] == hub["duplicates"] == 0


def test_compressed_streams_are_checked_as_others_are(measure: Measure, tmp_path: Path) -> None:
    """Every frame is inflated; nothing is missing, and it is less on the wire."""
    result = measure("compressed", "--subscribers", "20")
    assert result.exit_code == 0, result.output
    details = written(tmp_path, "compressed")["details"]
    assert isinstance(details, dict)
    one, other = details["medians"]["compressed"], details["medians"]["websocket"]
    assert one["deliveries"] == other["deliveries"]
    assert one["missing"] == one["duplicates"] == 0
    assert one["frame_bytes"] < 0.7 * other["frame_bytes"]


@pytest.mark.usefixtures("noisy")
def test_a_storm_counts_who_got_exactly_what_was_missed(measure: Measure, tmp_path: Path) -> None:
    result = measure("storm", "--subscribers", "30")
    assert result.exit_code == 0, result.output
    assert "exactly what they missed: 0 (at most 0: reached)" in result.stdout
    told = written(tmp_path, "storm")
    assert (told["sound"], told["disturbed"]) == (True, True)


@pytest.mark.usefixtures("noisy")
@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("patterns", ["a pattern each", "a channel each"]),
        ("filters", ["100 filters", "no filter"]),
        ("keyed", ["keyed", "plain"]),
        ("state", ["a row of a table"]),
    ],
)
def test_parts_of_feeds_are_measured_beside_plain_channels(
    measure: Measure, tmp_path: Path, name: str, labels: list[str]
) -> None:
    """In turns at one hub, until everything has come."""
    result = measure(name, "--subscribers", "30")
    assert result.exit_code == 0, result.output
    told = written(tmp_path, name)
    assert (told["sound"], told["disturbed"]) == (True, True)
    assert ("here with" in str(told["about"])) is (name in {"patterns", "filters"})
    bars: Any = told["bars"]
    assert [bar["label"] for bar in bars] == labels
    assert all(bar["value"] > 0 for bar in bars)


@pytest.mark.usefixtures("noisy")
def test_publications_into_a_file_stand_beside_what_the_disk_gives(
    measure: Measure, tmp_path: Path
) -> None:
    result = measure("sqlite", "--seconds", "0.3", "--rounds", "1")
    assert result.exit_code == 0, result.output
    assert "fsyncs per second that the disk gives" in result.stdout
    told = written(tmp_path, "sqlite")
    assert (told["sound"], told["disturbed"]) == (True, True)
    goals: Any = told["goals"]
    assert [goal["at_least"] for goal in goals] == [15_000, 80_000, None, None]
    assert all(goal["value"] > 0 for goal in goals)


@pytest.mark.usefixtures("noisy")
def test_workers_are_metered_each_by_itself(measure: Measure, tmp_path: Path) -> None:
    result = measure("workers", "--subscribers", "20", "--seconds", "0.5")
    assert result.exit_code == 0, result.output
    told = written(tmp_path, "workers")
    assert (told["sound"], told["disturbed"]) == (True, True)
    details: Any = told["details"]
    rows = details["rounds"]
    assert [row["workers"] for row in rows] == [1, 2, 1, 2, 2]
    assert all(row["broker_us_per_publication"] > 0 for row in rows if row["workers"] == 2)
    goals: Any = told["goals"]
    floor = {goal["about"]: goal["value"] for goal in goals}[
        "the busiest of as many bare loops, of what one takes"
    ]
    assert 0 < floor < 2
    for row in rows:
        even, busiest = row["even_us_per_delivery"], row["worker_us_per_delivery"]
        assert even == busiest if row["workers"] == 1 else busiest / 2 <= even <= busiest


def test_a_program_that_is_not_there_is_named_and_not_called_no_command_line() -> None:
    with pytest.raises(BenchError, match=r"no program 'not-there' here; allowed are nchan"):
        peers.peer_of("not-there serve")


def test_another_version_is_measured_beside_the_hub(measure: Measure, tmp_path: Path) -> None:
    """Whatever a command line starts that speaks as the hub does."""
    command = f"{sys.executable} -m hub serve --port {{port}}"
    result = measure("few-flat-out", "--subscribers", "5", "--against", command)
    assert result.exit_code == 0, result.output
    labels = [bar["label"] for bar in written(tmp_path, "few-flat-out")["bars"]]  # type: ignore[attr-defined]  # a list
    assert labels == ["hub, WebSocket", "peer"]


def test_scenarios_with_a_hub_of_their_own_measure_another_version_too(
    measure: Measure, tmp_path: Path
) -> None:
    """Its figures stand beside the hub's, without goals; its loop cannot be watched."""
    command = f"{sys.executable} -m hub serve --port {{port}}"
    result = measure("state", "--against", command)
    assert result.exit_code == 0, result.output
    told = written(tmp_path, "state")
    bars: Any = told["bars"]
    assert [bar["label"] for bar in bars] == ["a row of a table", "peer: a row of a table"]
    goals: Any = told["goals"]
    peers_own = {goal["about"]: goal for goal in goals if goal["about"].startswith("the peer: ")}
    assert peers_own["the peer: rows that were missing"]["value"] == 0
    assert peers_own["the peer: the longest that the hub held its loop up"]["value"] is None
    assert all(goal["met"] is None for goal in peers_own.values())


def test_work_that_nchan_cannot_do_is_measured_without_it(
    measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command says so, and which scenarios nchan can do."""
    nchan = peers.Peer(Contestant.NCHAN, own_server)
    monkeypatch.setattr("hub.bench.command.peer_of", lambda _: nchan)
    result = measure("storm", "--subscribers", "5", "--against", "nchan")
    assert result.exit_code == 0, result.output
    assert "skipped: nchan cannot do the work of 'storm' (only of fanout, many," in result.stderr


def test_nchan_is_asked_for_all_channels_of_a_subscriber() -> None:
    request = subscribe_request(ServerAddress("h", 1), Contestant.NCHAN, "a-1", "a-2")
    assert request.startswith(b"GET /sub/a-1,a-2 HTTP/1.1\r\n")


def test_a_module_of_nchan_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A user who gives a path has mistyped it, and installing a package would not help."""
    missing = str(tmp_path / "ngx_nchan_module.so")
    with pytest.raises(BenchError, match=re.escape(f"--against is {missing!r}: no such file")):
        peers.peer_of(missing)


def test_nchan_is_skipped_where_it_is_not_installed(
    measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a plain line; the hub is measured all the same."""
    monkeypatch.setattr(peers, "_FOLDERS", ())
    result = measure("few-flat-out", "--subscribers", "5", "--against", "nchan")
    assert result.exit_code == 0, result.output
    assert "skipped: nchan is not installed" in result.stderr


@pytest.mark.parametrize("wrong", [("nothing",), ("fanout", "--against", "no-such-program x")])
def test_a_measurement_that_does_not_exist_is_refused(
    measure: Measure, wrong: tuple[str, ...]
) -> None:
    assert measure(*wrong).exit_code == 2


def test_several_channels_are_checked_each_by_itself() -> None:
    """A hole and a repetition in one are not made good by another."""
    check = ChannelsCheck()
    messages = [("a", 1), ("b", 1), ("a", 3), ("b", 1), ("b", 2)]
    text = "".join(
        f'{{"op":"message","channel":"{c}","offset":{n},"data":1}}\n' for c, n in messages
    )
    buffer = bytearray(text.encode())
    check.take(buffer, len(buffer))
    assert (check.received, check.skipped, check.duplicates) == (5, 1, 1)


def test_a_publication_goes_to_its_channels_subscribers() -> None:
    assert Plan(subscribers=1000, channels=1000, channels_each=10).receivers == 10
    assert Plan(subscribers=1000).receivers == 1000


def test_the_hubs_own_part_of_a_stall_is_told_from_the_machines(tmp_path: Path) -> None:
    """The loop of a real hub is watched; it is found late when its process is stopped."""
    notes = tmp_path / "notes"
    settings = {FILE_VARIABLE: str(notes)}
    began = time.monotonic()
    with own_server(Cores.divide(), command=WATCHED_COMMAND, settings=settings) as server:
        assert server.meter is not None
        os.kill(server.meter.pid, signal.SIGSTOP)
        time.sleep(0.05)
        os.kill(server.meter.pid, signal.SIGCONT)
        while not any(stall.seconds > 0.05 for stall in stalls_between(notes, began, math.inf)):
            time.sleep(0.01)
    assert stalls_between(notes, math.inf, math.inf) == []
    assert LoopStall(0.0, 0.3, 0.2).own_ms == pytest.approx(100)
