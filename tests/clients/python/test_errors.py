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
