"""How a connection ends, in the golden files and for the Python client."""

import json

import pytest

from hub_client.errors import forbids_reconnect
from hub_client.session import Leaving, Session
from tests.support.golden import Case, golden, golden_case


@pytest.mark.parametrize("name", ["goodbye, come back", "goodbye, for good"])
def test_a_golden_goodbye_is_read_with_its_window(name: str) -> None:
    """None where the hub names none."""
    case = golden_case("pushes", name)
    wire = case["wire"]
    window = wire.get("reconnect_within_ms")
    expected = Leaving(wire["code"], wire["reason"], window)
    assert Session().receive(json.dumps(wire).encode()) == expected


@pytest.mark.parametrize("case", golden("closes"), ids=lambda case: str(case["code"]))
def test_the_client_comes_back_after_the_golden_close_codes_that_allow_it(case: Case) -> None:
    """And after no other."""
    assert forbids_reconnect(case["code"]) is not case["reconnect"]
