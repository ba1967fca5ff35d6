"""What a publisher sends: JSON that is checked and then left alone.

`data` reaches subscribers byte for byte, so it is parsed only to be judged and the result
is thrown away: orjson would turn a 23-digit integer into a float and `1.0` or `-0` into
something else. Only line breaks between tokens become spaces, because one message is one
line in SSE and in the command line's output.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import msgspec
import orjson

from hub.core.publication import ENDS, REMOVES
from hub.errors import BadRequestError, HubError, TooLargeError
from hub.wire import salvage

_JSON_WHITESPACE = b" \t\r\n"  # RFC 8259 section 2
# Of a field that holds any JSON and was not sent.
ABSENT = msgspec.Raw(b"")
# Of a publication's key and of an idempotency key, in characters: as long as a channel name
# may be. Guess, not measured; they are kept per entry in rings and for 5 minutes in the broker.
MAX_KEY_LENGTH = 200
# Ten years: longer than anything is kept.
MAX_TTL_SECONDS = 315_360_000
# Of one payload that is published in several.
MAX_CHANNELS = 100
# Brackets within brackets of a payload, at every door. Parsers here end at 254 (orjson writing),
# about 970 less what the call stack holds (msgspec) and 1,024 (orjson reading): half of the last
# leaves room for the command or item around the payload in the second.
MAX_NESTING = 512
TOO_DEEP = f"payload is not JSON: nesting is over the limit of {MAX_NESTING}"
# orjson's own count ends at 1,024, so that with these around it a payload has the rest.
_AROUND = 1024 - MAX_NESTING
# orjson has memory for the values that a document of its length can hold: brackets without their
# ends take more, and it says "failed to allocate memory". With this behind it has some for all that
# it looks into (measured: two bytes for each bracket).
_ROOM = b" " * 4096
# C0 and C1, the line and paragraph separators, lone surrogates, and Unicode's controls that embed,
# override or isolate a direction (UAX #9, table 1).
_NOT_IN_KEYS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\u202a-\u202e\u2066-\u2069]")


def check_payload(raw: bytes, *, limit: int) -> bytes:
    """Return `raw` on one line and without surrounding whitespace, otherwise byte for byte.

    Stricter than RFC 8259 in two things that its readers differ on: numbers beyond a
    double's range and lone surrogate escapes are refused. Nesting is limited to `MAX_NESTING`.

    Raises:
        TooLargeError: `raw` is longer than `limit` bytes.
        BadRequestError: `raw` is not exactly one JSON value; the message says where.
    """
    if len(raw) > limit:
        raise TooLargeError(f"payload is {len(raw):,} bytes, limit is {limit:,}")
    try:
        orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        _check_nesting(raw)
        raise BadRequestError(_why_not_json(raw, error)) from None
    if len(raw) > MAX_NESTING:
        # To count takes longer than to parse what is short, and cannot be too many brackets.
        _check_nesting(raw)
    # Inside a string a line break must be escaped (RFC 8259 section 7), so in valid JSON
    # every raw one stands between tokens.
    return raw.strip(_JSON_WHITESPACE).replace(b"\n", b" ").replace(b"\r", b" ")


def exact(written: bytes) -> bytes:
    """A copy of what orjson wrote, for those who keep it: that stands in 4 KiB at least, however
    short it is (measured, orjson 3.13)."""
    return bytes(memoryview(written))


def encode_payload(data: object) -> bytes:
    """`data` as JSON, still to be checked; raise `BadRequestError` for what JSON cannot hold."""
    try:
        return exact(orjson.dumps(data))
    except orjson.JSONEncodeError as error:
        if "ecursion" not in str(error):
            raise BadRequestError(f"data cannot be encoded as JSON: {error}") from None
    # orjson writes 254 levels and no more.
    try:
        return msgspec.json.encode(data)
    except RecursionError:
        raise BadRequestError(TOO_DEEP) from None
    except (TypeError, ValueError, OverflowError) as error:
        raise BadRequestError(f"data cannot be encoded as JSON: {error}") from None


def _check_nesting(raw: bytes) -> None:
    """Raise `BadRequestError` where `raw` is nested too deep, also where something else in it is
    wrong that comes later."""
    if raw.count(b"[") + raw.count(b"{") <= MAX_NESTING:
        return
    try:
        orjson.loads(b"[" * _AROUND + raw + b"]" * _AROUND + _ROOM)
    except orjson.JSONDecodeError as error:
        if error.msg.startswith("depth limit"):
            column = error.colno - (_AROUND if error.lineno == 1 else 0)
            raise BadRequestError(f"{TOO_DEEP}: line {error.lineno} column {column}") from None


def _why_not_json(raw: bytes, error: orjson.JSONDecodeError) -> str:
    if not raw.strip(_JSON_WHITESPACE):
        return "payload is empty, expected a JSON value"
    if (undecodable := _undecodable(raw)) is not None:
        # orjson places this one at character 0, wherever it is.
        return f"payload is not {undecodable}"
    return f"payload is not JSON: {_described(raw, error)}"


def _described(raw: bytes, error: orjson.JSONDecodeError) -> str:
    """What is wrong and where, also where orjson gave up because many brackets have no end."""
    if not error.msg.startswith("failed to allocate"):
        return str(error)
    try:
        orjson.loads(raw + _ROOM)
    except orjson.JSONDecodeError as found:
        error = found
    text = raw.decode()  # which orjson checks first
    if error.pos < len(text):
        return str(error)
    return str(orjson.JSONDecodeError("unexpected end of data", text, len(text)))


def check_key(value: str, name: str) -> str:
    """Return `value` when it may be a key; raise `BadRequestError` that calls it `name`.

    Every script's characters are allowed, and what joins them (U+200D in a family of emoji, U+200C
    in Persian). What is refused would break a line or turn the direction of what is printed beside
    it; the error names that character.
    """
    if not 1 <= len(value) <= MAX_KEY_LENGTH:
        raise BadRequestError(
            f"{name} is {len(value):,} characters, allowed are 1 to {MAX_KEY_LENGTH}"
        )
    if value.isascii() and value.isprintable():
        return value
    if (bad := _NOT_IN_KEYS.search(value)) is not None:
        raise BadRequestError(
            f"{name} must not contain control characters: "
            f"U+{ord(bad[0]):04X} is its character {bad.start() + 1}"
        )
    return value


def keep_of(*, ttl_seconds: float | None, history: bool) -> int | None:
    """How many milliseconds history may hold a publication: None as long as its channel's does.

    Raises `BadRequestError` for a time that is none.
    """
    if ttl_seconds is not None and not 0 < ttl_seconds <= MAX_TTL_SECONDS:
        raise BadRequestError(
            f"ttl_seconds is {ttl_seconds:g}, allowed is more than 0 up to {MAX_TTL_SECONDS}"
        )
    if not history:
        return 0
    return None if ttl_seconds is None else math.ceil(ttl_seconds * 1000)


def marks_of(*, remove: bool, end: bool, key: str | None) -> int:
    """What a publication does beside saying something; raise `BadRequestError` where it cannot."""
    if remove and key is None:
        raise BadRequestError("remove needs the key of the row that goes")
    return (REMOVES if remove else 0) | (ENDS if end else 0)


def data_of(data: msgspec.Raw, *, remove: bool) -> bytes:
    """The JSON that a publication says: `null` where it only takes a row away.

    Raises `BadRequestError` where nothing was sent and a row stays.
    """
    raw = bytes(data)
    if raw:
        return raw
    if not remove:
        raise BadRequestError("missing required field `data`")
    return b"null"


class Item(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One publication of `POST /api/publish`.

    Unknown fields are refused: a misspelt `idempotency_key` must not be dropped silently.
    """

    channel: str
    data: msgspec.Raw = ABSENT
    """Not validated yet, not even as UTF-8: that is `check_payload`'s work."""
    key: str | None = None
    idempotency_key: str | None = None
    tags: dict[str, str | bool | int | float] | None = None
    remove: bool = False
    end: bool = False
    ttl_seconds: float | None = None
    history: bool = True

    @property
    def payload(self) -> bytes:
        return bytes(self.data)


