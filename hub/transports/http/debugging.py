"""Looking into a live node: log levels, stalls, tasks, memory. Operator credentials only.

Of the node that is asked, or of `?node=`. What is asked of the node itself needs no other node
and no broker: it works when nothing else does.
"""

import math

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from hub.core.peers import Arguments
from hub.errors import BadRequestError
from hub.transports.http.access import credentials_of
from hub.transports.http.answer import json_answer
from hub.transports.http.body import read_body
from hub.transports.http.paging import query_of
from hub.transports.http.ports import HttpDeps
from hub.wire.query import single

_MAX_BODY_BYTES = 4096
_LEVELS = msgspec.json.Decoder(dict[str, str | None])


class Debugging:
    """Every handler asks the policy first."""

    def __init__(self, deps: HttpDeps) -> None:
        self._operators = deps.operators
        self._engine = deps.engine
        self._policy = deps.policy
        self._body_timeout_seconds = deps.limits.body_timeout_seconds

    async def tasks(self, request: Request) -> Response:
        """What the event loop's tasks wait for."""
        self._check(request)
        return await self._ask(request, "tasks", {})

    async def stalls(self, request: Request) -> Response:
        """When the event loop was held up lately, and by what."""
        self._check(request)
        return await self._ask(request, "stalls", {})

    async def memory(self, request: Request) -> Response:
        """What the last look at memory found."""
        self._check(request)
        return await self._ask(request, "memory", {})

    async def trace_memory(self, request: Request) -> Response:
        """Begin to look at memory for `seconds`; its result is what `memory` tells afterwards."""
        self._check(request)
        return await self._ask(request, "trace_memory", _seconds(request), status=202)

    async def log_levels(self, request: Request) -> Response:
        self._check(request)
        return await self._ask(request, "log_levels", {})

    async def set_log_levels(self, request: Request) -> Response:
        """The body is an object: subsystem to level, or to null for the general one."""
        self._check(request)
        raw = await read_body(
            request, limit=_MAX_BODY_BYTES, timeout_seconds=self._body_timeout_seconds
        )
        try:
            levels = _LEVELS.decode(raw)
        except ValueError as error:
            message = f"the body is no object of subsystems and levels: {error}"
            raise BadRequestError(message) from None
        return await self._ask(request, "set_log_levels", levels)

    def _check(self, request: Request) -> None:
        self._policy.check_operator(credentials_of(request))

    async def _ask(
        self, request: Request, name: str, arguments: Arguments, *, status: int = 200
    ) -> Response:
        node, own = single(query_of(request), "node"), self._engine.node().node
        if node is not None and node != own:
            told = await self._operators.of_node(node, name, arguments)
        else:
            told = {"node": own, **await self._operators.here(name, arguments)}
        return json_answer(told, status=status)


def _seconds(request: Request) -> dict[str, float | None]:
    text = single(query_of(request), "seconds")
    try:
        seconds = None if text is None else float(text)
    except ValueError:
        seconds = math.nan
    if seconds is not None and not math.isfinite(seconds):
        raise BadRequestError(f"seconds is {text!r:.40}, not a number")
    return {"seconds": seconds}
