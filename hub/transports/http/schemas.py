"""The building blocks of the OpenAPI document: the schemas of bodies, and authentication.

The operations themselves are the rows of `hub.transports.http.routes`. Bodies that only
operators see stand in `hub.transports.http.operator_schemas`.
"""

from collections.abc import Mapping
from dataclasses import fields

from hub.core.node_records import NodeRecord
from hub.core.publication import Position
from hub.core.records import ChannelRecord, SessionRecord, SubscriptionRecord
from hub.wire.codes import HTTP_STATUS
from hub.wire.filters import MAX_TAGS
from hub.wire.items import MAX_CHANNELS
from hub.wire.payload import MAX_KEY_LENGTH, MAX_TTL_SECONDS
from hub.wire.query import LATEST_MS, MAX_EVERY_MS, MAX_LAST

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
    """Return an object whose properties are all required but the `optional` ones."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


# Schemas that do not follow from a field's type.
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
    """Return the properties of a record as they appear in JSON."""
    return {each.name: _FIELDS.get(each.name) or _TYPES[each.type] for each in fields(kind)}


def media(schema: Json, media_type: str = "application/json") -> dict[str, object]:
    return {"content": {media_type: {"schema": schema}}}


def content(description: str, schema: Json, media_type: str = "application/json") -> Json:
    return {"description": description} | media(schema, media_type)


def ok(description: str, schema: Json, media_type: str = "application/json") -> Json:
    return {"200": content(description, schema, media_type)}


MOMENT: Json = {"oneOf": [{"type": "integer", "minimum": 0, "maximum": LATEST_MS}, STRING]}
TTL: Json = {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_TTL_SECONDS}
# Fields of a publication of `POST /api/publish` beside its channels.
_PUBLISHED: Json = {
    "data": ANY_JSON,
    "key": KEY,
    "idempotency_key": KEY,
    "tags": TAGS,
    "remove": BOOLEAN,
    "end": BOOLEAN,
    "ttl_seconds": TTL,
    "history": BOOLEAN,
}
# `data` is needed too, but not for the removal of a row.
_PUBLISHED_OPTIONAL = tuple(_PUBLISHED)

SCHEMAS: Json = {
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
        **record({"channel": CHANNEL, **_PUBLISHED}, optional=_PUBLISHED_OPTIONAL),
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
                **_PUBLISHED,
            },
            optional=_PUBLISHED_OPTIONAL,
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
    "OneChannel": record(
        {
            **fields_of(ChannelRecord),
            "complete": BOOLEAN,
            "unanswered": {**array(STRING), "description": "Workers that did not answer in time."},
        },
        optional=("complete", "unanswered"),
    ),
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
    "Command": record(
        {
            "op": {
                "type": "string",
                "enum": [
                    "subscribe",
                    "unsubscribe",
                    "publish",
                    "history",
                    "presence",
                    "presence_update",
                    "authenticate",
                    "ping",
                ],
            },
            "id": {"type": ["string", "integer"]},
            "channel": CHANNEL,
            "pattern": STRING,
            "since": {
                "oneOf": [POSITION, {"type": "object", "additionalProperties": POSITION}],
                "description": "Of a pattern a position for each channel.",
            },
            "last": {"type": "integer", "minimum": 0, "maximum": MAX_LAST},
            "fill": BOOLEAN,
            "filter": {"type": "object", "description": "A condition for each of some tags."},
            "state": BOOLEAN,
            "presence": {"type": "object", "properties": {"data": ANY_JSON}},
            "every_ms": {"type": "integer", "minimum": 1, "maximum": MAX_EVERY_MS},
            **_PUBLISHED,
            "echo": {"type": "boolean", "default": True},
            "limit": {"type": "integer", "minimum": 1, "maximum": 1000},
            "from_time": MOMENT,
            "reverse": BOOLEAN,
            "after": STRING,
            "count": BOOLEAN,
            "token": STRING,
        },
        optional=(
            "channel",
            "pattern",
            "since",
            "last",
            "fill",
            "filter",
            "state",
            "presence",
            "every_ms",
            *_PUBLISHED_OPTIONAL,
            "echo",
            "limit",
            "from_time",
            "reverse",
            "after",
            "count",
            "token",
        ),
    ),
    "Reply": {
        "type": "object",
        "properties": {"op": {"const": "reply"}, "id": {"type": ["string", "integer", "null"]}},
        "required": ["op", "id"],
    },
    "Ready": record({"ready": BOOLEAN, "reasons": array(STRING)}),
    "Alive": record({"status": {"const": "ok"}}),
}

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
