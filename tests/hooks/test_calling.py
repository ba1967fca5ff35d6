"""What calls of the application have in common, and what none of them has of another."""

import pytest

from hub.hooks.calling import Caller
from tests.support.application import Application


@pytest.mark.parametrize("name", ["session", "s{}"], ids=["the same", "another each time"])
async def test_a_cookie_of_the_application_goes_with_no_other_call(name: str) -> None:
    """It is of the peer that was asked about; the next question may be about any other."""
    async with Application() as app:
        app.fields = lambda: f"Set-Cookie: {name.format(len(app.asked))}=1; Path=/\r\n"
        caller = Caller(app.url, timeout_seconds=10)
        for _ in range(3):
            assert (await caller.post(b"{}", {}))[0] == 200
        await caller.close()
    assert ["cookie" in asked.headers for asked in app.asked] == [False] * 3
    assert app.connections == 1
