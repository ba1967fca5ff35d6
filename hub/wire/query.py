"""Reads the query of `/ws`, `/sse` and `/poll`: channels, positions and options.

The three transports share it. Queries of the HTTP API are only split here, and their moments read.
Two rules differ from HTML forms. `+` is a plus sign, because a channel name may contain one, and
only a `filter` may contain a space. Percent-encoding that is cut short or is not UTF-8 is refused.
Unknown parameters are ignored, because proxies and caches add some. A name that is almost a known
one is refused (`hub.wire.parameter_names`).
"""

import math
import re
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from msgspec import Struct, field

from hub.core import decimals
from hub.core.options import MAX_HISTORY
from hub.core.patterns import PatternTree, check_pattern, literal_prefix, matches
from hub.core.publication import Position, check_channel
from hub.errors import BadRequestError, TooManySubscriptionsError
from hub.wire.filters import TagFilter, read_filter
from hub.wire.parameter_names import ParameterNames

_BROKEN_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})")
# Channels of a session over SSE or polling, whose ids and URLs name the positions of all. With
# more, an id would be over the limits of proxies for headers.
MAX_CHANNELS = 32
MAX_LAST = MAX_HISTORY
MAX_EVERY_MS = 3_600_000
"""The longest interval between two updates of a subscription."""
LATEST_MS = 253_402_300_799_999
"""The end of 9999-12-31 in milliseconds since 1970 UTC, the last day that every calendar knows."""
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
# The longest query that is cached.
_SHORT_BYTES = 256
# Libraries in place of `EventSource` add one of them to the URL when they connect again
# (event-source-polyfill and reconnecting-eventsource the first one, pages for Mercure the others).
# So its value is newer than that of `last_event_id`, which the page has written.
_EVENT_ID_OF_LIBRARIES = ("lastEventId", "lastEventID", "Last-Event-ID", "Last-Event-Id")
_NAMES = ParameterNames(
    (
        "channel",
        "pattern",
        "since",
        "last",
        "token",
        "last_event_id",
        *_EVENT_ID_OF_LIBRARIES,
        "fill",
        "wait",
        "connection",
        "filter",
        "session",
        "state",
        "every_ms",
    )
)
# Ten days. Transports have lower limits of their own.
_MAX_SECONDS = 999_999.0


class SubscriptionQuery(Struct, frozen=True):
    """The content of a URL's query. Nothing in it has been authorized."""

    channels: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    since: Mapping[str, Position] = field(default_factory=dict)
    last: int | None = None
    token: str | None = None
    last_event_id: str | None = None
    fill: bool = False
    wait: float | None = None
    """Seconds, 0 or more; its upper limit is the transport's."""
    connection: str | None = None
    filter: TagFilter | None = None
    """The filter of all channels."""
    session: bool = False
    """Whether the peer keeps to one session, which may begin without a channel."""
    state: bool = False
    """Begin every channel with its rows, and again where history cannot recover."""
    every_ms: int | None = None
    """The interval between updates of each channel."""

    def resume_from(self, last_event_id: str | None = None) -> Mapping[str, Position]:
        """Return the position from which each channel resumes.

        The `Last-Event-ID` header wins over the parameter of that name, which wins over `since`. An
        empty id counts as none (the EventSource standard).

        Raises:
            BadRequestError: the event id is malformed.
        """
        event_id = last_event_id or self.last_event_id
        if not event_id:
            return self.since
        return parse_event_id(event_id, self.channels, self.patterns)


def parse_query(raw_query: bytes, *, max_channels: int) -> SubscriptionQuery:
    """Read `raw_query`, the encoded text after the `?`.

    Raises:
        BadRequestError: a parameter is malformed, misspelt, given twice, or names a channel twice.
        TooManySubscriptionsError: more than `max_channels` channels.
    """
    read = _parse_again if is_memorable(raw_query) else _parse
    return read(raw_query, max_channels)


def is_memorable(raw_query: bytes) -> bool:
    """Return whether the parsed query may be cached: it is short, and many peers may send it.

    A query with a token is parsed each time, so that no copy of the token stays.
    """
    return len(raw_query) <= _SHORT_BYTES and b"token" not in raw_query and b"%" not in raw_query


