"""`/api/openapi.json`: the HTTP interface as an OpenAPI 3.1 document.

Written as data beside the routes rather than derived from them: a test holds the two
together, path by path and method by method.
"""

import orjson

from hub.core.selecting import COLUMNS
from hub.transports.http.openapi_schemas import (
    ANY_JSON,
    CHANNEL,
    INTEGER,
    KEY,
    NUMBER,
    POSITION,
    SCHEMAS,
    SECURITY_SCHEMES,
    STRING,
    Json,
    array,
    ref,
)
from hub.transports.http.problem import MEDIA_TYPE

ANYBODY: list[Json] = [{}]
PUBLISHER: list[Json] = [{"bearer": []}, {"key": []}, {}]
READER: list[Json] = [{"bearer": []}, {"key": []}, {}]
OPERATOR: list[Json] = [{"bearer": []}, {"key": []}, {"basic": []}]
SESSION: list[Json] = [{"secret": []}]

_LIMIT: Json = {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}
_SORTS = [f"{sign}{column}" for column in COLUMNS for sign in ("", "-")]
_CHANNELS: Json = {"type": "array", "items": CHANNEL, "maxItems": 32}


def openapi_json(*, version: str, base_path: str) -> bytes:
    """The encoded document; `base_path` is where its paths begin."""
    return orjson.dumps(
        {
            "openapi": "3.1.0",
            "info": {"title": "Broadcast hub", "version": version},
            "servers": [{"url": base_path or "/"}],
            "paths": _paths(),
            "components": {"schemas": SCHEMAS, "securitySchemes": SECURITY_SCHEMES},
        }
    )


def parameter(
    name: str, schema: Json, where: str = "query", about: str = "", *, must: bool = False
) -> Json:
    required = {"required": True} if where == "path" or must else {}
    described = {"description": about} if about else {}
    return {"name": name, "in": where, "schema": schema} | required | described


def operation(
    summary: str,
    answers: Json,
    *,
    parameters: tuple[Json, ...] = (),
    body: Json | None = None,
    security: list[Json] = ANYBODY,
) -> Json:
    """One method of one path; whatever it refuses it answers with a problem."""
    responses = {**answers, "default": _content("An error.", ref("Problem"), MEDIA_TYPE)}
    request = {} if body is None else {"requestBody": _media(body) | {"required": True}}
    found: Json = {"summary": summary, "parameters": list(parameters), "responses": responses}
    return {**found, **request, "security": security}


def _media(schema: Json, media_type: str = "application/json") -> dict[str, object]:
    return {"content": {media_type: {"schema": schema}}}


def _content(description: str, schema: Json, media_type: str = "application/json") -> Json:
    return {"description": description} | _media(schema, media_type)


def _ok(description: str, schema: Json, media_type: str = "application/json") -> Json:
    return {"200": _content(description, schema, media_type)}


_CHANNEL = parameter("channel", CHANNEL, "path")
_CONNECTION = parameter("connection", STRING, "path")
_PAGE = (parameter("limit", _LIMIT), parameter("after", STRING, about="`next` of the page before."))


def _paths() -> Json:
    return _publish_paths() | _session_paths() | _channel_paths() | _operator_paths() | _health()


def _publish_paths() -> dict[str, Json]:
    keys = (
        parameter("Idempotency-Key", KEY, "header", "Makes a retry within 5 minutes harmless."),
        parameter("X-Message-Key", KEY, "header", "The publication's key."),
        parameter("key", KEY, about="The publication's key; the header wins."),
    )
    one = operation(
        "Publish the body",
        _ok("Published.", ref("Published")),
        parameters=(_CHANNEL, *keys),
        body=ANY_JSON,
        security=PUBLISHER,
    )
    outcomes = ref("Outcomes")
    published: Json = {"anyOf": [ref("Published"), outcomes]}
    answers = {
        "200": _content("All published: one result, or one per item.", published),
        "207": _content("One result or problem per item; they differ.", outcomes),
        "default": _content("All items failed with this status.", outcomes),
    }
    batch: Json = {"anyOf": [ref("Item"), array(ref("Item"))]}
    many = operation("Publish one or many", answers, body=batch, security=PUBLISHER)
    return {"/api/publish/{channel}": {"post": one}, "/api/publish": {"post": many}}


