"""Limits on peers: token buckets per connection, publisher and address, and numbers of connections.

A bucket holds `burst` tokens and gets `events / seconds` of them each second. A request takes a
token. Without one it is refused, with the number of seconds until there is one.

    Rate(10, 1, 20)     20 at once, then 10 a second
    a full bucket grants an event of 50 tokens (an array, a large message), and then owes 30

Nothing here waits or has a clock of its own. A limit that is off costs one comparison.

A limit is a setting in `hub.settings.access_fields`. `hub.settings.Settings.peer_limits` makes it a
field of `PeerLimits`. `hub.core.labels.LIMIT` has its name in metrics and in the list of refusals,
and `hub/dashboard/views/refused.js` the setting behind the name.
"""

import ipaddress
import math
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import lru_cache

from hub.core.counters import Counters
from hub.core.ports import Monotonic
from hub.core.values import Struct
from hub.errors import RateLimitedError, UnavailableError

# Parties with a bucket, 190 bytes each. The least recently used goes; its bucket is nearly always
# full by then.
MAX_KEYS = 100_000
# A connection that is refused for so long, with pauses below a second, is closed.
PATIENCE_SECONDS = 10.0
_PAUSE_SECONDS = 1.0
# RFC 6177: a subscriber of an IPv6 provider gets at least a /64.
_IPV6_PREFIX = 64
# Above the bound so many more connections of an address still get the reason of their refusal.
_ADDRESS_RESERVE = 16


class Rate(Struct, frozen=True):
    """`events` in `seconds`, and at most `burst` at once."""

    events: float
    seconds: float
    burst: float


@dataclass(frozen=True, slots=True)
class PeerLimits:
    """The limits for one peer; None or 0 turns a limit off."""

    handshakes: Rate | None = None
    """On sessions that one address begins."""
    commands: Rate | None = None
    """On commands and control frames of one connection."""
    publishes: Rate | None = None
    """On publications of one publisher key, subject or connection."""
    inbound_bytes: Rate | None = None
    """On bytes of the messages of one connection, and of the publications of a subject or address
    over HTTP, after inflating."""
    address_connections: int = 0
    subject_connections: int = 0


class Bucket:
    """The tokens of one party; full at first."""

    __slots__ = ("_at_seconds", "_left")

    def __init__(self, rate: Rate, now_seconds: float) -> None:
        self._left = rate.burst
        self._at_seconds = now_seconds

    def take(self, rate: Rate, now_seconds: float, tokens: float = 1) -> float:
        """Take `tokens` and return 0; or take none and return the seconds until they are there."""
        per_second = rate.events / rate.seconds
        passed = max(0.0, now_seconds - self._at_seconds)
        left = min(rate.burst, self._left + passed * per_second)
        self._left, self._at_seconds = left, now_seconds
        needed = min(tokens, rate.burst)
        if left >= needed:
            self._left = left - tokens
            return 0.0
        return (needed - left) / per_second

    def wait(self, rate: Rate, now_seconds: float) -> float:
        """Return the seconds until there is a token, 0 for now; take none."""
        per_second = rate.events / rate.seconds
        left = self._left + max(0.0, now_seconds - self._at_seconds) * per_second
        return max(0.0, (min(1.0, rate.burst) - left) / per_second)


class Buckets:
    """The buckets of many parties."""

    def __init__(self, rate: Rate, clock: Monotonic) -> None:
        self._rate = rate
        self._clock = clock
        # Plain dictionaries look for their oldest entry among all that were before it.
        self._by_key: OrderedDict[Hashable, Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_key)

    def take(self, key: Hashable, tokens: float = 1) -> float:
        """Call `Bucket.take` for the party `key`."""
        now, by_key = self._clock(), self._by_key
        if (bucket := by_key.pop(key, None)) is None:
            bucket = Bucket(self._rate, now)
            if len(by_key) >= MAX_KEYS:
                by_key.popitem(last=False)
        by_key[key] = bucket
        return bucket.take(self._rate, now, tokens)

    def wait(self, key: Hashable) -> float:
        """Call `Bucket.wait` for the party `key`."""
        bucket = self._by_key.get(key)
        return 0.0 if bucket is None else bucket.wait(self._rate, self._clock())


