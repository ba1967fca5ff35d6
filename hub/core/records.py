"""Records for operators: immutable snapshots of live state, made only on request.

A column of the lists of connections and of channels is one field here. The field has a function
that reads it, a sort key and, for rows that nodes share, a function that joins their values. The
lists, the JSON of the HTTP API and its OpenAPI document follow from it.
`hub/dashboard/views/connections.js` and, for `hub top`, `hub.cli.columns` choose the columns to
show. Nothing here knows a session's class.

Nodes of an earlier version, and records that they left on disk, lack a new field: it needs a
default.
"""

import operator
from collections.abc import Callable, Mapping, Sized
from dataclasses import dataclass, field, fields, replace
from typing import Any

from hub.core.options import STATS_CHANNEL, ChannelOptions
from hub.core.ports import Monotonic
from hub.core.publication import Position

Value = str | int | float
"""A sort key of rows."""

# Sorts before every round trip.
_NO_ROUND_TRIP = -1.0
# Sorts before every age: no clock is so far ahead.
_NOTHING_OWED = -1e12


@dataclass(frozen=True, slots=True)
class RowSource:
    """The node that rows come from."""

    node: str
    clock: Monotonic
    wall_offset_seconds: float
    """From the clock to seconds since 1970 UTC; fixed, so that sort keys do not change."""


@dataclass(frozen=True, slots=True)
class Column:
    """The functions that read, sort by and join one field of a record."""

    read: Callable[[Any, RowSource], Any]
    """Reads it from a session, or from a `LiveChannel`."""
    sort: Callable[[Any, RowSource], Value] | None = None
    """Returns the sort key; None for a column that no list is sorted by. It takes a live session,
    because only the sessions of a page get records, or the record of a channel."""
    name: str = ""
    """The name of the sort order; empty for the field's own name."""
    numeric: bool = True
    """Whether the sort key is a number, not text."""
    join: Callable[[Any, Any], Any] | None = None
    """Joins two nodes' values; None takes that of the newer position."""


def _column(
    read: Callable[[Any, RowSource], Any],
    *,
    sort: Callable[[Any, RowSource], Value] | None = None,
    name: str = "",
    numeric: bool = True,
    join: Callable[[Any, Any], Any] | None = None,
) -> Mapping[str, Column]:
    """Return the metadata of a field of a record."""
    return {"column": Column(read, sort, name, numeric, join)}


def _number(read: Callable[[Any, RowSource], Value]) -> Mapping[str, Column]:
    """Return a column of numbers that is sorted by its values."""
    return _column(read, sort=read)


def _words(read: Callable[[Any, RowSource], Any]) -> Mapping[str, Column]:
    """Return a column of text that is sorted by its values; None sorts as an empty text."""
    return _column(read, sort=lambda item, origin: read(item, origin) or "", numeric=False)


def columns(record: type) -> Mapping[str, Column]:
    """Return the columns of a record class by field."""
    return {each.name: each.metadata["column"] for each in fields(record)}


@dataclass(frozen=True, slots=True)
class SubscriptionRecord:
    """A subscription of a session."""

    channel: str
    position: Position
    """The last offset handed to the peer's transport."""
    state: str
    """`live`, `replaying` or `congested`."""
    outbox_messages: int
    dropped: int
    filter: str | None = None
    """The condition on tags as JSON; None without one."""
    every_ms: int | None = None
    """The interval between updates; None where it gets each publication."""
    rows: bool = False
    """Whether it asked for the rows of a keyed channel (`"state":true`)."""
    fill: bool = False
    """Whether history refills publications that the peer read too slowly."""
    pattern: str | None = None
    """The pattern that it came by; None for a subscription by name."""


def _subscription(subscription: Any) -> SubscriptionRecord:
    ring, wanted = subscription.ring, subscription.filter
    return SubscriptionRecord(
        channel=subscription.channel.name,
        position=subscription.position,
        state=subscription.state,
        outbox_messages=0 if ring is None else len(ring),
        dropped=subscription.dropped,
        filter=None if wanted is None else wanted.text.decode(),
        every_ms=subscription.every_ms,
        rows=subscription.state_need is not None,
        fill=subscription.fill,
        pattern=subscription.pattern,
    )


