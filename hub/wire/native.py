"""The native JSON objects of clients/PROTOCOL.md: commands in, pushes out.

A publication's `data` is spliced in as the bytes that came, never decoded and encoded again.
"""

from collections.abc import Mapping
from functools import lru_cache

import msgspec
import orjson

from hub.core import commands
from hub.core.commands import Command, CommandId
from hub.core.fanout.presence import MAX_DATA_BYTES, check_member
from hub.core.patterns import check_pattern
from hub.core.publication import ENDS, REMOVES, Position, Publication, check_channel
from hub.core.pushes import (
    Change,
    Expiring,
    Gap,
    GapReason,
    Goodbye,
    Heartbeat,
    Join,
    JsonText,
    Leave,
    Member,
    PatternSubscribed,
    PatternUnsubscribed,
    PresenceReset,
    Push,
    Reply,
    State,
    Subscribed,
    Unsubscribed,
    Update,
    Welcome,
)
from hub.errors import BadRequestError, HubError
from hub.wire import salvage
from hub.wire.filters import read_filter
from hub.wire.payload import (
    ABSENT,
    MAX_KEY_LENGTH,
    check_key,
    check_payload,
    data_of,
    keep_of,
    marks_of,
    too_deep,
    why_not_read,
)
from hub.wire.query import MAX_LAST
from hub.wire.tags import Tags, encode_tags

MAX_ID_LENGTH = MAX_KEY_LENGTH
"""Of a command's `id` when it is a string, in characters."""
MIN_ID, MAX_ID = -(2**63), 2**64 - 1
"""Of a command's `id` when it is a number: what orjson encodes."""
DEFAULT_HISTORY_LIMIT = 100
MAX_EVERY_MS = 3_600_000
"""Between two publications of a subscription that wants them only now and then."""


class _Command(msgspec.Struct, tag_field="op"):
    id: str | int


class _Says(msgspec.Struct):
    """What a member says of itself."""

    data: msgspec.Raw = ABSENT


class _Subscribe(_Command, tag="subscribe"):
    channel: str = ""
    pattern: str = ""
    since: str | dict[str, str] | None = None
    last: int | None = None
    fill: bool = False
    filter: msgspec.Raw = ABSENT
    state: bool = False
    presence: _Says | None = None
    every_ms: int | None = None


class _Unsubscribe(_Command, tag="unsubscribe"):
    channel: str = ""
    pattern: str = ""


class _Publish(_Command, tag="publish"):
    channel: str
    data: msgspec.Raw = ABSENT
    key: str | None = None
    echo: bool = True
    idempotency_key: str | None = None
    tags: Tags | None = None
    remove: bool = False
    end: bool = False
    ttl_seconds: float | None = None
    history: bool = True


class _History(_Command, tag="history"):
    channel: str
    since: str | None = None
    limit: int = DEFAULT_HISTORY_LIMIT


class _Presence(_Command, tag="presence"):
    channel: str
    limit: int | None = None
    after: str | None = None
    count: bool = False


class _PresenceUpdate(_Command, tag="presence_update"):
    channel: str
    data: msgspec.Raw


class _Authenticate(_Command, tag="authenticate"):
    token: str


class _Ping(_Command, tag="ping"):
    pass


_AnyCommand = (
    _Subscribe
    | _Unsubscribe
    | _Publish
    | _History
    | _Presence
    | _PresenceUpdate
    | _Authenticate
    | _Ping
)
_COMMAND: msgspec.json.Decoder[_AnyCommand] = msgspec.json.Decoder(_AnyCommand)
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ID: msgspec.json.Decoder[str | int] = msgspec.json.Decoder(str | int)
_OPS = "subscribe, unsubscribe, publish, history, presence, presence_update, authenticate, ping"


def decode(raw: bytes, *, max_message_bytes: int) -> Command:
    """Read one command.

    Raises:
        BadRequestError: not a command; `command_id` is set where the `id` could be read.
        TooLargeError: a publish's `data` is over `max_message_bytes`.
    """
    try:
        command = _COMMAND.decode(raw)
        return _checked(command, max_message_bytes)
    except HubError as error:
        error.command_id = _read_id(raw)
        raise
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _explain(raw, error) from None


