"""The browser client plays the script of abilities that both clients share.

The script is `tests/clients/abilities.json`. The client runs in Chromium, out of the file that a
hub serves, over each transport.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Page, Route

from tests.support.abilities import NAMESPACES, SCENARIOS, Scenario, judge, made
from tests.support.golden import name_of
from tests.support.hub_process import HubProcess

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="session"),
]

PLAYER = Path(__file__).parent / "abilities.js"


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    with HubProcess(HUB_NAMESPACES=NAMESPACES) as running:
        yield running


@pytest.mark.parametrize("transport", ["websocket", "sse", "poll"])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=name_of)
async def test_the_browser_client_can(
    hub: HubProcess, page: Page, scenario: Scenario, transport: str
) -> None:
    """The client plays the same script over every transport."""

    async def answer(route: Route) -> None:
        script = f'<script type="module">{PLAYER.read_text()}</script>'
        await route.fulfill(body=f"<!doctype html>{script}", content_type="text/html")

    await page.route("**/abilities", answer)
    await page.goto(f"{hub.url}/abilities")
    await page.wait_for_function("() => !!globalThis.play")
    played = made(scenario, f"browser-{transport}")
    result = await page.evaluate(
        "([scenario, transport]) => play(scenario, transport)", [played, transport]
    )
    assert result["wrong"] == []
    judge(played, result["told"])
