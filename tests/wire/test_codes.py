"""The table of wire numbers covers every error there is."""

import pytest

from hub import errors
from hub.wire.codes import (
    CLOSE_CODE,
    HTTP_STATUS,
    CloseCode,
    close_code,
    http_status,
)


def every_error(root: type[errors.HubError] = errors.HubError) -> list[type[errors.HubError]]:
    """Of the tree in `hub.errors`: what other modules add for themselves is not for the wire."""
    below = [found for sub in root.__subclasses__() for found in every_error(sub)]
    return [error for error in (root, *below) if error.__module__ == errors.__name__]


@pytest.mark.parametrize("error", every_error(), ids=lambda error: error.__name__)
def test_every_error_code_has_an_http_status_and_a_close_code(error: type[errors.HubError]) -> None:
    """An error that is added to the tree without its numbers fails here."""
    assert error.code in HTTP_STATUS
    assert error.code in CLOSE_CODE


def test_both_tables_know_the_same_codes() -> None:
    """A code that only one of the tables knows would be `internal` in the other."""
    assert HTTP_STATUS.keys() == CLOSE_CODE.keys()


@pytest.mark.parametrize(
    ("code", "number"),
    [
        ("bad_request", 4400),
        ("unauthorized", 4401),
        ("forbidden", 4403),
        ("too_large", 4413),
        ("rate_limited", 4429),
        ("internal", 4500),
        ("heartbeat_timeout", 4504),
        ("slow", 4508),
    ],
)
def test_close_codes_are_those_of_the_wire_contract(code: str, number: int) -> None:
    """44xx is the client's fault, 45xx is not."""
    assert close_code(code) == number


@pytest.mark.parametrize(
    ("code", "status"),
    [("conflict", 409), ("not_published", 503), ("outcome_unknown", 503), ("too_large", 413)],
)
def test_http_statuses_are_those_of_the_wire_contract(code: str, status: int) -> None:
    """The status of each code is part of what clients rely on."""
    assert http_status(code) == status


def may_reconnect(code: int) -> bool:
    """Returns whether a client comes back after this close code, by clients/PROTOCOL.md."""
    return 4500 <= code <= 4599 or code in {1001, 1006, 1011, 1012, 1013}


@pytest.mark.parametrize("error", every_error(), ids=lambda error: error.__name__)
def test_a_close_code_says_reconnect_exactly_when_the_error_is_retryable(
    error: type[errors.HubError],
) -> None:
    """Except our own faults, where coming back is worth a try, and a client over its rate."""
    expected = error.retryable or error.code in {"internal", "settings"}
    if error.code == "rate_limited":
        expected = False
    assert may_reconnect(close_code(error.code)) is expected


def test_an_error_for_now_closes_with_a_code_that_lets_peers_come_back() -> None:
    """Such as a token that has not begun."""
    assert close_code("unauthorized", retryable=True) == CloseCode.TRY_AGAIN_LATER
    for code in CLOSE_CODE.keys() - {"unauthorized"}:
        assert close_code(code, retryable=True) == close_code(code)


def test_an_unknown_code_is_internal() -> None:
    """An error from elsewhere must not become the client's fault."""
    assert http_status("never heard of") == 500
    assert close_code("never heard of") == CloseCode.INTERNAL
