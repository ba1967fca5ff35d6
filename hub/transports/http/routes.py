"""The table of routes: a row has path, method, access, body, parameters and handler of an endpoint.

Routing, authorization, the body's limit, the reading of the query and the OpenAPI document are made
from the row. A row cannot be made without its `Access`, so no endpoint can forget to check it.
"""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import lru_cache
from typing import Any
from urllib.parse import unquote_to_bytes

from hub.admin.requests import AdminRequest, Rights
from hub.errors import BadRequestError, HubError, SettingsError
from hub.transports.http.answer import Answer
from hub.transports.http.parameters import Parameter
from hub.transports.http.schemas import Json, content, ok, ref
from hub.transports.request import Request
from hub.wire.parameter_names import ParameterNames

Handler = Callable[[Request], Answer | Coroutine[Any, Any, Answer]]
OnAnswer = Callable[[bytes | HubError], None]
PreparedNow = Callable[[bytes, str | None, str], bytes]
PreparedLater = Callable[[bytes, str | None, str, OnAnswer], None]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A handler for requests that share one head, which has passed.

    Both forms take the body, the idempotency key and the address that the request came from, and
    answer with JSON and status 200, or with a `HubError`.
    """

    now: PreparedNow | None = None
    """Returns the answer; None where the answer has to be waited for."""
    later: PreparedLater | None = None
    """Calls back once with the answer, after it has returned; or raises, and does not call back."""


Admits = Callable[[Request], Coroutine[Any, Any, object] | None]


class Access(Enum):
    """The callers that a route takes; `hub.transports.http.dispatch` asks the policy
    accordingly."""

    ANYBODY = auto()
    """Peers without credentials, and pages of every origin: nothing there acts or is secret."""
    READER = auto()
    """Every identity that may subscribe; the handler checks the channels by its grants."""
    PUBLISHER = auto()
    OPERATOR = auto()
    SESSION = auto()
    """The secret of a session's welcome; the row's `admits` checks it."""
    STREAM = auto()
    """`hub.transports.opening` judges, because a stream has refusals of its own kind."""


_ACCESS = {Rights.OPERATOR: Access.OPERATOR, Rights.SESSION: Access.SESSION}


def access_of(asked: type[AdminRequest[Any]]) -> Access:
    """Return the callers that may bring a request of this class: the same on all its routes."""
    return _ACCESS[asked.rights]


class StreamKind(Enum):
    """The kind of stream that takes a connection over."""

    WEBSOCKET = auto()
    SSE = auto()


# Longer than any broker's time-outs, and than a command may take at another node.
ANSWER_SECONDS = 60.0
_NO_ANSWERS: Json = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One method of one path."""

    method: str
    path: str
    """Below the base path. `{name}` stands for one segment, `{name:path}` for all the rest."""
    access: Access
    handler: Handler
    """Answers at once where nothing waits, else by a coroutine."""
    summary: str
    answers: Json = field(default_factory=dict)
    """OpenAPI responses by status. Errors are added to all."""
    parameters: tuple[Parameter, ...] = ()
    """Parameters of query and header. Those of the query are read into `Request.given`."""
    body: Json | None = None
    """The schema of a body; None where the route takes none."""
    body_limit: int = 0
    """Bytes of the body, also after inflating."""
    admits: Admits | None = None
    """Checks that the access alone does not make, before a body is read; raises `HubError`."""
    prepare: Callable[[Request], Prepared | None] | None = None
    """Makes a handler for requests with the head of one that has passed; None where each of them
    needs `handler`."""
    at_once: bool = False
    """The handler's coroutine may begin without a task where the broker answers at once."""
    answer_seconds: float = ANSWER_SECONDS
    """After this time the hub answers 503 in the handler's place."""
    ends_with_its_peer: bool = False
    """The work is for the peer alone: it is cancelled when the connection goes."""
    stream: StreamKind | None = None
    query: tuple[Parameter, ...] = field(init=False)
    """The parameters that are read before the handler is called."""
    names: ParameterNames = field(init=False)
    """The names of all parameters of the query."""

    def __post_init__(self) -> None:
        read = tuple(each for each in self.parameters if each.read is not None)
        object.__setattr__(self, "query", read)
        names = ParameterNames(each.name for each in self.parameters if each.where == "query")
        object.__setattr__(self, "names", names)


# -- kinds of rows ---------------------------------------------------------------------------------

# Bytes of the body of an operator's request.
_MAX_BODY_BYTES = 4096

Asks = type[AdminRequest[Any]] | None
"""The class of request that a row brings to a node; None where operators ask this node alone."""


def public(path: str, handler: Handler, summary: str, answers: Json = _NO_ANSWERS) -> Route:
    """Return a row that every peer and every page may GET."""
    return Route(
        method="GET",
        path=path,
        access=Access.ANYBODY,
        handler=handler,
        summary=summary,
        answers=answers,
    )


