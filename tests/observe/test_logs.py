"""Logs: one form for everything, and nothing secret in it."""

import io
import json
import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from hub.observe.logs import (
    HIDDEN,
    SECRET_NAMES,
    adopt_stdlib,
    hide_secrets,
    make_logger,
)


@dataclass(frozen=True, slots=True)
class LogChoice:
    log_level: str = "info"
    log_format: str = "json"
    node: str = "n1"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Gone(io.StringIO):
    def write(self, _text: str) -> int:
        raise BrokenPipeError


def fail(message: str) -> None:
    raise RuntimeError(message)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_event_is_one_json_line_with_level_time_in_utc_and_node() -> None:
    """A log collector finds level, time in UTC and node in every line."""
    stream = io.StringIO()
    make_logger(LogChoice(), stream).bind(session="s1").info("session_opened", transport="sse")
    (event,) = lines(stream)
    moment = datetime.fromisoformat(event.pop("timestamp"))
    assert moment.tzinfo == UTC
    assert event == {
        "event": "session_opened",
        "level": "info",
        "node": "n1",
        "session": "s1",
        "transport": "sse",
    }


@pytest.mark.parametrize("log_format", ["json", "console"])
@pytest.mark.parametrize("name", sorted(SECRET_NAMES))
def test_value_of_a_secret_name_is_hidden(name: str, log_format: str) -> None:
    """The value is hidden under names in capitals too, and inside a mapping such as headers."""
    stream = io.StringIO()
    log = make_logger(LogChoice(log_format=log_format), stream)
    log.info("event", **{name: "s3cret", name.title(): b"s3cret", "head": {name: "s3cret"}})
    assert "s3cret" not in stream.getvalue()
    assert stream.getvalue().count(HIDDEN) == 3


def test_token_in_a_url_is_hidden_and_the_rest_stays() -> None:
    """A browser's WebSocket has no other place for it."""
    stream = io.StringIO()
    make_logger(LogChoice(), stream).info("opened", url="/ws?channel=a&token=s3cret&last=1")
    assert lines(stream)[0]["url"] == f"/ws?channel=a&token={HIDDEN}&last=1"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("to http://ann:pw@hub.example/x", f"to http://{HIDDEN}@hub.example/x"),
        ("http://ann:p@ss://w@hub.example", f"http://{HIDDEN}@hub.example"),
        ("http://hub.example ann@example", "http://hub.example ann@example"),
        ("ann@hub.example", "ann@hub.example"),
    ],
)
def test_the_user_of_a_url_is_hidden(text: str, shown: str) -> None:
    assert hide_secrets(None, "", {"text": text}) == {"text": shown}


def test_hiding_takes_time_that_grows_with_the_text_alone() -> None:
    """A text in which a URL begins at every third character: four times as long, not sixteen."""

    def seconds(urls: int) -> float:
        event = {"text": "://" * urls}
        began = time.thread_time()
        hide_secrets(None, "", event)
        return time.thread_time() - began

    short, long = (min(seconds(urls) for _ in range(5)) for urls in (5_000, 20_000))
    assert long < 8 * short


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_traceback_shows_the_line_and_no_local_variables(log_format: str) -> None:
    """A frame's locals hold payloads."""
    stream = io.StringIO()
    log = make_logger(LogChoice(log_format=log_format), stream)
    payload = "".join(["s3", "cret"])
    try:
        fail(f"failed after {len(payload)}")
    except RuntimeError:
        log.exception("failed")
    assert "failed after 6" in stream.getvalue()
    assert "s3cret" not in stream.getvalue()


def test_events_below_the_level_are_not_written() -> None:
    """HUB_LOG_LEVEL sets that level."""
    stream = io.StringIO()
    log = make_logger(LogChoice(log_level="warning"), stream)
    log.info("quiet")
    log.warning("loud")
    assert [event["event"] for event in lines(stream)] == ["loud"]


def test_auto_is_readable_on_a_terminal_and_json_elsewhere() -> None:
    """HUB_LOG_FORMAT=auto chooses by the stream."""
    terminal, pipe = Terminal(), io.StringIO()
    for stream in (terminal, pipe):
        make_logger(LogChoice(log_format="auto"), stream).info("started", port=8000)
    assert lines(pipe)[0]["port"] == 8000
    assert "started" in terminal.getvalue()
    assert not terminal.getvalue().startswith("{")


def test_values_that_json_cannot_hold_are_written_anyway() -> None:
    """A peer's header may decode to lone surrogates; a log line must never raise."""
    stream = io.StringIO()
    make_logger(LogChoice(), stream).info("odd", agent="\udcff", number=10**30, thing={1, 2})
    (event,) = lines(stream)
    assert (event["agent"], event["number"], event["thing"]) == ("\udcff", 10**30, "{1, 2}")


def test_broken_stderr_does_not_end_the_caller() -> None:
    """The reader of stderr may go away while sessions live."""
    make_logger(LogChoice(), Gone()).error("nobody hears this")


def test_making_a_logger_leaves_the_applications_logging_alone() -> None:
    """The hub may be embedded."""
    before = logging.getLogger().handlers[:]
    make_logger(LogChoice(), io.StringIO())
    assert logging.getLogger().handlers == before


@pytest.mark.usefixtures("logging_as_before")
def test_records_of_other_libraries_take_the_same_form() -> None:
    """uvicorn's messages become events, with its arguments filled in and secrets hidden."""
    stream = io.StringIO()
    adopt_stdlib(LogChoice(), stream)
    logging.getLogger("uvicorn.error").warning("Unsupported upgrade request.")
    logging.getLogger("uvicorn.error").error("refused %s", "/ws?token=s3cret")
    (event,) = lines(stream)
    assert event["event"] == f"refused /ws?token={HIDDEN}"
    assert (event["level"], event["logger"], event["node"]) == ("error", "uvicorn.error", "n1")


@pytest.mark.usefixtures("logging_as_before")
def test_traceback_of_another_library_is_part_of_its_one_line() -> None:
    """A collector reads line by line."""
    stream = io.StringIO()
    adopt_stdlib(LogChoice(), stream)
    try:
        fail("boom")
    except RuntimeError:
        logging.getLogger("uvicorn.error").exception("failed")
    (event,) = lines(stream)
    assert "RuntimeError: boom" in event["exception"]


@pytest.mark.usefixtures("logging_as_before")
@pytest.mark.parametrize("name", ["websockets.server", "uvicorn.access", "httpx2"])
def test_libraries_that_log_payloads_stay_above_their_floor(name: str) -> None:
    """websockets writes frames at debug, uvicorn URLs with tokens at info."""
    stream = io.StringIO()
    adopt_stdlib(LogChoice(log_level="debug"), stream)
    logging.getLogger(name).debug("< TEXT 's3cret'")
    logging.getLogger("other").debug("fine")
    assert [event["event"] for event in lines(stream)] == ["fine"]
