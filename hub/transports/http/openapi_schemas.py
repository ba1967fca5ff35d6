"""The OpenAPI document's components: what bodies look like, and how a caller authenticates."""

from collections.abc import Mapping

from hub.wire.codes import HTTP_STATUS
from hub.wire.payload import MAX_KEY_LENGTH

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


def page(name: str, items: Json) -> Json:
    return record({name: array(items), "total": INTEGER, "next": OPTIONAL_STRING})


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
        **record(
            {"channel": CHANNEL, "data": ANY_JSON, "key": KEY, "idempotency_key": KEY},
            optional=("key", "idempotency_key"),
        ),
        "additionalProperties": False,
    },
    "Published": record(
        {"channel": CHANNEL, "offset": INTEGER, "epoch": STRING, "duplicate": BOOLEAN},
        optional=("duplicate",),
    ),
    "Outcomes": array({"anyOf": [ref("Published"), ref("Problem")]}),
    "Publication": record(
        {"offset": INTEGER, "data": ANY_JSON, "time": INTEGER, "key": STRING, "from": STRING},
        optional=("key", "from"),
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
    "Member": record({"id": STRING, "connection": STRING, "sub": STRING}, optional=("sub",)),
    "Presence": record({"channel": CHANNEL, "members": array(ref("Member"))}),
    "Channel": record(
        {
            "channel": CHANNEL,
            "position": POSITION,
            "subscribers": INTEGER,
            "history": {"type": ["integer", "null"]},
            "presence": BOOLEAN,
            "publications_per_second": {"type": ["number", "null"]},
        }
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
    "Subscription": record(
        {
            "channel": CHANNEL,
            "position": POSITION,
            "state": {"enum": ["live", "replaying", "congested"]},
            "outbox_messages": INTEGER,
            "dropped": INTEGER,
        }
    ),
    "Connection": record(
        {
            "connection": STRING,
            "node": STRING,
            "transport": {"enum": ["websocket", "sse", "poll"]},
            "subject": OPTIONAL_STRING,
            "address": STRING,
            "user_agent": STRING,
            "opened_ms": INTEGER,
            "round_trip_ms": {"type": ["number", "null"]},
            "sent": INTEGER,
            "dropped": INTEGER,
            "outbox_messages": INTEGER,
            "outbox_bytes": INTEGER,
            "outbox_age_seconds": NUMBER,
            "subscriptions": array(ref("Subscription")),
        }
    ),
    "Connections": record(
        {
            "connections": array(ref("Connection")),
            "total": INTEGER,
            "next": OPTIONAL_STRING,
            "complete": BOOLEAN,
            "unanswered": {**array(STRING), "description": "Nodes that did not answer in time."},
        }
    ),
    "Node": record(
        {
            "node": STRING,
            "version": STRING,
            "started_ms": INTEGER,
            "uptime_seconds": NUMBER,
            "connections": INTEGER,
            "subscriptions": INTEGER,
            "channels": INTEGER,
            "publications": INTEGER,
            "deliveries": INTEGER,
            "draining": BOOLEAN,
            "publications_per_second": NUMBER,
            "deliveries_per_second": NUMBER,
            "dropped": INTEGER,
            "dropped_per_second": NUMBER,
            "gaps": INTEGER,
            "gaps_per_second": NUMBER,
            "opened": INTEGER,
            "closed": INTEGER,
            "transports": COUNTS,
            "latency_p50_ms": {"type": ["number", "null"]},
            "latency_p99_ms": {"type": ["number", "null"]},
            "loop_lag_ms": NUMBER,
            "outbox_bytes": INTEGER,
            "congested": INTEGER,
            "problems": array(STRING),
            "broker_servers": INTEGER,
            "broker_round_trip_ms": NUMBER,
            "leaving": {"enum": ["", "draining", "rebalance"]},
            "leaving_connections": INTEGER,
            "left_connections": INTEGER,
            "at_ms": INTEGER,
        }
    ),
    "Nodes": record({"nodes": array(ref("Node"))}),
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
        }
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
