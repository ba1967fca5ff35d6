"""What operators ask and do beyond lists: why, who has gone, drain, rebalance, unsubscribe."""

from starlette.requests import Request
from starlette.responses import Response

from hub.core.peers import Arguments, Told
from hub.core.publication import check_channel
from hub.errors import BadRequestError, NotFoundError
from hub.transports.http.access import credentials_of
from hub.transports.http.answer import json_answer
from hub.transports.http.paging import limit_of, query_of
from hub.transports.http.ports import HttpDeps
from hub.wire.query import single, whole_number

_MAX_OFFSET = 2**53
_UNKNOWN: Told = {
    "answer": "unknown",
    "detail": "the node that held the connection lives no more, or there was none",
}


class Overseeing:
    """Every handler asks the policy first."""

    def __init__(self, deps: HttpDeps) -> None:
        self._operators = deps.operators
        self._policy = deps.policy

    def _check(self, request: Request) -> None:
        self._policy.check_operator(credentials_of(request))

    async def explain(self, request: Request) -> Response:
        """Why a connection did not get a publication, or when it did."""
        self._check(request)
        query = query_of(request)
        connection = _needed(query, "connection")
        channel = check_channel(_needed(query, "channel"))
        offset = whole_number("offset", _needed(query, "offset"), highest=_MAX_OFFSET)
        asked: Arguments = {
            "channel": channel,
            "offset": offset,
            "epoch": single(query, "epoch"),
        }
        try:
            told = await self._operators.of_connection(connection, "explain", asked)
        except NotFoundError:
            told = _UNKNOWN
        return json_answer({"connection": connection, **asked, **told})

    async def closed(self, request: Request) -> Response:
        """The connections that ended last, on all nodes; `subject` narrows it."""
        self._check(request)
        query = query_of(request)
        told = await self._operators.closed(limit_of(query), single(query, "subject"))
        return json_answer(told)

    async def unsubscribe(self, request: Request) -> Response:
        """Take a session out of a channel; it gets a push `unsubscribed`."""
        self._check(request)
        connection = request.path_params["connection"]
        channel = check_channel(request.path_params["channel"])
        await self._operators.of_connection(connection, "unsubscribe", {"channel": channel})
        return Response(status_code=204)

    async def drain(self, request: Request) -> Response:
        """Begin to close all sessions of a node, which takes no more until it is told to."""
        return await self._of_node(request, "drain")

    async def undrain(self, request: Request) -> Response:
        """Take sessions again."""
        return await self._of_node(request, "undrain")

    async def _of_node(self, request: Request, operation: str) -> Response:
        self._check(request)
        node = request.path_params["node"]
        told = await self._operators.of_node(node, operation, _window(request))
        return json_answer(told, status=202)

    async def rebalance(self, request: Request) -> Response:
        """Ask what is more than a node's share to connect again."""
        self._check(request)
        return json_answer(await self._operators.rebalance(_window(request)), status=202)


def _needed(query: dict[str, list[str]], name: str) -> str:
    if not (value := single(query, name)):
        raise BadRequestError(f"{name} is missing")
    return value


def _window(request: Request) -> dict[str, float | None]:
    text = single(query_of(request), "window_seconds")
    try:
        return {"window_seconds": None if text is None else float(text)}
    except ValueError:
        raise BadRequestError(f"window_seconds is {text!r:.40}, not a number") from None