def _checked(  # noqa: C901 - a case per command
    command: _AnyCommand, max_message_bytes: int
) -> Command:
    id_ = command.id
    if not _is_id(id_):
        raise BadRequestError(
            f"id is not allowed: a string of at most {MAX_ID_LENGTH} characters or a whole "
            "number of 64 bits"
        )
    match command:
        case _Publish():
            return _publish(command, max_message_bytes)
        case _Subscribe():
            return _subscribe(command)
        case _Unsubscribe():
            if command.pattern:
                return commands.UnsubscribePattern(id_, _pattern(command))
            return commands.Unsubscribe(id_, _channel(command))
        case _History():
            channel = check_channel(command.channel)
            return commands.History(id_, channel, _position(command.since), command.limit)
        case _Presence():
            channel = check_channel(command.channel)
            after = None if command.after is None else check_member(command.after, "after")
            return commands.Presence(id_, channel, command.limit, after, command.count)
        case _PresenceUpdate():
            channel = check_channel(command.channel)
            return commands.PresenceUpdate(id_, channel, _said(command.data) or b"null")
        case _Authenticate():
            return commands.Authenticate(id_, command.token)
        case _Ping():
            return commands.Ping(id_)


def _subscribe(command: _Subscribe) -> Command:
    id_, last, since = command.id, command.last, command.since
    if last is not None and not 0 <= last <= MAX_LAST:
        raise BadRequestError(f"last is {last}, allowed is 0 to {MAX_LAST:,}")
    conditions = bytes(command.filter)
    wanted = None if conditions in {b"", b"null"} else read_filter(conditions)
    if command.pattern:
        if command.state or command.presence is not None or command.every_ms is not None:
            raise BadRequestError("state, presence and every_ms are of a channel, not of a pattern")
        pattern, places = _pattern(command), _places(since)
        return commands.SubscribePattern(id_, pattern, places, last, command.fill, wanted)
    channel = _channel(command)
    if isinstance(since, dict):
        raise BadRequestError("since is one position where a channel is subscribed to")
    said = _said(command.presence.data) if command.presence else None
    return commands.Subscribe(
        id_,
        channel,
        _position(since),
        last,
        command.fill,
        wanted,
        state=command.state,
        presence=said,
        every_ms=check_every(command.every_ms),
    )


def _channel(command: _Subscribe | _Unsubscribe) -> str:
    if not command.channel:
        raise BadRequestError("missing required field `channel`, or `pattern` in its place")
    return check_channel(command.channel)


def _pattern(command: _Subscribe | _Unsubscribe) -> str:
    if command.channel:
        raise BadRequestError("channel and pattern are given, allowed is one of them")
    return check_pattern(command.pattern)


def _places(since: str | dict[str, str] | None) -> Mapping[str, Position] | None:
    if since is None:
        return None
    if isinstance(since, str):
        raise BadRequestError(
            "since has a position for each channel where a pattern is subscribed to"
        )
    return {_named(name): Position.parse(position) for name, position in since.items()}


def _named(name: str) -> str:
    return check_pattern(name) if "*" in name else check_channel(name)


def _publish(command: _Publish, max_message_bytes: int) -> commands.Publish:
    if command.key is not None:
        check_key(command.key, "key")
    if command.idempotency_key is not None:
        check_key(command.idempotency_key, "idempotency_key")
    return commands.Publish(
        command.id,
        check_channel(command.channel),
        check_payload(data_of(command.data, remove=command.remove), limit=max_message_bytes),
        command.key,
        command.echo,
        command.idempotency_key,
        None if command.tags is None else encode_tags(command.tags),
        marks_of(remove=command.remove, end=command.end, key=command.key),
        keep_of(ttl_seconds=command.ttl_seconds, history=command.history),
    )


def check_every(every_ms: int | None) -> int | None:
    """Return an interval of milliseconds; raise `BadRequestError` where it is out of range."""
    if every_ms is not None and not 1 <= every_ms <= MAX_EVERY_MS:
        raise BadRequestError(f"every_ms is {every_ms}, allowed is 1 to {MAX_EVERY_MS:,}")
    return every_ms


def _said(data: msgspec.Raw) -> bytes | None:
    """What a member says of itself; None where it says nothing."""
    raw = bytes(data)
    return check_payload(raw, limit=MAX_DATA_BYTES) if raw else None


def _position(text: str | None) -> Position | None:
    return None if text is None else Position.parse(text)


