"""Looking into a live node: log levels, stalls, tasks, memory. Operator keys only.

Of the node that is asked, or of `?node=`. What is asked of the node itself needs no other node
and no broker: it works when nothing else does.
"""

import msgspec

from hub.admin.debugging import (
    GetLogLevels,
    GetMemory,
    GetStalls,
    GetTasks,
    Looked,
    SetLogLevels,
    TraceMemory,
)
from hub.admin.requests import HERE, AdminRequest, AtNode
from hub.errors import BadRequestError
from hub.observe.inspection import MAX_SECONDS
from hub.transports.http.answer import Answer, json_answer
from hub.transports.http.operator_schemas import LEVEL_CHANGES
from hub.transports.http.parameters import Parameter, number, text
from hub.transports.http.ports import HttpDeps
from hub.transports.http.routes import Handler, Route
from hub.transports.http.rows import route
from hub.transports.http.schemas import Json, content, ok, ref
from hub.transports.request import Request

_LEVELS = msgspec.json.Decoder(dict[str, str | None])
_NODE = text("node", "A node's name; the one that is asked where left out.")
_SECONDS = number("seconds", highest=MAX_SECONDS, above_zero=True)


class Debugging:
    """Hands the question to the node that is meant."""

    def __init__(self, deps: HttpDeps) -> None:
        self._admin = deps.admin
        self._node = deps.node

    def routes(self) -> tuple[Route, ...]:
        begun = {"202": content("Begun; GET tells the result.", ref("MemoryTracing"))}
        return (
            self._look("log-levels", GetLogLevels(), "Log levels by subsystem", "LogLevels"),
            _route(SetLogLevels, "PUT", "log-levels", self.set_log_levels, "Change log levels",
                   ok("Found.", ref("LogLevels")), body=LEVEL_CHANGES),
            self._look("memory", GetMemory(), "The last look at memory", "Memory"),
            _route(TraceMemory, "POST", "memory", self.trace_memory,
                   "Trace allocations for so long, then count objects", begun, _SECONDS),
            self._look("stalls", GetStalls(), "When the event loop was held up", "Stalls"),
            self._look("tasks", GetTasks(), "What tasks wait for", "Tasks"),
        )  # fmt: skip

    def _look(self, name: str, asked: AdminRequest[Looked], summary: str, schema: str) -> Route:
        """A row of what is only looked at."""
        return _route(
            type(asked),
            "GET",
            name,
            lambda request: self._ask(request, asked),
            summary,
            ok("Found.", ref(schema)),
        )

    async def trace_memory(self, request: Request) -> Answer:
        """Begin to look at memory for `seconds`; its result is what `memory` tells afterwards."""
        return await self._ask(request, TraceMemory(request.given["seconds"]), status=202)

    async def set_log_levels(self, request: Request) -> Answer:
        """The body is an object: subsystem to level, or to null for the general one."""
        try:
            levels = _LEVELS.decode(request.body)
        except ValueError as error:
            message = f"the body is no object of subsystems and levels: {error}"
            raise BadRequestError(message) from None
        return await self._ask(request, SetLogLevels(levels))

    async def _ask(
        self, request: Request, asked: AdminRequest[Looked], *, status: int = 200
    ) -> Answer:
        own = self._node.node().node
        node = request.given["node"] or own
        told = await self._admin.call(asked, HERE if node == own else AtNode(node))
        return json_answer({"node": node, **told}, status=status)


def _route(
    asks: type[AdminRequest[Looked]],
    method: str,
    name: str,
    handler: Handler,
    summary: str,
    answers: Json,
    *parameters: Parameter,
    body: Json | None = None,
) -> Route:
    path = f"/api/debug/{name}"
    return route(asks, method, path, handler, summary, answers, _NODE, *parameters, body=body)
