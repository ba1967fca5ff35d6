"""JSON in and out: pushes and replies to `Frame`, commands to bytes. Pure functions.

msgspec rather than a general parser: it reads the known fields only, leaves `data` as the
bytes that came (a general parser would turn a 23-digit integer into a float) and ignores
fields that a later hub may add.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from hub_client.errors import CommandError, ProtocolError
from hub_client.messages import HistoryPage, Member, Message, Moment, Position, Published

_NOTHING = msgspec.Raw(b"")


class WireMember(msgspec.Struct, frozen=True):
    """`member` of a join, a leave, an update, or a presence reply."""

    id: str
    connection: str = ""
    sub: str | None = None
    data: Any = None

    def public(self) -> Member:
        return Member(self.id, self.connection, self.sub, self.data)


class WireError(msgspec.Struct, frozen=True):
    """`error` of a reply."""

    code: str = "internal"
    message: str = ""
    retryable: bool = False
    retry_after_seconds: float = 0.0

    def public(self) -> CommandError:
        return CommandError(
            self.code,
            self.message,
            retryable=self.retryable,
            retry_after_seconds=max(0.0, self.retry_after_seconds),
        )


_Tags = dict[str, str | int | float | bool]


class _Publication(msgspec.Struct, frozen=True, rename={"origin": "from"}):
    offset: int
    data: msgspec.Raw
    time: int | None = None
    key: str | None = None
    origin: str | None = None
    tags: _Tags | None = None
    remove: bool = False
    end: bool = False


class Frame(msgspec.Struct, frozen=True, rename={"origin": "from"}):
    """Any push or reply; a field has its default where the op does not have it."""

    op: str
    id: str | int | None = None
    ok: msgspec.Raw = _NOTHING
    error: WireError | None = None
    channel: str = ""
    pattern: str = ""
    positions: dict[str, str] | None = None
    """The positions at which a pattern begins, by channel."""
    epoch: str = ""
    offset: int | None = None
    data: msgspec.Raw = _NOTHING
    key: str | None = None
    time: int | None = None
    origin: str | int | None = None
    tags: _Tags | None = None
    remove: bool = False
    end: bool = False
    """The sender of a message, or the first offset of a gap: both are `from` on the wire."""
    to: int | None = None
    reason: str = ""
    position: str | None = None
    unsequenced: int = 0
    member: WireMember | None = None
    connection: str = ""
    heartbeat_seconds: float = 25.0
    secret: str = ""
    code: int = 0
    reconnect_within_ms: int | None = None
    in_seconds: float = 0.0
    rows: tuple[_Publication, ...] = ()
    more: bool = False
    dropped: int = 0
    replayed: int = 0


_FRAME = msgspec.json.Decoder(Frame)
_TEXT = msgspec.json.Encoder()
# Reads all of it and makes no objects.
_DOCUMENT = msgspec.json.Decoder(msgspec.Raw)


def decode(raw: bytes) -> Frame:
    """Read one push or reply; raise `ProtocolError` when it is neither."""
    try:
        return _FRAME.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolError(f"the hub sent what is no push: {error}") from None


def encode(value: object) -> bytes:
    """Return any JSON value as bytes; raise `TypeError` for a value that JSON cannot hold."""
    return _TEXT.encode(value)


def check_json(data: bytes) -> None:
    """Raise `ValueError` unless `data` is exactly one JSON document."""
    try:
        _DOCUMENT.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"data is no JSON: {error}") from None


def command(op: str, command_id: int, **fields: object) -> bytes:
    """Return a command; fields that are None or False are left out, as they are the hub's
    defaults."""
    given = {name: value for name, value in fields.items() if value is not None}
    return _TEXT.encode({"op": op, "id": command_id, **given})


def raw_json(data: bytes) -> msgspec.Raw:
    """Mark bytes as JSON to be sent as they are."""
    return msgspec.Raw(data)


class _Subscribed(msgspec.Struct, frozen=True):
    position: str
    replayed: int = 0
    data: Any = None


class _PublishOk(msgspec.Struct, frozen=True):
    channel: str
    epoch: str
    offset: int
    duplicate: bool = False


class _HistoryOk(msgspec.Struct, frozen=True):
    channel: str
    position: str
    oldest: int = 0
    publications: tuple[_Publication, ...] = ()
    next: str | msgspec.UnsetType | None = msgspec.UNSET
    """The field is missing where history was read from its oldest message on."""


class _PresenceOk(msgspec.Struct, frozen=True):
    channel: str
    members: tuple[WireMember, ...] = ()
    next: str | None = None
    count: int = 0


def position(text: str | None) -> Position:
    """Read a position that the hub sent; raise `ProtocolError` when it is none."""
    try:
        return Position.parse(text or "")
    except ValueError as error:
        raise ProtocolError(str(error)) from None


def subscribed(ok: msgspec.Raw) -> tuple[Position, int, Any]:
    """Return the position at which a subscription starts, the number of replayed offsets, and the
    data that the application gives, from a subscribe's reply."""
    started = _read(ok, _Subscribed)
    return position(started.position), started.replayed, started.data


