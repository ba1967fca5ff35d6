"""The building blocks of the OpenAPI document: parameters, operations, answers."""

from hub.transports.http.openapi_schemas import CHANNEL, STRING, Json, ref
from hub.transports.http.problem import MEDIA_TYPE

ANYBODY: list[Json] = [{}]
PUBLISHER: list[Json] = [{"bearer": []}, {"key": []}, {}]
READER: list[Json] = [{"bearer": []}, {"key": []}, {}]
OPERATOR: list[Json] = [{"bearer": []}, {"key": []}, {"basic": []}]
SESSION: list[Json] = [{"secret": []}]

LIMIT: Json = {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}


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
    responses = {**answers, "default": content("An error.", ref("Problem"), MEDIA_TYPE)}
    request = {} if body is None else {"requestBody": media(body) | {"required": True}}
    found: Json = {"summary": summary, "parameters": list(parameters), "responses": responses}
    return {**found, **request, "security": security}


def media(schema: Json, media_type: str = "application/json") -> dict[str, object]:
    return {"content": {media_type: {"schema": schema}}}


def content(description: str, schema: Json, media_type: str = "application/json") -> Json:
    return {"description": description} | media(schema, media_type)


def ok(description: str, schema: Json, media_type: str = "application/json") -> Json:
    return {"200": content(description, schema, media_type)}


CHANNEL_PATH = parameter("channel", CHANNEL, "path")
CONNECTION_PATH = parameter("connection", STRING, "path")
PAGE = (parameter("limit", LIMIT), parameter("after", STRING, about="`next` of the page before."))
