"""The text of an error is bounded, however much of it a peer wrote."""

import pytest

from hub.errors import BadRequestError, UnauthorizedError


def test_a_message_has_up_to_a_thousand_characters_of_what_a_peer_sent() -> None:
    assert BadRequestError("é" * 1000).message == "é" * 1000
    assert BadRequestError("é" * 1001).message == "é" * 1000 + "... (1,001 characters)"


def test_a_brief_error_has_up_to_so_many_bytes() -> None:
    """The brief message ends with dots and cuts no character in two."""
    error = BadRequestError("é" * 50)
    assert error.brief(100) is error
    assert error.brief(99).message == "é" * 48 + "..."
    assert len(error.brief(99).message.encode()) == 99
    assert error.message == "é" * 50


@pytest.mark.parametrize(("holds_in", "said"), [(0, 1), (1, 1), (1.1, 2), (300, 300), (301, 300)])
def test_nobody_is_asked_to_wait_for_more_than_five_minutes(holds_in: float, said: int) -> None:
    error = UnauthorizedError("early", holds_in_seconds=holds_in)
    assert (error.retryable, error.retry_after_seconds) == (True, said)
