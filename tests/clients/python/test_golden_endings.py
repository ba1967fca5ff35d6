"""How a connection ends, in the golden files and for the Python client."""

import json

import pytest

from hub_client.errors import forbids_reconnect
from hub_client.frames import decode
from tests.support.golden import Case, golden, golden_case


@pytest.mark.parametrize("name", ["goodbye, come back", "goodbye, for good"])
def test_a_golden_goodbye_is_read_with_its_window(name: str) -> None:
    """The window is None if the hub names none."""
    wire = golden_case("pushes", name)["wire"]
    frame = decode(json.dumps(wire).encode())
    assert (frame.code, frame.reason) == (wire["code"], wire["reason"])
    assert frame.reconnect_within_ms == wire.get("reconnect_within_ms")


@pytest.mark.parametrize("case", golden("closes"), ids=lambda case: str(case["code"]))
def test_the_client_comes_back_after_the_golden_close_codes_that_allow_it(case: Case) -> None:
    """The client does not come back after any other code."""
    assert forbids_reconnect(case["code"]) is not case["reconnect"]