def _round_trip_ms(session: Any) -> float | None:
    seconds = session.round_trip_seconds
    return None if seconds is None else round(seconds * 1000, 3)


def _owed_messages(session: Any) -> int:
    return 0 if session.outbox is None else int(session.outbox.messages)


def _owed_since(session: Any) -> float | None:
    found: float | None = None if session.outbox is None else session.outbox.oldest_at()
    return found


def _owed_seconds(session: Any, origin: RowSource) -> float:
    oldest = _owed_since(session)
    return 0.0 if oldest is None else round(origin.clock() - oldest, 3)


def _patterns(session: Any) -> tuple[str, ...]:
    return () if session.patterns is None else tuple(session.patterns.by_text)


def _by_owed_since(session: Any, origin: RowSource) -> float:
    """Return a sort key with the order of `_owed_seconds` that does not change with time."""
    oldest = _owed_since(session)
    return _NOTHING_OWED if oldest is None else -(oldest + origin.wall_offset_seconds)


# Not frozen, as all other records are: the list of connections makes a thousand at a time, and a
# frozen one takes four times as long.
@dataclass(slots=True)
class SessionRecord:
    """A connection."""

    connection: str = field(metadata=_words(lambda s, _: s.id))
    node: str = field(metadata=_words(lambda _, origin: origin.node))
    """The name of its node."""
    transport: str = field(metadata=_words(lambda s, _: s.link.transport))
    """`websocket`, `sse` or `poll`."""
    subject: str | None = field(metadata=_words(lambda s, _: s.identity.subject))
    address: str = field(metadata=_words(lambda s, _: s.link.address))
    user_agent: str = field(metadata=_words(lambda s, _: s.link.user_agent))
    opened_ms: int = field(
        metadata=_number(lambda s, o: int((s.opened_at_seconds + o.wall_offset_seconds) * 1000))
    )
    """Milliseconds since 1970 UTC."""
    round_trip_ms: float | None = field(
        metadata=_column(
            lambda s, _: _round_trip_ms(s),
            sort=lambda s, _: _NO_ROUND_TRIP if (ms := _round_trip_ms(s)) is None else ms,
        )
    )
    sent: int = field(metadata=_number(lambda s, _: s.sent))
    """Publications handed to the transport."""
    dropped: int = field(metadata=_number(lambda s, _: s.dropped))
    """Publications its outbox dropped or conflated."""
    outbox_messages: int = field(metadata=_number(lambda s, _: _owed_messages(s)))
    outbox_bytes: int = field(metadata=_number(lambda s, _: s.owed_bytes))
    outbox_age_seconds: float = field(metadata=_column(_owed_seconds, sort=_by_owed_since))
    """Age of the oldest publication it is still owed."""
    missing: int = field(metadata=_number(lambda s, _: s.dropped + _owed_messages(s)))
    """Publications that it lacks: dropped, or still owed."""
    watches: bool = field(metadata=_column(lambda s, _: STATS_CHANNEL in s.subscriptions))
    """Whether it reads the nodes' figures, as a dashboard does, and so is not a user."""
    patterns: tuple[str, ...] = field(default=(), metadata=_column(lambda s, _: _patterns(s)))
    """Its patterns; empty from a node of an earlier version."""
    subscriptions: tuple[SubscriptionRecord, ...] = field(
        default=(),
        metadata=_column(
            lambda s, _: tuple(map(_subscription, s.subscriptions.values())),
            sort=lambda s, _: len(s.subscriptions),
        ),
    )


_OF_SESSION = tuple(column.read for column in columns(SessionRecord).values())
_WITHOUT_SUBSCRIPTIONS = (*_OF_SESSION[:-1], lambda _session, _origin: ())


def session_record(session: Any, origin: RowSource, *, subscriptions: bool = True) -> SessionRecord:
    """Return the record of a session; without its subscriptions where they are not needed."""
    reads = _OF_SESSION if subscriptions else _WITHOUT_SUBSCRIPTIONS
    return SessionRecord(*[read(session, origin) for read in reads])


