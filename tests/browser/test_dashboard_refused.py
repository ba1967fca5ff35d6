"""The dashboard lists the refused peers and those that limits hold back."""

import asyncio
import json
from collections.abc import Iterator

import httpx2 as httpx
import jwt
import pytest
import websockets
from playwright.async_api import Page, expect

from tests.browser.dashboard import faults, go, sign_in, width_of
from tests.support.hub_process import HubProcess

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(240),
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
    """They are listed by reason and address, with the page's origin; the list renews
    itself, and fits a phone."""
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
    """The ban of a subject without a connection is listed too."""
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


async def test_subjects_are_banned_and_tokens_revoked_there(hub: HubProcess, page: Page) -> None:
    """A subject without a connection can be banned too, and the dialog says what is missing."""
    operator = {"Authorization": f"Bearer {OPERATOR}"}
    await sign_in(page, OPERATOR)
    await go(page, hub.url, "refused")
    rows = page.get_by_role("table", name="Bans and revocations").get_by_role("row")
    dialog = page.get_by_role("dialog")
    await page.get_by_role("button", name="Ban a subject").click()
    await dialog.get_by_label("Subject").fill("ann")
    await dialog.get_by_label("Minutes").fill("120")
    await dialog.get_by_label("Reason").fill("spam")
    assert await faults(page) == []
    await dialog.get_by_role("button", name="Ban", exact=True).click()
    await expect(rows.filter(has_text="ann")).to_contain_text("spam")
    revoke = page.get_by_role("button", name="Revoke tokens")
    await revoke.click()
    await dialog.get_by_role("button", name="Revoke", exact=True).click()
    await expect(dialog.get_by_role("alert")).to_have_text(
        "Give either a subject or a token's name."
    )
    assert await faults(page) == []
    await dialog.get_by_role("textbox", name="Subject").fill("bob")
    await dialog.get_by_role("button", name="Revoke", exact=True).click()
    await expect(rows.filter(has_text="bob")).to_have_count(1)
    await revoke.click()
    await dialog.locator("input[name=jti]").fill("t-9")
    await dialog.get_by_role("button", name="Revoke", exact=True).click()
    await expect(rows.filter(has_text="t-9")).to_contain_text("one token")
    bans = httpx.get(f"{hub.url}/api/bans", headers=operator).json()["bans"]
    held = {each["kind"]: each for each in bans}
    assert (held["ban"]["sub"], held["ban"]["reason"]) == ("ann", "spam")
    assert held["ban"]["until_ms"] - held["ban"]["at_ms"] == 7_200_000
    assert held["token"]["jti"] == "t-9"
    subject = held["subject"]
    assert 0 < subject["issued_before"] - subject["at_ms"] / 1000 <= 2


SIGNING = "a-signing-key-of-more-than-32-bytes!"


async def test_a_subject_is_closed_and_banned_on_the_page_of_its_connection(page: Page) -> None:
    """All its connections end with the reason. Closed, it may come again; banned, it may not."""
    grants = {"subscribe": ["a"]}
    token = jwt.encode({"sub": "bob", "hub": grants}, SIGNING, algorithm="HS256")
    with HubProcess(HUB_OPERATOR_KEYS=OPERATOR, HUB_TOKEN_KEYS=SIGNING) as hub:
        url = f"ws{hub.url[4:]}/ws?channel=a&token={token}"
        await sign_in(page, OPERATOR)
        dialog, toast = page.get_by_role("dialog"), page.locator(".toast")
        for button, told, ended in (
            ("Close all its connections", "connections of bob are closed", "closed by operator"),
            ("Ban subject", "bob is banned", "spam"),
        ):
            async with websockets.connect(url) as one, websockets.connect(url) as two:
                connection = json.loads(await one.recv())["connection"]
                await go(page, hub.url, f"connections/{connection}")
                await page.get_by_role("button", name=button).click()
                if ended == "spam":
                    await dialog.get_by_label("Reason").fill(ended)
                await dialog.locator("button.danger").click()
                await expect(toast.filter(has_text=told)).to_be_visible()
                for peer in (one, two):
                    await asyncio.wait_for(peer.wait_closed(), 30)
                    assert (peer.close_code, peer.close_reason) == (4403, ended)
        async with websockets.connect(url) as banned:
            await asyncio.wait_for(banned.wait_closed(), 30)
            assert (banned.close_code, banned.close_reason) == (4403, "spam")


async def test_a_subject_is_acted_on_by_its_name_among_the_connections(page: Page) -> None:
    """An operator who knows a name needs no connection of it, and sees whether it is banned."""
    token = jwt.encode({"sub": "bob", "hub": {"subscribe": ["a"]}}, SIGNING, algorithm="HS256")
    with HubProcess(HUB_OPERATOR_KEYS=OPERATOR, HUB_TOKEN_KEYS=SIGNING) as hub:
        url = f"ws{hub.url[4:]}/ws?channel=a&token={token}"
        await sign_in(page, OPERATOR)
        dialog, bar = page.get_by_role("dialog"), page.locator(".subject")
        await go(page, hub.url, "connections")
        await expect(bar).to_be_hidden()
        await page.get_by_role("button", name="Ban a subject").click()
        await expect(dialog.get_by_label("Subject")).to_be_visible()
        await page.keyboard.press("Escape")
        async with websockets.connect(url) as bob:
            await page.get_by_role("link", name="bob", exact=True).click()
            await expect(page.get_by_role("searchbox", name="Subject")).to_have_value("bob")
            await expect(bar).to_contain_text("Of the subject bob:")
            await expect(bar.get_by_role("button", name="Lift ban")).to_be_hidden()
            await bar.get_by_role("button", name="Revoke its tokens").click()
            await dialog.get_by_role("button", name="Revoke", exact=True).click()
            await asyncio.wait_for(bob.wait_closed(), 10)
            assert bob.close_code == 4401
        # The hub closes bob before the page has the answer, and the page takes no text until then.
        await expect(dialog).to_be_hidden()
        await page.get_by_role("searchbox", name="Subject").fill("ann")
        await page.get_by_role("button", name="Filter").click()
        await expect(bar).to_contain_text("Of the subject ann:")
        await expect(page.get_by_text("No connections")).to_be_visible()
        await bar.get_by_role("button", name="Ban subject").click()
        await dialog.get_by_label("Reason").fill("spam")
        await dialog.get_by_role("button", name="Ban", exact=True).click()
        await expect(bar).to_contain_text("ann is banned for 59 min")
        await expect(bar).to_contain_text("(spam)")
        for width in (1280, 390):
            await page.set_viewport_size({"width": width, "height": 844})
            assert await width_of(page) == width
            assert await faults(page) == []
        await bar.get_by_role("button", name="Lift ban").click()
        await dialog.get_by_role("button", name="Lift the ban").click()
        await expect(bar).to_contain_text("Of the subject ann:")
        bans = httpx.get(f"{hub.url}/api/bans", headers={"Authorization": f"Bearer {OPERATOR}"})
        assert [(each["kind"], each["sub"]) for each in bans.json()["bans"]] == [("subject", "bob")]
        await go(page, hub.url, "closed")
        await page.get_by_role("link", name="bob", exact=True).click()
        await expect(bar).to_contain_text("Of the subject bob:")
