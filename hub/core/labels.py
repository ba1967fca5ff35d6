"""The export of figures as metrics, and every label with all its values.

No label's values grow with users or channels. A value that is not listed here counts as `other`, so
the number of series is fixed when the node starts. Listed values are exported with 0 from the
start, so that `rate()` sees the first increment.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hub.core.options import Overflow
from hub.core.pushes import GapReason
from hub.errors import HubError

OTHER = "other"


@dataclass(frozen=True, slots=True)
class Exported:
    """The metric of a record's field."""

    metric: str
    """The name in Prometheus; for counters without the `_total` at the end."""
    about: str
    label: "Label | None" = None


def exported(metric: str, about: str, label: "Label | None" = None) -> Mapping[str, Exported]:
    """Return the metadata of an exported field."""
    return {"exported": Exported(metric, about, label)}


@dataclass(frozen=True, slots=True)
class Label:
    """A label and its known values."""

    name: str
    meanings: Mapping[str, str]
    """Each known value and its meaning."""

    def fold(self, counts: Mapping[str, float]) -> dict[str, float]:
        """Return `counts` under exactly the known values and `other`; absent ones are 0."""
        folded = dict.fromkeys((*self.meanings, OTHER), 0.0)
        for value, count in counts.items():
            folded[value if value in self.meanings else OTHER] += count
        return folded


def _errors(error: type[HubError] = HubError) -> Iterator[type[HubError]]:
    yield error
    for derived in error.__subclasses__():
        yield from _errors(derived)


def _first_line(error: type[HubError]) -> str:
    if error is HubError:
        return "an error of the hub itself"
    return (error.__doc__ or "").strip().partition("\n")[0].rstrip(".")


# Only errors of `hub.errors`. Those of other modules depend on what was imported so far.
ERROR_MEANINGS: Mapping[str, str] = {
    error.code: _first_line(error) for error in _errors() if error.__module__ == "hub.errors"
}

TRANSPORT = Label(
    "transport",
    {
        "websocket": "GET /ws",
        "sse": "GET /sse",
        "poll": "GET /poll, a session over several requests",
    },
)

POLICY = Label(
    "policy",
    {
        Overflow.DROP_OLDEST.value: "the oldest made room",
        Overflow.LATEST_PER_KEY.value: "conflated, a newer one with the same key took its place",
        Overflow.DISCONNECT.value: "the session was closed with 4508",
    },
)

REASON = Label(
    "reason",
    {
        GapReason.SLOW.value: "the outbox dropped them",
        GapReason.CONFLATED.value: "newer ones with the same key replaced them",
        GapReason.BROKER.value: "lost between nodes and not in history",
        GapReason.EXPIRED.value: "history no longer has them",
        GapReason.INVALID.value: "no JSON or too large, from outside the hub; or changed by the"
        " disk of the history file",
        GapReason.RESET.value: "the channel began a new epoch",
    },
)

CODE = Label("code", ERROR_MEANINGS)

REFUSAL = Label(
    "reason",
    {
        **ERROR_MEANINGS,
        "headers_too_large": "more headers than a request may have",
        "request_timeout": "the request was not finished in time",
        "upgrade_required": "not a WebSocket upgrade where one is needed",
    },
)

REFUSED_FOR = Label(
    "reason",
    {
        "no_credentials": "no credentials where the hub needs some",
        "key": "an unknown key",
        "not_operator": "an operator's request with valid credentials of another kind",
        "malformed": "an Authorization or cookie that cannot be read",
        "proxy_header": "no PROXY protocol header in time where a connection has to begin with one",
        "tls_handshake": "a TLS handshake that failed or was late, none where the hub speaks TLS",
        "slow_request": "a request whose head or body, once begun, was not whole in time",
        "slow_reader": "an answer that its peer did not take in time",
        "no_tokens": "a token, and the hub has no keys for tokens",
        "token_malformed": "no JSON Web Token, or one with invalid claims",
        "token_algorithm": "signed with an algorithm that is not allowed here",
        "token_signature": "a signature that fits no key",
        "token_key": "a kid that the identity provider does not have",
        "token_expired": "its exp has passed",
        "token_early": "its nbf or iat is still to come",
        "token_age": "older than HUB_TOKEN_MAX_AGE_SECONDS, or without an iat",
        "token_issuer": "another iss than HUB_TOKEN_ISSUER",
        "token_audience": "another aud than HUB_TOKEN_AUDIENCE",
        "token_revoked": "revoked by an operator",
        "banned": "its subject is banned",
        "origin": "a page of an origin that is not allowed",
        "host": "a host that is not one of the hub's",
        "node": "a request between nodes without a valid proof",
        "application": "the application said no (HUB_HOOK_URL)",
    },
)