def _parse(raw_query: bytes, max_channels: int) -> SubscriptionQuery:
    given = split_query(raw_query)
    _NAMES.refuse_misspelt(given)
    channels = _channels(given.get("channel", []), max_channels)
    patterns = _patterns(given.get("pattern", []))
    return SubscriptionQuery(
        channels=channels,
        patterns=patterns,
        since=_since(given.get("since", []), channels, patterns),
        last=_last(single(given, "last")),
        token=single(given, "token"),
        last_event_id=_event_id(given),
        fill=_boolean("fill", single(given, "fill")),
        wait=_seconds("wait", single(given, "wait")),
        connection=single(given, "connection"),
        filter=_filter(single(given, "filter")),
        session=_boolean("session", single(given, "session")),
        state=_boolean("state", single(given, "state")),
        every_ms=_every(single(given, "every_ms")),
    )


_parse_again = lru_cache(maxsize=256)(_parse)


def parse_event_id(
    text: str, channels: tuple[str, ...], patterns: tuple[str, ...] = ()
) -> Mapping[str, Position]:
    """Read the `id:` of an event.

    It is `epoch:offset` with one channel, and pairs `channel=epoch:offset` joined by `,` with
    several. A channel that is left out starts live. A position of a channel that the URL does not
    name is ignored: a command added that channel, and the URL of an `EventSource` cannot follow.

    Raises:
        BadRequestError: malformed, or naming a channel twice.
    """
    if len(channels) == 1 and "=" not in text:
        return {channels[0]: Position.parse(text)}
    places = _positions(text.split(","))
    others = _not_asked(places, channels, patterns)
    return {name: at for name, at in places.items() if name not in others}


def of_pattern(pattern: str, since: Mapping[str, Position]) -> Mapping[str, Position] | None:
    """Return the positions from which a pattern of the URL resumes; None where it begins."""
    start = literal_prefix(pattern)
    found = {
        name: at
        for name, at in since.items()
        if name.startswith(start)
        and (name == pattern or ("*" not in name and matches(pattern, name)))
    }
    return found or None


def _not_asked(
    names: Iterable[str], channels: tuple[str, ...], patterns: tuple[str, ...]
) -> AbstractSet[str]:
    """Return the `names` that are not among the channels or patterns, nor match a pattern."""
    others = set(names).difference(channels, patterns)
    if not others or not patterns:
        return others
    # A URL has room for hundreds of both. Trying each with each would hold up the loop.
    tree: PatternTree[str] = PatternTree()
    for pattern in patterns:
        tree.add(pattern, pattern)
    return {name for name in others if "*" in name or not tree.matching(name)}


def split_form(raw_query: bytes) -> dict[str, list[str]]:
    """Split a query as `split_query` does, but read `+` as a space.

    HTTP libraries write it so (application/x-www-form-urlencoded of the URL standard), and keys,
    subjects and user agents have spaces.
    """
    return split_query(raw_query.replace(b"+", b" "))


def split_query(raw_query: bytes) -> dict[str, list[str]]:
    """Return every parameter's decoded values; raise `BadRequestError` for a malformed query."""
    if _BROKEN_PERCENT.search(raw_query):
        raise BadRequestError("the query has a % that two hexadecimal digits do not follow")
    given: dict[str, list[str]] = {}
    for part in raw_query.split(b"&"):
        if part:
            name, _, value = part.partition(b"=")
            if name == b"filter":
                # JSON has spaces, and most libraries write them as `+`.
                value = value.replace(b"+", b" ")
            given.setdefault(_decode(name), []).append(_decode(value))
    return given


def single(given: Mapping[str, list[str]], name: str) -> str | None:
    """Return the value of a parameter that may occur once; an empty one counts as absent."""
    values = given.get(name, [])
    if len(values) > 1:
        raise BadRequestError(f"{name} is given {len(values)} times, allowed is once")
    return values[0] if values and values[0] else None


