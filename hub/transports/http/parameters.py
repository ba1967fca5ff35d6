"""Parameters of a route: the reading of each, and its description in the OpenAPI document."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hub.core import decimals
from hub.core.fanout.presence import MAX_MEMBER_LENGTH, check_member
from hub.core.publication import Position, check_channel
from hub.errors import BadRequestError
from hub.transports.http.schemas import CHANNEL, KEY, MOMENT, POSITION, STRING, Json
from hub.wire.parameter_names import ParameterNames
from hub.wire.payload import check_key
from hub.wire.query import read_moment, single, split_form, whole_number

Read = Callable[[str, str], object]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a query or a header."""

    name: str
    schema: Json
    where: str = "query"
    about: str = ""
    read: Read | None = None
    """Name and text to value; raises `BadRequestError`. None where the handler reads it."""
    must: bool = False
    default: object = None

    def openapi(self) -> Json:
        required = {"required": True} if self.must else {}
        described = {"description": self.about} if self.about else {}
        about = {"name": self.name, "in": self.where, "schema": self.schema}
        return {**about, **required, **described}


def read_query(
    parameters: Sequence[Parameter], raw_query: bytes, names: ParameterNames
) -> Mapping[str, Any]:
    """Return the values of a route's query parameters by name; `names` are all that it has.

    Unknown ones are ignored: proxies and caches add some.

    Raises:
        BadRequestError: one is malformed, misspelt, missing, or given twice.
    """
    query = split_form(raw_query) if raw_query else {}
    names.refuse_misspelt(query)
    given = {}
    for parameter in parameters:
        text = single(query, parameter.name)
        if text is None:
            if parameter.must:
                raise BadRequestError(f"{parameter.name} is missing")
            given[parameter.name] = parameter.default
        elif parameter.read is not None:
            given[parameter.name] = parameter.read(parameter.name, text)
    return given


# -- kinds of parameters -----------------------------------------------------------------------


def text(name: str, about: str = "", *, must: bool = False) -> Parameter:
    # An empty value counts as left out.
    schema = {**STRING, "minLength": 1} if must else STRING
    return Parameter(name, schema, about=about, read=lambda _name, value: value, must=must)


def member(name: str, about: str = "") -> Parameter:
    """Return a parameter that is the id of a member of a channel."""
    schema: Json = {**STRING, "maxLength": MAX_MEMBER_LENGTH}
    return Parameter(
        name, schema, about=about, read=lambda named, value: check_member(value, named)
    )


def channel(name: str, about: str = "", *, must: bool = False) -> Parameter:
    return Parameter(
        name, CHANNEL, about=about, read=lambda _name, value: check_channel(value), must=must
    )


def position(name: str, about: str = "") -> Parameter:
    return Parameter(name, POSITION, about=about, read=lambda _name, value: Position.parse(value))


def whole(
    name: str,
    about: str = "",
    *,
    lowest: int = 0,
    highest: int,
    default: int | None = None,
    must: bool = False,
) -> Parameter:
    """Return a parameter that is a whole number from `lowest` to `highest`."""

    def read(named: str, value: str) -> int:
        return whole_number(named, value, lowest=lowest, highest=highest)

    schema: dict[str, object] = {"type": "integer", "minimum": lowest, "maximum": highest}
    if default is not None:
        schema["default"] = default
    return Parameter(name, schema, about=about, read=read, must=must, default=default)


def number(name: str, about: str = "", *, highest: float, above_zero: bool = False) -> Parameter:
    """Return a parameter that is a finite number from 0 to `highest`, where asked above 0."""

    def read(named: str, value: str) -> float:
        found = decimals.number(value)
        if found is None or found > highest or (above_zero and found == 0):
            least = "more than 0" if above_zero else "0"
            raise BadRequestError(f"{named} is {value[:40]!r}, allowed is {least} to {highest:g}")
        return found

    least = {"exclusiveMinimum": 0} if above_zero else {"minimum": 0}
    schema: Json = {"type": "number", "maximum": highest, **least}
    return Parameter(name, schema, about=about, read=read)


def moment(name: str, about: str = "") -> Parameter:
    """Return a parameter in milliseconds since 1970 UTC, or in ISO 8601, UTC without an offset."""

    def read(named: str, value: str) -> int:
        # A `+` in a query is a space.
        plain = re.sub(r" (\d\d:?\d\d)$", r"+\1", value) if value.count(":") > 1 else value
        return read_moment(named, plain)

    return Parameter(name, MOMENT, about=about, read=read)


def choice(name: str, values: Sequence[str], about: str = "", *, default: str | None) -> Parameter:
    """Return a parameter that is one of `values`."""

    def read(named: str, value: str) -> str:
        if value not in values:
            raise BadRequestError(f"{named} is {value[:40]!r}, allowed are {', '.join(values)}")
        return value

    schema: dict[str, object] = {"type": "string", "enum": list(values)}
    if default is not None:
        schema["default"] = default
    return Parameter(name, schema, about=about, read=read, default=default)


def header(name: str, schema: Json, about: str) -> Parameter:
    """Return a header field, which the handler reads."""
    return Parameter(name, schema, where="header", about=about)


def documented(name: str, schema: Json, about: str = "", *, must: bool = False) -> Parameter:
    """Return a parameter of the query that the handler reads by rules of its own."""
    return Parameter(name, schema, about=about, must=must)


MAX_PAGE = 1000
"""Guess, not measured: 1,000 records are some 300 KB of JSON and a few milliseconds."""
LIMIT = whole("limit", "Rows of a page.", lowest=1, highest=MAX_PAGE, default=100)
_NEXT = "`next` of the page before."
AFTER = text("after", _NEXT)
STATE_LIMIT = whole("limit", "Rows of a page.", lowest=1, highest=MAX_PAGE, default=MAX_PAGE)
AFTER_KEY = Parameter("after", KEY, about=_NEXT, read=lambda name, value: check_key(value, name))
AFTER_MEMBER = member("after", _NEXT)
