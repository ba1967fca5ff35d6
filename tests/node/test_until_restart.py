"""A worker that is started later keeps settings that cannot change before
a restart, and logs them."""

from typing import Any

import pytest

from hub.errors import SettingsError
from hub.node.supervisor.roles import Role
from hub.node.supervisor.until_restart import check, digests
from hub.settings import Settings

REDIS = "redis://:secret@127.0.0.1:1"


def role(**settings: Any) -> Role:
    """Of a worker whose hub was started with these settings."""
    started = Settings(**settings)
    name = "" if started.broker_is_elsewhere else "@hub"
    return Role(1, 2, "node", 0, (), name, broker_url=started.broker, digests=digests(started))


def test_the_same_settings_need_no_restart() -> None:
    assert check(Settings(), role()) == ""
    assert check(Settings(broker=REDIS), role(broker=REDIS)) == ""


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"host": "127.0.0.2"}, "HUB_HOST"),
        ({"port": 1234}, "HUB_PORT"),
        ({"backlog": 5}, "HUB_BACKLOG"),
        ({"workers": 3}, "HUB_WORKERS"),
        ({"node": "another"}, "HUB_NODE"),
        ({"broker": "sqlite:////tmp/none.db"}, "HUB_BROKER"),
        ({"history_size": 7}, "HUB_HISTORY_SIZE"),
        ({"history_ttl_seconds": 7}, "HUB_HISTORY_TTL_SECONDS"),
        ({"history_total_bytes": 1 << 20}, "HUB_HISTORY_TOTAL_BYTES"),
        ({"position_ttl_seconds": 777}, "HUB_POSITION_TTL_SECONDS"),
        ({"max_channels": 7}, "HUB_MAX_CHANNELS"),
        ({"idempotency_ttl_seconds": 7}, "HUB_IDEMPOTENCY_TTL_SECONDS"),
        ({"idempotency_max_keys": 1000}, "HUB_IDEMPOTENCY_MAX_KEYS"),
        ({"namespaces": {"a": {"keyed": True}}}, "HUB_NAMESPACES"),
    ],
)
def test_a_change_that_waits_for_a_restart_is_said(changed: dict[str, Any], name: str) -> None:
    told = check(Settings(**changed), role())
    assert (
        told == f"{name}: changed since the start of the hub, without effect until it is restarted"
    )


def test_several_changes_are_one_line() -> None:
    told = check(Settings(workers=3, history_size=7), role())
    assert told.startswith("HUB_WORKERS, HUB_HISTORY_SIZE: ")


@pytest.mark.parametrize(
    "changed",
    [{"heartbeat_seconds": 11}, {"namespaces": {"a": {"presence": True}}}, {"drain_seconds": 1}],
)
def test_a_setting_that_a_worker_takes_up_at_once_needs_no_word(changed: dict[str, Any]) -> None:
    assert check(Settings(**changed), role()) == ""


def test_with_redis_what_is_kept_there_is_every_worker_s_own() -> None:
    """Its password may change, and its history settings."""
    newer = Settings(broker="redis://:newer@127.0.0.1:1", history_size=7)
    assert check(newer, role(broker=REDIS)) == ""


def test_a_broker_of_its_own_is_refused_where_the_others_have_a_redis() -> None:
    """No message of another worker would reach its subscribers, and nobody would be told."""
    with pytest.raises(SettingsError, match=r"HUB_BROKER is memory://.*restart"):
        check(Settings(), role(broker=REDIS))


def test_a_worker_has_the_broker_that_the_broker_process_has() -> None:
    worker = role().worker()
    assert worker.connect is not None
    settings = worker.settings(Settings(broker=REDIS), node="node")
    assert settings.broker == "memory://"
    assert check(Settings(broker=REDIS), role()).startswith("HUB_BROKER")


def test_no_secret_is_handed_on() -> None:
    assert "secret" not in str(role(broker=REDIS).digests)
