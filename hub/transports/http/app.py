"""The table of all routes of a node."""

from hub.transports.http.answer import Answer
from hub.transports.http.batches import Batches
from hub.transports.http.debugging import Debugging
from hub.transports.http.documents import Documents
from hub.transports.http.health import Health
from hub.transports.http.openapi import openapi_json
from hub.transports.http.operators import Operators
from hub.transports.http.pages import Pages
from hub.transports.http.ports import HttpDeps
from hub.transports.http.publishing import Publishing
from hub.transports.http.reading import Reading
from hub.transports.http.routes import Access, Route, RouteTable
from hub.transports.http.schemas import ok
from hub.transports.http.sessions import Sessions
from hub.transports.http.subjects import Subjects


def make_routes(deps: HttpDeps) -> RouteTable:
    """What a node answers. The pages' files are read now."""
    publishing = Publishing(deps)
    described = [
        *publishing.routes(),
        *Batches(deps, publishing).routes(),
        *Sessions(deps).routes(),
        *Reading(deps).routes(),
        *Operators(deps).routes(),
        *Subjects(deps).routes(),
        *Debugging(deps).routes(),
        *Health(deps).routes(),
    ]
    routes = [*described, _document(described, deps), *Pages(deps).routes()]
    if deps.base_path or deps.fallback is None:
        # FastAPI and others have documents of their own there: an application's come first.
        routes += Documents().routes()
    if deps.base_path and deps.fallback is None:
        routes.append(_to_the_page(deps.base_path))
    return RouteTable(routes, base_path=deps.base_path)


def _document(routes: list[Route], deps: HttpDeps) -> Route:
    """The OpenAPI document of the others and of itself."""
    body = b""
    route = Route(
        method="GET",
        path="/api/openapi.json",
        access=Access.ANYBODY,
        handler=lambda _request: Answer(body),
        summary="This document",
        answers=ok("This document.", {"type": "object"}),
    )
    body = openapi_json([*routes, route], version=deps.version, base_path=deps.base_path)
    return route


def _to_the_page(base_path: str) -> Route:
    """The page's links are relative: they need the slash at the end."""
    location = {"Location": f"{base_path}/"}
    return Route(
        method="GET",
        path="",
        access=Access.ANYBODY,
        handler=lambda _request: Answer(status=308, headers=location),
        summary="The page",
    )
