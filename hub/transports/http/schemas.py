"""The OpenAPI document's building blocks: what bodies look like, how a caller authenticates.

The operations themselves are the rows of `hub.transports.http.routes`.
"""

from collections.abc import Mapping
from dataclasses import fields

from hub.core.forensics.answers import Answer
from hub.core.publication import Position
from hub.core.records import ChannelRecord, NodeRecord, SessionRecord, SubscriptionRecord
from hub.core.refused import LimitedRecord, RefusalRecord
from hub.wire.codes import HTTP_STATUS
from hub.wire.items import MAX_CHANNELS
from hub.wire.payload import MAX_KEY_LENGTH, MAX_TTL_SECONDS
from hub.wire.tags import MAX_TAGS

Json = Mapping[str, object]

STRING: Json = {"type": "string"}
INTEGER: Json = {"type": "integer", "minimum": 0}
NUMBER: Json = {"type": "number", "minimum": 0}
BOOLEAN: Json = {"type": "boolean"}
OPTIONAL_STRING: Json = {"type": ["string", "null"]}
CHANNEL: Json = {"type": "string", "pattern": "^[A-Za-z0-9_.:@~+-]{1,200}$"}
POSITION: Json = {
    "type": "string",
    "pattern": "^[A-Za-z0-9_-]{1,64}:[0-9]{1,16}$",
    "description": "`epoch:offset`, a place in one channel's sequence.",
}
KEY: Json = {"type": "string", "minLength": 1, "maxLength": MAX_KEY_LENGTH}
TAGS: Json = {
    "type": "object",
    "additionalProperties": {"type": ["string", "number", "boolean"]},
    "maxProperties": MAX_TAGS,
}
ANY_JSON: Json = {"description": "Any JSON value; subscribers get it byte for byte."}
COUNTS: Json = {"type": "object", "additionalProperties": INTEGER}


def ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def array(items: Json) -> Json:
    return {"type": "array", "items": items}


