"""Patterns of channel names, and a tree that finds those which match a name.

`:` and `.` divide a name into segments. In a pattern `*` stands for one segment, and `**` at the
end for all the rest; neither stands for nothing. So `prices:*` matches `prices:eur`, but not
`prices:`, `prices.eur` or `prices:eur:spot`. `prices:**` matches the last one too.

The cost of a look-up grows with the segments of the name, not with the number of patterns.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

from hub.core.options import HUB_NAMESPACE
from hub.core.publication import MAX_CHANNEL_LENGTH, check_channel
from hub.errors import BadRequestError

ONE, REST = "*", "**"
_SEPARATOR = re.compile(r"([:.])")
_SHOWN = 60

T = TypeVar("T")


def check_pattern(pattern: object) -> str:
    """Return `pattern`; raise `BadRequestError` where it is malformed."""
    if not isinstance(pattern, str):
        check_channel(pattern)
    text = str(pattern)
    try:
        # It must be a channel's name once other characters stand for the stars.
        check_channel(text.replace("*", "_"))
    except BadRequestError:
        shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"
        raise BadRequestError(
            f"pattern {shown!r} is not allowed: 1 to {MAX_CHANNEL_LENGTH} characters of a channel"
            " and *"
        ) from None
    parts = segments(text)
    for place, part in enumerate(parts):
        segment = part.lstrip(":.") if place else part
        if "*" in segment and segment != ONE and (segment != REST or place != len(parts) - 1):
            raise BadRequestError(
                f"pattern {text!r} is not allowed: * is a whole segment between : or . and ** "
                "the last one"
            )
    return text


def matches(pattern: str, channel: str) -> bool:
    """Return whether a checked pattern matches this name.

    The pattern is not compiled first, because peers send hundreds of patterns only once.
    """
    start, star, _ = pattern.partition("*")
    if not star or not channel.startswith(start):
        return pattern == channel
    *before, last = segments(pattern)
    parts = segments(channel)
    if not last.endswith(REST):
        wanted = [*before, last]
        return len(parts) == len(wanted) and all(map(_fits, wanted, parts))
    rest, separator = "".join(parts[len(before) :]), last.removesuffix(REST)
    return (
        len(rest) > len(separator) and rest.startswith(separator) and all(map(_fits, before, parts))
    )


def _fits(wanted: str, part: str) -> bool:
    """Return whether a pattern's segment, with its separator, matches one of a name."""
    if not wanted.endswith(ONE):
        return wanted == part
    return len(part) >= len(wanted) and part.startswith(wanted[:-1])


def literal_prefix(pattern: str) -> str:
    """Return the prefix of all names that the pattern matches."""
    return pattern.partition("*")[0]


def names_reserved(pattern: str) -> bool:
    """Return whether the pattern names the hub's own channels. No other pattern matches them."""
    return literal_prefix(pattern).startswith(f"{HUB_NAMESPACE}:")


def segments(text: str) -> Sequence[str]:
    """Return the first segment, and each other one with its separator: `a`, `:b`, `.c`."""
    first, *others = _SEPARATOR.split(text)
    return [first, *map("".join, zip(others[::2], others[1::2], strict=True))]


class _Branch(Generic[T]):
    __slots__ = ("branches", "here", "rest")

    def __init__(self) -> None:
        self.branches: dict[str, _Branch[T]] = {}
        """Branches by the next segment, which may be `*`."""
        self.here: dict[T, None] = {}
        """Items of the pattern that ends here."""
        self.rest: dict[str, dict[T, None]] = {}
        """Items of patterns that end with `**` here, by the separator before it."""

    def __bool__(self) -> bool:
        return bool(self.branches or self.here or self.rest)


class PatternTree(Generic[T]):
    """Items by pattern; finds those whose patterns match a name."""

    def __init__(self) -> None:
        self._root: _Branch[T] = _Branch()

    def __bool__(self) -> bool:
        return bool(self._root)

    def add(self, pattern: str, item: T) -> None:
        """Add an item to a checked pattern."""
        *before, last = segments(pattern)
        branch = self._root
        for part in before:
            branch = branch.branches.setdefault(part, _Branch())
        if last.endswith(REST):
            branch.rest.setdefault(last.removesuffix(REST), {})[item] = None
        else:
            branch.branches.setdefault(last, _Branch()).here[item] = None

    def remove(self, pattern: str, item: T) -> None:
        """Remove an item from a pattern."""
        *before, last = segments(pattern)
        way = [self._root]
        for part in before:
            way.append(way[-1].branches[part])
        if last.endswith(REST):
            separator = last.removesuffix(REST)
            found = way[-1].rest[separator]
            del found[item]
            if not found:
                del way[-1].rest[separator]
        else:
            before.append(last)
            way.append(way[-1].branches[last])
            del way[-1].here[item]
        for part, branch in zip(reversed(before), reversed(way[:-1]), strict=False):
            if branch.branches[part]:
                return
            del branch.branches[part]

    def patterns(self) -> Sequence[str]:
        """Return the patterns that have items."""
        return [text for text, _ in _texts(self._root, "")]

    def counts(self) -> Sequence[tuple[str, int]]:
        """Return the patterns that have items, each with their number."""
        return list(_texts(self._root, ""))

    def matching(self, channel: str) -> Sequence[T]:
        """Return the items whose patterns match this name."""
        parts = segments(channel)
        return list(_found(self._root, parts, 0)) if self._root else ()


def _texts(branch: _Branch[T], text: str) -> Iterator[tuple[str, int]]:
    if branch.here:
        yield text, len(branch.here)
    for separator, items in branch.rest.items():
        yield f"{text}{separator}{REST}", len(items)
    for part, following in branch.branches.items():
        yield from _texts(following, text + part)


def _found(branch: _Branch[T], parts: Sequence[str], place: int) -> Iterator[T]:
    if place == len(parts):
        yield from branch.here
        return
    part = parts[place]
    separator = part[:1] if place else ""
    is_empty = part == separator
    if (literal := branch.branches.get(part)) is not None:
        yield from _found(literal, parts, place + 1)
    if not is_empty and (one := branch.branches.get(separator + ONE)) is not None:
        yield from _found(one, parts, place + 1)
    if not is_empty or place < len(parts) - 1:
        yield from branch.rest.get(separator, ())
