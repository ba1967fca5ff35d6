"""Every setting, declared once: name, kind, default, allowed range, meaning with its unit.

The environment variable, TOML key, command-line flag, `--help`, `hub config` and every error
message come from these fields; `hub.settings.access_fields` holds those about access and about
limits of peers. A number without a source is a guess that measurement may change.
"""

from typing import Literal

from hub.brokers.redis.keys import DEFAULT_PREFIX
from hub.core.options import KIB, MAX_HISTORY, MIB, MIN_JOURNAL_BYTES, Overflow
from hub.settings.access_fields import AccessFields
from hub.settings.declaring import (
    CHANNELS,
    DAY_SECONDS,
    GIB,
    HEARTBEATS,
    INPUT,
    MAX_BYTES,
    NODE,
    SESSIONS,
    node_name,
    setting,
)
from hub.settings.machine import usable_bytes
from hub.settings.tables import Changes
from hub.settings.values import (
    BrokerPrefix,
    BrokerUrl,
    Bytes,
    Count,
    FilePath,
    Node,
    OverflowPolicy,
    Seconds,
    Share,
    Switch,
)


class Fields(AccessFields):
    """The table of settings; other modules use `hub.settings.Settings`."""

    broker: BrokerUrl = setting(
        CHANNELS,
        "memory://",
        "Where publications and history live: memory://, sqlite:///PATH, redis://HOST:PORT.",
    )
    broker_prefix: BrokerPrefix = setting(
        CHANNELS,
        DEFAULT_PREFIX,
        "Beginning of every name in Redis; hubs that share a Redis need different ones.",
    )
    history_size: Count = setting(
        CHANNELS, 100, "Publications kept per channel; 0 keeps none.", ge=0, le=MAX_HISTORY
    )
    history_ttl_seconds: Seconds = setting(
        CHANNELS,
        300,
        "Seconds that a publication is kept; 0 keeps none.",
        ge=0,
        le=365 * DAY_SECONDS,
    )
    history_total_bytes: Bytes = setting(
        CHANNELS,
        "a quarter of memory",
        "Bytes for the history of all channels, in this process or its file; above it the oldest "
        "publications go.",
        default_factory=lambda: usable_bytes() // 4,
        ge=KIB,
        le=MAX_BYTES,
    )
    position_ttl_seconds: Seconds = setting(
        CHANNELS,
        7 * DAY_SECONDS,
        "Seconds that a quiet channel keeps its epoch.",
        ge=1,
        le=3650 * DAY_SECONDS,
    )
    presence: Switch = setting(CHANNELS, False, "Whether a channel's subscribers see its members.")
    overflow: OverflowPolicy = setting(
        CHANNELS, Overflow.DROP_OLDEST, "What happens when a session reads too slowly."
    )
    namespace_changes: Changes = setting(
        CHANNELS,
        {},
        "Channel options by namespace: history_size, history_ttl_seconds, presence, overflow, "
        "allow_raw, keyed, state_max_keys, state_ttl_seconds. JSON, or a table in TOML.",
        alias="namespaces",
    )
    max_channels: Count = setting(
        CHANNELS, 100_000, "Channels this node keeps at once.", ge=1, le=100_000_000
    )
    idempotency_ttl_seconds: Seconds = setting(
        CHANNELS, 300, "Seconds that an Idempotency-Key is remembered.", ge=0, le=7 * DAY_SECONDS
    )
    idempotency_max_keys: Count = setting(
        CHANNELS,
        1_000_000,
        "Idempotency-Keys this node remembers, 250 bytes each; above it the publisher that has "
        "most of them loses its oldest.",
        ge=1,
        le=100_000_000,
    )
    leave_delay_seconds: Seconds = setting(
        CHANNELS, 5, "Seconds that a leave waits for the member to come back.", ge=0, le=3600
    )
    reconcile_seconds: Seconds = setting(
        CHANNELS, 10, "Seconds between comparisons with the broker's positions.", ge=0.01, le=3600
    )
    broker_hold_bytes: Bytes = setting(
        CHANNELS,
        64 * MIB,
        "Bytes of publications that wait while missing ones before them are read from history; "
        "what exceeds it is read from history as well.",
        ge=0,
        le=MAX_BYTES,
    )

    outbox_max_messages: Count = setting(
        SESSIONS, 1000, "Messages owed per subscription before one is dropped.", ge=1, le=1_000_000
    )
    outbox_max_bytes: Bytes = setting(
        SESSIONS, MIB, "Bytes owed per session before messages are dropped.", ge=1, le=GIB
    )
    outbox_max_age_seconds: Seconds = setting(
        SESSIONS, 30, "Seconds that a message may wait for a session.", ge=0.01, le=DAY_SECONDS
    )
    outbox_total_bytes: Bytes = setting(
        SESSIONS,
        "a quarter of memory",
        "Bytes owed to all sessions; above it the session that is owed most is closed.",
        default_factory=lambda: usable_bytes() // 4,
        ge=KIB,
        le=MAX_BYTES,
    )
    max_subscriptions: Count = setting(
        SESSIONS, 128, "Subscriptions per session.", ge=1, le=100_000
    )
    max_patterns: Count = setting(
        SESSIONS, 16, "Patterns per session; 0 allows none.", ge=0, le=1000
    )
    # Measured: with 16 KiB a peer that never reads absorbed 169 KiB, not 4,169.
    socket_notsent_bytes: Bytes = setting(
        SESSIONS,
        16 * KIB,
        "Unsent bytes that the kernel may hold per socket (TCP_NOTSENT_LOWAT).",
        ge=1,
        le=16 * MIB,
    )
    # Measured: with 15,000 sessions that others' work has taken from the caches, 1,000 in a step
    # hold the loop up for 16 to 18 ms, 500 for 8 to 11 and 250 for 5; a delivery costs the same.
    # What came while a slice was written is in the next one.
    slice_sessions: Count = setting(
        SESSIONS,
        250,
        "Sessions written to before other work gets its turn.",
        ge=1,
        le=1_000_000,
    )
    compression_min_bytes: Bytes = setting(
        SESSIONS, KIB, "Bytes from which a frame is compressed; 0 never compresses.", ge=0, le=GIB
    )

    # Proxies cut idle streams after 60 s, often less.
    heartbeat_seconds: Seconds = setting(
        HEARTBEATS, 25, "Seconds within which every session gets a frame.", ge=0.01, le=3600
    )
    pong_timeout_seconds: Seconds = setting(
        HEARTBEATS, 10, "Seconds that a peer has to answer a ping.", ge=0.01, le=3600
    )
    handshake_timeout_seconds: Seconds = setting(
        HEARTBEATS,
        10,
        "Seconds that a connection has for its first request, and before it for a TLS handshake.",
        ge=0.01,
        le=3600,
    )
    keep_alive_seconds: Seconds = setting(
        HEARTBEATS,
        75,
        "Seconds that an HTTP connection may be idle between two requests.",
        ge=0.01,
        le=3600,
    )
    body_timeout_seconds: Seconds = setting(
        HEARTBEATS,
        30,
        "Seconds that a request's body, or a WebSocket message's fragments, may take.",
        ge=0.01,
        le=3600,
    )
    write_timeout_seconds: Seconds = setting(
        HEARTBEATS,
        30,
        "Seconds after which an answer that the peer does not take is given up.",
        ge=0.01,
        le=3600,
    )
    close_timeout_seconds: Seconds = setting(
        HEARTBEATS, 5, "Seconds that a peer has for its side of a close.", ge=0.01, le=3600
    )
    poll_max_wait_seconds: Seconds = setting(
        HEARTBEATS, 60, "Seconds that a long poll may wait.", ge=0, le=3600
    )
    expiry_warning_seconds: Seconds = setting(
        HEARTBEATS,
        30,
        "Seconds before the end of its token at which a session is warned.",
        ge=0,
        le=DAY_SECONDS,
    )
    max_connection_age_seconds: Seconds = setting(
        HEARTBEATS,
        0,
        "Seconds after which a connection is asked to connect again, 20 % more or less; 0 never.",
        ge=0,
        le=365 * DAY_SECONDS,
    )
    drain_seconds: Seconds = setting(
        HEARTBEATS, 10, "Seconds over which a stop spreads its closes.", ge=0, le=3600
    )
    ready_delay_seconds: Seconds = setting(
        HEARTBEATS, 0, "Seconds between not ready and the first close of a stop.", ge=0, le=3600
    )

    # What every broker takes. Redis cuts a node off for which more than 32 MiB wait (its default
    # `client-output-buffer-limit`), also where that is one message.
    max_message_bytes: Bytes = setting(
        INPUT, 64 * KIB, "Bytes of one message's data.", ge=1, le=16 * MIB
    )
    max_head_bytes: Bytes = setting(
        INPUT, 16 * KIB, "Bytes of a request's line and headers.", ge=256, le=MIB
    )
    # With workers a batch is one frame to the broker process. A frame has 64 MiB at most
    # (`hub.brokers.local.frames`), and short publications take twice their bytes in it.
    max_body_bytes: Bytes = setting(
        INPUT, 4 * MIB, "Bytes of a request's body, for batches.", ge=1, le=16 * MIB
    )
    body_total_bytes: Bytes = setting(
        INPUT,
        64 * MIB,
        "Bytes of all request bodies under way; answers that peers do not take may hold as many "
        "again.",
        ge=KIB,
        le=1024 * GIB,
    )
    # Redis is asked at most 10,000 calls at a time (`hub.brokers.redis.options`).
    max_batch_items: Count = setting(INPUT, 1000, "Publications in one request.", ge=1, le=10_000)

    node: Node = setting(
        NODE,
        "host name and random digits",
        "Name of this node, to peers and in logs.",
        default_factory=node_name,
    )
    log_level: Literal["debug", "info", "warning", "error", "critical"] = setting(
        NODE, "info", "Least severe level that is logged."
    )
    log_format: Literal["auto", "json", "console"] = setting(
        NODE, "auto", "How logs are written to stderr; auto is console on a terminal, else json."
    )
    journal_bytes: Bytes = setting(
        NODE,
        64 * MIB,
        "Bytes for what happened to connections in the last ten minutes; 0 keeps nothing.",
        ge=0,
        le=MAX_BYTES,
    )
    journal_path: FilePath = setting(
        NODE,
        "",
        "File or directory on disk that remembers for longer what happened to connections; none "
        "where empty.",
    )
    journal_disk_bytes: Bytes = setting(
        NODE,
        GIB,
        "Bytes that the journal may take on disk; above it the oldest entries go.",
        ge=MIN_JOURNAL_BYTES,
        le=MAX_BYTES,
    )
    bans_path: FilePath = setting(
        NODE,
        "",
        "File that keeps bans and revocations for the memory broker, also with workers; other "
        "brokers keep them themselves.",
    )
    stats_seconds: Seconds = setting(
        NODE,
        1,
        "Seconds between a node's figures on the channel `hub:stats`; 0 publishes none.",
        ge=0,
        le=3600,
    )
    stall_seconds: Seconds = setting(
        NODE,
        0.1,
        "Seconds a callback may hold the event loop before it is logged.",
        ge=0.001,
        le=60,
    )
    trace_sample: Share = setting(
        NODE,
        0,
        "Share of publications traced with OpenTelemetry, where the publisher's `traceparent` does "
        "not decide; 0 traces none at all.",
        ge=0,
        le=1,
    )
