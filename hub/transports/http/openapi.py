"""`/api/openapi.json`: the HTTP interface as an OpenAPI 3.1 document.

Written as data beside the routes rather than derived from them: a test holds the two
together, path by path and method by method.
"""

import orjson

from hub.core.channel_listing import COLUMNS as CHANNEL_COLUMNS
from hub.transports.http.openapi_debugging import DEBUGGING_SCHEMAS, debugging_paths
from hub.transports.http.openapi_operators import OPERATOR_SCHEMAS, operator_paths
from hub.transports.http.openapi_parts import (
    CHANNEL_PATH,
    LIMIT,
    PAGE,
    PUBLISHER,
    READER,
    SESSION,
    content,
    ok,
    operation,
    parameter,
)
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

_TRACE = parameter(
    "traceparent", STRING, "header", "W3C Trace Context; followed where the hub traces."
)
_CHANNELS: Json = {"type": "array", "items": CHANNEL, "maxItems": 32}


def openapi_json(*, version: str, base_path: str) -> bytes:
    """The encoded document; `base_path` is where its paths begin."""
    return orjson.dumps(
        {
            "openapi": "3.1.0",
            "info": {"title": "Broadcast hub", "version": version},
            "servers": [{"url": base_path or "/"}],
            "paths": _paths(),
            "components": {
                "schemas": {**SCHEMAS, **OPERATOR_SCHEMAS, **DEBUGGING_SCHEMAS},
                "securitySchemes": SECURITY_SCHEMES,
            },
        }
    )


def _paths() -> Json:
    publishers = _publish_paths() | _session_paths() | _channel_paths()
    return publishers | operator_paths() | debugging_paths() | _health()


def _publish_paths() -> dict[str, Json]:
    keys = (
        parameter("Idempotency-Key", KEY, "header", "Makes a retry within 5 minutes harmless."),
        parameter("X-Message-Key", KEY, "header", "The publication's key."),
        parameter("key", KEY, about="The publication's key; the header wins."),
    )
    one = operation(
        "Publish the body",
        ok("Published.", ref("Published")),
        parameters=(CHANNEL_PATH, *keys, _TRACE),
        body=ANY_JSON,
        security=PUBLISHER,
    )
    outcomes = ref("Outcomes")
    published: Json = {"anyOf": [ref("Published"), outcomes]}
    answers = {
        "200": content("All published: one result, or one per item.", published),
        "207": content("One result or problem per item; they differ.", outcomes),
        "default": content("All items failed with this status.", outcomes),
    }
    batch: Json = {"anyOf": [ref("Item"), array(ref("Item"))]}
    many = operation(
        "Publish one or many", answers, parameters=(_TRACE,), body=batch, security=PUBLISHER
    )
    return {"/api/publish/{channel}": {"post": one}, "/api/publish": {"post": many}}


def _session_paths() -> dict[str, Json]:
    poll = operation(
        "Wait for pushes",
        ok("Pushes, or none after `wait` seconds.", ref("Pushes")),
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
        ok("The reply.", ref("Reply")),
        parameters=(parameter("connection", STRING, must=True),),
        body={"type": "object", "required": ["op"]},
        security=SESSION,
    )
    return {"/poll": {"get": poll}, "/command": {"post": command}}


def _channel_paths() -> dict[str, Json]:
    def read(summary: str, schema: str, *parameters: Json) -> Json:
        answers = ok("Found.", ref(schema))
        return {"get": operation(summary, answers, parameters=parameters, security=READER)}

    since = parameter("since", POSITION)
    limit = parameter("limit", LIMIT)
    prefix = parameter("prefix", STRING)
    sorts = [f"{sign}{column}" for column in CHANNEL_COLUMNS for sign in ("", "-")]
    sort = parameter("sort", {"enum": sorts}, about="For operators. `-`: descending.")
    one = "/api/channels/{channel}"
    return {
        "/api/channels": read("List channels", "Channels", *PAGE, prefix, sort),
        one: read("One channel", "Channel", CHANNEL_PATH),
        f"{one}/history": read("Read history", "History", CHANNEL_PATH, since, limit),
        f"{one}/presence": read("Who is present", "Presence", CHANNEL_PATH),
    }


def _health() -> dict[str, Json]:
    ready = {
        "200": content("Ready.", ref("Ready")),
        "503": content("Not ready, and why.", ref("Ready")),
    }
    metrics = ok("Prometheus exposition.", STRING, "text/plain")
    document = ok("This document.", {"type": "object"})
    return {
        "/healthz": {"get": operation("Is the process alive", ok("It is.", ref("Alive")))},
        "/readyz": {"get": operation("Should it get traffic", ready)},
        "/metrics": {"get": operation("Metrics", metrics)},
        "/api/openapi.json": {"get": operation("This document", document)},
    }
