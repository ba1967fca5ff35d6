"""The golden files: what the hub and both clients have to agree on, read by the tests of all.

One file for each kind of thing on the wire. A name that one side changes alone makes a test of
the hub or of a client fail; a change of a file changes the protocol (clients/PROTOCOL.md).
"""

import json
from pathlib import Path
from typing import Any

DIRECTORY = Path(__file__).parents[1] / "golden"

Case = dict[str, Any]


def golden(kind: str) -> Any:
    """Returns the contents of one golden file, such as `pushes`."""
    return json.loads((DIRECTORY / f"{kind}.json").read_text())


def golden_case(kind: str, name: str) -> Case:
    """Returns one named case of a file that is a list."""
    (found,) = (case for case in golden(kind) if case["name"] == name)
    return dict(found)


def name_of(case: object) -> str:
    """Returns the name of a case for pytest's ids."""
    return str(case["name"]) if isinstance(case, dict) and "name" in case else str(case)


def shape(value: object) -> object:
    """Returns the part of a value that must not change: its names, and the kind of each value.

    A list has the shape of its longest element.
    """
    if isinstance(value, dict):
        return {name: shape(each) for name, each in value.items()}
    if isinstance(value, list):
        return [shape(max(value, key=lambda each: len(str(each))))] if value else []
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return "number" if is_number else type(value).__name__
