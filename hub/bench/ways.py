"""The rows of `hub bench --intake`: what is sent, on how many connections, to what kind of node.

A row whose name holds `loop` is the floor of those behind it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from hub.bench.connects import AT_A_TIME, Connecting
from hub.bench.plan import Contestant, Target
from hub.bench.senders import (
    KEY,
    OK,
    Sender,
    array,
    history,
    keyed,
    page_of_the_loop,
    pipelined,
    refused,
    single,
    subscribing,
    to_nchan,
    websocket,
)
from hub.bench.server import NO_SETTINGS

Make = Callable[[Target, int], Sender]


@dataclass(frozen=True, slots=True)
class Way:
    """One way of publishing."""

    name: str
    make: Make
    connections: int
    broker: str = "memory"
    """`memory`, `sqlite`, `redis`; `floor` or `disk` where there is no hub at all, only a bare
    loop on a socket, or on a file; `peer` where it is another server."""
    settings: Mapping[str, str] = field(default_factory=lambda: NO_SETTINGS)
    """Of the node, beside the defaults."""
    connecting: Connecting | None = None
    """Connections are taken in, not publications."""
    starting: bool = False
    """The process is started, and nothing is sent."""
    tls: bool = False
    """Connections speak TLS 1.3. Where no connections are counted, their handshakes come before."""


def connects(
    name: str,
    how: Connecting,
    broker: str = "memory",
    settings: Mapping[str, str] = NO_SETTINGS,
    *,
    tls: bool = False,
) -> Way:
    return Way(f"connects: {name}", single, AT_A_TIME, broker, settings, how, tls=tls)


_KEYS = {"HUB_PUBLISH_KEYS": KEY}
_TOKENS = {"HUB_TOKEN_KEYS": KEY}
# One, and then none for an hour.
_NO_PUBLISHES = {"HUB_RATE_PUBLISHES": "1/3600"}
_NO_HANDSHAKES = {"HUB_RATE_HANDSHAKES": "1/3600"}
_ELSEWHERE = "Origin: https://elsewhere.example\r\n"
_FORGED = "Authorization: Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbm4ifQ." + "A" * 43 + "\r\n"
_ANY = b"HTTP/1.1 "
WAYS: Sequence[Way] = (
    Way("bare httptools loop, 16 at a time", single, 16, broker="floor"),
    Way("single POSTs, 16 at a time", single, 16),
    Way("with a key and an Idempotency-Key", keyed, 16, settings=_KEYS),
    Way("refused POSTs, no key (401), 16 at a time", refused(401), 16, settings=_KEYS),
    Way(
        "refused POSTs, a wrong key (401), 16 at a time", refused(401, _FORGED), 16, settings=_KEYS
    ),
    Way("refused POSTs, another origin (403), 16 at a time", refused(403, _ELSEWHERE), 16),
    Way(
        "refused POSTs, over the rate (429), 16 at a time", refused(429), 16, settings=_NO_PUBLISHES
    ),
    Way("pipelined on one connection", pipelined, 1),
    Way("arrays of 100, 4 at a time", array, 4),
    Way("WebSockets, 32 at a time", websocket, 32),
    Way("WebSockets: subscribe and unsubscribe, 32 at a time", subscribing, 32),
    Way("TLS: bare httptools loop, 16 at a time", single, 16, broker="floor", tls=True),
    Way("TLS: single POSTs, 16 at a time", single, 16, tls=True),
    Way("bare SQLite loop, 64 a commit", single, 64, broker="disk"),
    Way("sqlite: single POSTs, 64 at a time", single, 64, broker="sqlite"),
    Way("sqlite: with a key and an Idempotency-Key, 64 at a time", keyed, 64, "sqlite", _KEYS),
    Way("bare SQLite loop, 400 a commit", array, 400, broker="disk"),
    Way("sqlite: arrays of 100, 4 at a time", array, 4, broker="sqlite"),
    Way("sqlite: arrays of 100, 16 at a time", array, 16, broker="sqlite"),
    Way("Redis: single POSTs, 16 at a time", single, 16, broker="redis"),
    Way("Redis: single POSTs, 64 at a time", single, 64, broker="redis"),
    Way("Redis: arrays of 100, 4 at a time", array, 4, broker="redis"),
    Way("Redis: WebSockets, 32 at a time", websocket, 32, broker="redis"),
    connects("bare httptools loop", Connecting(Contestant.SSE, needle=OK), broker="floor"),
    connects("WebSocket with one subscription", Connecting(Contestant.WEBSOCKET)),
    connects("SSE with one subscription", Connecting(Contestant.SSE)),
    connects(
        "bare loop, refused without a look", Connecting(Contestant.WEBSOCKET, _ANY), broker="floor"
    ),
    connects("refused, another origin (403)", Connecting(Contestant.WEBSOCKET, _ANY, _ELSEWHERE)),
    connects(
        "refused, over the rate (429)",
        Connecting(Contestant.WEBSOCKET, _ANY),
        settings=_NO_HANDSHAKES,
    ),
    connects(
        "refused, a forged token (401)",
        Connecting(Contestant.SSE, _ANY, _FORGED),
        settings=_TOKENS,
    ),
    connects(
        "bare httptools loop, TLS",
        Connecting(Contestant.SSE, needle=OK),
        broker="floor",
        tls=True,
    ),
    connects("WebSocket with one subscription, TLS", Connecting(Contestant.WEBSOCKET), tls=True),
    Way("history: bare httptools loop, as many bytes", page_of_the_loop, 4, broker="floor"),
    Way("history: pages of 100, 4 at a time", history, 4),
    Way("start: bare httptools loop", single, 0, broker="floor", starting=True),
    Way("start: until ready", single, 0, starting=True),
)
NCHAN_WAYS: Sequence[Way] = (
    Way("nchan: single POSTs, 16 at a time", to_nchan, 16, broker="peer"),
    connects(
        "nchan: WebSocket with one subscription",
        Connecting(Contestant.NCHAN, b"HTTP/1.1 101"),
        broker="peer",
    ),
)
"""What nginx with nchan does of the same (`--against nchan`)."""
