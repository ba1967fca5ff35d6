"""Looking into a live node, in the OpenAPI document."""

from hub.transports.http.openapi_parts import OPERATOR, content, ok, operation, parameter
from hub.transports.http.openapi_schemas import (
    BOOLEAN,
    INTEGER,
    NUMBER,
    STRING,
    Json,
    array,
    record,
    ref,
)

_NODE = parameter("node", STRING, about="A node's name; the one that is asked where left out.")
_SECONDS = parameter("seconds", {"type": "number", "exclusiveMinimum": 0, "maximum": 60})

_LEVEL: Json = {"enum": ["debug", "info", "warning", "error", "critical"]}
_LEVELS: Json = {"type": "object", "additionalProperties": _LEVEL}
_CHANGES: Json = {
    "type": "object",
    "additionalProperties": {"anyOf": [_LEVEL, {"type": "null"}]},
    "description": "Subsystem, or `default`, to its level; null takes a subsystem's own away.",
}
_STALL = record({"at_ms": INTEGER, "lag_seconds": NUMBER, "stack": STRING})
_TASK = record(
    {"count": INTEGER, "names": array(STRING), "coroutine": STRING, "waits_at": array(STRING)}
)
_LOOK = record(
    {
        "at_ms": INTEGER,
        "seconds": NUMBER,
        "rss_bytes": INTEGER,
        "allocations": array(record({"line": STRING, "bytes": INTEGER, "blocks": INTEGER})),
        "objects": array(record({"type": STRING, "count": INTEGER})),
        "objects_total": INTEGER,
        "objects_counted": INTEGER,
    }
)
DEBUGGING_SCHEMAS: Json = {
    "LogLevels": record({"node": STRING, "levels": _LEVELS}),
    "Stalls": record(
        {"node": STRING, "stalls": array(_STALL), "total": INTEGER, "max_lag_seconds": NUMBER}
    ),
    "Tasks": record(
        {"node": STRING, "total": INTEGER, "looked_at": INTEGER, "tasks": array(_TASK)}
    ),
    "Memory": record(
        {
            "node": STRING,
            "tracing": BOOLEAN,
            "rss_bytes": INTEGER,
            "last": {"anyOf": [_LOOK, {"type": "null"}]},
        }
    ),
    "MemoryTracing": record({"node": STRING, "tracing": BOOLEAN, "seconds": NUMBER}),
}


def debugging_paths() -> dict[str, Json]:
    def read(summary: str, schema: str, body: Json | None = None) -> Json:
        answers = ok("Found.", ref(schema))
        return operation(summary, answers, parameters=(_NODE,), body=body, security=OPERATOR)

    begin = operation(
        "Trace allocations for so long, then count objects",
        {"202": content("Begun; GET tells the result.", ref("MemoryTracing"))},
        parameters=(_NODE, _SECONDS),
        security=OPERATOR,
    )
    return {
        "/api/debug/log-levels": {
            "get": read("Log levels by subsystem", "LogLevels"),
            "put": read("Change log levels", "LogLevels", _CHANGES),
        },
        "/api/debug/memory": {"get": read("The last look at memory", "Memory"), "post": begin},
        "/api/debug/stalls": {"get": read("When the event loop was held up", "Stalls")},
        "/api/debug/tasks": {"get": read("What tasks wait for", "Tasks")},
    }
