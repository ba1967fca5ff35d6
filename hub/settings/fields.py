"""Every setting, declared once: name, kind, default, allowed range, meaning with its unit.

The environment variable, TOML key, command-line flag, `--help`, `hub config` and every error
message are derived from these fields. Where no source is named beside a number it is a guess
that measurement may change.
"""

from typing import Literal

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from hub.brokers.redis.keys import DEFAULT_PREFIX
from hub.core.options import KIB, MIB, Overflow
from hub.hooks.names import EVENT_NAMES, HOOK_NAMES
from hub.settings.declaring import (
    ACCESS,
    ADDRESS,
    CHANNELS,
    DAY_SECONDS,
    GIB,
    HEARTBEATS,
    HOOKS,
    INPUT,
    MAX_BYTES,
    MAX_HISTORY,
    NODE,
    SESSIONS,
    node_name,
    setting,
)
from hub.settings.grants import DefaultGrants, Grants
from hub.settings.memory import usable_bytes
from hub.settings.namespaces import Changes
from hub.settings.values import (
    Algorithms,
    BasePath,
    BrokerPrefix,
    BrokerUrl,
    Bytes,
    ClaimName,
    Cookie,
    Count,
    Events,
    FilePath,
    Files,
    Hooks,
    Host,
    Hosts,
    Keys,
    Networks,
    Node,
    Origins,
    OverflowPolicy,
    Port,
    PublishKeys,
    RateLimit,
    Seconds,
    Secret,
    Share,
    Switch,
    Texts,
    WebAddress,
    Workers,
)


