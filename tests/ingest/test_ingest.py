"""`hub ingest` as a process, against a real hub."""

import json
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.cli.commands import run, started
from tests.ingest.ingesting import Case, ended
from tests.support.hub_process import HubProcess
from tests.support.waiting import eventually

KEY = "k" * 32


class NothingThere(BaseHTTPRequestHandler):
    """A server that is no hub."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


async def test_json_lines_arrive_as_they_are_and_other_lines_as_strings(case: Case) -> None:
    """Every line counts: an empty one, one with CRLF, and a last one without an end."""
    case.file.write_bytes(b'{"n": 12345678901234567890123}\nplain\r\n\n42\nlast "one"')
    done = await case.ingest()
    assert (done.code, done.out) == (0, "")
    assert "5 published" in done.err
    assert await case.published() == [
        {"n": 12345678901234567890123},
        "plain",
        "",
        42,
        'last "one"',
    ]


async def test_the_same_command_goes_on_where_it_was(case: Case) -> None:
    """A second run publishes nothing, a third what was appended."""
    case.append("one\ntwo\n")
    await case.ingest()
    again = await case.ingest()
    case.append("three\n")
    await case.ingest()
    assert again.code == 0
    assert "after line 2" in again.err
    assert await case.published() == ["one", "two", "three"]


async def test_each_channel_and_each_hub_has_a_place_of_its_own(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without --checkpoint it is kept in the user's state directory, not beside the file."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    case.append("one\n")
    for channel in (case.channel, f"{case.channel}.b", case.channel):
        assert (await run("ingest", str(case.file), channel, "--url", case.hub.url)).code == 0
    assert await case.published() == ["one"]
    assert await Case(case.hub, f"{case.channel}.b", case.file).published() == ["one"]
    assert len(list((tmp_path / "home/hub/ingest").glob("app.log-*.json"))) == 2
    assert [path.name for path in tmp_path.glob("app*")] == ["app.log"]


async def test_bytes_that_are_not_utf8_are_replaced_and_counted(case: Case) -> None:
    """U+FFFD stands where they were; the summary says in how many lines."""
    case.file.write_bytes(b"caf\xe9\nfine\n")
    done = await case.ingest()
    assert done.code == 0
    assert "1 were not UTF-8" in done.err
    assert await case.published() == ["caf\N{REPLACEMENT CHARACTER}", "fine"]


async def test_zeros_before_a_line_are_left_out_and_told(case: Case) -> None:
    """Where they stood, how many there were, and in how many lines; the exit code is that of a
    file that is published whole."""
    case.file.write_bytes(b"one\n" + b"\0" * 2_000_000 + b"two\n\0\0\n")
    done = await case.ingest()
    assert done.code == 0
    assert "line 2 (byte 4): 2,000,000 zero bytes before its text are left out" in done.err
    assert "line 3 (byte 2,000,008): 2 zero bytes before its text are left out" in done.err
    assert "2,000,002 zero bytes before 2 lines were left out" in done.err
    assert await case.published() == ["one", "two", ""]


async def test_zeros_on_stdin_are_left_out_and_told(case: Case) -> None:
    """As those of a file, with `hub ingest -` and `hub publish CHANNEL -`."""
    text = b"one\n\0\0\0two\n"
    ingested = await run("ingest", "-", case.channel, "--url", case.hub.url, stdin=text)
    published = await run("publish", case.channel, "-", "--url", case.hub.url, stdin=text)
    assert (ingested.code, published.code) == (0, 0)
    assert "line 2 (byte 4): 3 zero bytes before its text are left out" in ingested.err
    assert "2 published, 0 not, 3 zero bytes before lines left out" in published.err
    assert await case.published() == ["one", "two"] * 2


async def test_lines_too_large_are_named_counted_and_skipped(case: Case) -> None:
    """One is over the hub's limit, one over what any request holds; exit code 1."""
    case.file.write_text(f"one\n{'x' * 70_000}\ntwo\n{'y' * 1_100_000}\nthree\n")
    done = await case.ingest()
    assert done.code == 1
    assert "line 2 (byte 4) not published: too_large" in done.err
    assert "line 4 (byte 70,009) not published: too_large: line is over" in done.err
    assert "3 published, 2 refused as too_large" in done.err
    assert await case.published() == ["one", "two", "three"]
    assert (await case.ingest()).code == 0


async def test_with_stop_a_refused_line_ends_it_and_the_next_run_begins_there(case: Case) -> None:
    """Lines behind the refused one that the same request published do not come again."""
    case.file.write_text('1\n2\noops\n3\n{"n": 4}\n')
    first = await case.ingest("--json", "--stop")
    second = await case.ingest("--json", "--stop")
    third = await case.ingest()
    assert (first.code, second.code, third.code) == (1, 1, 0)
    assert "line 3 (byte 4): not published: bad_request" in first.err
    assert "line 3 (byte 4)" in second.err
    assert await case.published() == [1, 2, 3, {"n": 4}, "oops"]
    assert "1 published; " in third.err