KEY_RELOAD = Label(
    "outcome",
    {
        "read": "the hub uses the new keys",
        "failed": "the file cannot be read; the hub keeps the old keys",
    },
)

KEY_FETCH = Label(
    "outcome",
    {
        "fetched": "a valid key set",
        "unreachable": "no connection, or one that broke",
        "timeout": "no complete answer in time",
        "refused": "a status other than 200",
        "too_large": "more bytes than a set may have",
        "invalid": "no key set, or none of its keys is usable",
    },
)

HOOK = Label(
    "outcome",
    {
        "allowed": "the application said yes",
        "refused": "the application said no",
        "cached": "the hub remembered the answer",
        "timeout": "no complete answer in time",
        "unreachable": "no connection, or one that broke",
        "error": "a status of 500 and above, or 429",
        "busy": "too many questions wait already",
        "open": "not asked, because it did not answer the last questions",
        "too_large": "an answer with more bytes than one may have",
        "invalid": "an answer that cannot be read",
    },
)

WEBHOOK = Label(
    "outcome",
    {
        "delivered": "the application accepted them",
        "given_up": "the application did not accept them in eight attempts",
        "dropped": "too many waited already",
    },
)

LIMIT = Label(
    "limit",
    {
        "handshakes": "an address began too many sessions",
        "commands": "a connection sent too many commands or control frames",
        "publishes": "a key, subject or connection published too much",
        "inbound_bytes": "a connection, or a subject or address over HTTP, sent too many bytes",
        "address_connections": "an address had too many connections",
        "subject_connections": "a subject had too many connections",
        "max_connections": "the node had as many connections as it may",
    },
)

OP = Label(
    "op",
    {
        "subscribe": "joined a channel",
        "unsubscribe": "left a channel",
        "publish": "published",
        "history": "asked for history",
        "presence": "asked for the members",
        "presence_update": "changed its presence data",
        "authenticate": "sent a new token",
        "ping": "asked for a pong",
    },
)

OUTCOME = Label(
    "outcome",
    {
        "not_sent": "the call was not sent, because of a lost connection or too many calls",
        "no_answer": "the call was sent, and the connection ended before the answer",
        "refused": "the broker answered with an error",
    },
)

CONNECTION = Label(
    "connection",
    {"commands": "carries calls and answers", "subscriber": "receives publications"},
)

# RFC 6455 section 7.4.1 and clients/PROTOCOL.md, "Close codes". A peer may send any code of
# its own (3000 to 4999): those are `other`.
CLOSE_CODE = Label(
    "code",
    {
        "1000": "normal",
        "1001": "the peer or the node went away",
        "1002": "protocol error",
        "1003": "binary frame",
        "1005": "the peer gave no code",
        "1006": "the connection was lost without a close",
        "1007": "invalid UTF-8",
        "1008": "policy violation",
        "1009": "frame too large",
        "1010": "the peer requires an extension",
        "1011": "internal error",
        "1012": "the node restarts or drains",
        "1013": "try again later",
        "1014": "bad gateway",
        "4400": "bad_request",
        "4401": "unauthorized",
        "4403": "forbidden",
        "4413": "too_large",
        "4429": "rate_limited",
        "4500": "internal",
        "4504": "heartbeat_timeout",
        "4508": "slow",
    },
)
