"""Refusals are in the log, one line each; of a flood some, and the number of the others."""

from collections.abc import Callable, MutableMapping
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import ReturnLogger

from hub.core.limits import LimitRefusal
from hub.core.refused import RefusedTable
from hub.errors import HubError
from hub.observe.refusals import WINDOW_SECONDS, Refusals
from tests.wire.test_codes import every_error

WHO_MAY = {"unauthorized", "forbidden", "misdirected_request"}


class Rig:
    """Refusals whose log lines are kept, and whose windows end when told to."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self._due: list[Callable[[], None]] = []
        log = structlog.wrap_logger(
            ReturnLogger(), wrapper_class=structlog.BoundLogger, processors=[self._keep]
        )
        self.table = RefusedTable("n1", lambda: 1000)
        self.refusals = Refusals(log=log, table=self.table, in_seconds=self._in_seconds)

    def _keep(self, _: object, level: str, event: MutableMapping[str, Any]) -> str:
        self.lines.append({**event, "level": level})
        return ""

    def _in_seconds(self, seconds: float, callback: Callable[[], None]) -> None:
        assert seconds == WINDOW_SECONDS
        self._due.append(callback)

    @property
    def windows(self) -> int:
        """Under way."""
        return len(self._due)

    def end_window(self) -> None:
        self._due.pop()()

    def refuse(self, code: str = "unauthorized", address: str = "10.0.0.1") -> None:
        self.refusals.refused(code, address=address, reason="no such key")

    def refused(self) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["event"] == "refused"]


def test_a_refusal_is_one_line_with_address_reason_origin_and_host() -> None:
    rig = Rig()
    rig.refusals.refused(
        "forbidden",
        address="10.0.0.1",
        reason="origin 'http://a' is not allowed",
        origin="http://a",
        host="hub.example",
    )
    (line,) = rig.lines
    assert line == {
        "event": "refused",
        "level": "info",
        "subsystem": "http",
        "code": "forbidden",
        "address": "10.0.0.1",
        "reason": "origin 'http://a' is not allowed",
        "origin": "http://a",
        "host": "hub.example",
    }


def test_whom_a_limit_holds_back_is_one_line_with_its_name() -> None:
    """Each refusal by a limit is one line, and of a flood only some are logged."""
    rig = Rig()
    for _ in range(10 + 5):
        rig.refusals.held(LimitRefusal("publishes", "subject", "ann", "10.0.0.1", "too many"))
    assert rig.lines[0] == {
        "event": "refused",
        "level": "info",
        "subsystem": "http",
        "code": "rate_limited",
        "address": "10.0.0.1",
        "reason": "too many",
        "limit": "publishes",
        "by": "subject",
        "name": "ann",
    }
    assert len(rig.refused()) == 10
    (row,) = rig.table.held_back()
    assert row.count == 10 + 5


def test_every_refusal_is_in_the_table_also_those_without_a_line() -> None:
    rig = Rig()
    for _ in range(10 + 5):
        rig.refuse()
    (row,) = rig.table.refusals()
    assert (row.reason, row.count) == ("unauthorized", 10 + 5)


def test_fields_that_a_request_did_not_name_are_not_in_the_line() -> None:
    rig = Rig()
    rig.refuse()
    assert rig.lines[0].keys().isdisjoint({"origin", "host"})


@pytest.mark.parametrize("error", every_error(), ids=lambda error: error.__name__)
def test_only_refusals_that_ask_who_somebody_is_are_logged(error: type[HubError]) -> None:
    """A wrong command is between the peer and its author."""
    rig = Rig()
    rig.refuse(error.code)
    assert bool(rig.lines) is (error.code in WHO_MAY)


def test_texts_that_strangers_wrote_are_cut() -> None:
    rig = Rig()
    long = "x" * 100_000
    rig.refusals.refused("forbidden", address=long, reason=long, origin=long, host=long)
    assert len(str(rig.lines[0])) < 1000


def test_a_flood_from_one_address_is_a_few_lines_and_a_number() -> None:
    """Which says of each code how many were left out."""
    rig = Rig()
    for _ in range(1000):
        rig.refuse()
    for _ in range(10 + 2):
        rig.refuse("misdirected_request")
    assert len(rig.lines) == 2 * 10
    rig.end_window()
    last = rig.lines[-1]
    assert last["event"] == "refusals_not_logged"
    assert (last["unauthorized"], last["misdirected_request"]) == (1000 - 10, 2)
    assert last["within_seconds"] == WINDOW_SECONDS


def test_a_flood_from_one_address_hides_no_other() -> None:
    rig = Rig()
    for _ in range(1000):
        rig.refuse()
    rig.refuse(address="10.0.0.2")
    assert rig.lines[-1]["address"] == "10.0.0.2"


def test_a_flood_from_many_addresses_is_bounded_too() -> None:
    """The lines are bounded, and so is what is remembered of the addresses."""
    rig = Rig()
    for number in range(10_000):
        rig.refuse(address=f"10.0.{number // 256}.{number % 256}")
    assert len(rig.lines) == 50
    assert len(rig.refusals._lines) <= 50 + 1
    rig.end_window()
    assert rig.lines[-1]["unauthorized"] == 10_000 - 50


def test_after_a_window_the_next_refusals_are_logged_again() -> None:
    rig = Rig()
    for _ in range(100):
        rig.refuse()
    rig.end_window()
    rig.refuse()
    assert len(rig.refused()) == 10 + 1
    rig.end_window()
    assert [line["event"] for line in rig.lines].count("refusals_not_logged") == 1


def test_a_node_that_refuses_nobody_has_no_timer() -> None:
    rig = Rig()
    rig.refuse("bad_request")
    assert rig.windows == 0
    for _ in range(100):
        rig.refuse()
    assert rig.windows == 1


@given(
    st.lists(
        st.one_of(
            st.none(), st.tuples(st.sampled_from(sorted(WHO_MAY)), st.integers(0, 20).map(str))
        ),
        max_size=300,
    )
)
def test_every_refusal_is_logged_or_counted(events: list[tuple[str, str] | None]) -> None:
    """None ends a window."""
    rig, made = Rig(), 0
    for event in [*events, None]:
        if event is not None:
            rig.refuse(*event)
            made += 1
        elif rig.windows:
            rig.end_window()
    left_out = sum(
        line.get(code, 0)
        for line in rig.lines
        if line["event"] == "refusals_not_logged"
        for code in WHO_MAY
    )
    assert len(rig.refused()) + left_out == made


def test_a_stop_says_how_many_were_left_out() -> None:
    """No window's end comes any more."""
    rig = Rig()
    for _ in range(10 + 5):
        rig.refuse()
    rig.refusals.flush()
    rig.refusals.flush()
    left_out = [line for line in rig.lines if line["event"] == "refusals_not_logged"]
    assert [line["unauthorized"] for line in left_out] == [5]


def test_the_same_reason_for_the_same_origin_is_one_line_a_minute() -> None:
    """A page tries again and again, from as many addresses as it has readers."""
    rig = Rig()

    def refuse(origin: str, address: str) -> None:
        reason = f"origin {origin!r} is not allowed"
        rig.refusals.refused("forbidden", address=address, reason=reason, origin=origin)

    for _window in range(6):
        for number in range(20):
            refuse("http://a.example", f"10.0.0.{number}")
        refuse("http://b.example", "10.0.0.1")
        rig.end_window()
    assert [line["origin"] for line in rig.refused()] == ["http://a.example", "http://b.example"]
    assert rig.windows == 0
    refuse("http://a.example", "10.0.0.1")
    assert len(rig.refused()) == 3
    left_out = [line["forbidden"] for line in rig.lines if line["event"] == "refusals_not_logged"]
    assert left_out == [19, 21, 21, 21, 21, 21]


def test_a_line_has_500_characters_of_a_reason() -> None:
    rig = Rig()
    rig.refusals.refused("unauthorized", address="10.0.0.1", reason="x" * 501)
    assert rig.lines[0]["reason"] == "x" * 500
