"""What a publisher sends: JSON that is checked and then left alone.

`data` reaches subscribers byte for byte, so it is parsed only to be judged and the result
is thrown away: orjson would turn a 23-digit integer into a float and `1.0` or `-0` into
something else. Only line breaks between tokens become spaces, because one message is one
line in SSE and in the command line's output.
"""

import math
import re

import msgspec
import orjson

from hub.core.publication import ENDS, REMOVES
from hub.errors import BadRequestError, HubError, TooLargeError
from hub.wire import salvage

JSON_WHITESPACE = b" \t\r\n"  # RFC 8259 section 2
# Of a field that holds any JSON and was not sent.
ABSENT = msgspec.Raw(b"")
# Of a publication's key and of an idempotency key, in characters: as long as a channel name
# may be. Guess, not measured; they are kept per entry in rings and for 5 minutes in the broker.
MAX_KEY_LENGTH = 200
# Ten years: longer than anything is kept.
MAX_TTL_SECONDS = 315_360_000
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
    return raw.strip(JSON_WHITESPACE).replace(b"\n", b" ").replace(b"\r", b" ")


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
    if not raw.strip(JSON_WHITESPACE):
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
