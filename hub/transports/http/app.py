"""The table of all routes of a node, and the OpenAPI 3.1 document that is made from it."""

import re
from collections.abc import Iterable

import orjson

from hub.transports.http.answer import PROBLEM_JSON, Answer
from hub.transports.http.batches import BatchRoutes
from hub.transports.http.health import HealthRoutes
from hub.transports.http.operator_schemas import OPERATOR_SCHEMAS
from hub.transports.http.operators import DebuggingRoutes, OperatorRoutes
from hub.transports.http.pages import DocumentRoutes, PageRoutes
from hub.transports.http.ports import HttpDeps
from hub.transports.http.publishing import PublishRoutes
from hub.transports.http.reading import ReadingRoutes
from hub.transports.http.routes import Access, Route, RouteTable, public
from hub.transports.http.schemas import (
    CHANNEL,
    SCHEMAS,
    SECURITY_SCHEMES,
    STRING,
    Json,
    content,
    media,
    ok,
    ref,
)
from hub.transports.http.sessions import SessionRoutes
from hub.transports.http.subjects import SubjectRoutes

_SECURITY: dict[Access, list[Json]] = {
    Access.ANYBODY: [{}],
    Access.READER: [{"bearer": []}, {"key": []}, {}],
    Access.PUBLISHER: [{"bearer": []}, {"key": []}, {}],
    Access.OPERATOR: [{"bearer": []}, {"key": []}, {"basic": []}],
    Access.SESSION: [{"secret": []}],
    Access.STREAM: [{"bearer": []}, {}],
}
# A poll begins with a reader's credentials and goes on with its session's secret.
_POLL = [*_SECURITY[Access.READER], *_SECURITY[Access.SESSION]]
_IN_PATH = re.compile(r"{(\w+)}")


def make_routes(deps: HttpDeps) -> RouteTable:
    """Return the table of a node. The files of the pages are read now."""
    publishing = PublishRoutes(deps)
    described = [
        *publishing.routes(),
        *BatchRoutes(deps, publishing).routes(),
        *SessionRoutes(deps).routes(),
        *ReadingRoutes(deps).routes(),
        *OperatorRoutes(deps).routes(),
        *SubjectRoutes(deps).routes(),
        *DebuggingRoutes(deps).routes(),
        *HealthRoutes(deps).routes(),
    ]
    routes = [*described, _document(described, deps), *PageRoutes(deps).routes()]
    if deps.base_path or deps.fallback is None:
        # FastAPI and others have documents of their own there: an application's come first.
        routes += DocumentRoutes().routes()
    if deps.base_path and deps.fallback is None:
        routes.append(_to_the_page(deps.base_path))
    return RouteTable(routes, base_path=deps.base_path)


def _document(routes: list[Route], deps: HttpDeps) -> Route:
    """Return the row of the OpenAPI document, which describes the other rows and this one."""
    body = b""
    answers = ok("This document.", {"type": "object"})
    route = public("/api/openapi.json", lambda _request: Answer(body), "This document", answers)
    body = _openapi_json([*routes, route], version=deps.version, base_path=deps.base_path)
    return route


def _to_the_page(base_path: str) -> Route:
    """Return the row that adds the slash which the relative links of the page need."""
    location = {"Location": f"{base_path}/"}
    return public("", lambda _request: Answer(status=308, headers=location), "The page")


def _openapi_json(routes: Iterable[Route], *, version: str, base_path: str) -> bytes:
    """Return the document of the routes that answer in JSON or text; files are left out."""
    paths: dict[str, dict[str, Json]] = {}
    for route in routes:
        if route.answers:
            paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return orjson.dumps(
        {
            "openapi": "3.1.0",
            "info": {"title": "Broadcast hub", "version": version},
            "servers": [{"url": base_path or "/"}],
            "paths": paths,
            "components": {
                "schemas": {**SCHEMAS, **OPERATOR_SCHEMAS},
                "securitySchemes": SECURITY_SCHEMES,
            },
        }
    )


def _operation(route: Route) -> Json:
    in_path: list[Json] = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": CHANNEL if name == "channel" else STRING,
        }
        for name in _IN_PATH.findall(route.path)
    ]
    errors = {"default": content("An error.", ref("Problem"), PROBLEM_JSON)}
    body = {} if route.body is None else {"requestBody": media(route.body) | {"required": True}}
    return {
        "summary": route.summary,
        "parameters": in_path + [parameter.openapi() for parameter in route.parameters],
        "responses": errors | dict(route.answers),
        "security": _POLL if route.path == "/poll" else _SECURITY[route.access],
        **body,
    }
