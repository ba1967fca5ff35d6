"""Lists in pages: `limit` at a time, going on after the last name of the page before."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from starlette.requests import Request

from hub.errors import BadRequestError
from hub.wire.query import single, split_form, whole_number

_DEFAULT_LIMIT = 100
# Guess, not measured: 1,000 records are some 300 KB of JSON and a few milliseconds.
_MAX_LIMIT = 1000

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A stretch of a sorted list."""

    items: tuple[T, ...]
    total: int
    """How many match, on all pages."""
    next: str | None
    """The `after` of the page that follows; None on the last."""


def query_of(request: Request) -> dict[str, list[str]]:
    """The query's parameters, decoded strictly; raise `BadRequestError` where malformed."""
    return split_form(request.scope["query_string"])


def limit_of(query: Mapping[str, list[str]]) -> int:
    """`limit`, 1 to 1,000, by default 100; raise `BadRequestError` otherwise."""
    text = single(query, "limit")
    if text is None:
        return _DEFAULT_LIMIT
    limit = whole_number("limit", text, highest=_MAX_LIMIT)
    if limit == 0:
        raise BadRequestError(f"limit is 0, allowed is 1 to {_MAX_LIMIT:,}")
    return limit


def paged(
    matching: Iterable[T], name: Callable[[T], str], query: Mapping[str, list[str]]
) -> Page[T]:
    """The page of `matching`, sorted by `name`, that `limit` and `after` ask for.

    Raises:
        BadRequestError: `limit` is not allowed.
    """
    limit, after = limit_of(query), single(query, "after") or ""
    rows = sorted(matching, key=name)
    rest = [row for row in rows if name(row) > after]
    items = tuple(rest[:limit])
    more = len(rest) > limit
    return Page(items=items, total=len(rows), next=name(items[-1]) if more else None)
