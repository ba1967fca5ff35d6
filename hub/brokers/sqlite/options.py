"""What the settings say of the durable broker."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SqliteOptions:
    """As `hub.settings` has them."""

    path: str
    position_ttl_seconds: float
    idempotency_ttl_seconds: float
    idempotency_max_keys: int
    max_channels: int
    history_total_bytes: int
