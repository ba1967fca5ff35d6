"""Each part of the hub logs from a level of its own, which changes while it runs."""

import io
import json
import logging
from dataclasses import dataclass

import pytest
import structlog
from structlog.typing import FilteringBoundLogger

from hub.errors import BadRequestError
from hub.observe.log_levels import LogLevels, levels_of
from hub.observe.logs import make_logger


@dataclass(frozen=True, slots=True)
class LogChoice:
    log_level: str = "info"
    log_format: str = "json"
    node: str = "n1"


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def log(stream: io.StringIO) -> FilteringBoundLogger:
    return make_logger(LogChoice(), stream)


def levels(log: FilteringBoundLogger) -> LogLevels:
    found = levels_of(log)
    assert found is not None
    return found


def said(stream: io.StringIO) -> list[str]:
    return [json.loads(line)["event"] for line in stream.getvalue().splitlines()]


def test_a_subsystem_says_more_than_the_others(
    log: FilteringBoundLogger, stream: io.StringIO
) -> None:
    """Also where its logger was bound, and bound further, before the change."""
    broker, http = log.bind(subsystem="broker"), log.bind(subsystem="http")
    deeper = broker.bind(server="r1")
    broker.debug("before")
    levels(log).change({"broker": "debug"})
    deeper.debug("broker")
    http.debug("http")
    log.debug("nobody's")
    log.info("general")
    assert said(stream) == ["broker", "general"]
    assert broker.is_enabled_for(logging.DEBUG)
    assert not http.is_enabled_for(logging.DEBUG)
    assert deeper.get_effective_level() == logging.DEBUG


def test_a_subsystem_says_less_than_the_others(
    log: FilteringBoundLogger, stream: io.StringIO
) -> None:
    """Tracebacks are errors."""
    broker = log.bind(subsystem="broker")
    levels(log).change({"broker": "critical"})
    broker.error("error")
    broker.exception("exception", exc_info=None)
    broker.critical("critical")
    assert said(stream) == ["critical"]


def test_a_field_may_have_the_name_of_whatever_a_logger_calls_its_own(
    log: FilteringBoundLogger, stream: io.StringIO
) -> None:
    """`method`, of the request that failed, beside a traceback."""
    log.error("failed", method="GET", name="n", level_name="l")
    line = json.loads(stream.getvalue())
    assert (line["event"], line["method"], line["level"]) == ("failed", "GET", "error")


def test_the_general_level_holds_for_all_that_have_none_of_their_own(
    log: FilteringBoundLogger, stream: io.StringIO
) -> None:
    """Null takes a subsystem's own level away."""
    found = levels(log)
    found.change({"default": "error", "http": "debug"})
    assert found.shown() == {
        "default": "error", "broker": "error", "http": "debug", "loop": "error", "session": "error"
    }  # fmt: skip
    log.warning("silent")
    found.change({"http": None})
    assert set(found.shown().values()) == {"error"}
    log.bind(subsystem="http").warning("silent")
    assert said(stream) == []


@pytest.mark.parametrize(
    "changes",
    [{"http": "debug", "bróker": "debug"}, {"http": "debug", "loop": "loud"},
     {"http": "debug", "default": None}, {"http": "debug", "loop": 10}],
)  # fmt: skip
def test_a_level_or_subsystem_that_there_is_not_changes_nothing(
    log: FilteringBoundLogger, changes: dict[str, object]
) -> None:
    """Not even the part of it that there is."""
    before = levels(log).shown()
    with pytest.raises(BadRequestError):
        levels(log).change(changes)
    assert levels(log).shown() == before


def test_two_loggers_of_a_process_have_levels_of_their_own(stream: io.StringIO) -> None:
    """An application may hold two hubs."""
    one, two = make_logger(LogChoice(), stream), make_logger(LogChoice(), stream)
    levels(one).change({"default": "debug"})
    one.debug("one")
    two.debug("two")
    assert said(stream) == ["one"]


def test_a_foreign_logger_has_no_levels_of_ours() -> None:
    """The application that brought it decides."""
    assert levels_of(structlog.get_logger()) is None
