"""Rows of the table of routes by which operators ask: who may, the request's class itself says."""

from typing import Any

from hub.admin.requests import AdminRequest
from hub.transports.http.parameters import Parameter
from hub.transports.http.routes import Access, Handler, Route, access_of
from hub.transports.http.schemas import Json, content, ok, ref

_MAX_BODY_BYTES = 4096

Asks = type[AdminRequest[Any]] | None
"""What a row brings to a node; None where it asks this one alone, for operators."""


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
    """A row whose handler brings a request of this class; of a body at most 4 KiB is taken."""
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
    """A row that asks and changes nothing."""
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
    """A row that begins something and does not wait for its end."""
    begun = {"202": content("Begun.", ref(schema))}
    return route(asks, method, path, handler, summary, begun, *parameters)