@dataclass(frozen=True, slots=True)
class LiveChannel:
    """The live state of a channel on a node."""

    name: str
    head: Position
    held: int | None
    """Publications in history; None where only the broker knows."""
    members: Sized
    """Its subscriptions here."""
    options: ChannelOptions
    watchers: int = 0
    """Members that are dashboards."""
    rows: tuple[int, int] | None = None
    """Number and bytes of the rows of its state, where they are known here."""


def _most(one: float | None, other: float | None) -> float | None:
    return max((number for number in (one, other) if number is not None), default=None)


@dataclass(frozen=True, slots=True)
class ChannelRecord:
    """A channel on one node, or on all."""

    channel: str = field(
        metadata=_column(lambda c, _: c.name, sort=lambda r, _: r.channel, numeric=False)
    )
    position: Position = field(
        metadata=_column(lambda c, _: c.head, sort=lambda r, _: r.position.offset, name="offset")
    )
    subscribers: int = field(
        metadata=_column(
            lambda c, _: len(c.members), sort=lambda r, _: r.subscribers, join=operator.add
        )
    )
    """Sessions on this node; in a list over all nodes, on all."""
    history: int | None = field(
        metadata=_column(lambda c, _: c.held, sort=lambda r, _: _held_at_most(r))
    )
    """Publications held now; None where only the broker knows."""
    presence: bool = field(metadata=_column(lambda c, _: c.options.presence))
    publications_per_second: float | None = field(
        default=None,
        metadata=_column(
            lambda _, __: None, sort=lambda r, _: r.publications_per_second or 0.0, join=_most
        ),
    )
    """Since the previous request for it; None where it is not known yet."""
    watchers: int = field(
        default=0,
        metadata=_column(lambda c, _: c.watchers, join=operator.add),
    )
    """Dashboards among the subscribers, which are not users."""
    keyed: bool = field(default=False, metadata=_column(lambda c, _: c.options.keyed))
    """Whether it keeps the newest publication of each key as a row."""
    rows: int | None = field(
        default=None,
        metadata=_column(
            lambda c, _: None if c.rows is None else c.rows[0],
            sort=lambda r, _: r.rows or 0,
            join=_most,
        ),
    )
    """The number of rows; None where it keeps none, or where only the broker knows."""
    row_bytes: int | None = field(
        default=None,
        metadata=_column(lambda c, _: None if c.rows is None else c.rows[1], join=_most),
    )
    """Bytes that the rows take of the hub's memory."""


def _held_at_most(record: ChannelRecord) -> int:
    """Return the publications held; where only the broker knows, all that were ever published."""
    return record.position.offset if record.history is None else record.history


_OF_CHANNEL = tuple(column.read for column in columns(ChannelRecord).values())


def channel_record(channel: LiveChannel, origin: RowSource) -> ChannelRecord:
    """Return the record of a channel on this node."""
    return ChannelRecord(*[read(channel, origin) for read in _OF_CHANNEL])


_JOINED = {name: c.join for name, c in columns(ChannelRecord).items() if c.join is not None}


def joined(one: ChannelRecord, other: ChannelRecord) -> ChannelRecord:
    """Join two nodes' records of one channel."""
    newer = max(one, other, key=lambda record: record.position.offset)
    values = {
        name: join(getattr(one, name), getattr(other, name)) for name, join in _JOINED.items()
    }
    return replace(newer, **values)


# Before the others: most values of a record are of these.
_PLAIN = (str, int, float)


def plain(value: Any) -> Any:
    """Return a record as values of JSON: its fields by name, positions as text."""
    if value is None or isinstance(value, _PLAIN):
        return value
    if isinstance(value, Position):
        return str(value)
    # `dataclasses.fields` reads the same, and takes ten times as long.
    if (names := getattr(value, "__dataclass_fields__", None)) is not None:
        return {name: plain(getattr(value, name)) for name in names}
    if isinstance(value, tuple):
        return [plain(each) for each in value]
    return dict(value) if isinstance(value, Mapping) else value
