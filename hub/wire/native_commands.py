"""Decodes commands from the native JSON objects of clients/PROTOCOL.md.

The error for a malformed command explains the fault, and has the command's `id` where that can be
read.
"""

import functools
import operator
import re
from collections.abc import Mapping
from typing import Any, get_args

import msgspec

from hub.core import commands
from hub.core.commands import Command, CommandId
from hub.core.fanout.presence import MAX_DATA_BYTES, check_member
from hub.core.patterns import check_pattern
from hub.core.publication import Position, check_channel
from hub.errors import BadRequestError, HubError
from hub.wire import salvage
from hub.wire.filters import Tags, encode_tags, read_filter
from hub.wire.parameter_names import ParameterNames
from hub.wire.payload import (
    ABSENT,
    MAX_KEY_LENGTH,
    check_key,
    check_payload,
    keep_of,
    marks_of,
    no_data,
    too_deep,
    why_not_read,
)
from hub.wire.query import MAX_EVERY_MS, MAX_LAST, read_moment

MAX_ID_LENGTH = MAX_KEY_LENGTH
"""Characters of a command's `id` when it is a string."""
# Tokens that are read for the id of a command that cannot be read: 11 ms (measured). A payload of
# 64 KiB has fewer, whatever it holds (`hub.wire.salvage`); a message may be four times as long.
_ID_TOKENS = 10_500
MIN_ID, MAX_ID = -(2**63), 2**64 - 1
"""Range of a command's `id` when it is a number, as orjson encodes it."""
DEFAULT_HISTORY_LIMIT = 100


class _Command(msgspec.Struct, tag_field="op", forbid_unknown_fields=True):
    id: str | int


class _MemberData(msgspec.Struct):
    """The data of a member."""

    data: msgspec.Raw = ABSENT


class _Subscribe(_Command, tag="subscribe"):
    channel: str = ""
    pattern: str = ""
    since: str | dict[str, str] | None = None
    last: int | None = None
    fill: bool = False
    filter: msgspec.Raw = ABSENT
    state: bool = False
    presence: _MemberData | None = None
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
    from_time: int | str | None = None
    reverse: bool = False


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


_OtherCommand = (
    _Subscribe | _Unsubscribe | _History | _Presence | _PresenceUpdate | _Authenticate | _Ping
)
_AnyCommand = _Publish | _OtherCommand
_KINDS: tuple[type[_Command], ...] = get_args(_AnyCommand)
_LENIENT: list[Any] = [
    msgspec.defstruct(
        kind.__name__,
        (),
        bases=(kind,),
        tag=kind.__struct_config__.tag,
        forbid_unknown_fields=False,
    )
    for kind in _KINDS
]
"""The commands once more, with any other fields beside their own."""
_COMMAND: msgspec.json.Decoder[_AnyCommand] = msgspec.json.Decoder(_AnyCommand)
_WITH_UNKNOWN: msgspec.json.Decoder[_AnyCommand] = msgspec.json.Decoder(
    functools.reduce(operator.or_, _LENIENT)
)
_FIELDS = ParameterNames(
    dict.fromkeys(("op", *(name for kind in _KINDS for name in kind.__struct_fields__)))
)
"""The fields of all commands."""
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
# Of a longer command the first unknown field is looked at: 64 KiB may hold thousands, and to list
# them takes 0.5 us for each.
_LISTED_BYTES = 4096
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
        try:
            command = _COMMAND.decode(raw)
        except msgspec.ValidationError as error:
            command = _without_unknown(raw, error)
        if not _is_id(command.id):
            raise BadRequestError(
                f"id is not allowed: a string of at most {MAX_ID_LENGTH} characters or a whole "
                "number of 64 bits"
            )
        if isinstance(command, _Publish):
            # Before the table, because most commands are publications.
            return _publish(command, max_message_bytes)
        return _checked(command)
    except HubError as error:
        error.command_id = read_id(raw)
        raise
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _explain(raw, error) from None