class ToMany(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One payload for several channels: an object of `POST /api/publish` that names `channels`."""

    channels: tuple[str, ...]
    data: msgspec.Raw = ABSENT
    key: str | None = None
    idempotency_key: str | None = None
    tags: dict[str, str | bool | int | float] | None = None
    remove: bool = False
    end: bool = False
    ttl_seconds: float | None = None
    history: bool = True

    def item(self) -> Item:
        """What is published in each of them, as it is in the first."""
        said = {name: getattr(self, name) for name in Item.__struct_fields__[1:]}
        return Item(self.channels[0], **said)


@dataclass(frozen=True, slots=True)
class Batch:
    """What a body of `POST /api/publish` holds, in its order."""

    items: tuple[Item | BadRequestError, ...]
    """An item that cannot be read stands as its error, so that the others still count."""
    is_array: bool
    """False where the body was one object: it is answered with one object."""
    channels: tuple[str, ...] = ()
    """Where the one item is published in several channels: all of them."""


# A publication with all its fields and flat data has 18.
_ITEM_TOKENS = 64
_PARTS = msgspec.json.Decoder(list[msgspec.Raw])
_ITEM = msgspec.json.Decoder(Item)
_TO_MANY = msgspec.json.Decoder(ToMany)
_ITEMS = msgspec.json.Decoder(list[Item])


def split_items(raw: bytes, *, max_items: int) -> Batch:
    """Split the body into its items without decoding their data.

    Raises:
        BadRequestError: the body is neither a JSON object nor an array, or an empty array.
        TooLargeError: the array has more than `max_items` items.
    """
    if not raw.lstrip(_JSON_WHITESPACE).startswith(b"["):
        return _one_item(raw)
    _check_count(raw, max_items)
    try:
        items: Sequence[Item | BadRequestError] = _ITEMS.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        items = ()
    if 0 < len(items) <= max_items:
        return Batch(tuple(items), is_array=True)
    # One of them cannot be read, or they are too many: each is its own matter.
    parts = _split(raw, max_items)
    if not parts:
        raise BadRequestError("body is an empty array, expected at least one publication")
    if len(parts) > max_items:
        raise TooLargeError(f"batch has {len(parts):,} items, limit is {max_items:,}")
    # All of them together are looked into as far as one document would be, or a little more.
    tokens = max(salvage.MAX_TOKENS // len(parts), _ITEM_TOKENS)
    return Batch(tuple(_read_item(part, tokens) for part in parts), is_array=True)


def _one_item(raw: bytes) -> Batch:
    """A body that is one object, for one channel or for several."""
    item = _read_item(raw)
    if isinstance(item, Item) or b'"channels"' not in raw:
        return Batch((item,), is_array=False)
    try:
        many = _TO_MANY.decode(raw)
    except msgspec.ValidationError as error:
        if "unknown field `channel`" in str(error):
            raise BadRequestError(
                "channel and channels are given, allowed is one of them"
            ) from None
        return Batch((BadRequestError(f"not a publication: {error}"),), is_array=False)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Batch((item,), is_array=False)
    channels = many.channels
    if not channels:
        raise BadRequestError("channels is an empty array, expected at least one")
    if len(channels) > MAX_CHANNELS:
        raise TooLargeError(f"{len(channels):,} channels, limit is {MAX_CHANNELS}")
    if len(set(channels)) < len(channels):
        raise BadRequestError("channels names a channel twice")
    return Batch((many.item(),), is_array=False, channels=channels)


def _check_count(raw: bytes, max_items: int) -> None:
    """Raise `TooLargeError` for the array `raw` that has more than `max_items` items and very many.

    A decoder makes an object of every item first: of 4 MiB of `1,` that is 137 MiB. Fewer items
    than `salvage.MAX_TOKENS` are cheap, and counted later for the error.
    """
    if not max_items <= salvage.MAX_TOKENS < raw.count(b","):
        return
    try:
        _at_most(max_items).decode(raw)
    except msgspec.ValidationError:
        raise TooLargeError(f"batch has over {max_items:,} items, limit is {max_items:,}") from None
    except (msgspec.DecodeError, RecursionError):
        """Something before the item that is one too many cannot be read: who splits says what."""


@lru_cache(maxsize=4)
def _at_most(max_items: int) -> msgspec.json.Decoder[msgspec.Struct]:
    """A decoder that ends at the first item that is one too many, which it does for structs alone.

    The limit of a list's length it compares when the list is whole.
    """
    fields = [(f"item{index}", msgspec.Raw, msgspec.Raw()) for index in range(max_items)]
    array = msgspec.defstruct("Array", fields, array_like=True, forbid_unknown_fields=True)
    return msgspec.json.Decoder(array)


def _split(raw: bytes, max_items: int) -> Sequence[bytes | msgspec.Raw]:
    """The array's items; where one cannot be read, that is its own matter, as far as its quotes
    and brackets tell where it ends."""
    try:
        return _PARTS.decode(raw)
    except msgspec.DecodeError as error:
        if (parts := _split_by_shape(raw, max_items)) is not None:
            return parts
        raise BadRequestError(f"body is not JSON: {error}") from None
    except RecursionError:
        if (parts := salvage.split_array(raw)) is not None:
            return parts
        raise BadRequestError(TOO_DEEP) from None


def _split_by_shape(raw: bytes, max_items: int) -> Sequence[bytes | msgspec.Raw] | None:
    if raw.count(b'"') > salvage.MAX_QUOTES:
        return None
    shaped = salvage.shape(raw)
    _check_count(shaped, max_items)
    try:
        parts = _PARTS.decode(shaped)
    except (msgspec.DecodeError, RecursionError):
        return salvage.split_array(raw)
    if len(parts) > max_items:
        return parts  # only counted
    return salvage.cut_like(raw, shaped, [bytes(part) for part in parts])


def _read_item(
    raw: bytes | msgspec.Raw, max_tokens: int = salvage.MAX_TOKENS
) -> Item | BadRequestError:
    try:
        return _ITEM.decode(raw)
    except msgspec.ValidationError as error:
        return BadRequestError(f"not a publication: {error}")
    except RecursionError:
        return too_deep(bytes(raw), max_tokens)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return BadRequestError(why_not_read(bytes(raw), error, max_tokens))


def too_deep(raw: bytes, max_tokens: int = salvage.MAX_TOKENS) -> BadRequestError:
    """The refusal of an object that is nested too deep to be read; of its `data`, as if that had
    come alone."""
    data = salvage.find_member(raw, b"data", max_tokens=max_tokens)
    try:
        check_payload(data or b"0", limit=len(raw))
    except HubError as error:
        return BadRequestError(error.message)
    return BadRequestError(TOO_DEEP)


def why_not_read(raw: bytes, error: Exception, max_tokens: int = salvage.MAX_TOKENS) -> str:
    """That a document is not JSON, which msgspec refuses with `error`, and what is wrong with it.

    Of half an emoji it says that the input is truncated; orjson says what it is and where. Of
    bytes that are no UTF-8 neither says where; of those in `data` it is said as if that had come
    alone.
    """
    if (undecodable := _undecodable(raw)) is not None:
        data = salvage.find_member(raw, b"data", max_tokens=max_tokens)
        place = None if data is None else _undecodable(data)
        return f"not JSON: not {undecodable}" if place is None else f"payload is not {place}"
    try:
        orjson.loads(raw)
    except orjson.JSONDecodeError as found:
        return f"not JSON: {_described(raw, found)}"
    return f"not JSON: {error}"


def _undecodable(raw: bytes) -> str | None:
    """Which byte makes that `raw` is no UTF-8."""
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        return f"UTF-8: byte {error.start} cannot be decoded"
    return None
