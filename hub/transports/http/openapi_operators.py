"""What operators may ask and do, in the OpenAPI document."""

from hub.core.answers import Answer
from hub.core.selecting import COLUMNS
from hub.transports.http.connections import TRANSPORTS
from hub.transports.http.openapi_parts import (
    CHANNEL_PATH,
    CONNECTION_PATH,
    OPERATOR,
    PAGE,
    content,
    ok,
    operation,
    parameter,
)
from hub.transports.http.openapi_schemas import (
    CHANNEL,
    INTEGER,
    NUMBER,
    OPTIONAL_STRING,
    STRING,
    Json,
    array,
    record,
    ref,
)

_SORTS = [f"{sign}{column}" for column in COLUMNS for sign in ("", "-")]
_WINDOW = parameter("window_seconds", NUMBER, about="Over which the closes are spread.")
_NODE = parameter("node", STRING, "path", "A node's name.")

_CLOSED = record(
    {
        "connection": STRING,
        "node": STRING,
        "transport": STRING,
        "subject": OPTIONAL_STRING,
        "address": STRING,
        "user_agent": STRING,
        "opened_ms": INTEGER,
        "closed_ms": INTEGER,
        "code": INTEGER,
        "reason": STRING,
        "sent": INTEGER,
        "dropped": INTEGER,
    }
)
OPERATOR_SCHEMAS: Json = {
    "Closed": record({"closed": array(_CLOSED), "unanswered": array(STRING)}),
    "Explanation": record(
        {
            "connection": STRING,
            "channel": CHANNEL,
            "offset": INTEGER,
            "epoch": OPTIONAL_STRING,
            "answer": {"enum": [answer.value for answer in Answer]},
            "detail": STRING,
            "from_ms": {"type": ["integer", "null"]},
            "to_ms": {"type": ["integer", "null"]},
            "by": {"type": ["integer", "null"]},
            "head": INTEGER,
        },
        optional=("from_ms", "to_ms", "by", "head"),
    ),
    "Draining": record(
        {"node": STRING, "closing": INTEGER, "window_seconds": NUMBER, "connections": INTEGER},
        optional=("closing", "window_seconds", "connections"),
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


def operator_paths() -> dict[str, Json]:
    def read(summary: str, schema: str, *parameters: Json) -> Json:
        answers = ok("Found.", ref(schema))
        return operation(summary, answers, parameters=parameters, security=OPERATOR)

    def act(summary: str, schema: str, *parameters: Json) -> Json:
        answers = {"202": content("Begun.", ref(schema))}
        return operation(summary, answers, parameters=parameters, security=OPERATOR)

    filters = (
        parameter("subject", STRING),
        parameter("channel", CHANNEL),
        parameter("transport", {"enum": list(TRANSPORTS)}),
        parameter("address", STRING, about="As the hub sees it, without the port."),
        parameter("node", STRING, about="A node's name."),
        parameter("sort", {"enum": _SORTS, "default": "connection"}, about="`-`: descending."),
    )
    disconnect = operation(
        "Close a connection",
        {"204": {"description": "Closed with 4403."}},
        parameters=(CONNECTION_PATH,),
        security=OPERATOR,
    )
    unsubscribe = operation(
        "Take a connection out of a channel",
        {"204": {"description": "Done; the session got a push `unsubscribed`."}},
        parameters=(CONNECTION_PATH, CHANNEL_PATH),
        security=OPERATOR,
    )
    asked = (
        parameter("connection", STRING, must=True),
        parameter("channel", CHANNEL, must=True),
        parameter("offset", INTEGER, must=True),
        parameter("epoch", STRING, about="Of the offset; the channel's own of now where left out."),
    )
    one = read("One connection", "Connection", CONNECTION_PATH)
    return {
        "/api/connections": {"get": read("List connections", "Connections", *PAGE, *filters)},
        "/api/connections/{connection}": {"get": one, "delete": disconnect},
        "/api/connections/{connection}/subscriptions/{channel}": {"delete": unsubscribe},
        "/api/closed": {"get": read("Connections that ended last", "Closed", filters[0], PAGE[0])},
        "/api/explain": {"get": read("Why a message did not come", "Explanation", *asked)},
        "/api/nodes": {"get": read("List nodes", "Nodes")},
        "/api/nodes/{node}/drain": {
            "post": act("Close all sessions of a node", "Draining", _NODE, _WINDOW),
            "delete": act("Let a node take sessions again", "Draining", _NODE),
        },
        "/api/rebalance": {"post": act("Spread connections evenly", "Rebalance", _WINDOW)},
        "/api/stats": {"get": read("Counters of this node", "Stats")},
        "/api/ticket": {"post": read("A `token` for an operator's sessions", "Ticket")},
    }