def _without_unknown(raw: bytes, error: msgspec.ValidationError) -> _AnyCommand:
    """Decode a command without its unknown fields, if they are the `error`; else raise it.

    Raises `BadRequestError` where one of them is almost a known one: the sender would otherwise
    take it for obeyed.
    """
    if (found := _UNKNOWN.fullmatch(str(error))) is None:
        raise error
    names = _OBJECT.decode(raw) if len(raw) <= _LISTED_BYTES else (found[1],)
    _FIELDS.refuse_misspelt(names, kind="field of a command")
    return _WITH_UNKNOWN.decode(raw)


def _checked(command: _OtherCommand) -> Command:
    id_ = command.id
    match command:
        case _Subscribe():
            return _subscribe(command)
        case _Unsubscribe():
            if command.pattern:
                return commands.UnsubscribePattern(id_, _pattern(command))
            return commands.Unsubscribe(id_, _channel(command))
        case _History():
            return _history(command)
        case _Presence():
            channel = check_channel(command.channel)
            after = None if command.after is None else check_member(command.after, "after")
            return commands.ListMembers(id_, channel, command.limit, after, command.count)
        case _PresenceUpdate():
            channel = check_channel(command.channel)
            return commands.PresenceUpdate(id_, channel, _member_data(command.data) or b"null")
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
    presence = _member_data(command.presence.data) if command.presence else None
    return commands.Subscribe(
        id_,
        channel,
        _position(since),
        last,
        command.fill,
        wanted,
        state=command.state,
        presence=presence,
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
    marks, keep_ms = 0, None
    if command.remove or command.end:
        marks = marks_of(remove=command.remove, end=command.end, key=command.key)
    if command.ttl_seconds is not None or not command.history:
        keep_ms = keep_of(ttl_seconds=command.ttl_seconds, history=command.history)
    data = bytes(command.data) or no_data(remove=command.remove)
    return commands.Publish(
        command.id,
        check_channel(command.channel),
        check_payload(data, limit=max_message_bytes),
        command.key,
        command.echo,
        command.idempotency_key,
        None if command.tags is None else encode_tags(command.tags),
        marks,
        keep_ms,
    )


def _history(command: _History) -> commands.History:
    moment = command.from_time
    return commands.History(
        command.id,
        check_channel(command.channel),
        _position(command.since),
        command.limit,
        None if moment is None else read_moment("from_time", moment),
        command.reverse,
    )


def check_every(every_ms: int | None) -> int | None:
    """Return an interval of milliseconds; raise `BadRequestError` where it is out of range."""
    if every_ms is not None and not 1 <= every_ms <= MAX_EVERY_MS:
        raise BadRequestError(f"every_ms is {every_ms}, allowed is 1 to {MAX_EVERY_MS:,}")
    return every_ms


def _member_data(data: msgspec.Raw) -> bytes | None:
    """Return the checked data of a member; None without any."""
    raw = bytes(data)
    return check_payload(raw, limit=MAX_DATA_BYTES) if raw else None


def _position(text: str | None) -> Position | None:
    return None if text is None else Position.parse(text)


def read_id(raw: bytes) -> CommandId:
    """Return the `id` of a command whose rest may be malformed; None without an id.

    Otherwise a peer would wait in vain for the reply to a command that is not JSON, such as one
    with half an emoji in its data.
    """
    try:
        found: bytes | msgspec.Raw | None = _OBJECT.decode(raw).get("id")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = salvage.find_member(raw, b"id", max_tokens=_ID_TOKENS)
    if found is None:
        return None
    try:
        id_ = _ID.decode(found)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return id_ if _is_id(id_) else None


def _is_id(id_: str | int) -> bool:
    """Return whether a reply can carry the id: msgspec reads larger numbers than orjson writes."""
    if isinstance(id_, int):
        return MIN_ID <= id_ <= MAX_ID
    return len(id_) <= MAX_ID_LENGTH


def _explain(raw: bytes, error: Exception) -> BadRequestError:
    if isinstance(error, RecursionError):
        refusal = too_deep(raw)
        refusal.command_id = read_id(raw)
        return refusal
    if not isinstance(error, msgspec.ValidationError):
        return BadRequestError(why_not_read(raw, error), command_id=read_id(raw))
    message = str(error)
    if message.endswith("`$.op`"):
        message = f"unknown op ({message}); known are {_OPS}"
    return BadRequestError(message, command_id=read_id(raw))
