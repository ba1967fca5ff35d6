"""`/api/openapi.json`: the table of routes as an OpenAPI 3.1 document."""

import re
from collections.abc import Iterable

import orjson

from hub.transports.http.operator_schemas import OPERATOR_SCHEMAS
from hub.transports.http.problem import MEDIA_TYPE
from hub.transports.http.routes import Access, Route
from hub.transports.http.schemas import (
    CHANNEL,
    SCHEMAS,
    SECURITY_SCHEMES,
    STRING,
    Json,
    content,
    media,
    ref,
)

_SECURITY: dict[Access, list[Json]] = {
    Access.ANYBODY: [{}],
    Access.READER: [{"bearer": []}, {"key": []}, {}],
    Access.PUBLISHER: [{"bearer": []}, {"key": []}, {}],
    Access.OPERATOR: [{"bearer": []}, {"key": []}, {"basic": []}],
    Access.SESSION: [{"secret": []}],
    Access.STREAM: [{"bearer": []}, {}],
}
# A poll begins with a reader's credentials and goes on with its session's secret.
_POLL = [*_SECURITY[Access.READER], *_SECURITY[Access.SESSION]]
_IN_PATH = re.compile(r"{(\w+)}")


def openapi_json(routes: Iterable[Route], *, version: str, base_path: str) -> bytes:
    """The encoded document of the routes that answer in JSON or text; files are left out."""
    paths: dict[str, dict[str, Json]] = {}
    for route in routes:
        if route.answers:
            paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return orjson.dumps(
        {
            "openapi": "3.1.0",
            "info": {"title": "Broadcast hub", "version": version},
            "servers": [{"url": base_path or "/"}],
            "paths": paths,
            "components": {
                "schemas": {**SCHEMAS, **OPERATOR_SCHEMAS},
                "securitySchemes": SECURITY_SCHEMES,
            },
        }
    )


def _operation(route: Route) -> Json:
    in_path: list[Json] = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": CHANNEL if name == "channel" else STRING,
        }
        for name in _IN_PATH.findall(route.path)
    ]
    errors = {"default": content("An error.", ref("Problem"), MEDIA_TYPE)}
    body = {} if route.body is None else {"requestBody": media(route.body) | {"required": True}}
    return {
        "summary": route.summary,
        "parameters": in_path + [parameter.openapi() for parameter in route.parameters],
        "responses": errors | dict(route.answers),
        "security": _POLL if route.path == "/poll" else _SECURITY[route.access],
        **body,
    }
