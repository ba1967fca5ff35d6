"""`hub publish` as a process, against an HTTP server played by a function."""

import asyncio
import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from hub.cli.lines import MAX_LINE_BYTES, LineSplitter
from hub.cli.publishing import Payloads
from tests.cli.commands import DEADLINE_SECONDS, run, started
from tests.clients.python.fakes import HttpAnswer, HttpRequest, http_hub, json_answer, problem


def take_all() -> Callable[[HttpRequest], HttpAnswer]:
    """A hub that numbers what it gets."""
    offset = 0

    def answer(request: HttpRequest) -> HttpAnswer:
        nonlocal offset
        results = []
        for item in request.json:
            offset += 1
            results.append({"channel": item["channel"], "epoch": "e1", "offset": offset})
        return json_answer(results)

    return answer


async def test_a_document_is_published_and_its_position_printed_as_one_json_line() -> None:
    """Key, message key and payload arrive; the position is on stdout, stderr is empty."""
    async with http_hub(take_all()) as (url, requests):
        ended = await run(
            "publish", "prices", '{"n": 1}', "--url", url, "--key", "k3y", "--message-key", "EURUSD"
        )
    (item,) = requests[0].json
    assert (ended.code, ended.err) == (0, "")
    assert json.loads(ended.out) == {"channel": "prices", "epoch": "e1", "offset": 1}
    assert (item["data"], item["key"]) == ({"n": 1}, "EURUSD")
    assert requests[0].headers["authorization"] == "Bearer k3y"


async def test_without_a_payload_the_document_is_read_from_stdin() -> None:
    """A document over several lines is one publication."""
    async with http_hub(take_all()) as (url, requests):
        ended = await run("publish", "a", "--url", url, stdin=b'{\n"n": 1\n}\n')
    assert ended.code == 0
    assert requests[0].json[0]["data"] == {"n": 1}


async def test_a_payload_that_is_no_json_is_refused_before_anything_is_sent() -> None:
    """Exit code 2 and a hint; the hub is not bothered."""
    async with http_hub(take_all()) as (url, requests):
        ended = await run("publish", "a", "hello", "--url", url)
    assert ended.code == 2
    assert "--text" in ended.err
    assert requests == []


async def test_lines_of_stdin_are_published_in_order_json_as_it_is_text_as_strings() -> None:
    """Every line counts, an empty and an unfinished last one too; the summary is on stderr."""
    lines = b'{"n": 12345678901234567890123}\nplain text\n\r\n42\nlast "one"'
    async with http_hub(take_all()) as (url, requests):
        ended = await run("publish", "logs", "-", "--url", url, stdin=lines)
    sent = [item["data"] for request in requests for item in request.json]
    assert sent == [{"n": 12345678901234567890123}, "plain text", "", 42, 'last "one"']
    assert (ended.code, ended.out) == (0, "")
    assert "5 published, 0 not" in ended.err


async def test_a_line_is_sent_when_it_comes_and_not_when_stdin_ends() -> None:
    """`tail -f log | hub publish logs -` must not wait for more."""
    arrived: asyncio.Queue[object] = asyncio.Queue()
    numbered = take_all()

    def answer(request: HttpRequest) -> HttpAnswer:
        arrived.put_nowait([item["data"] for item in request.json])
        return numbered(request)

    async with http_hub(answer) as (url, _), started("publish", "a", "-", "--url", url) as process:
        assert process.stdin is not None
        for line in ("one", "two"):
            process.stdin.write(line.encode() + b"\n")
            async with asyncio.timeout(DEADLINE_SECONDS):
                assert await arrived.get() == [line]


async def test_lines_that_arrive_together_travel_together() -> None:
    """A thousand lines cost a few requests, not a thousand."""
    lines = b"".join(b"%d\n" % number for number in range(1000))
    async with http_hub(take_all()) as (url, requests):
        ended = await run("publish", "a", "-", "--url", url, stdin=lines)
    sent = [item["data"] for request in requests for item in request.json]
    assert ended.code == 0
    assert sent == list(range(1000))
    assert len(requests) < 50


async def test_a_line_the_hub_refuses_is_named_and_the_others_are_published() -> None:
    """Line 2 is too large: exit code 1, its number and the reason on stderr."""

    def answer(request: HttpRequest) -> HttpAnswer:
        refused = {"status": 413, "code": "too_large", "detail": "no", "retryable": False}
        results = [
            refused if item["data"] == "big" else {"channel": "a", "epoch": "e", "offset": 1}
            for item in request.json
        ]
        return json_answer(results, status=207)

    async with http_hub(answer) as (url, _):
        ended = await run("publish", "a", "-", "--url", url, stdin=b"small\nbig\nsmall\n")
    assert ended.code == 1
    assert "line 2: not published: too_large" in ended.err
    assert "2 published, 1 not" in ended.err


