"""The code of a refusal tells the call, the connection and the publisher what happened."""

import pytest
from redis.exceptions import AskError, MovedError, ResponseError

from hub.brokers.redis.link.outcomes import (
    RedisCallError,
    RedisNoAnswerError,
    RedisNotSentError,
    RefusedError,
    public_reason,
)


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("OOM command not allowed when used memory > 'maxmemory'.", "OOM"),
        ("MISCONF Redis is configured to save RDB snapshots", "MISCONF"),
        ("NOREPLICAS Not enough good replicas to write.", "NOREPLICAS"),
        ("READONLY You can't write against a read only replica.", "READONLY"),
        ("LEFT another server took over from this one", "LEFT"),
        ("TRYAGAIN in a moment", "TRYAGAIN"),
        # Before 7.0: what the first command of a script ran into.
        ("ERR Error running script (call to f_1): -READONLY You can't write", "READONLY"),
        ("ERR Function not found", "ERR"),
    ],
)
def test_a_refusal_before_redis_began_changed_nothing(said: str, code: str) -> None:
    """Publishers get `not_published`."""
    refused = RefusedError(ResponseError(said))
    assert refused.code == code
    assert refused.nothing_done


@pytest.mark.parametrize(
    "said", ["ERR settings are not four numbers", "WRONGTYPE", "ERR Error running script: x"]
)
def test_another_error_may_have_come_after_a_change(said: str) -> None:
    """Publishers get `outcome_unknown`."""
    assert not RefusedError(ResponseError(said)).nothing_done


@pytest.mark.parametrize(
    ("code", "reconnect", "elsewhere", "followed"),
    [
        ("LEFT", True, False, False),
        ("LOADING", True, False, False),
        ("NOSCRIPT", True, False, False),
        ("READONLY", True, False, False),
        ("OOM", False, False, False),
        ("CLUSTERDOWN", False, True, False),
        ("TRYAGAIN", False, True, True),
        ("STRAY", False, False, True),
    ],
)
def test_a_code_says_what_another_try_needs(
    code: str, reconnect: bool, elsewhere: bool, followed: bool
) -> None:
    """Another try needs another connection, another look at the map, the same call
    in a moment, or nothing."""
    refused = RefusedError(ResponseError(f"{code} and more"))
    found = (refused.needs_reconnect, refused.points_elsewhere, refused.can_be_followed)
    assert found == (reconnect, elsewhere, followed)


@pytest.mark.parametrize(("kind", "code"), [(AskError, "ASK"), (MovedError, "MOVED")])
def test_a_redirection_names_the_server(kind: type[AskError], code: str) -> None:
    """Redis-py cuts the code off the text."""
    refused = RefusedError(kind("42 10.0.0.1:7000", status_code=code))
    assert refused.code == code
    assert refused.points_to == "10.0.0.1:7000"
    assert refused.can_be_followed


def test_a_stray_names_the_history_and_the_run_that_counted_it() -> None:
    refused = RefusedError(ResponseError("STRAY abc 123"))
    assert refused.counted_by == ("abc", "123")
    assert RefusedError(ResponseError("TRYAGAIN abc 123")).counted_by is None


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RedisNotSentError("redis://10.0.0.1: connection refused"), "Redis cannot be asked now"),
        (RedisNoAnswerError("redis://10.0.0.1 did not answer"), "Redis gave no answer"),
        (RefusedError(ResponseError("OOM at 10.0.0.1")), "Redis refused (OOM)"),
        (RedisCallError("not a head: [10.0.0.1]"), "Redis failed"),
    ],
)
def test_a_peer_is_not_told_where_redis_is(error: RedisCallError, reason: str) -> None:
    assert public_reason(error) == reason