def record(properties: Json, *, optional: tuple[str, ...] = ()) -> Json:
    """An object whose properties are all required but the `optional` ones."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


# What a field's type does not say.
_FIELDS: Json = {
    "channel": CHANNEL,
    "leaving": {"enum": ["", "draining", "rebalance"]},
    "state": {"enum": ["live", "replaying", "congested"]},
    "transport": {"enum": ["websocket", "sse", "poll"]},
}
_TYPES: Mapping[object, Json] = {
    str: STRING,
    int: INTEGER,
    float: NUMBER,
    bool: BOOLEAN,
    Position: POSITION,
    str | None: OPTIONAL_STRING,
    int | None: {"type": ["integer", "null"]},
    float | None: {"type": ["number", "null"]},
    tuple[str, ...]: array(STRING),
    tuple[SubscriptionRecord, ...]: array(ref("Subscription")),
    Mapping[str, int]: COUNTS,
}


def fields_of(kind: type) -> dict[str, object]:
    """The properties of a record as they appear in JSON."""
    return {each.name: _FIELDS.get(each.name) or _TYPES[each.type] for each in fields(kind)}


def media(schema: Json, media_type: str = "application/json") -> dict[str, object]:
    return {"content": {media_type: {"schema": schema}}}


def content(description: str, schema: Json, media_type: str = "application/json") -> Json:
    return {"description": description} | media(schema, media_type)


def ok(description: str, schema: Json, media_type: str = "application/json") -> Json:
    return {"200": content(description, schema, media_type)}


# What a publication of `POST /api/publish` says beside where it goes.
_SAID: Json = {
    "data": ANY_JSON,
    "key": KEY,
    "idempotency_key": KEY,
    "tags": TAGS,
    "remove": BOOLEAN,
    "end": BOOLEAN,
    "ttl_seconds": {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_TTL_SECONDS},
    "history": BOOLEAN,
}
# `data` is needed too, but where `remove` says that a row goes.
_SAID_OPTIONAL = tuple(_SAID)

_COMMON: Json = {
    "Problem": record(
        {
            "type": STRING,
            "title": STRING,
            "status": INTEGER,
            "detail": STRING,
            "code": {"type": "string", "enum": list(HTTP_STATUS)},
            "retryable": BOOLEAN,
        }
    ),
    "Item": {
        **record({"channel": CHANNEL, **_SAID}, optional=_SAID_OPTIONAL),
        "additionalProperties": False,
    },
    "ItemToMany": {
        **record(
            {
                "channels": {
                    **array(CHANNEL),
                    "minItems": 1,
                    "maxItems": MAX_CHANNELS,
                    "uniqueItems": True,
                },
                **_SAID,
            },
            optional=_SAID_OPTIONAL,
        ),
        "additionalProperties": False,
    },
    "Published": record(
        {"channel": CHANNEL, "offset": INTEGER, "epoch": STRING, "duplicate": BOOLEAN},
        optional=("duplicate",),
    ),
    "Outcomes": array({"anyOf": [ref("Published"), ref("Problem")]}),
    "Publication": record(
        {
            "offset": INTEGER,
            "data": ANY_JSON,
            "time": INTEGER,
            "key": STRING,
            "from": STRING,
            "tags": TAGS,
            "remove": BOOLEAN,
            "end": BOOLEAN,
        },
        optional=("key", "from", "tags", "remove", "end"),
    ),
    "History": record(
        {
            "channel": CHANNEL,
            "epoch": STRING,
            "position": POSITION,
            "oldest": INTEGER,
            "complete": BOOLEAN,
            "publications": array(ref("Publication")),
            "next": OPTIONAL_STRING,
        }
    ),
    "Row": record(
        {
            "key": STRING,
            "offset": INTEGER,
            "time": INTEGER,
            "data": ANY_JSON,
            "from": STRING,
            "tags": TAGS,
        },
        optional=("from", "tags"),
    ),
    "State": record(
        {
            "channel": CHANNEL,
            "position": POSITION,
            "rows": array(ref("Row")),
            "next": OPTIONAL_STRING,
            "dropped": {**INTEGER, "description": "Rows that went for want of room."},
        },
        optional=("dropped",),
    ),
    "Member": record(
        {
            "id": STRING,
            "connection": STRING,
            "sub": STRING,
            "data": {"description": "What it says of itself."},
        },
        optional=("sub", "data"),
    ),
    "Presence": record(
        {"channel": CHANNEL, "members": array(ref("Member")), "next": STRING, "count": INTEGER},
        optional=("members", "next", "count"),
    ),
    "Channel": record(fields_of(ChannelRecord)),
    "Channels": record(
        {
            "channels": array(ref("Channel")),
            "total": INTEGER,
            "next": OPTIONAL_STRING,
            "complete": BOOLEAN,
            "unanswered": {**array(STRING), "description": "Nodes that did not answer in time."},
        },
        optional=("complete", "unanswered"),
    ),
    "Subscription": record(fields_of(SubscriptionRecord)),
    "Connection": record(fields_of(SessionRecord)),
    "Connections": record(
        {
            "connections": array(ref("Connection")),
            "total": INTEGER,
            "next": OPTIONAL_STRING,
            "complete": BOOLEAN,
            "unanswered": {**array(STRING), "description": "Nodes that did not answer in time."},
        }
    ),
    "Node": record(fields_of(NodeRecord)),
    "Nodes": record(
        {
            "nodes": array(ref("Node")),
            "node": STRING,
            "complete": BOOLEAN,
            "unknown": OPTIONAL_STRING,
        }
    ),
    "Stats": record(
        {
            "node": ref("Node"),
            "counted": {"type": "object", "additionalProperties": {"anyOf": [INTEGER, COUNTS]}},
        }
    ),
    "Pushes": record(
        {
            "pushes": array({"type": "object", "required": ["op"]}),
            "positions": {"type": "object", "additionalProperties": POSITION},
            "welcome": {"type": "object", "required": ["connection", "secret"]},
            "data": {
                "type": "object",
                "description": "What the application gives with channels, by channel.",
            },
        },
        optional=("data",),
    ),
    "Reply": {
        "type": "object",
        "properties": {"op": {"const": "reply"}, "id": {"type": ["string", "integer", "null"]}},
        "required": ["op", "id"],
    },
    "Ready": record({"ready": BOOLEAN, "reasons": array(STRING)}),
    "Alive": record({"status": {"const": "ok"}}),
}

_CLOSED = record(
    {
        **{n: s for n, s in fields_of(SessionRecord).items() if n != "subscriptions"},
        "closed_ms": INTEGER,
        "code": INTEGER,
        "reason": STRING,
    }
)
_OPTIONAL_INTEGER: Json = {"type": ["integer", "null"]}
_ANSWER: Json = {
    "epoch": OPTIONAL_STRING,
    "answer": {"enum": [answer.value for answer in Answer]},
    "detail": STRING,
    "from_ms": _OPTIONAL_INTEGER,
    "to_ms": _OPTIONAL_INTEGER,
    "by": _OPTIONAL_INTEGER,
    "head": INTEGER,
}
_LEFT_OUT = ("epoch", "from_ms", "to_ms", "by", "head")
_VISIT = record(
    {
        "connection": STRING,
        "node": STRING,
        "transport": STRING,
        "address": STRING,
        "user_agent": STRING,
        "opened_ms": INTEGER,
        "closed_ms": _OPTIONAL_INTEGER,
        "code": _OPTIONAL_INTEGER,
        "reason": STRING,
        "complete": BOOLEAN,
        "explained": record(_ANSWER, optional=_LEFT_OUT),
    },
    optional=("explained",),
)
_MOMENT = record(
    {
        "what": {
            "enum": [
                "opened",
                "subscribed",
                "left",
                "refused",
                "absent",
                *(answer.value for answer in Answer),
            ]
        },
        "connection": STRING,
        "at_ms": INTEGER,
        "to_ms": INTEGER,
        "channel": CHANNEL,
        "epoch": STRING,
        "first": INTEGER,
        "last": INTEGER,
        "detail": STRING,
    },
    optional=("at_ms", "to_ms", "channel", "epoch", "first", "last", "detail"),
)
_OPERATORS: Json = {
    "Refusals": record(
        {
            "refusals": array(record(fields_of(RefusalRecord))),
            "unanswered": array(STRING),
            "complete": BOOLEAN,
        }
    ),
    "Limited": record(
        {
            "limited": array(record(fields_of(LimitedRecord))),
            "unanswered": array(STRING),
            "complete": BOOLEAN,
        }
    ),
    "Closed": record({"closed": array(_CLOSED), "unanswered": array(STRING), "complete": BOOLEAN}),
    "Explanation": record(
        {
            "connection": STRING,
            "channel": CHANNEL,
            "offset": INTEGER,
            **_ANSWER,
            "stretches": array(
                record(
                    {
                        "first": INTEGER,
                        "last": INTEGER,
                        "answer": _ANSWER["answer"],
                        "detail": STRING,
                    }
                )
            ),
        },
        optional=("from_ms", "to_ms", "by", "head", "stretches"),
    ),
    "SubjectExplanation": record(
        {
            "subject": STRING,
            "channel": OPTIONAL_STRING,
            "offset": _OPTIONAL_INTEGER,
            "epoch": OPTIONAL_STRING,
            "from_ms": _OPTIONAL_INTEGER,
            "to_ms": _OPTIONAL_INTEGER,
            "connections": array(_VISIT),
            "events": array(_MOMENT),
            "explained": record(_ANSWER, optional=_LEFT_OUT),
            "connection": OPTIONAL_STRING,
            "more": BOOLEAN,
            "complete": BOOLEAN,
            "unanswered": array(STRING),
        },
        optional=("explained", "connection"),
    ),
    "Draining": record(
        {"node": STRING, "closing": INTEGER, "window_seconds": NUMBER, "connections": INTEGER},
        optional=("closing", "window_seconds", "connections"),
    ),
    "Ban": record(
        {
            "kind": {"enum": ["ban", "token", "subject"]},
            "sub": STRING,
            "jti": STRING,
            "reason": STRING,
            "issued_before": NUMBER,
            "at_ms": INTEGER,
            "until_ms": INTEGER,
        },
        optional=("sub", "jti", "reason", "issued_before"),
    ),
    "Subject": record(
        {
            "sub": STRING,
            "ban": {"oneOf": [ref("Ban"), {"type": "null"}]},
            "connections": array(ref("Connection")),
            "total": INTEGER,
            "next": OPTIONAL_STRING,
            "complete": BOOLEAN,
            "unanswered": array(STRING),
        }
    ),
    "Ticket": record({"ticket": OPTIONAL_STRING}),
    "Rebalance": record(
        {
            "nodes": array(
                record(
                    {
                        "node": STRING,
                        "connections": INTEGER,
                        "closing": {"type": ["integer", "null"]},
                    }
                )
            )
        }
    ),
}

_LEVEL: Json = {"enum": ["debug", "info", "warning", "error", "critical"]}
_LEVELS: Json = {"type": "object", "additionalProperties": _LEVEL}
LEVEL_CHANGES: Json = {
    "type": "object",
    "additionalProperties": {"anyOf": [_LEVEL, {"type": "null"}]},
    "description": "Subsystem, or `default`, to its level; null takes a subsystem's own away.",
}
BAN: Json = {
    "type": "object",
    "required": ["seconds"],
    "properties": {
        "seconds": {"type": "number", "exclusiveMinimum": 0, "maximum": 315_360_000},
        "reason": {"type": "string", "maxLength": 200},
    },
    "additionalProperties": False,
}
REVOCATION: Json = {
    "type": "object",
    "description": "Either jti, or sub and issued_before (seconds since 1970 UTC, as iat).",
    "properties": {
        "jti": STRING,
        "sub": STRING,
        "issued_before": NUMBER,
        "seconds": {"type": "number", "exclusiveMinimum": 0, "maximum": 315_360_000},
    },
    "additionalProperties": False,
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
_DEBUGGING: Json = {
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


SCHEMAS: Json = {**_COMMON, **_OPERATORS, **_DEBUGGING}

SECURITY_SCHEMES: Json = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "A publisher or operator key, or a subscriber's token (JWT).",
    },
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "basic": {
        "type": "http",
        "scheme": "basic",
        "description": "An operator key as the password, for browsers.",
    },
    "secret": {
        "type": "http",
        "scheme": "bearer",
        "description": "The `secret` of the session's welcome.",
    },
}
