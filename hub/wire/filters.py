"""Tags of publications, and filters by them.

Tags are a few scalars by name:

    {"league":"nba","home":true,"round":3}            in JSON
    league=nba, home=true                             in a header, where all values are texts

They are kept as a JSON object on one line with its names in order, so that equal tags are equal
bytes. A filter has a condition for each of some tags, and all conditions have to hold:

    {"league":"nba"}                                  the tag is there and has this value
    {"league":["nba","wnba"]}                         ... or one of these
    {"price":{"gte":10,"lt":20},"sold":{"ne":true}}   ... or compares so

A comparison of a number with a text does not hold. A condition on an absent tag does not hold
either, but for `ne`, which does, and `exists`, which tests that.
"""

import operator
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import msgspec
import orjson
from msgspec import Struct

from hub.errors import BadRequestError
from hub.wire.payload import check_key, exact

MAX_TAGS = 16
MAX_NAME_LENGTH = 64
MAX_VALUE_LENGTH = 200

Tag = str | bool | int | float
Tags = dict[str, Tag]
_TAGS = msgspec.json.Decoder(Tags)
MAX_VALUES = 100
"""In a list of values."""
MAX_FILTER_BYTES = 4096
MEMO_BYTES = 8 * 1024 * 1024
"""Of each of the three memos."""
# Two tuples, two headers of bytes and an entry. Measured: a list of texts of two characters takes
# twelve times its JSON, with the JSON itself.
_ENTRY_BYTES = 300
_TIMES_TEXT = 13

