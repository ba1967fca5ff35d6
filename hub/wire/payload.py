"""Checks the JSON that publishers send, and leaves it unchanged.

`data` reaches subscribers byte for byte. So it is parsed only for the check, and the result is
dropped: orjson would turn a 23-digit integer into a float, and change `1.0` or `-0`. Only line
breaks between tokens become spaces, because one message is one line in SSE and in the command
line's output.
"""

import math
import re

import msgspec
import orjson

from hub.core.publication import ENDS, REMOVES
from hub.errors import BadRequestError, HubError, TooLargeError
from hub.wire import salvage

JSON_WHITESPACE = b" \t\r\n"  # RFC 8259 section 2
# The value of a field for any JSON that was not sent.
ABSENT = msgspec.Raw(b"")
# Characters of a publication's key and of an idempotency key, as of a channel name. Guess, not
# measured. Keys are kept per entry in rings, and for 5 minutes in the broker.
MAX_KEY_LENGTH = 200
# Ten years, longer than any history.
MAX_TTL_SECONDS = 315_360_000
# Levels of brackets in a payload, on every way in. The parsers here end at 254 (orjson writing), at
# about 970 less the depth of the call stack (msgspec with Python 3.11; with later ones at 1,100 to
# 50,000), and at 1,024 (orjson reading). Half of the last leaves room in msgspec for the command or
# item around the payload.
MAX_NESTING = 512
TOO_DEEP = f"payload is not JSON: nesting is over the limit of {MAX_NESTING}"
# Brackets to put around a payload, so that orjson's own limit of 1,024 leaves it `MAX_NESTING`.
_AROUND = 1024 - MAX_NESTING
# orjson reserves memory by the length of a document. Brackets without their ends take more, and it
# reports "failed to allocate memory". With this text appended it has enough for all that it reads
# (measured: two bytes for each bracket).
_ROOM = b" " * 4096
# C0 and C1, the line and paragraph separators, lone surrogates, and Unicode's controls that embed,
# override or isolate a direction (UAX #9, table 1).
_NOT_IN_KEYS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\u202a-\u202e\u2066-\u2069]")


def check_payload(raw: bytes, *, limit: int) -> bytes:
    """Return `raw` on one line without surrounding white space, otherwise byte for byte.

    The check is stricter than RFC 8259 in two points on which parsers differ: numbers beyond a
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
        # A shorter text cannot have too many brackets, and counting takes longer than parsing.
        _check_nesting(raw)
    # Inside a string a line break must be escaped (RFC 8259 section 7), so in valid JSON
    # every raw one stands between tokens.
    return raw.strip(JSON_WHITESPACE).replace(b"\n", b" ").replace(b"\r", b" ")


def exact(written: bytes) -> bytes:
    """Return a copy of orjson's output to keep.

    However short it is, orjson's own object takes at least 4 KiB (measured, orjson 3.13).
    """
    return bytes(memoryview(written))


def encode_payload(data: object) -> bytes:
    """Encode `data` as JSON, which is still to be checked.

    Raises `BadRequestError` for values that JSON cannot hold.
    """
    try:
        return exact(orjson.dumps(data))
    except orjson.JSONEncodeError as error:
        if "ecursion" not in str(error):
            raise BadRequestError(f"data cannot be encoded as JSON: {error}") from None
    # orjson writes at most 254 levels.
    try:
        return msgspec.json.encode(data)
    except RecursionError:
        raise BadRequestError(TOO_DEEP) from None
    except (TypeError, ValueError, OverflowError) as error:
        raise BadRequestError(f"data cannot be encoded as JSON: {error}") from None


def _check_nesting(raw: bytes) -> None:
    """Raise `BadRequestError` where `raw` is nested too deep, even if a later part is malformed."""
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
        # orjson reports character 0 for this error, wherever it is.
        return f"payload is not {undecodable}"
    return f"payload is not JSON: {_described(raw, error)}"


def _described(raw: bytes, error: orjson.JSONDecodeError) -> str:
    """Return the fault and its place, also where orjson gave up because brackets have no end."""
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
    """Return `value` when it may be a key; else raise `BadRequestError`, naming it `name`.

    Characters of every script are allowed, and their joiners (U+200D in a family of emoji, U+200C
    in Persian). Refused are characters that would break a line or turn the direction of text
    printed beside the key. The error names the character.
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
    """Return for how many milliseconds history may hold a publication.

    None stands for the channel's own time. Raises `BadRequestError` where the time is out of range.
    """
    if ttl_seconds is not None and not 0 < ttl_seconds <= MAX_TTL_SECONDS:
        raise BadRequestError(
            f"ttl_seconds is {ttl_seconds}, allowed is more than 0 up to {MAX_TTL_SECONDS}"
        )
    if not history:
        return 0
    return None if ttl_seconds is None else math.ceil(ttl_seconds * 1000)


def marks_of(*, remove: bool, end: bool, key: str | None) -> int:
    """Return a publication's marks; raise `BadRequestError` for a removal without a key."""
    if remove and key is None:
        raise BadRequestError("remove needs the key of the row that goes")
    return (REMOVES if remove else 0) | (ENDS if end else 0)


def no_data(*, remove: bool) -> bytes:
    """Return the data of a publication that came without: `null` for a removal.

    Raises `BadRequestError` where it is no removal.
    """
    if not remove:
        raise BadRequestError("missing required field `data`")
    return b"null"


def too_deep(raw: bytes, max_tokens: int = salvage.MAX_TOKENS) -> BadRequestError:
    """Return the refusal of an object that is nested too deep to be read.

    Where the fault is in its `data`, the message is that of a payload alone.
    """
    data = salvage.find_member(raw, b"data", max_tokens=max_tokens)
    try:
        check_payload(data or b"0", limit=len(raw))
    except HubError as error:
        return BadRequestError(error.message)
    return BadRequestError(TOO_DEEP)


def why_not_read(raw: bytes, error: Exception, max_tokens: int = salvage.MAX_TOKENS) -> str:
    """Return why a document, which msgspec refuses with `error`, is not JSON.

    For half an emoji msgspec reports truncated input, but orjson the fault and its place. For bytes
    that are not UTF-8 neither reports the place. Where those are in `data`, the message is that of
    a payload alone.
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
    """Return the first byte of `raw` that is not UTF-8, as a clause; None without any."""
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        return f"UTF-8: byte {error.start} cannot be decoded"
    return None