def _read_id(raw: bytes) -> CommandId:
    """The command's `id`, where the rest of it may be wrong; None where it has none.

    Who waits for a reply to a command that is no JSON (half an emoji in its data, say) would
    otherwise wait until it gives up.
    """
    try:
        found: bytes | msgspec.Raw | None = _OBJECT.decode(raw).get("id")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = salvage.find_member(raw, b"id")
    if found is None:
        return None
    try:
        id_ = _ID.decode(found)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return id_ if _is_id(id_) else None


def _is_id(id_: str | int) -> bool:
    """Whether a reply can carry it: what reads JSON here takes larger numbers than what writes."""
    if isinstance(id_, int):
        return MIN_ID <= id_ <= MAX_ID
    return len(id_) <= MAX_ID_LENGTH


def _explain(raw: bytes, error: Exception) -> BadRequestError:
    if isinstance(error, RecursionError):
        refusal = too_deep(raw)
        refusal.command_id = _read_id(raw)
        return refusal
    if not isinstance(error, msgspec.ValidationError):
        return BadRequestError(why_not_read(raw, error), command_id=_read_id(raw))
    message = str(error)
    if message.endswith("`$.op`"):
        message = f"unknown op ({message}); known are {_OPS}"
    return BadRequestError(message, command_id=_read_id(raw))


# -- pushes --------------------------------------------------------------------------------


_OPTIONS = orjson.OPT_PASSTHROUGH_DATACLASS


def encode(push: Push) -> bytes:
    """One push as one JSON object on one line."""
    if isinstance(push, Publication):
        return _message(push)
    if isinstance(push, Reply):
        # Before the table: one for each command.
        return orjson.dumps(_reply(push), default=_default, option=_OPTIONS)
    if isinstance(push, Welcome):
        # And one for each connection.
        return _welcome(push)
    if isinstance(push, State):
        return _state(push)
    # orjson would encode our dataclasses by itself, under their own field names.
    return orjson.dumps(_object(push), default=_default, option=_OPTIONS)


def _message(publication: Publication) -> bytes:
    # A channel name needs no JSON escape: its alphabet has no quote, backslash or control.
    parts = [b'{"op":"message","channel":"%b"' % publication.channel.encode()]
    if publication.offset:
        parts.append(b',"offset":%d' % publication.offset)
    parts.append(_optional(publication))
    parts.append(b',"data":%b}' % publication.data)
    return b"".join(parts)


def _state(state: State) -> bytes:
    rows = b",".join(map(row, state.rows))
    dropped = b',"dropped":%d' % state.dropped if state.dropped else b""
    more = b"true" if state.more else b"false"
    return b'{"op":"state","channel":"%b","position":"%b","rows":[%b],"more":%b%b}' % (
        state.channel.encode(), str(state.position).encode(), rows, more, dropped,
    )  # fmt: skip


def row(publication: Publication) -> bytes:
    """A row of a channel's state: the newest publication of its key."""
    head = b'{"key":%b,"offset":%d,"time":%d' % (
        orjson.dumps(publication.key), publication.offset, publication.time_ms,
    )  # fmt: skip
    if publication.sender is not None:
        head += b',"from":' + orjson.dumps(publication.sender)
    if publication.tags is not None:
        head += b',"tags":' + publication.tags
    return head + b',"data":%b}' % publication.data


def _optional(publication: Publication) -> bytes:
    text = b',"time":%d' % publication.time_ms
    if publication.key is not None:
        text += b',"key":' + orjson.dumps(publication.key)
    if publication.sender is not None:
        text += b',"from":' + orjson.dumps(publication.sender)
    if publication.tags is not None:
        text += b',"tags":' + publication.tags
    if publication.marks:
        text += _MARKS[publication.marks]
    return text


_MARKS = {
    REMOVES: b',"remove":true',
    ENDS: b',"end":true',
    REMOVES | ENDS: b',"remove":true,"end":true',
}


def _welcome(welcome: Welcome) -> bytes:
    # The ids and secrets that the hub makes need no JSON escape.
    node = _node(welcome.node, welcome.heartbeat_seconds, welcome.version)
    connection, secret = welcome.connection.encode(), welcome.secret.encode()
    given = b"" if welcome.given is None else b',"data":%b' % welcome.given
    return b'{"op":"welcome","connection":"%b",%b,"secret":"%b"%b}' % (
        connection, node, secret, given,
    )  # fmt: skip


