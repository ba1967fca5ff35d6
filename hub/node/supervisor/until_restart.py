"""Settings that hold until the hub is started again, whatever a later worker reads in the file.

The supervisor has the port and the number of workers. The broker process has the broker and what it
keeps. A worker that is started later compares its own settings with those of the supervisor, by a
digest of each. No secret is handed on.
"""

from collections.abc import Mapping
from hashlib import blake2b

from hub.errors import SettingsError
from hub.node.supervisor.roles import Role
from hub.settings import Settings
from hub.settings.catalog import by_name

_OF_SUPERVISOR = ("host", "port", "backlog", "workers", "node")
_OF_BROKER = (
    "broker", "history_size", "history_ttl_seconds", "history_total_bytes", "position_ttl_seconds",
    "max_channels", "idempotency_ttl_seconds", "idempotency_max_keys", "namespaces",
)  # fmt: skip
# Options of a namespace that the broker process obeys.
_KEPT = {"history_size", "history_ttl_seconds", "keyed", "state_max_keys", "state_ttl_seconds"}


def digests(settings: Settings) -> Mapping[str, str]:
    """Return a digest of each setting that a later worker cannot change."""
    names = (*_OF_SUPERVISOR, *(() if settings.broker_is_elsewhere else _OF_BROKER))
    return {name: _digest(settings, name) for name in names}


def _digest(settings: Settings, name: str) -> str:
    value: object = getattr(settings, by_name()[name].field)
    if name == "node" and settings.is_default(name):
        value = ""  # Each process makes one up.
    if name == "namespaces":
        value = sorted(
            (each, sorted(kept.items()))
            for each, changes in settings.namespace_changes.items()
            if (kept := changes.model_dump(include=_KEPT, exclude_none=True))
        )
    return blake2b(repr(value).encode(), digest_size=8).hexdigest()


def check(settings: Settings, role: Role) -> str:
    """Return a warning of the settings that have no effect yet; empty for none.

    Raises `SettingsError` for a broker of this machine where the hub was started on a server
    elsewhere: each worker would have a broker of its own, and no message would reach the others.
    """
    if not role.broker and not settings.broker_is_elsewhere:
        raise SettingsError(
            f"HUB_BROKER is {settings.broker}, and the hub was started with a Redis: restart it"
        )
    changed = [
        by_name()[name].env
        for name, digest in role.digests.items()
        if _digest(settings, name) != digest
    ]
    if not changed:
        return ""
    names = ", ".join(changed)
    return f"{names}: changed since the start of the hub, without effect until it is restarted"
