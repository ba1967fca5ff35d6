"""What a publisher sends: JSON that is checked and then left alone.

`data` reaches subscribers byte for byte, so it is parsed only to be judged and the result
is thrown away: orjson would turn a 23-digit integer into a float and `1.0` or `-0` into
something else. Only line breaks between tokens become spaces, because one message is one
line in SSE and in the command line's output.
"""

from dataclasses import dataclass

import msgspec
import orjson

from hub.errors import BadRequestError, TooLargeError

_JSON_WHITESPACE = b" \t\r\n"  # RFC 8259 section 2
# Of a publication's key and of an idempotency key, in characters: as long as a channel name
# may be. Guess, not measured; they are kept per entry in rings and for 5 minutes in the broker.
MAX_KEY_LENGTH = 200


def check_payload(raw: bytes, *, limit: int) -> bytes:
    """Return `raw` on one line and without surrounding whitespace, otherwise byte for byte.

    Stricter than RFC 8259 in two things that its readers differ on: numbers beyond a
    double's range and lone surrogate escapes are refused. Nesting is limited to 1,024.

    Raises:
        TooLargeError: `raw` is longer than `limit` bytes.
        BadRequestError: `raw` is not exactly one JSON value; the message says where.
    """
    if len(raw) > limit:
        raise TooLargeError(f"payload is {len(raw):,} bytes, limit is {limit:,}")
    try:
        orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise BadRequestError(_why_not_json(raw, error)) from None
    # Inside a string a line break must be escaped (RFC 8259 section 7), so in valid JSON
    # every raw one stands between tokens.
    return raw.strip(_JSON_WHITESPACE).replace(b"\n", b" ").replace(b"\r", b" ")


def _why_not_json(raw: bytes, error: orjson.JSONDecodeError) -> str:
    if not raw.strip(_JSON_WHITESPACE):
        return "payload is empty, expected a JSON value"
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as undecodable:
        # orjson places this one at character 0, wherever it is.
        return f"payload is not UTF-8: byte {undecodable.start} cannot be decoded"
    return f"payload is not JSON: {error}"


def check_key(value: str, name: str) -> str:
    """Return `value` when it may be a key; raise `BadRequestError` that calls it `name`."""
    if not 1 <= len(value) <= MAX_KEY_LENGTH:
        raise BadRequestError(
            f"{name} is {len(value):,} characters, allowed are 1 to {MAX_KEY_LENGTH}"
        )
    if not value.isprintable():
        raise BadRequestError(f"{name} must not contain control characters")
    return value


class Item(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One publication of `POST /api/publish`.

    Unknown fields are refused: a misspelt `idempotency_key` must not be dropped silently.
    """

    channel: str
    data: msgspec.Raw
    """Not validated yet, not even as UTF-8: that is `check_payload`'s work."""
    key: str | None = None
    idempotency_key: str | None = None

    @property
    def payload(self) -> bytes:
        return bytes(self.data)


@dataclass(frozen=True, slots=True)
class Batch:
    """What a body of `POST /api/publish` holds, in its order."""

    items: tuple[Item | BadRequestError, ...]
    """An item that cannot be read stands as its error, so that the others still count."""
    is_array: bool
    """False where the body was one object: it is answered with one object."""


_PARTS = msgspec.json.Decoder(list[msgspec.Raw])
_ITEM = msgspec.json.Decoder(Item)


def split_items(raw: bytes, *, max_items: int) -> Batch:
    """Split the body into its items without decoding their data.

    Raises:
        BadRequestError: the body is neither a JSON object nor an array, or an empty array.
        TooLargeError: the array has more than `max_items` items.
    """
    if not raw.lstrip(_JSON_WHITESPACE).startswith(b"["):
        return Batch((_read_item(raw),), is_array=False)
    try:
        parts = _PARTS.decode(raw)
    except msgspec.DecodeError as error:
        raise BadRequestError(f"body is not JSON: {error}") from None
    if not parts:
        raise BadRequestError("body is an empty array, expected at least one publication")
    if len(parts) > max_items:
        raise TooLargeError(f"batch has {len(parts):,} items, limit is {max_items:,}")
    return Batch(tuple(_read_item(part) for part in parts), is_array=True)


def _read_item(raw: bytes | msgspec.Raw) -> Item | BadRequestError:
    try:
        return _ITEM.decode(raw)
    except msgspec.ValidationError as error:
        return BadRequestError(f"not a publication: {error}")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return BadRequestError(f"not JSON: {error}")
