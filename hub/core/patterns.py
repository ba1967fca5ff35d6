"""Patterns of channel names, and which of many match a name.

A name is segments between `:` or `.`, which a pattern repeats. `*` stands for one segment, `**` at
the end for all the rest, and neither for nothing: `prices:*` matches `prices:eur`, not `prices:`,
not `prices.eur` and not `prices:eur:spot`, which `prices:**` matches too.

Whatever is looked up costs by the segments of the name, not by how many patterns there are.
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
    """Return `pattern`; raise `BadRequestError` where it is none."""
    if not isinstance(pattern, str):
        check_channel(pattern)
    text = str(pattern)
    try:
        # What a channel may be with anything in the places of the stars.
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
    """Whether a checked pattern matches this name.

    Nothing is made of it first: strangers send patterns that nobody sent before, by the hundred.
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
    """Whether a segment of a pattern, behind its separator, fits one of a name."""
    if not wanted.endswith(ONE):
        return wanted == part
    return len(part) >= len(wanted) and part.startswith(wanted[:-1])


def literal_prefix(pattern: str) -> str:
    """What all that it matches begins with."""
    return pattern.partition("*")[0]


def names_reserved(pattern: str) -> bool:
    """Whether it is about channels of the hub itself; no other pattern matches any of them."""
    return literal_prefix(pattern).startswith(f"{HUB_NAMESPACE}:")


def segments(text: str) -> Sequence[str]:
    """The first segment, and each other one behind its separator: `a`, `:b`, `.c`."""
    first, *others = _SEPARATOR.split(text)
    return [first, *map("".join, zip(others[::2], others[1::2], strict=True))]


class _Branch(Generic[T]):
    __slots__ = ("branches", "here", "rest")

    def __init__(self) -> None:
        self.branches: dict[str, _Branch[T]] = {}
        """By what comes next; `*` stands for itself."""
        self.here: dict[T, None] = {}
        """Of patterns that end here."""
        self.rest: dict[str, dict[T, None]] = {}
        """Of patterns that end with `**`, by the separator before it."""

    def __bool__(self) -> bool:
        return bool(self.branches or self.here or self.rest)


class PatternTree(Generic[T]):
    """What belongs to patterns, found by a name."""

    def __init__(self) -> None:
        self._root: _Branch[T] = _Branch()

    def __bool__(self) -> bool:
        return bool(self._root)

    def add(self, pattern: str, item: T) -> None:
        """`item` belongs to a checked pattern."""
        *before, last = segments(pattern)
        branch = self._root
        for part in before:
            branch = branch.branches.setdefault(part, _Branch())
        if last.endswith(REST):
            branch.rest.setdefault(last.removesuffix(REST), {})[item] = None
        else:
            branch.branches.setdefault(last, _Branch()).here[item] = None

    def remove(self, pattern: str, item: T) -> None:
        """It belongs there no more."""
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
        """Those that something belongs to, each once."""
        return [text for text, _ in _texts(self._root, "")]

    def counts(self) -> Sequence[tuple[str, int]]:
        """The same, and how much belongs to each."""
        return list(_texts(self._root, ""))

    def matching(self, channel: str) -> Sequence[T]:
        """What belongs to patterns that match this name."""
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
