"""The OpenAPI document's bodies that operators send and get: lists, answers, bans, debugging."""

from hub.admin.channels import PatternRecord
from hub.core.forensics.answers import Fate
from hub.core.records import SessionRecord
from hub.core.refused import LimitedRecord, RefusalRecord
from hub.transports.http.schemas import (
    BOOLEAN,
    CHANNEL,
    INTEGER,
    NUMBER,
    OPTIONAL_STRING,
    STRING,
    Json,
    array,
    fields_of,
    record,
    ref,
)

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
    "answer": {"enum": [answer.value for answer in Fate]},
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
                *(answer.value for answer in Fate),
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

OPERATOR_SCHEMAS: Json = {
    "Refusals": record(
        {
            "refusals": array(record(fields_of(RefusalRecord))),
            "unanswered": array(STRING),
            "complete": BOOLEAN,
        }
    ),
    "Patterns": record(
        {
            "patterns": array(record(fields_of(PatternRecord))),
            "total": INTEGER,
            "complete": BOOLEAN,
            "unanswered": array(STRING),
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