def route(
    asks: Asks,
    method: str,
    path: str,
    handler: Handler,
    summary: str,
    answers: Json,
    *parameters: Parameter,
    body: Json | None = None,
) -> Route:
    """Return a row whose handler brings a request of class `asks`; its body has at most 4 KiB."""
    return Route(
        method=method,
        path=path,
        access=Access.OPERATOR if asks is None else access_of(asks),
        handler=handler,
        summary=summary,
        parameters=parameters,
        answers=answers,
        body=body,
        body_limit=0 if body is None else _MAX_BODY_BYTES,
    )


def read(
    asks: Asks, path: str, handler: Handler, summary: str, schema: str, *parameters: Parameter
) -> Route:
    """Return a row that asks and changes nothing."""
    found = ok("Found.", ref(schema))
    return route(asks, "GET", path, handler, summary, found, *parameters)


def act(
    asks: Asks,
    method: str,
    path: str,
    handler: Handler,
    summary: str,
    schema: str,
    *parameters: Parameter,
) -> Route:
    """Return a row that begins something and does not wait for its end."""
    begun = {"202": content("Begun.", ref(schema))}
    return route(asks, method, path, handler, summary, begun, *parameters)


# -- finding them ----------------------------------------------------------------------------------


class PathItem:
    """All routes of one path, by method."""

    __slots__ = ("allow", "public", "routes")

    def __init__(self, routes: Sequence[Route]) -> None:
        self.routes = {route.method: route for route in routes}
        if "GET" in self.routes:
            self.routes["HEAD"] = self.routes["GET"]
        self.allow = ", ".join([*self.routes, "OPTIONS"])
        self.public = all(route.access is Access.ANYBODY for route in routes)


@dataclass(slots=True)
class _Segment:
    """A level of the tree of paths."""

    place: PathItem | None = None
    below: "dict[str, _Segment]" = field(default_factory=dict)
    """Levels below, by the segment's text."""
    parameter: "tuple[str, _Segment] | None" = None
    """Any other segment, under that name."""
    rest: tuple[str, PathItem] | None = None
    """All segments from here on, under that name."""


# Paths that are looked up again and again, such as a publisher's channels.
_CACHED_PATHS = 1024
_CACHED_PATH_BYTES = 256
_NO_PARAMS: Mapping[str, str] = {}


class RouteTable:
    """Finds the routes of a path.

    Args:
        routes: in any order.
        base_path: goes before every path: empty, or such as `/hub`.

    Raises:
        SettingsError: two routes have one method and path, or one has no `Access`.
    """

    def __init__(self, routes: Sequence[Route], *, base_path: str = "") -> None:
        self.routes = tuple(routes)
        self.base_path = base_path
        by_path: dict[str, list[Route]] = {}
        for route in routes:
            if not isinstance(route.access, Access):
                raise SettingsError(f"{route.method} {route.path} has no access")
            others = by_path.setdefault(route.path, [])
            if any(other.method == route.method for other in others):
                raise SettingsError(f"{route.method} {route.path} has two routes")
            others.append(route)
        self._root = _Segment()
        for path, found in by_path.items():
            self._add(base_path + path, PathItem(found))
        self._cached = lru_cache(_CACHED_PATHS)(self._find)

    def find(self, path: bytes) -> tuple[PathItem, Mapping[str, str]] | None:
        """Return the routes of `path`, still encoded, and its parameters; None for no route.

        Raises `BadRequestError` for a path that is not UTF-8.
        """
        return self._cached(path) if len(path) <= _CACHED_PATH_BYTES else self._find(path)

    def _add(self, path: str, place: PathItem) -> None:
        at = self._root
        for part in path.split("/")[1:]:
            name = part[1:-1]
            if part.startswith("{") and name.endswith(":path"):
                at.rest = (name.removesuffix(":path"), place)
                return
            if part.startswith("{"):
                if at.parameter is None:
                    at.parameter = (name, _Segment())
                at = at.parameter[1]
            else:
                at = at.below.setdefault(part, _Segment())
        at.place = place

    def _find(self, path: bytes) -> tuple[PathItem, Mapping[str, str]] | None:
        at, params = self._root, dict(_NO_PARAMS)
        parts = path.split(b"/")[1:]
        for index, raw in enumerate(parts):
            part = decode(raw)
            if (below := at.below.get(part)) is not None:
                at = below
            elif at.parameter is not None and part:
                params[at.parameter[0]] = part
                at = at.parameter[1]
            elif at.rest is not None:
                name, place = at.rest
                params[name] = "/".join(decode(raw) for raw in parts[index:])
                return place, params
            else:
                return None
        return None if at.place is None else (at.place, params)


def decode(raw: bytes) -> str:
    """Decode a segment of a path; raise `BadRequestError` where it is not UTF-8."""
    try:
        return (unquote_to_bytes(raw) if b"%" in raw else raw).decode()
    except UnicodeDecodeError:
        raise BadRequestError("the path is not UTF-8") from None
