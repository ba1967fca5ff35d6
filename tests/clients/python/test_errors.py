"""The errors as values: task queues and process pools send them to other processes."""

import copy
import pickle

import pytest

import hub_client
from hub_client import (
    CommandError,
    CommandTimeoutError,
    HubClientError,
    NotPublishedError,
    OutcomeUnknownError,
    Publisher,
    SyncPublisher,
    UnauthorizedError,
)
from hub_client.tokens import check_secret
from hub_client.transport import public_url

ERRORS = [
    CommandError("forbidden", "no grant", retryable=True),
    CommandTimeoutError("no reply"),
    NotPublishedError("not_published", "away", retryable=True),
    OutcomeUnknownError("outcome_unknown", "who knows", idempotency_key="order-17"),
    UnauthorizedError("expired", close_code=4401, code="unauthorized"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_is_the_same_in_another_process(error: HubClientError) -> None:
    """The error keeps its code, whether it may succeed later, and the key to repeat it with."""
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is type(error)
        assert (str(again), again.args) == (str(error), error.args)
        assert vars(again) == vars(error)


def test_every_error_of_the_package_is_below_its_root() -> None:
    """`except HubClientError` catches whatever it raises on purpose."""
    named = [getattr(hub_client, name) for name in hub_client.__all__ if name.endswith("Error")]
    assert len(named) > 10
    assert all(issubclass(kind, HubClientError) for kind in named)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://host:8000/live", "http://host:8000/live"),
        ("http://user:s3cr3t@host", "http://host"),
        ("http://user:s3cr3t@w0rd@host/live", "http://host/live"),
        ("http://user:s3cr3t/w0rd@host", "http://host"),
        ("http://user:s3cr3t?w0rd@host", "http://host"),
        ("http://user:s3cr3t#w0rd@host", "http://host"),
        ("http://host?token=s3cr3t", "http://host"),
    ],
)
def test_url_in_an_error_shows_no_password(url: str, shown: str) -> None:
    """The form in which the password was written does not matter."""
    assert public_url(url) == shown


@pytest.mark.parametrize("secret", ["s3cret\0", "s3 cret", "kéy", "s3\ncret"])
@pytest.mark.parametrize("make", [Publisher, SyncPublisher])
def test_a_key_that_no_header_may_hold_is_refused_unseen(
    make: type[Publisher] | type[SyncPublisher], secret: str
) -> None:
    """The constructor refuses the key without showing it; a library's error would
    print it and be retried."""
    with pytest.raises(ValueError, match="no header may hold") as raised:
        make("http://127.0.0.1:1", key=secret)
    assert "s3" not in str(raised.value)


def test_a_header_s_value_as_a_key_is_told_what_to_leave_out() -> None:
    with pytest.raises(ValueError, match=r"leave out the word Bearer$") as raised:
        check_secret("Bearer s3cret", "token")
    assert "s3" not in str(raised.value)


def test_the_line_end_of_a_file_is_no_part_of_a_secret() -> None:
    assert check_secret("s3cret\r\n", "key") == "s3cret"
