"""The dashboard's view of who is refused and whom limits hold back."""

from collections.abc import Iterator

import httpx2 as httpx
import pytest
from playwright.async_api import Page, expect

from tests.browser.dashboard import faults, go, sign_in, width_of
from tests.support.hub_process import HubProcess

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(90),
    pytest.mark.asyncio(loop_scope="session"),
]
OPERATOR, PUBLISHER = "an-operator-key-of-some-length-or-so", "a-publisher-key-of-some-length-or-so"
EVIL = "https://elsewhere.example"


@pytest.fixture
def hub() -> Iterator[HubProcess]:
    with HubProcess(
        HUB_OPERATOR_KEYS=OPERATOR,
        HUB_PUBLISH_KEYS=PUBLISHER,
        HUB_RATE_PUBLISHES="2/60",
        HUB_TRUSTED_PROXIES="127.0.0.1",
    ) as hub:
        yield hub


def ask(hub: HubProcess, method: str, path: str, address: str, **headers: str) -> int:
    """As a client of that address, behind a proxy that the hub trusts."""
    headers |= {"X-Forwarded-For": address}
    return httpx.request(method, f"{hub.url}{path}", headers=headers, json=1).status_code


async def test_an_operator_sees_who_is_refused_and_whom_limits_hold_back(
    hub: HubProcess, page: Page
) -> None:
    """By reason and address, with the page's origin; it comes by itself, and fits a phone."""
    for _ in range(3):
        assert ask(hub, "POST", "/api/publish/a", "203.0.113.9", Authorization="Bearer no") == 401
    assert ask(hub, "POST", "/api/publish/a", "2001:db8::5", Origin=EVIL) == 403
    keyed = {"Authorization": f"Bearer {PUBLISHER}"}
    assert [ask(hub, "POST", "/api/publish/a", "198.51.100.7", **keyed) for _ in range(4)] == [
        200, 200, 429, 429
    ]  # fmt: skip
    await sign_in(page, OPERATOR)
    await go(page, hub.url, "refused")
    refusals = page.get_by_role("table", name="Refusals")
    limited = page.get_by_role("table", name="Limits that hold somebody back")
    key = refusals.get_by_role("row").filter(has_text="203.0.113.9")
    await expect(key).to_contain_text("key3")
    await expect(refusals.get_by_role("row").filter(has_text=EVIL)).to_contain_text("2001:db8::/64")
    held = limited.get_by_role("row").filter(has_text="publishes")
    await expect(held).to_contain_text("2key")
    await expect(held).to_contain_text("198.51.100.7")
    assert PUBLISHER not in await page.content()
    # Nothing else happens at this hub: it is asked again all the same.
    ask(hub, "POST", "/api/publish/a", "203.0.113.9", Authorization="Bearer no")
    await expect(key).to_contain_text("key4")
    assert await faults(page) == []
    await page.set_viewport_size({"width": 390, "height": 844})
    assert await width_of(page) == 390
    await expect(key).to_be_visible()
    assert await faults(page) == []
    await page.get_by_role("searchbox", name="Address").fill("198.51.100.7")
    await page.get_by_role("button", name="Filter").click()
    await expect(page.get_by_text("Nobody was refused")).to_be_visible()
    await expect(held).to_be_visible()
    assert page.url.endswith("#/refused?address=198.51.100.7")


async def test_bans_are_listed_and_lifted_there(hub: HubProcess, page: Page) -> None:
    """Also those of a subject that has no connection any more."""
    operator = {"Authorization": f"Bearer {OPERATOR}"}
    with httpx.Client(base_url=hub.url, headers=operator) as client:
        ban = {"seconds": 7200, "reason": "spam"}
        assert client.put("/api/subjects/ann/ban", json=ban).status_code == 200
        assert client.post("/api/tokens/revoke", json={"jti": "t-1"}).status_code == 200
        await sign_in(page, OPERATOR)
        await go(page, hub.url, "refused")
        bans = page.get_by_role("table", name="Bans and revocations")
        ann = bans.get_by_role("row").filter(has_text="ann")
        await expect(ann).to_contain_text("spam")
        await expect(ann).to_contain_text("1 h 59 min")
        await expect(bans.get_by_role("row").filter(has_text="t-1")).to_contain_text("one token")
        assert await faults(page) == []
        await ann.get_by_role("button", name="Lift").click()
        await page.get_by_role("dialog").get_by_role("button", name="Lift the ban").click()
        await expect(ann).to_have_count(0)
        assert client.get("/api/subjects/ann").json()["ban"] is None
