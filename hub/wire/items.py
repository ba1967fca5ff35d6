"""Splits the body of `POST /api/publish`: one publication, one for several channels, or an array.

The data of items are left as they are. An item that cannot be read does not affect the others: its
error takes its place.
"""

import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

import msgspec

from hub.errors import BadRequestError, TooLargeError
from hub.wire import salvage
from hub.wire.payload import ABSENT, JSON_WHITESPACE, TOO_DEEP, too_deep, why_not_read

# Channels of one payload.
MAX_CHANNELS = 100


class _Publication(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Fields of an object of `POST /api/publish`, beside where it is published.

    Unknown fields are refused: a misspelt `idempotency_key` must not be dropped silently.
    """

    data: msgspec.Raw = ABSENT
    """Not validated yet, not even as UTF-8; `check_payload` does that."""
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


class Item(_Publication, frozen=True, forbid_unknown_fields=True):
    """A publication of `POST /api/publish`."""

    channel: str


class ToMany(_Publication, frozen=True, forbid_unknown_fields=True):
    """A payload for several channels: an object of `POST /api/publish` that names `channels`."""

    channels: tuple[str, ...]

    def item(self) -> Item:
        """Return the publication of the first channel; the others get the same."""
        fields = {name: getattr(self, name) for name in _Publication.__struct_fields__}
        return Item(self.channels[0], **fields)


@dataclass(frozen=True, slots=True)
class PublishBody:
    """The items of a body of `POST /api/publish`, in their order."""

    items: tuple[Item | BadRequestError, ...]
    """Has the error of an item that cannot be read, so that the others still count."""
    is_array: bool
    """False where the body was one object, whose answer is one object too."""
    channels: tuple[str, ...] = ()
    """All channels of a single item that is published in several."""


# Of a long array, split in one turn of the loop: 0.1 to 0.3 ms.
SLICE_BYTES = 64 * 1024
# Places that are tried for the end of a slice. Of nested data most are inside of an item. A guess.
_MAX_CUTS = 8
_END_OF_ITEM = rb"\}[ \t\r\n]*,[ \t\r\n]*"
# `{"channel"`: what items of one publisher begin with.
_MARK_BYTES = 10
# A publication with all its fields and flat data has 18 tokens.
_ITEM_TOKENS = 64
_PARTS = msgspec.json.Decoder(list[msgspec.Raw])
_ITEM = msgspec.json.Decoder(Item)
_TO_MANY = msgspec.json.Decoder(ToMany)
_ITEMS = msgspec.json.Decoder(list[Item])


def split_in_slices(raw: bytes, *, max_items: int) -> Generator[None, None, PublishBody]:
    """Split the body into its items without decoding their data.

    It yields after each `SLICE_BYTES` of a long array, so that other work goes on between.

    An array of which one item cannot be read, or whose items cannot be told apart by a quick look,
    is split in a few longer steps, each of which looks at all of it once.
    """
    items: list[Item] = []
    at = raw.find(b"[") + 1
    if len(raw) > 2 * SLICE_BYTES and raw.lstrip(JSON_WHITESPACE).startswith(b"["):
        while (found := _take_slice(raw, at)) is not None:
            taken, at = found
            items += taken
            if len(items) > max_items:
                break
            if at == len(raw):
                return PublishBody(tuple(items), is_array=True)
            yield
        if found is None:
            # To read all items at once takes twice as long as to tell them apart, and gains nothing
            # where one of them is the cause.
            return (yield from _split_whole(raw, max_items, at_once=False))
    return (yield from _split_whole(raw, max_items))


def _split_whole(
    raw: bytes, max_items: int, *, at_once: bool = True
) -> Generator[None, None, PublishBody]:
    """Split the body; yield after each look at all of it, and after each `SLICE_BYTES` of items.

    The items are read in one step where `at_once` and all of them can be read.
    """
    if not raw.lstrip(JSON_WHITESPACE).startswith(b"["):
        return _one_item(raw)
    _check_count(raw, max_items)
    if at_once:
        items = _read_items(raw)
        if 0 < len(items) <= max_items:
            return PublishBody(tuple(items), is_array=True)
        # One item cannot be read, or they are too many, so each is read separately.
        items.clear()
    yield
    parts = yield from _split(raw, max_items)
    if not parts:
        raise BadRequestError("body is an empty array, expected at least one publication")
    if len(parts) > max_items:
        raise TooLargeError(f"batch has {len(parts):,} items, limit is {max_items:,}")
    yield
    # All items together may have about as many tokens as one document.
    tokens = max(salvage.MAX_TOKENS // len(parts), _ITEM_TOKENS)
    found: list[Item | BadRequestError] = []
    size = 0
    for part in parts:
        found.append(_read_item(part, tokens))
        size += len(memoryview(part))
        if size >= SLICE_BYTES:
            size = 0
            yield
    return PublishBody(tuple(found), is_array=True)


def _take_slice(raw: bytes, at: int) -> tuple[list[Item], int] | None:
    """Return the items of an array from `at` on, and where the next one begins.

    `at` is where an item begins. The slice is cut where the bytes from `at` on, with a `]` behind
    them, are a whole array: an item ends there. Any other cut is inside of an item or a text.
    """
    if len(raw) - at <= SLICE_BYTES:
        return _take_rest(raw, at)
    end, far = at + SLICE_BYTES, at + 4 * SLICE_BYTES
    # Items that begin alike are found by that, also where their data are full of objects. There may
    # be white space on both sides of a comma: Python's encoder writes some behind it.
    first = raw[at : at + _MARK_BYTES * 4].lstrip(JSON_WHITESPACE)[:_MARK_BYTES]
    between = re.compile(_END_OF_ITEM + re.escape(first))
    if between.search(raw, end, far) is None:
        # The last item may go beyond a slice.
        if far >= len(raw) and (rest := _take_rest(raw, at)) is not None:
            return rest
        between = re.compile(_END_OF_ITEM)
    for cut in islice(between.finditer(raw, end, far), _MAX_CUTS):
        if items := _read_items(b"[%b}]" % raw[at : cut.start()]):
            return items, raw.index(b",", cut.start()) + 1
    return None


def _take_rest(raw: bytes, at: int) -> tuple[list[Item], int] | None:
    items = _read_items(b"[%b" % raw[at:])
    # Behind a comma there has to be an item.
    return (items, len(raw)) if items else None


def _read_items(raw: bytes) -> list[Item]:
    """Return the items of the array; none where one of them, or the array, cannot be read."""
    try:
        return _ITEMS.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []


def _one_item(raw: bytes) -> PublishBody:
    """Read a body that is one object, for one channel or for several."""
    item = _read_item(raw)
    if isinstance(item, Item) or b'"channels"' not in raw:
        return PublishBody((item,), is_array=False)
    try:
        many = _TO_MANY.decode(raw)
    except msgspec.ValidationError as error:
        if "unknown field `channel`" in str(error):
            raise BadRequestError(
                "channel and channels are given, allowed is one of them"
            ) from None
        return PublishBody((BadRequestError(f"not a publication: {error}"),), is_array=False)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return PublishBody((item,), is_array=False)
    channels = many.channels
    if not channels:
        raise BadRequestError("channels is an empty array, expected at least one")
    if len(channels) > MAX_CHANNELS:
        raise TooLargeError(f"{len(channels):,} channels, limit is {MAX_CHANNELS}")
    if len(set(channels)) < len(channels):
        raise BadRequestError("channels names a channel twice")
    return PublishBody((many.item(),), is_array=False, channels=channels)


def _check_count(raw: bytes, max_items: int) -> None:
    """Raise `TooLargeError` where the array `raw` has more than `max_items` items and very many.

    A decoder would make an object of every item first, which is 137 MiB for 4 MiB of `1,`. Fewer
    items than `salvage.MAX_TOKENS` are cheap, and the caller counts them for the error.
    """
    if not max_items <= salvage.MAX_TOKENS < raw.count(b","):
        return
    try:
        _at_most(max_items).decode(raw)
    except msgspec.ValidationError:
        raise TooLargeError(f"batch has over {max_items:,} items, limit is {max_items:,}") from None
    except (msgspec.DecodeError, RecursionError):
        """An earlier part cannot be read. The caller reports that."""


@lru_cache(maxsize=4)
def _at_most(max_items: int) -> msgspec.json.Decoder[msgspec.Struct]:
    """Return a decoder that stops at the first item above the limit.

    msgspec does that for structs only. It checks the length of a list after reading all of it.
    """
    fields = [(f"item{index}", msgspec.Raw, msgspec.Raw()) for index in range(max_items)]
    array = msgspec.defstruct("Array", fields, array_like=True, forbid_unknown_fields=True)
    return msgspec.json.Decoder(array)


def _split(raw: bytes, max_items: int) -> Generator[None, None, Sequence[bytes | msgspec.Raw]]:
    """Return the array's raw items, also where one cannot be read and its brackets tell its end."""
    try:
        return _PARTS.decode(raw)
    except msgspec.DecodeError as error:
        why = str(error)
        yield
        if (parts := (yield from _split_by_shape(raw, max_items))) is not None:
            return parts
        raise BadRequestError(f"body is not JSON: {why}") from None
    except RecursionError:
        if (parts := salvage.split_array(raw)) is not None:
            return parts
        raise BadRequestError(TOO_DEEP) from None


def _split_by_shape(
    raw: bytes, max_items: int
) -> Generator[None, None, Sequence[bytes | msgspec.Raw] | None]:
    if raw.count(b'"') > salvage.MAX_QUOTES:
        return None
    shaped = salvage.shape(raw)
    yield
    _check_count(shaped, max_items)
    parts: list[msgspec.Raw] | None
    try:
        parts = _PARTS.decode(shaped)
    except (msgspec.DecodeError, RecursionError):
        parts = None
    yield
    if parts is None:
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