def given(frame: Frame) -> Any:
    """Return the data that the application gives with a welcome or a `subscribed`; None for
    none."""
    return _read(frame.data, object) if bytes(frame.data) else None


class _Begun(msgspec.Struct, frozen=True):
    positions: dict[str, str]


def begun_positions(ok: msgspec.Raw) -> Mapping[str, Position]:
    """Return the positions at which a pattern begins, by channel, from a subscribe's reply."""
    return places(_read(ok, _Begun).positions)


def places(positions: Mapping[str, str]) -> Mapping[str, Position]:
    """Return positions by channel; raise `ProtocolError` where one is no position."""
    return {name: position(text) for name, text in positions.items()}


def published(ok: bytes | msgspec.Raw) -> Published:
    """Return the answer to a publication, over HTTP and over a session alike."""
    answer = _read(ok, _PublishOk)
    return Published(answer.channel, Position(answer.epoch, answer.offset), answer.duplicate)


def history_page(ok: msgspec.Raw) -> HistoryPage:
    answer = _read(ok, _HistoryOk)
    head = position(answer.position)
    messages = _messages(answer.channel, head.epoch, answer.publications)
    return HistoryPage(answer.channel, head, answer.oldest, messages, _next(answer, head))


def _next(answer: _HistoryOk, head: Position) -> Position | None:
    if answer.next is not msgspec.UNSET:
        return None if answer.next is None else position(answer.next)
    last = answer.publications[-1].offset if answer.publications else head.offset
    return Position(head.epoch, last) if last < head.offset else None


def moment(given: Moment | None) -> int | str | None:
    """Return a time as the wire has it; raise `ValueError` for a time without a zone."""
    if not isinstance(given, datetime):
        return given
    if given.tzinfo is None:
        raise ValueError(f"from_time is {given}, which has no time zone: say datetime.now(UTC)")
    return given.isoformat()


def rows(frame: Frame, epoch: str) -> tuple[Message, ...]:
    """Return the rows of a `state` push, as the messages that made them."""
    return _messages(frame.channel, epoch, frame.rows)


def _messages(
    channel: str, epoch: str, publications: tuple[_Publication, ...]
) -> tuple[Message, ...]:
    return tuple(
        Message(
            channel=channel,
            epoch=epoch,
            offset=item.offset,
            raw_data=bytes(item.data),
            key=item.key,
            time_ms=item.time,
            sender=item.origin,
            tags=item.tags,
            remove=item.remove,
            end=item.end,
        )
        for item in publications
    )


def member_count(ok: msgspec.Raw) -> int:
    page: _PresenceOk = _read(ok, _PresenceOk)
    return page.count


def members(ok: msgspec.Raw) -> tuple[tuple[Member, ...], str | None]:
    """Return a page of members, and the member to continue after."""
    page = _read(ok, _PresenceOk)
    return tuple(member.public() for member in page.members), page.next


class _Welcome(msgspec.Struct, frozen=True):
    connection: str
    heartbeat_seconds: float = 25.0


class _PollOk(msgspec.Struct, frozen=True):
    pushes: tuple[msgspec.Raw, ...]
    positions: dict[str, str]
    welcome: msgspec.Raw


@dataclass(frozen=True, slots=True)
class PollAnswer:
    """The answer to a long poll: whole pushes, and the position of every channel."""

    pushes: tuple[bytes, ...]
    positions: Mapping[str, str]
    welcome: bytes
    connection: str
    heartbeat_seconds: float


def read_poll(body: bytes) -> PollAnswer:
    """Read the answer to `GET /poll`; raise `ProtocolError` when it is none."""
    answer = _read(body, _PollOk)
    welcome = _read(answer.welcome, _Welcome)
    return PollAnswer(
        pushes=tuple(bytes(push) for push in answer.pushes),
        positions=answer.positions,
        welcome=bytes(answer.welcome),
        connection=welcome.connection,
        heartbeat_seconds=welcome.heartbeat_seconds,
    )


class Problem(msgspec.Struct, frozen=True):
    """An `application/problem+json` document; as much of it as the client uses."""

    code: str = ""
    """The code is empty where the body was no problem document of the hub."""
    detail: str = ""
    retryable: bool = False
    status: int = 0


_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])


def split_array(body: bytes) -> list[msgspec.Raw] | None:
    """Return the elements of a JSON array, unread; None where the body is no array."""
    try:
        return _ARRAY.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def read_problem(body: bytes) -> Problem:
    """Return the hub's problem document, or one made from another body (a proxy's page)."""
    try:
        return msgspec.json.decode(body, type=Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Problem(detail=body[:300].decode("utf-8", "replace"))


def _read(raw: bytes | msgspec.Raw, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolError(f"the hub sent an answer that cannot be read: {error}") from None
