"""The OpenAPI document describes exactly the routes there are."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from hub.transports.http.answer import Answer
from hub.transports.http.app import make_routes
from hub.transports.http.routes import RouteTable
from hub.transports.request import Request
from hub.wire.query import SubscriptionQuery
from tests.support.golden import golden
from tests.transports.http.fakes import make_deps

# Files and pages.
UNDESCRIBED = re.compile(r"/(|client\.js|client/.*|dashboard.*|index\.html|demo\.js|docs.*)")


@pytest.fixture
def table(files: Path) -> RouteTable:
    return make_routes(replace(make_deps(files), version="1.2.3"))


@pytest.fixture
def document(table: RouteTable) -> dict[str, Any]:
    """Returns the answer of `/api/openapi.json`."""
    place, _ = table.find(b"/api/openapi.json") or pytest.fail("it is not served")
    answer = place.routes["GET"].handler(Request())
    assert isinstance(answer, Answer)
    found: dict[str, Any] = orjson.loads(answer.body)
    return found


def test_every_route_and_method_is_described_and_nothing_else(
    table: RouteTable, document: dict[str, Any]
) -> None:
    """Path by path and method by method."""
    served = {
        (route.path, route.method.lower())
        for route in table.routes
        if not UNDESCRIBED.fullmatch(route.path)
    }
    described = {
        (path, method) for path, methods in document["paths"].items() for method in methods
    }
    assert described == served


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for operation in methods.values():
            yield path, operation


def test_every_operation_is_complete(document: dict[str, Any]) -> None:
    """A summary, answers that say something, a problem for the rest, and its path's parameters."""
    for path, operation in operations(document):
        assert operation["summary"]
        assert "default" in operation["responses"]
        assert all(answer["description"] for answer in operation["responses"].values())
        in_path = {each["name"] for each in operation["parameters"] if each["in"] == "path"}
        assert in_path == set(re.findall(r"{(\w+)}", path)), path


def test_every_security_requirement_names_a_scheme(document: dict[str, Any]) -> None:
    """A misspelt one would read as no security at all."""
    schemes = document["components"]["securitySchemes"].keys()
    used = {name for _, each in operations(document) for need in each["security"] for name in need}
    assert used == schemes


def test_parameters_of_a_url_are_described_at_each_door(document: dict[str, Any]) -> None:
    """Every parameter of `parse_query`, but those of polls at the other two."""
    of_polls = {"wait", "connection"}
    known = set(SubscriptionQuery.__struct_fields__)
    wire = {"channels": "channel", "patterns": "pattern"}
    asked = {wire.get(name, name) for name in known}
    for path in ("/ws", "/sse", "/poll"):
        described = {
            each["name"]
            for each in document["paths"][path]["get"]["parameters"]
            if each["in"] == "query"
        }
        of_path = asked if path == "/poll" else asked - of_polls
        assert described == (of_path - {"session", "last_event_id"} if path == "/ws" else of_path)


def test_every_field_of_a_command_is_described(document: dict[str, Any]) -> None:
    """Those of the golden files, which hold all that there are."""
    wires = [case["wire"] for case in golden("commands")]
    described = document["components"]["schemas"]["Command"]["properties"]
    assert set(described) == {name for wire in wires for name in wire}
    assert set(described["op"]["enum"]) == {wire["op"] for wire in wires}


def references(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_every_reference_leads_to_a_schema_and_every_schema_is_used(
    document: dict[str, Any],
) -> None:
    """No dangling name, no leftover."""
    schemas = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(references(document)) == schemas


def test_the_head_of_the_document_is_that_of_openapi_3_1(document: dict[str, Any]) -> None:
    """With the version that runs and where the paths begin."""
    assert document["openapi"] == "3.1.0"
    assert document["info"] == {"title": "Broadcast hub", "version": "1.2.3"}
    assert document["servers"] == [{"url": "/"}]
