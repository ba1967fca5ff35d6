"""The OpenAPI document describes exactly the routes there are."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from hub.transports.http.app import api_paths, public_paths
from hub.transports.http.openapi import openapi_json
from tests.transports.http.fakes import make_deps

# Files, pages, and the two paths that are not HTTP requests with an answer.
UNDESCRIBED = re.compile(r"/(|ws|sse|client\.js|client/.*|dashboard.*|index\.html|demo\.js)")
DOCUMENT: dict[str, Any] = orjson.loads(openapi_json(version="1.2.3", base_path=""))


def test_every_route_and_method_is_described_and_nothing_else(files: Path) -> None:
    """Path by path and method by method."""
    deps = make_deps(files)
    routes = {**api_paths(deps), **public_paths(deps)}
    served = {
        (path, method.lower())
        for path, methods in routes.items()
        for method in methods
        if not UNDESCRIBED.fullmatch(path)
    }
    described = {
        (path, method) for path, methods in DOCUMENT["paths"].items() for method in methods
    }
    assert described == served


def operations() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in DOCUMENT["paths"].items():
        for operation in methods.values():
            yield path, operation


def test_every_operation_is_complete() -> None:
    """A summary, answers that say something, a problem for the rest, and its path's parameters."""
    for path, operation in operations():
        assert operation["summary"]
        assert "default" in operation["responses"]
        assert all(answer["description"] for answer in operation["responses"].values())
        in_path = {each["name"] for each in operation["parameters"] if each["in"] == "path"}
        assert in_path == set(re.findall(r"{(\w+)}", path)), path


def test_every_security_requirement_names_a_scheme() -> None:
    """A misspelt one would read as no security at all."""
    schemes = DOCUMENT["components"]["securitySchemes"].keys()
    used = {name for _, each in operations() for need in each["security"] for name in need}
    assert used == schemes


def references(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_every_reference_leads_to_a_schema_and_every_schema_is_used() -> None:
    """No dangling name, no leftover."""
    schemas = {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]}
    assert set(references(DOCUMENT)) == schemas


def test_the_head_of_the_document_is_that_of_openapi_3_1() -> None:
    """With the version that runs and where the paths begin."""
    assert DOCUMENT["openapi"] == "3.1.0"
    assert DOCUMENT["info"] == {"title": "Broadcast hub", "version": "1.2.3"}
    assert DOCUMENT["servers"] == [{"url": "/"}]