async def test_lines_that_are_not_json_are_refused_with_json() -> None:
    """--json turns what would become a string into an error of that line."""
    async with http_hub(take_all()) as (url, _):
        ended = await run("publish", "a", "-", "--json", "--url", url, stdin=b"1\noops\n2\n")
    assert ended.code == 1
    assert "line 2:" in ended.err
    assert "2 published, 1 not" in ended.err


async def test_a_wrong_key_ends_the_stream_at_once() -> None:
    """Every further line would be refused as well, so the refusal is printed once."""
    async with http_hub(lambda _: problem(401, "unauthorized")) as (url, requests):
        ended = await run("publish", "a", "-", "--url", url, stdin=b"1\n" * 1000)
    assert ended.code == 1
    assert ended.err.count("not published") == 1
    assert len(requests) == 1


@pytest.mark.parametrize(
    ("answer", "code", "verdict"),
    [
        (problem(503, "not_published", retryable=True), 1, "not published"),
        (HttpAnswer(drop=True), 3, "outcome unknown"),
    ],
    ids=["surely not", "unknown"],
)
async def test_the_exit_code_tells_not_published_from_unknown(
    answer: HttpAnswer, code: int, verdict: str
) -> None:
    """A script may repeat after 1; after 3 it has to think."""
    async with http_hub(lambda _: answer) as (url, _):
        ended = await run("publish", "a", "1", "--url", url, "--retry-seconds", "0.1")
    assert ended.code == code
    assert verdict in ended.err


async def test_that_it_tries_again_is_told_once_with_the_reason_and_the_hub() -> None:
    """A command that says nothing for half a minute looks like one that hangs."""
    away = iter([problem(503, "not_published", retryable=True)] * 3)
    everything = take_all()
    async with http_hub(lambda request: next(away, None) or everything(request)) as (url, _):
        ended = await run("publish", "a", "1", "--url", url)
    assert ended.code == 0
    assert json.loads(ended.out)["offset"] == 1
    (line,) = ended.err.splitlines()
    assert line.startswith("hub: not_published: ")
    assert line.endswith(f"; trying again for up to 30 s, at {url}")


async def test_a_publisher_without_a_key_is_told_where_one_goes() -> None:
    """The verdict is printed once."""
    async with http_hub(lambda _: problem(401, "unauthorized")) as (url, _):
        ended = await run("publish", "a", "1", "--url", url)
    assert ended.err.startswith("hub: not published: unauthorized: ")
    assert ended.err.endswith(f"(--key or HUB_PUBLISH_KEY), at {url}\n")


@pytest.mark.parametrize("command", ["publish", "ingest"])
async def test_without_a_hub_it_names_where_it_looked_without_a_password(
    command: str, tmp_path: Path
) -> None:
    """The message asks whether a hub is running there."""
    file = tmp_path / "app.log"
    file.write_text("1\n")
    what = ["a", "1"] if command == "publish" else [str(file), "a", "--checkpoint", f"{file}.place"]
    url = "http://ann:s3cret@127.0.0.1:9"
    away = await run(command, *what, "--url", url, "--retry-seconds", "0")
    assert away.code == 1
    assert "ConnectError: " in away.err
    assert "is a hub running there? (1 attempt in 0." in away.err
    assert " s at http://127.0.0.1:9)\n" in away.err
    assert "s3cret" not in away.err


async def test_an_interrupt_ends_the_stream_with_its_summary() -> None:
    """Ctrl-C while it waits for input: exit code 130, no traceback."""
    seen = asyncio.Event()
    numbered = take_all()

    def answer(request: HttpRequest) -> HttpAnswer:
        seen.set()
        return numbered(request)

    async with http_hub(answer) as (url, _), started("publish", "a", "-", "--url", url) as process:
        assert process.stdin is not None
        process.stdin.write(b"1\n")
        async with asyncio.timeout(DEADLINE_SECONDS):
            await seen.wait()
            process.send_signal(signal.SIGINT)
            await process.wait()
            err = (await process.stderr.read()).decode()
    assert process.returncode == 130
    assert "hub: a: " in err
    assert "Traceback" not in err


def test_a_line_over_the_limit_is_given_up_without_being_kept() -> None:
    """Ten megabytes without a line's end hold one chunk of memory, and the next line is fine."""
    splitter = LineSplitter()
    for _ in range(10):
        assert splitter.feed(b"x" * MAX_LINE_BYTES) == []
    assert splitter.feed(b"\nnext\npart") == [None, b"next"]
    assert splitter.finish() == [b"part"]


def test_text_is_always_a_string_where_that_is_asked_for() -> None:
    """--text sends 42 as "42", and bytes that are no UTF-8 as U+FFFD."""
    to_payload = Payloads(as_text=True, as_json=False)
    assert to_payload(b"42") == b'"42"'
    assert to_payload(b"\xff").decode() == '"\N{REPLACEMENT CHARACTER}"'