_ORDER: Mapping[str, Callable[[Any, Any], bool]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
OPERATORS = ("eq", "ne", "in", "exists", *_ORDER)

_Key = TypeVar("_Key")
_Read = TypeVar("_Read")
_Condition = Tag | list[Tag] | dict[str, Tag | list[Tag]]
_FILTER = msgspec.json.Decoder(dict[str, _Condition])


def check_tags(raw: bytes) -> bytes:
    """Return tags in their canonical form; raise `BadRequestError` where they are malformed."""
    try:
        tags = _TAGS.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadRequestError("tags are no JSON object of texts, numbers, true and false") from None
    return encode_tags(tags)


def encode_tags(tags: Tags) -> bytes:
    """Encode tags in their canonical form; raise `BadRequestError` above the limits."""
    if len(tags) > MAX_TAGS:
        raise BadRequestError(f"{len(tags):,} tags, limit is {MAX_TAGS}")
    for name, tag in tags.items():
        if not 1 <= len(name) <= MAX_NAME_LENGTH:
            raise BadRequestError(
                f"a tag's name is {len(name):,} characters, allowed are 1 to {MAX_NAME_LENGTH}"
            )
        check_key(name, "a tag's name")
        if isinstance(tag, str) and len(tag) > MAX_VALUE_LENGTH:
            raise BadRequestError(
                f"the tag {name!r} is {len(tag):,} characters, limit is {MAX_VALUE_LENGTH}"
            )
    try:
        return exact(orjson.dumps(tags, option=orjson.OPT_SORT_KEYS))
    except orjson.JSONEncodeError:
        raise BadRequestError("tags hold a number or a text that JSON cannot") from None


def read_tags(header: str) -> bytes:
    """Read the tags of a header field, in either form."""
    if header.lstrip().startswith("{"):
        return check_tags(header.encode())
    tags: Tags = {}
    for pair in header.split(","):
        name, equals, value = pair.partition("=")
        if not equals:
            raise BadRequestError(
                f"X-Message-Tags: {pair.strip()[:60]!r} is not of the form name=value"
            )
        if (plain := name.strip()) in tags:
            raise BadRequestError(f"X-Message-Tags names {plain[:60]!r} twice")
        tags[plain] = value.strip()
    return encode_tags(tags)


class TagFilter(Struct, frozen=True):
    """A filter from `read_filter`, compared and hashed by its canonical text."""

    text: bytes
    """JSON with its names in order."""
    of_rows: bool = False
    """As in `hub.core.publication.Filter`."""

    def for_rows(self) -> "TagFilter":
        return TagFilter(self.text, of_rows=True)

    def matches(self, tags: bytes | None) -> bool:
        """Return whether publications with these tags match."""
        return _matches((self.text, tags))


def read_filter(raw: bytes) -> TagFilter:
    """Read a filter; raise `BadRequestError` where it is malformed."""
    if len(raw) > MAX_FILTER_BYTES:
        raise BadRequestError(f"filter is {len(raw):,} bytes, limit is {MAX_FILTER_BYTES:,}")
    try:
        conditions = _FILTER.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadRequestError(
            'filter is no JSON object of conditions, such as {"league":"nba"},'
            ' {"league":["nba","wnba"]} or {"price":{"gte":10}}'
        ) from None
    if not 1 <= len(conditions) <= MAX_TAGS:
        raise BadRequestError(f"filter has {len(conditions):,} tags, allowed are 1 to {MAX_TAGS}")
    for name, condition in conditions.items():
        if not 1 <= len(name) <= MAX_NAME_LENGTH:
            raise BadRequestError(
                f"filter names a tag of {len(name):,} characters, allowed are 1 to"
                f" {MAX_NAME_LENGTH}"
            )
        _check(name, condition)
    try:
        return TagFilter(exact(orjson.dumps(conditions, option=orjson.OPT_SORT_KEYS)))
    except orjson.JSONEncodeError:
        raise BadRequestError("filter holds a number or a text that JSON cannot") from None


def _check(name: str, condition: _Condition) -> None:
    if isinstance(condition, dict):
        if not condition:
            raise BadRequestError(f"filter asks nothing of {name!r}")
        for word, asked in condition.items():
            if word not in OPERATORS:
                raise BadRequestError(
                    f"filter compares {name!r} by {word[:40]!r}, known are {', '.join(OPERATORS)}"
                )
            if (word == "in") is not isinstance(asked, list):
                raise BadRequestError(f"filter compares {name!r} by {word} with a wrong value")
            if word == "exists" and not isinstance(asked, bool):
                raise BadRequestError(f"filter asks whether {name!r} exists by true or false")
            _check_values(name, asked if isinstance(asked, list) else [asked])
    else:
        _check_values(name, condition if isinstance(condition, list) else [condition])


def _check_values(name: str, values: list[Tag]) -> None:
    if not 1 <= len(values) <= MAX_VALUES:
        raise BadRequestError(
            f"filter lists {len(values):,} values of {name!r}, allowed are 1 to {MAX_VALUES}"
        )
    if any(isinstance(each, str) and len(each) > MAX_VALUE_LENGTH for each in values):
        raise BadRequestError(f"filter has a value of {name!r} over {MAX_VALUE_LENGTH} characters")


class _Memo(Generic[_Key, _Read]):
    """Results for texts that peers send, bounded in bytes; above the bound all of them go."""

    __slots__ = ("_bytes", "_find_out", "_known", "_weight")

    def __init__(self, find_out: Callable[[_Key], _Read], weight: Callable[[_Key], int]) -> None:
        self._find_out = find_out
        self._weight = weight
        self._known: dict[_Key, _Read] = {}
        self._bytes = 0

    def __call__(self, key: _Key) -> _Read:
        try:
            return self._known[key]
        except KeyError:
            found = self._find_out(key)
        self._bytes += self._weight(key)
        if self._bytes > MEMO_BYTES:
            self._known.clear()
            self._bytes = self._weight(key)
        self._known[key] = found
        return found


_Asked = tuple[bytes, bytes | None]
"""A filter's text, and tags."""


def _find_match(asked: _Asked) -> bool:
    text, tags = asked
    found = {} if tags is None else _read_tags(tags)
    return all(_holds(condition, found.get(name)) for name, condition in _conditions(text).items())


def _asked_bytes(asked: _Asked) -> int:
    text, tags = asked
    return _ENTRY_BYTES + len(text) + len(tags or b"")


def _read_bytes(text: bytes) -> int:
    return _ENTRY_BYTES + len(text) * _TIMES_TEXT


# Publications of one channel have the same few tags, and its subscriptions the same few filters.
_matches: _Memo[_Asked, bool] = _Memo(_find_match, _asked_bytes)
_read_tags: _Memo[bytes, Tags] = _Memo(orjson.loads, _read_bytes)
_conditions: _Memo[bytes, Mapping[str, _Condition]] = _Memo(orjson.loads, _read_bytes)


def _holds(condition: _Condition, tag: Tag | None) -> bool:
    if isinstance(condition, dict):
        return all(_compares(word, asked, tag) for word, asked in condition.items())
    if isinstance(condition, list):
        return _is_one_of(tag, condition)
    return _same(tag, condition)


def _compares(word: str, asked: Tag | list[Tag], tag: Tag | None) -> bool:
    if word == "exists":
        return (tag is not None) is asked
    if isinstance(asked, list):
        return _is_one_of(tag, asked)
    if word == "eq":
        return _same(tag, asked)
    if word == "ne":
        return not _same(tag, asked)
    return tag is not None and _comparable(tag, asked) and _ORDER[word](tag, asked)


def _is_one_of(tag: Tag | None, values: list[Tag]) -> bool:
    # A list has up to 100 values, and a filter 16 lists. The first value that Python finds equal is
    # nearly always the same one.
    if tag is None or tag not in values:
        return False
    found = values[values.index(tag)]
    return _same(tag, found) or any(_same(tag, each) for each in values)


def _same(tag: Tag | None, asked: Tag) -> bool:
    # To Python `True` is 1.
    return isinstance(tag, bool) is isinstance(asked, bool) and tag == asked


def _comparable(tag: Tag, asked: Tag) -> bool:
    kinds = {_kind(tag), _kind(asked)}
    return len(kinds) == 1 and bool not in kinds


def _kind(of: Tag) -> type:
    if isinstance(of, bool):
        return bool
    return str if isinstance(of, str) else float