@lru_cache(maxsize=8)
def _node(name: str, heartbeat_seconds: float, version: str) -> bytes:
    """The members of a welcome that are the same for all connections of a node."""
    said = {"node": name, "heartbeat_seconds": heartbeat_seconds, "version": version}
    return orjson.dumps(said)[1:-1]


def _object(push: Push) -> Mapping[str, object]:  # noqa: C901, PLR0912 - one table, a case per push
    match push:
        case Subscribed():
            return {
                "op": "subscribed",
                "channel": push.channel,
                "position": str(push.position),
                "recovered": push.recovered,
                "replayed": push.replayed,
                **({"state": True} if push.state else {}),
                **({} if push.given is None else {"data": orjson.Fragment(push.given)}),
            }
        case PatternSubscribed():
            return {"op": "subscribed", "pattern": push.pattern, **_begun(push.positions)}
        case PatternUnsubscribed():
            return {"op": "unsubscribed", "pattern": push.pattern, "reason": push.reason}
        case Unsubscribed():
            return {"op": "unsubscribed", "channel": push.channel, "reason": push.reason}
        case Gap():
            return _gap(push)
        case Join():
            return _change("join", push)
        case Leave():
            return _change("leave", push)
        case Update():
            return _change("update", push)
        case PresenceReset():
            return {"op": "presence_reset", "channel": push.channel}
        case Heartbeat():
            return {"op": "heartbeat"}
        case Expiring():
            return {"op": "expiring", "in_seconds": push.in_seconds}
        case Goodbye():
            return _goodbye(push)
        case Reply():
            return _reply(push)
        case Publication() | Welcome() | State():
            raise AssertionError("spliced, see `encode`")


def _change(op: str, change: Change) -> Mapping[str, object]:
    return {"op": op, "channel": change.channel, "member": member_object(change.member)}


def _begun(positions: Mapping[str, Position]) -> Mapping[str, object]:
    return {
        "channels": list(positions),
        "positions": {name: str(position) for name, position in positions.items()},
    }


def _gap(gap: Gap) -> Mapping[str, object]:
    fields: dict[str, object] = {"op": "gap", "channel": gap.channel, "epoch": gap.epoch}
    if gap.reason is GapReason.RESET:
        fields["position"] = f"{gap.epoch}:{gap.last}"
    elif gap.unsequenced:
        fields["unsequenced"] = gap.unsequenced
    else:
        fields["from"], fields["to"] = gap.first, gap.last
    return fields | {"reason": gap.reason.value}


def _goodbye(goodbye: Goodbye) -> Mapping[str, object]:
    fields = {"op": "goodbye", "code": goodbye.code, "reason": goodbye.reason}
    if goodbye.reconnect_within_ms is None:
        return fields
    return fields | {"reconnect_within_ms": goodbye.reconnect_within_ms}


def _reply(reply: Reply) -> Mapping[str, object]:
    if (error := reply.error) is None:
        return {"op": "reply", "id": reply.id, "ok": reply.ok or {}}
    said: dict[str, object] = {
        "code": error.code,
        "message": error.message,
        "retryable": error.retryable,
    }
    if error.retry_after_seconds is not None:
        said["retry_after_seconds"] = error.retry_after_seconds
    return {"op": "reply", "id": reply.id, "error": said}


def member_object(member: Member) -> Mapping[str, object]:
    fields: dict[str, object] = {"id": member.id, "connection": member.connection}
    if member.subject is not None:
        fields["sub"] = member.subject
    if member.data is not None:
        fields["data"] = orjson.Fragment(member.data)
    return fields


def _default(value: object) -> object:
    """What a reply's `ok` may hold beside plain values."""
    if isinstance(value, Publication):
        return publication_object(value)
    if isinstance(value, Member):
        return member_object(value)
    if isinstance(value, JsonText):
        return orjson.Fragment(value.text)
    raise TypeError(type(value).__name__)


def publication_object(publication: Publication) -> orjson.Fragment:
    """A publication as an answer about one channel lists it."""
    head = b'{"offset":%d' % publication.offset
    return orjson.Fragment(head + _optional(publication) + b',"data":%b}' % publication.data)
