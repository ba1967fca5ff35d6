"""The script of what both clients can do (`tests/clients/abilities.json`), and its judge."""

import json
from pathlib import Path
from typing import Any

Scenario = dict[str, Any]
SCENARIOS: list[Scenario] = json.loads(
    (Path(__file__).parents[1] / "clients" / "abilities.json").read_text()
)
NAMESPACES = json.dumps(
    {
        "table": {"keyed": True},
        "room": {"presence": True},
        "seats": {"keyed": True, "presence": True},
    }
)


def made(scenario: Scenario, player: str) -> Scenario:
    """The scenario with channels of its own: two that run at the same hub do not meet."""
    number = SCENARIOS.index(scenario)
    found: Scenario = json.loads(json.dumps(scenario).replace(":X", f":{player}-{number}"))
    return found


def judge(scenario: Scenario, told: dict[str, list[Any]]) -> None:
    """Compare what each subscription heard."""
    for name, wanted in scenario["told"].items():
        heard = told[name]
        if scenario.get("ends"):
            # How many come between depends on the machine; no gap and no order does.
            assert [heard[0], heard[-1]] == wanted
            assert heard == sorted(set(heard))
        elif scenario.get("sorted"):
            assert sorted(heard) == wanted  # channels have no order among them
        else:
            assert heard == wanted