def _buckets(rate: Rate | None, clock: Monotonic) -> Buckets | None:
    return None if rate is None else Buckets(rate, clock)


class Meter:
    """The buckets of one connection; made with its first command where one is limited."""

    __slots__ = ("_bytes", "_commands", "_last_refused_seconds", "_since_seconds")

    def __init__(self, limits: PeerLimits, now_seconds: float) -> None:
        self._commands = limits.commands and Bucket(limits.commands, now_seconds)
        self._bytes = limits.inbound_bytes and Bucket(limits.inbound_bytes, now_seconds)
        self._since_seconds = 0.0
        """The start of the present series of refusals."""
        self._last_refused_seconds = -math.inf

    def take(self, limits: PeerLimits, now_seconds: float, size: int) -> tuple[str, float] | None:
        """Take a command of `size` bytes; return the limit that refuses it, and for how long."""
        rate = limits.commands
        if rate and self._commands and (wait := self._commands.take(rate, now_seconds)):
            return "commands", wait
        rate = limits.inbound_bytes
        if rate and self._bytes and (wait := self._bytes.take(rate, now_seconds, size)):
            return "inbound_bytes", wait
        return None

    def refused(self, now_seconds: float) -> bool:
        """Record a refused command; return whether its peer has gone on for too long."""
        if now_seconds - self._last_refused_seconds > _PAUSE_SECONDS:
            self._since_seconds = now_seconds
        self._last_refused_seconds = now_seconds
        return now_seconds - self._since_seconds >= PATIENCE_SECONDS


class LimitRefusal(Struct, frozen=True):
    """A refusal by a limit."""

    limit: str
    """The value of the label of `hub_rate_limited_total`."""
    by: str
    """The kind of `name`: `address`, `subject`, `key` or `connection`."""
    name: str
    address: str
    """Empty where it is unknown."""
    why: str
    """The message to the peer."""
    code: str = RateLimitedError.code
    """The error's code."""