def _session_paths() -> dict[str, Json]:
    poll = operation(
        "Wait for pushes",
        _ok("Pushes, or none after `wait` seconds.", ref("Pushes")),
        parameters=(
            parameter("channel", _CHANNELS),
            parameter("since", array(STRING), about="`channel=epoch:offset`, repeatable."),
            parameter("last", INTEGER, about="The newest n of each channel first."),
            parameter("wait", NUMBER, about="Seconds."),
            parameter("fill", {"type": "boolean"}),
            parameter("token", STRING),
            parameter("connection", STRING, about="The polling session to go on with."),
            parameter("session", {"type": "boolean"}, about="Also push `subscribed`."),
            parameter("last_event_id", STRING),
            parameter("Last-Event-ID", STRING, "header"),
        ),
        security=[*READER, *SESSION],
    )
    command = operation(
        "Send a command for a session",
        _ok("The reply.", ref("Reply")),
        parameters=(parameter("connection", STRING, must=True),),
        body={"type": "object", "required": ["op"]},
        security=SESSION,
    )
    return {"/poll": {"get": poll}, "/command": {"post": command}}


def _channel_paths() -> dict[str, Json]:
    def read(summary: str, schema: str, *parameters: Json) -> Json:
        answers = _ok("Found.", ref(schema))
        return {"get": operation(summary, answers, parameters=parameters, security=READER)}

    since = parameter("since", POSITION)
    limit = parameter("limit", _LIMIT)
    one = "/api/channels/{channel}"
    return {
        "/api/channels": read("List channels", "Channels", *_PAGE, parameter("prefix", STRING)),
        one: read("One channel", "Channel", _CHANNEL),
        f"{one}/history": read("Read history", "History", _CHANNEL, since, limit),
        f"{one}/presence": read("Who is present", "Presence", _CHANNEL),
    }


def _operator_paths() -> dict[str, Json]:
    def read(summary: str, schema: str, *parameters: Json) -> Json:
        answers = _ok("Found.", ref(schema))
        return operation(summary, answers, parameters=parameters, security=OPERATOR)

    filters = (
        parameter("subject", STRING),
        parameter("channel", CHANNEL),
        parameter("transport", {"enum": ["websocket", "sse", "poll"]}),
        parameter("address", STRING, about="As the hub sees it, without the port."),
        parameter("node", STRING, about="A node's name."),
        parameter("sort", {"enum": _SORTS, "default": "connection"}, about="`-`: descending."),
    )
    disconnect = operation(
        "Close a connection",
        {"204": {"description": "Closed with 4403."}},
        parameters=(_CONNECTION,),
        security=OPERATOR,
    )
    one = read("One connection", "Connection", _CONNECTION)
    return {
        "/api/connections": {"get": read("List connections", "Connections", *_PAGE, *filters)},
        "/api/connections/{connection}": {"get": one, "delete": disconnect},
        "/api/nodes": {"get": read("List nodes", "Nodes")},
        "/api/stats": {"get": read("Counters of this node", "Stats")},
    }


def _health() -> dict[str, Json]:
    ready = {
        "200": _content("Ready.", ref("Ready")),
        "503": _content("Not ready, and why.", ref("Ready")),
    }
    metrics = _ok("Prometheus exposition.", STRING, "text/plain")
    document = _ok("This document.", {"type": "object"})
    return {
        "/healthz": {"get": operation("Is the process alive", _ok("It is.", ref("Alive")))},
        "/readyz": {"get": operation("Should it get traffic", ready)},
        "/metrics": {"get": operation("Metrics", metrics)},
        "/api/openapi.json": {"get": operation("This document", document)},
    }
