"""The table of HTTP paths, and the ASGI application made from it."""

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from hub.core.tally import Tally
from hub.errors import NotFoundError, UnavailableError, UpgradeRequiredError
from hub.transports.http.answer import json_bytes_answer
from hub.transports.http.debugging import Debugging
from hub.transports.http.endpoint import Endpoint, Handler
from hub.transports.http.health import Health
from hub.transports.http.openapi import openapi_json
from hub.transports.http.operating import Operating
from hub.transports.http.overseeing import Overseeing
from hub.transports.http.pages import INDEX, Pages
from hub.transports.http.ports import HttpDeps
from hub.transports.http.problem import problem
from hub.transports.http.publishing import Publishing
from hub.transports.http.reading import Reading
from hub.transports.http.sessions import Sessions

Paths = Mapping[str, Mapping[str, Handler]]
"""Path pattern to method to handler."""


def make_http_app(deps: HttpDeps) -> ASGIApp:
    """The application that answers everything but WebSockets on `/ws` and streams on `/sse`.

    It reads the pages' files now. Its lifespan is that of `deps.fallback` where there is one.
    """
    fallback = deps.fallback or _nothing_here(deps.tally, deps.base_path)
    router = Router(_routes(deps), redirect_slashes=False, default=fallback)
    if deps.fallback is None:
        return router
    return _with_lifespan_of(deps.fallback, router)


def api_paths(deps: HttpDeps) -> Paths:
    """What acts or tells; the most frequent comes first, because routes are tried in order."""
    publishing, sessions = Publishing(deps), Sessions(deps)
    reading, operating, overseeing = Reading(deps), Operating(deps), Overseeing(deps)
    debugging = Debugging(deps)
    return {
        "/api/publish/{channel}": {"POST": publishing.one},
        "/api/publish": {"POST": publishing.batch},
        "/poll": {"GET": sessions.poll},
        "/command": {"POST": sessions.command},
        "/api/channels": {"GET": reading.channels},
        "/api/channels/{channel}": {"GET": reading.channel},
        "/api/channels/{channel}/history": {"GET": reading.history},
        "/api/channels/{channel}/presence": {"GET": reading.presence},
        "/api/connections": {"GET": operating.connections},
        "/api/connections/{connection}": {
            "GET": operating.connection,
            "DELETE": operating.disconnect,
        },
        "/api/connections/{connection}/subscriptions/{channel}": {"DELETE": overseeing.unsubscribe},
        "/api/closed": {"GET": overseeing.closed},
        "/api/explain": {"GET": overseeing.explain},
        "/api/nodes": {"GET": operating.nodes},
        "/api/nodes/{node}/drain": {"POST": overseeing.drain, "DELETE": overseeing.undrain},
        "/api/rebalance": {"POST": overseeing.rebalance},
        "/api/stats": {"GET": operating.stats},
        "/api/ticket": {"POST": operating.ticket},
        "/api/debug/log-levels": {"GET": debugging.log_levels, "PUT": debugging.set_log_levels},
        "/api/debug/memory": {"GET": debugging.memory, "POST": debugging.trace_memory},
        "/api/debug/stalls": {"GET": debugging.stalls},
        "/api/debug/tasks": {"GET": debugging.tasks},
        "/ws": {"GET": _not_a_handshake},
        "/sse": {"GET": _not_a_stream},
    }


def public_paths(deps: HttpDeps) -> Paths:
    """What any page may load, and what probes and scrapers ask for."""
    health, pages = Health(deps), Pages(deps)
    document = openapi_json(version=deps.version, base_path=deps.base_path)

    async def openapi(_request: Request) -> Response:
        return json_bytes_answer(document)

    paths: dict[str, Mapping[str, Handler]] = {
        "/healthz": {"GET": health.healthz},
        "/readyz": {"GET": health.readyz},
        "/metrics": {"GET": health.metrics},
        "/api/openapi.json": {"GET": openapi},
        "/client.js": {"GET": pages.client_entry},
        "/client/{file:path}": {"GET": pages.client_file},
        "/dashboard": {"GET": pages.dashboard_file},
        "/dashboard/{file:path}": {"GET": pages.dashboard_file},
    }
    if deps.fallback is None:
        # The page's own `client.js` is there for the type checker: pages of other origins load
        # the one above, which says that they may.
        paths = {f"/{name}": {"GET": pages.page_file(name)} for name in pages.page} | paths
        if INDEX in pages.page:
            paths["/"] = {"GET": pages.page_file(INDEX)}
    return paths


def _routes(deps: HttpDeps) -> list[Route]:
    routes = [
        Route(deps.base_path + path, Endpoint(deps, methods, path=path, public=public))
        for paths, public in ((api_paths(deps), False), (public_paths(deps), True))
        for path, methods in paths.items()
    ]
    if deps.base_path and deps.fallback is None:
        # The page's links are relative: they need the slash at the end.
        redirect = RedirectResponse(f"{deps.base_path}/", 308)
        routes.append(Route(deps.base_path, redirect))
    return routes


async def _not_a_handshake(_request: Request) -> Response:
    # RFC 9110 section 15.5.22: a 426 names the protocol to upgrade to.
    headers = {"Upgrade": "websocket", "Connection": "Upgrade"}
    return problem(UpgradeRequiredError("/ws takes a WebSocket handshake"), headers=headers)


async def _not_a_stream(request: Request) -> Response:
    """What the front door did not see: a HEAD, or a request pipelined behind another."""
    if request.method == "HEAD":
        return Response(headers={"Cache-Control": "no-store"}, media_type="text/event-stream")
    error = UnavailableError("ask for /sse when the answer before it has come")
    return problem(error, headers={"Connection": "close"})


def _nothing_here(tally: Tally, base_path: str) -> ASGIApp:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        tally.http_errors[NotFoundError.code] += 1
        if scope["type"] == "websocket":
            await WebSocketClose()(scope, receive, send)
        else:
            path = scope["path"]
            error = NotFoundError(f"nothing is at {path[:200]!r}{_hint(path, base_path)}")
            await problem(error)(scope, receive, send)

    return answer


def _hint(path: str, base_path: str) -> str:
    """For those who forgot what is set, or come from a hub whose topics have slashes."""
    if not path.startswith(f"{base_path}/"):
        return f": every path of this hub begins with {base_path}"
    _, publishing, channel = path.partition(f"{base_path}/api/publish/")
    return ": a channel's name has no slash" if publishing and "/" in channel else ""


def _with_lifespan_of(owner: ASGIApp, router: Router) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await (owner if scope["type"] == "lifespan" else router)(scope, receive, send)

    return app
