"""Chromium's own EventSource, which the hub did not write, reads `/sse`."""

import httpx2 as httpx
import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import publish
from tests.support.hub_process import HubProcess

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="session"),
]

# Writes what arrives on each channel into the page's title, where the test can wait for it.
# How two channels interleave is not promised.
LISTEN = """() => {
  const seen = { a: [], b: [] };
  const source = new EventSource("sse?channel=a&channel=b");
  const add = (channel, what) => {
    seen[channel].push(what);
    document.title = `a: ${seen.a.join(" ")}, b: ${seen.b.join(" ")}`;
  };
  const read = ({ data }) => {
    const { op, channel, offset } = JSON.parse(data);
    add(channel, offset ?? op);
  };
  source.onmessage = read;
  source.addEventListener("subscribed", read);
  source.addEventListener("gap", read);
}"""


async def test_event_source_gets_messages_and_resumes_every_channel_after_a_cut(
    plain_hub: HubProcess, page: Page
) -> None:
    """Publications during the cut arrive once and in order, by one Last-Event-ID."""
    await page.goto(f"{plain_hub.url}/healthz")  # a page of the hub's origin without a client
    await page.evaluate(LISTEN)
    await expect(page).to_have_title("a: subscribed, b: subscribed")
    for channel in ("a", "b", "a"):
        publish(plain_hub, channel, 0)
    await expect(page).to_have_title("a: subscribed 1 2, b: subscribed 1")
    cut_all(plain_hub)
    for channel in ("a", "b"):
        publish(plain_hub, channel, 0)
    await expect(page).to_have_title("a: subscribed 1 2 subscribed 3, b: subscribed 1 subscribed 2")


def cut_all(hub: HubProcess) -> None:
    """Close every connection of the hub, as an operator may."""
    listed = httpx.get(f"{hub.url}/api/connections", timeout=30).json()
    for record in listed["connections"]:
        path = f"{hub.url}/api/connections/{record['connection']}"
        httpx.delete(path, timeout=30).raise_for_status()
