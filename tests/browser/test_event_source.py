"""Chromium's own EventSource, which the hub did not write, reads `/sse`."""

import httpx
import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import HubProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(90)]

# Writes what arrives into the page's title, where the test can wait for it.
LISTEN = """() => {
  const seen = [];
  const source = new EventSource("sse?channel=a&channel=b");
  const add = (text) => { seen.push(text); document.title = seen.join(" "); };
  source.onmessage = ({ data }) => {
    const { channel, offset } = JSON.parse(data);
    add(`${channel}${offset}`);
  };
  source.addEventListener("subscribed", () => add("+"));
  source.addEventListener("gap", () => add("gap"));
}"""


async def test_event_source_gets_messages_and_resumes_every_channel_after_a_cut(
    plain_hub: HubProcess, page: Page
) -> None:
    """What is published while it is away arrives once, in order, by one Last-Event-ID."""
    await page.goto(f"{plain_hub.url}/icon.svg")  # a page of the hub's origin without a client
    await page.goto(plain_hub.url + "/healthz")
    await page.evaluate(LISTEN)
    await expect(page).to_have_title("+ +")
    for channel in ("a", "b", "a"):
        plain_hub.publish(channel, 0)
    await expect(page).to_have_title("+ + a1 b1 a2")
    cut_all(plain_hub)
    for channel in ("a", "b"):
        plain_hub.publish(channel, 0)
    # The two channels resume in either order; each has its own.
    await expect(page).to_have_title("+ + a1 b1 a2 + a3 + b2")


def cut_all(hub: HubProcess) -> None:
    """Close every connection of the hub, as an operator may."""
    listed = httpx.get(f"{hub.url}/api/connections", timeout=5).json()
    for record in listed["connections"]:
        path = f"{hub.url}/api/connections/{record['connection']}"
        httpx.delete(path, timeout=5).raise_for_status()
