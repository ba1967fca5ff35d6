"""The settings of access: addresses of the hub, credentials, grants and limits of peers.

`hub.settings.fields` declares the others and says how.
"""

from typing import Literal

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from hub.hooks.names import EVENT_NAMES, HOOK_NAMES
from hub.settings.declaring import (
    ACCESS,
    ADDRESS,
    DAY_SECONDS,
    HOOKS,
    setting,
)
from hub.settings.tables import DefaultGrants, Grants
from hub.settings.values import (
    Algorithms,
    BasePath,
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
    Origins,
    Port,
    PublishKeys,
    RateLimit,
    Seconds,
    Secret,
    Switch,
    Texts,
    WebAddress,
    Workers,
)


class AccessFields(BaseSettings):
    """The first part of the table of settings."""

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
        "Address to listen on; :: is every address, 0.0.0.0 every IPv4 address. An address that "
        "others can reach needs keys, or insecure.",
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
        "Addresses or networks of the proxies whose Forwarded, X-Forwarded-For and "
        "X-Forwarded-Proto count. The client is the rightmost address in them that is no such "
        "proxy.",
    )
    proxy_protocol: Switch = setting(
        ADDRESS,
        False,
        "Whether connections of trusted_proxies begin with a PROXY protocol header (version 1 or "
        "2); where trusted_proxies is empty, all connections do.",
    )
    tls_cert: FilePath = setting(
        ADDRESS, "", "PEM file of the certificate and its chain, read again on change."
    )
    tls_key: FilePath = setting(
        ADDRESS, "", "PEM file of the private key; none if tls_cert holds the key too."
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
        ACCESS,
        "",
        "Sessions that one address may begin, as RATE/SECONDS or RATE/SECONDS:BURST, such as "
        "20/1:100.",
    )
    rate_commands: RateLimit = setting(
        ACCESS, "", "Commands and control frames that one connection may send."
    )
    rate_publishes: RateLimit = setting(
        ACCESS, "", "Publications of one publisher key, subject or connection."
    )
    rate_inbound_bytes: RateLimit = setting(
        ACCESS,
        "",
        "Bytes that one connection may send, and one subject or address may publish over HTTP,"
        " after inflating, such as 64KiB/1:1MiB.",
    )

    publish_keys: PublishKeys = setting(
        ACCESS,
        (),
        "Keys that may publish over HTTP; KEY=orders:*|stock may publish on these channels only. "
        "The config file may hold digests of keys, and is read again when it changes. Other users "
        "of this machine can see a flag's value: prefer the environment or the file.",
    )
    operator_keys: Keys = setting(
        ACCESS, (), "Keys of operators, who may see and close connections and use the dashboard."
    )
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
        "Algorithms that tokens may be signed with; where empty, every one that fits the keys.",
    )
    token_issuer: Texts = setting(
        ACCESS,
        (),
        "Issuers (iss) whose tokens the hub takes; where empty, it takes any, also tokens without "
        "an issuer.",
    )
    token_audience: Texts = setting(
        ACCESS,
        (),
        "Audiences (aud) whose tokens the hub takes; where empty, only tokens without an audience.",
    )
    token_leeway_seconds: Seconds = setting(
        ACCESS,
        10,
        "Seconds by which clocks may differ when the beginning (nbf) and end (exp) of a token are "
        "judged.",
        ge=0,
        le=3600,
    )
    token_max_age_seconds: Seconds = setting(
        ACCESS,
        0,
        "Seconds that a token holds after it was made (iat), even if its end (exp) is later; 0 "
        "sets no bound.",
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
        "What a peer without credentials may do. auto: everything where no key at all is set; "
        "nothing where tokens are taken, or where a key is set and other machines can connect; "
        "else subscribe.",
    )
    hosts: Hosts = setting(
        ACCESS,
        (),
        "Host names that requests may name besides this machine's own; * is any. Where empty: any "
        "name if a key is set, else only this machine's own.",
    )
    insecure: Switch = setting(
        ACCESS,
        False,
        "Whether the hub may do without keys on an address that others can reach.",
    )

    hook_url: WebAddress = setting(
        HOOKS,
        "",
        "Address of the application that is asked who may connect, subscribe and publish.",
    )
    hooks: Hooks = setting(
        HOOKS, HOOK_NAMES, "Questions that the application at hook_url is asked."
    )
    hook_timeout_seconds: Seconds = setting(
        HOOKS, 2, "Seconds that the application has for its answer.", ge=0.01, le=60
    )
    hook_cache_seconds: Seconds = setting(
        HOOKS, 0, "Seconds that its answer holds for the same question; 0 asks each time.",
        ge=0, le=3600,
    )  # fmt: skip
    hook_when_down: Literal["deny", "allow"] = setting(
        HOOKS, "deny", "The answer to each question while the application gives none."
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