class Fields(BaseSettings):
    """The table of settings. `hub.settings.Settings` is what to use."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        validate_by_name=False,
        validate_by_alias=True,
    )

    host: Host = setting(
        ADDRESS,
        "127.0.0.1",
        "Address to listen on; :: is every one, 0.0.0.0 of IPv4. Any other than loopback needs keys"
        " or insecure.",
    )
    port: Port = setting(
        ADDRESS, 8000, "TCP port to listen on; 0 takes any free one.", ge=0, le=65535
    )
    base_path: BasePath = setting(ADDRESS, "", "Path that goes before every path of the hub.")
    backlog: Count = setting(
        ADDRESS, 2048, "Connections the kernel queues before they are accepted.", ge=1, le=65535
    )
    max_connections: Count = setting(
        ADDRESS, 100_000, "Connections of this node; more are refused.", ge=1, le=10_000_000
    )
    workers: Workers = setting(
        ADDRESS,
        1,
        "Processes that share the port, each a node; auto is one per usable core.",
        ge=1,
        le=1024,
    )

    trusted_proxies: Networks = setting(
        ADDRESS,
        (),
        "Proxies whose Forwarded, X-Forwarded-For and X-Forwarded-Proto count: the client is the "
        "first address from the right that is none of them.",
    )
    proxy_protocol: Switch = setting(
        ADDRESS,
        False,
        "Whether connections begin with a PROXY protocol header (version 1 or 2): those of "
        "trusted_proxies, or all where none is set.",
    )
    tls_cert: FilePath = setting(
        ADDRESS, "", "PEM file of the certificate and its chain, read again on change."
    )
    tls_key: FilePath = setting(
        ADDRESS, "", "PEM file of its private key; none where tls_cert holds it too."
    )

    address_connections: Count = setting(
        ACCESS,
        0,
        "Connections of one address, or /64 of IPv6; more are refused. 0 is any number.",
        ge=0,
        le=10_000_000,
    )
    subject_connections: Count = setting(
        ACCESS,
        0,
        "Sessions of one token's subject at this node. 0 is any number.",
        ge=0,
        le=10_000_000,
    )
    rate_handshakes: RateLimit = setting(
        ACCESS, "", "Sessions that one address may begin, such as 20/1 or 20/1:100."
    )
    rate_commands: RateLimit = setting(
        ACCESS, "", "Commands and control frames that one connection may send."
    )
    rate_publishes: RateLimit = setting(
        ACCESS, "", "Publications of one publisher key, subject or connection."
    )
    rate_inbound_bytes: RateLimit = setting(
        ACCESS, "", "Bytes that one connection may send, after inflating, such as 64KiB/1:1MiB."
    )

    publish_keys: PublishKeys = setting(
        ACCESS,
        (),
        "Keys that may publish over HTTP; KEY=orders:*|stock only there. In the file also as "
        "digests, and read again when it changes. Other users of this machine can see a flag's "
        "value: prefer the environment or the file.",
    )
    operator_keys: Keys = setting(ACCESS, (), "Keys that may see connections, nodes and dashboard.")
    token_keys: Keys = setting(
        ACCESS, (), "Keys that sign the subscribers' tokens (HS256; each should have 32 bytes)."
    )
    token_public_keys: Files = setting(
        ACCESS,
        (),
        "PEM files with the public keys that verify the subscribers' tokens (RS256, PS256, ES256, "
        "EdDSA).",
    )
    token_jwks_url: WebAddress = setting(
        ACCESS,
        "",
        "Where an identity provider publishes such keys (JSON Web Key set); read again as they "
        "change.",
    )
    token_algorithms: Algorithms = setting(
        ACCESS,
        (),
        "Algorithms that tokens may be signed with; with none, all that the keys are for.",
    )
    token_issuer: Texts = setting(
        ACCESS, (), "Issuers (iss) of tokens; with none any, and none at all."
    )
    token_audience: Texts = setting(
        ACCESS, (), "Audiences (aud) of tokens; with none, only tokens without one."
    )
    token_leeway_seconds: Seconds = setting(
        ACCESS,
        10,
        "Seconds by which clocks may differ where tokens begin (nbf) and end (exp).",
        ge=0,
        le=3600,
    )
    token_max_age_seconds: Seconds = setting(
        ACCESS,
        0,
        "Seconds that a token holds from when it was made (iat), whatever its end; 0 sets no "
        "bound.",
        ge=0,
        le=3650 * DAY_SECONDS,
    )
    token_cookie: Cookie = setting(
        ACCESS,
        "",
        "Name of a cookie that may hold the token; taken only from pages of the same host or of a "
        "listed origin.",
    )
    token_grants_claim: ClaimName = setting(
        ACCESS,
        "hub",
        "Claim of a token that holds its grants; a name, or a path such as app_metadata.hub.",
    )
    token_default_grants: Grants = setting(
        ACCESS,
        DefaultGrants(),
        "Grants of tokens that hold none, such as user:{sub}:*. JSON, or a table in TOML.",
    )
    origins: Origins = setting(
        ACCESS, (), "Origins of pages that may connect besides those of the same host; * is any."
    )
    anonymous: Literal["auto", "subscribe", "none"] = setting(
        ACCESS,
        "auto",
        "What a peer without credentials may do; auto is none where tokens are taken, or where a "
        "key is set and other machines can connect, else subscribe. With no key at all everything.",
    )
    hosts: Hosts = setting(
        ACCESS,
        (),
        "Host names that requests may name besides this machine's own; * is any. With none: any "
        "where a key is set, else only this machine's.",
    )
    insecure: Switch = setting(
        ACCESS, False, "Whether a host other than loopback may be used without any key."
    )

    hook_url: WebAddress = setting(
        HOOKS,
        "",
        "Address of the application that is asked who may connect, subscribe and publish.",
    )
    hooks: Hooks = setting(HOOKS, HOOK_NAMES, "What the application at hook_url is asked.")
    hook_timeout_seconds: Seconds = setting(
        HOOKS, 2, "Seconds that the application has for its answer.", ge=0.01, le=60
    )
    hook_cache_seconds: Seconds = setting(
        HOOKS, 0, "Seconds that its answer holds for the same question; 0 asks each time.",
        ge=0, le=3600,
    )  # fmt: skip
    hook_when_down: Literal["deny", "allow"] = setting(
        HOOKS, "deny", "What holds while the application does not answer."
    )
    webhook_url: WebAddress = setting(
        HOOKS, "", "Address of the application that is told of events."
    )
    webhook_secret: Secret = setting(
        HOOKS,
        SecretStr(""),
        "Secret that signs events and questions (Standard Webhooks); with none nothing is signed.",
    )
    webhook_events: Events = setting(
        HOOKS, EVENT_NAMES, "Events that the application at webhook_url is told of."
    )

    broker: BrokerUrl = setting(CHANNELS, "memory://", "Where publications and history live.")
    broker_prefix: BrokerPrefix = setting(
        CHANNELS, DEFAULT_PREFIX, "What every name in Redis begins with; no other hub's there."
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
        "go.",
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
    presence: Switch = setting(CHANNELS, False, "Whether channels tell who is subscribed.")
    overflow: OverflowPolicy = setting(
        CHANNELS, Overflow.DROP_OLDEST, "What gives way when a session reads too slowly."
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
        "Idempotency-Keys this node remembers, 250 bytes each; above it the oldest of who has most "
        "of them go.",
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
        "Bytes held while what the broker lost before them is read from history; what comes "
        "above it is read too.",
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
        SESSIONS, 30, "Seconds that a message may be owed.", ge=0.01, le=DAY_SECONDS
    )
    outbox_total_bytes: Bytes = setting(
        SESSIONS,
        "a quarter of memory",
        "Bytes owed to all sessions; above it the one owed most is closed.",
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
    # Measured: writing to about 1,000 sessions is what one step of the loop may take.
    slice_sessions: Count = setting(
        SESSIONS,
        1000,
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
        "Seconds before a token ends that its session is told.",
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

    max_message_bytes: Bytes = setting(
        INPUT, 64 * KIB, "Bytes of one message's data.", ge=1, le=GIB
    )
    max_head_bytes: Bytes = setting(
        INPUT, 16 * KIB, "Bytes of a request's line and headers.", ge=256, le=MIB
    )
    max_body_bytes: Bytes = setting(
        INPUT, 4 * MIB, "Bytes of a request's body, for batches.", ge=1, le=GIB
    )
    body_total_bytes: Bytes = setting(
        INPUT,
        64 * MIB,
        "Bytes of all request bodies under way together; as many again of answers that peers do "
        "not take.",
        ge=KIB,
        le=1024 * GIB,
    )
    max_batch_items: Count = setting(
        INPUT, 1000, "Publications in one request.", ge=1, le=1_000_000
    )

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
        "File or directory on disk for what happened to connections before that; empty keeps none.",
    )
    journal_disk_bytes: Bytes = setting(
        NODE,
        GIB,
        "Bytes that it may take there; above it the oldest goes.",
        ge=8 * MIB,
        le=MAX_BYTES,
    )
    bans_path: FilePath = setting(
        NODE,
        "",
        "File in which a node with the memory broker keeps bans and revocations; other brokers do.",
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