class Limiter:
    """Enforces the limits of a node, and counts refusals.

    Args:
        on_refused: called with each refusal.
    """

    def __init__(
        self,
        limits: PeerLimits,
        clock: Monotonic,
        counters: Counters,
        on_refused: Callable[[LimitRefusal], None] = lambda _: None,
    ) -> None:
        self._on_refused = on_refused
        self._limits = limits
        self._clock = clock
        self._counters = counters
        self._handshakes = _buckets(limits.handshakes, clock)
        self._publishes = _buckets(limits.publishes, clock)
        self._bodies = _buckets(limits.inbound_bytes, clock)
        self.limits_handshakes = self._handshakes is not None
        self.meters_commands = bool(limits.commands or limits.inbound_bytes)
        self.limits_publishes = self._publishes is not None
        self.limits_bodies = self._bodies is not None
        self.counts_addresses = limits.address_connections > 0
        self.counts_subjects = limits.subject_connections > 0

    def check_handshake(self, address: str) -> None:
        """Raise `RateLimitedError` where `address` has begun too many sessions."""
        if self._handshakes is None:
            return
        if wait := self._handshakes.take(party(address)):
            raise self._refusal(_of_handshakes(address), wait)

    def over_handshakes(self, address: str) -> RateLimitedError | None:
        """Return the refusal of a session from `address`, or None; take no token."""
        if self._handshakes is None or not (wait := self._handshakes.wait(party(address))):
            return None
        return self._refusal(_of_handshakes(address), wait)

    def check_address(self, connections: int, address: str = "") -> None:
        """Raise `RateLimitedError` where an address with so many connections gets no other."""
        limit = self._limits.address_connections
        if limit and connections >= limit:
            why = f"this address has as many connections as it may, which is {limit:,}"
            raise self._refusal(_of_address(address, why), 1)

    def overruns_address(self, connections: int, address: str = "") -> bool:
        """Return whether an address with so many connections is not even answered."""
        limit = self._limits.address_connections
        if over := bool(limit) and connections >= 2 * limit + _ADDRESS_RESERVE:
            self._count(_of_address(address, "this address has too many connections"))
        return over

    def full(self, address: str, why: str) -> UnavailableError:
        """Return the refusal of a peer for which the node has no connection left; count it."""
        code = UnavailableError.code
        self._count(LimitRefusal("max_connections", "address", party(address), address, why, code))
        return UnavailableError(why)

    def check_subject(self, connections: int, subject: str = "", address: str = "") -> None:
        """Raise `RateLimitedError` where a subject with so many connections gets no other."""
        limit = self._limits.subject_connections
        if limit and connections >= limit:
            why = f"this subject has {connections:,} connections, limit is {limit:,}"
            raise self._refusal(
                LimitRefusal("subject_connections", "subject", subject, address, why), 1
            )

    def check_publish(
        self, publisher: str, count: int = 1, *, connection: str = "", address: str = ""
    ) -> None:
        """Raise `RateLimitedError` where `publisher` may not publish `count` more now.

        A negative `count` gives tokens back. A publisher without a name of its own goes by its
        `connection`, or else by its address.
        """
        if self._publishes is not None and (wait := self._publishes.take(publisher, count)):
            by, name = _peer_name(publisher, connection)
            why = "this publisher sends too many publications"
            raise self._refusal(LimitRefusal("publishes", by, name, address, why), wait)

    def check_body(self, publisher: str, size: int, *, address: str) -> None:
        """Raise `RateLimitedError` where `publisher` sends too many bytes over HTTP.

        A connection of a proxy carries many peers, so a body counts for its subject or address.
        The holder of a key is a trusted backend, and has no such bound.
        """
        by, name = _peer_name(publisher)
        if self._bodies is None or by == "key":
            return
        if wait := self._bodies.take(publisher, size):
            why = "this publisher sends too many bytes"
            raise self._refusal(LimitRefusal("inbound_bytes", by, name, address, why), wait)

    def new_meter(self) -> Meter:
        return Meter(self._limits, self._clock())

    def check_command(
        self, meter: Meter, size: int, connection: str = "", address: str = ""
    ) -> tuple[RateLimitedError, bool] | None:
        """Take a command of `size` bytes of a connection; return None where it is allowed.

        Else return the refusal, and whether the peer is to be closed because it goes on.
        """
        now = self._clock()
        if (over := meter.take(self._limits, now, size)) is None:
            return None
        limit, wait = over
        what = "commands" if limit == "commands" else "bytes"
        why = f"this connection sends too many {what}"
        error = self._refusal(LimitRefusal(limit, "connection", connection, address, why), wait)
        return error, meter.refused(now)

    def _refusal(self, refusal: LimitRefusal, wait_seconds: float) -> RateLimitedError:
        self._count(refusal)
        seconds = max(1, math.ceil(wait_seconds))
        return RateLimitedError(refusal.why, retry_after_seconds=seconds)

    def _count(self, refusal: LimitRefusal) -> None:
        self._counters.rate_limited[refusal.limit] += 1
        self._on_refused(refusal)


# The kind of a publisher's name by its prefix.
_PUBLISHERS = {"sub": "subject", "key": "key"}


def _peer_name(publisher: str, connection: str = "") -> tuple[str, str]:
    """Return the kind of a publisher's name, and the name as it is told to operators."""
    kind, _, name = publisher.partition(":")
    by = "connection" if publisher == connection else _PUBLISHERS.get(kind, "address")
    return by, name if by == "subject" else publisher


def _of_handshakes(address: str) -> LimitRefusal:
    why = "this address begins too many sessions"
    return LimitRefusal("handshakes", "address", party(address), address, why)


def _of_address(address: str, why: str) -> LimitRefusal:
    return LimitRefusal("address_connections", "address", party(address), address, why)


@lru_cache(maxsize=4096)
def party(address: str) -> str:
    """Return the party of an address: the address itself, or its /64 with IPv6."""
    if ":" not in address:
        return address
    try:
        return str(ipaddress.ip_network(f"{address}/{_IPV6_PREFIX}", strict=False))
    except ValueError:
        return address