async def test_a_wrong_key_ends_it_at_once_and_nothing_counts_as_done(
    channel: str, tmp_path: Path
) -> None:
    """The same command with the right key publishes every line."""
    with HubProcess(HUB_PUBLISH_KEYS=KEY, HUB_HISTORY_SIZE="10") as hub:
        case = Case(hub, channel, tmp_path / "app.log")
        case.file.write_text("one\ntwo\n")
        wrong = await case.ingest("--key", "no")
        right = await case.ingest("--key", KEY)
    assert (wrong.code, right.code) == (1, 0)
    assert wrong.err.count("unauthorized") == 1
    assert "2 published; " in right.err


@pytest.mark.parametrize("to", ["the dashboard", "another server"])
async def test_a_wrong_address_ends_it_at_once_and_nothing_counts_as_done(
    case: Case, to: str
) -> None:
    """The same checkpoint then serves the right address, and every line is published."""
    case.file.write_text("one\ntwo\n")
    with HTTPServer(("127.0.0.1", 0), NothingThere) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        elsewhere = f"http://127.0.0.1:{other.server_port}"
        url = f"{case.hub.url}/dashboard" if to == "the dashboard" else elsewhere
        arguments = [each if each != case.hub.url else url for each in case.arguments()]
        wrong = await run("ingest", *arguments)
        lines = await run("publish", case.channel, "-", "--url", url, stdin=b"one\ntwo\n")
        other.shutdown()
    right = await case.ingest()
    assert (wrong.code, lines.code, right.code) == (1, 1, 0)
    assert wrong.err.count("not published") == lines.err.count("not published") == 1
    assert ("the hub's address ends before /dashboard" in wrong.err) == (to == "the dashboard")
    assert ("no answer of a hub: is the URL right?" in wrong.err) == (to == "another server")
    assert await case.published() == ["one", "two"]


async def test_without_a_hub_it_says_that_nothing_was_published(case: Case) -> None:
    """Exit code 1 after the time for retries; the next run publishes all."""
    case.file.write_text("one\ntwo\n")
    arguments = [
        each if each != case.hub.url else "http://127.0.0.1:9" for each in case.arguments()
    ]
    away = await run("ingest", *arguments, "--retry-seconds", "0.2")
    assert away.code == 1
    assert "line 1 (byte 0): not published: not_published" in away.err
    assert (await case.ingest()).code == 0
    assert await case.published() == ["one", "two"]


async def test_stdin_is_published_without_a_checkpoint(case: Case, tmp_path: Path) -> None:
    """Nothing is left behind, and to follow it is refused."""
    done = await run("ingest", "-", case.channel, "--url", case.hub.url, stdin=b"one\n2\nthree")
    refused = await run("ingest", "-", case.channel, "--follow", stdin=b"")
    assert (done.code, refused.code) == (0, 2)
    assert await case.published() == ["one", 2, "three"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "says"),
    [("{", "it is no checkpoint"), ('"other"', "it is no checkpoint"), (None, "of channel other")],
    ids=["torn", "strange", "another channel's"],
)
async def test_a_checkpoint_that_does_not_fit_is_refused(
    case: Case, content: str | None, says: str
) -> None:
    """Exit code 2 and nothing published: to begin anew unasked would repeat everything."""
    case.append("one\n")
    await case.ingest()
    case.checkpoint.write_text(content or json.dumps(case.saved() | {"channel": "other"}))
    done = await case.ingest()
    assert done.code == 2
    assert says in done.err
    assert await case.published() == ["one"]


async def test_lines_that_may_come_twice_are_told(case: Case) -> None:
    """A run was cut off, and longer ago than the hub knows idempotency keys."""
    case.append("one\n")
    orderly = await case.ingest()
    for saved_at, warned in ((0, True), (time.time(), False)):
        cut_off = case.saved() | {"settled": False, "saved_at": saved_at}
        case.checkpoint.write_text(json.dumps(cut_off))
        assert ("come twice" in (await case.ingest()).err) is warned
    assert "come twice" not in orderly.err


async def test_a_checkpoint_is_used_by_one_process_at_a_time(case: Case) -> None:
    """The second one says so and ends with 2."""
    case.append("one\n")
    async with case.following():
        await case.until(["one"])
        done = await case.ingest()
    assert done.code == 2
    assert "in use by another" in done.err


async def test_a_path_that_is_no_regular_file_is_refused(case: Case, tmp_path: Path) -> None:
    """A directory, and a file that is not there: exit code 2, no traceback."""
    for file in (tmp_path, tmp_path / "none"):
        done = await run("ingest", str(file), case.channel, "--url", case.hub.url)
        assert done.code == 2
        assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("number", "follow", "code"),
    [
        (signal.SIGTERM, True, 0),
        (signal.SIGTERM, False, 143),
        (signal.SIGHUP, True, 0),
        (signal.SIGHUP, False, 129),
        (signal.SIGINT, True, 130),
    ],
)
async def test_a_signal_ends_it_with_its_place_saved(
    case: Case, number: signal.Signals, follow: bool, code: int
) -> None:
    """Between two lines: no request was under way; the summary is on stderr."""
    case.append("line\n" * 50)
    slowly = ("--rate", "0.2", *(["--follow"] if follow else []))
    async with started("ingest", *case.arguments(*slowly)) as process:
        await eventually(case.noted_lines, seconds=40, what="a line that is noted")
        process.send_signal(number)
        ended_with, err = await ended(process)
    assert ended_with == code
    assert "published; the last at" in err
    assert "Traceback" not in err
    assert case.saved()["settled"] is True
    assert case.saved()["lines"] == await case.count() < 50