def whole_number(name: str, text: str, *, lowest: int = 0, highest: int) -> int:
    """Read `text` as an integer in that range; raise `BadRequestError` otherwise."""
    found = decimals.whole(text)
    if found is None or not lowest <= found <= highest:
        raise BadRequestError(f"{name} is {text[:40]!r}, allowed is {lowest} to {highest:,}")
    return found


def _decode(encoded: bytes) -> str:
    try:
        return unquote_to_bytes(encoded).decode("utf-8")
    except UnicodeDecodeError:
        raise BadRequestError("the query is not UTF-8") from None


def _channels(names: list[str], limit: int) -> tuple[str, ...]:
    if len(names) > limit:
        raise TooManySubscriptionsError(f"{len(names)} channels are asked for, limit is {limit}")
    channels = tuple(check_channel(name) for name in names)
    if len(set(channels)) < len(channels):
        twice = next(name for name in channels if channels.count(name) > 1)
        raise BadRequestError(f"channel {twice!r} is asked for more than once")
    return channels


def _patterns(texts: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(map(check_pattern, texts)))


def _since(
    pairs: list[str], channels: tuple[str, ...], patterns: tuple[str, ...]
) -> Mapping[str, Position]:
    since = _positions(pairs)
    if others := _not_asked(since, channels, patterns):
        raise BadRequestError(f"since names {min(others)!r}, a channel that is not asked for")
    return since


def _positions(pairs: list[str]) -> Mapping[str, Position]:
    found: dict[str, Position] = {}
    for pair in pairs:
        channel, equals, position = pair.partition("=")
        if not equals or "=" in position:
            raise BadRequestError(f"{pair[:80]!r} is not of the form channel=epoch:offset")
        checked = check_pattern(channel) if "*" in channel else check_channel(channel)
        if checked in found:
            raise BadRequestError(f"channel {channel!r} has two positions to resume from")
        found[channel] = Position.parse(position)
    return found


def _last(text: str | None) -> int | None:
    return None if text is None else whole_number("last", text, highest=MAX_LAST)


def _every(text: str | None) -> int | None:
    return None if text is None else whole_number("every_ms", text, lowest=1, highest=MAX_EVERY_MS)


def _filter(text: str | None) -> TagFilter | None:
    return None if text is None else read_filter(text.encode("utf-8", "surrogatepass"))


def _boolean(name: str, text: str | None) -> bool:
    if text is None:
        return False
    if text not in _BOOLEANS:
        raise BadRequestError(f"{name} is {text[:40]!r}, allowed are true and false")
    return _BOOLEANS[text]


def _event_id(given: Mapping[str, list[str]]) -> str | None:
    of_libraries = (single(given, name) for name in _EVENT_ID_OF_LIBRARIES)
    return next(filter(None, of_libraries), None) or single(given, "last_event_id")


def _seconds(name: str, text: str | None) -> float | None:
    if text is None:
        return None
    found = decimals.number(text)
    if found is None or found > _MAX_SECONDS:
        raise BadRequestError(f"{name} is {text[:40]!r}, allowed are seconds, such as 25 or 2.5")
    return found


def read_moment(name: str, given: int | str) -> int:
    """Read a moment, given in milliseconds or ISO 8601; return milliseconds since 1970 UTC.

    Text without a UTC offset is UTC. A moment before 1970 is 0.

    Raises:
        BadRequestError: the moment is malformed, or later than `LATEST_MS`.
    """
    if isinstance(given, int) or (given.isascii() and given.isdigit()):
        return _milliseconds(name, given)
    try:
        found = datetime.fromisoformat(given)
        found = found if found.tzinfo else found.replace(tzinfo=UTC)
        return max(0, math.ceil(found.timestamp() * 1000 - 0.001))
    except (ValueError, OverflowError):
        raise BadRequestError(
            f"{name} is {given[:40]!r}, expected milliseconds since 1970 or ISO 8601"
        ) from None


def _milliseconds(name: str, given: int | str) -> int:
    found = given if isinstance(given, int) else decimals.whole(given)
    if found is None or not 0 <= found <= LATEST_MS:
        shown = str(given)[:40]
        raise BadRequestError(f"{name} is {shown}, allowed is 0 to {LATEST_MS}")
    return found
