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
    UnauthorizedError,
)
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
    """With its code, whether it may succeed later, and the key to repeat it with."""
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
    """However it was written."""
    assert public_url(url) == shown
