"""An answer that comes word by word, in a real browser that reloads in the middle of it."""

import re
from collections.abc import Iterator

import pytest
from playwright.async_api import Page, expect

from tests.support.example_app import AnswerApp
from tests.support.proxies import nginx

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="session"),
]

NUMBERS = " ".join([*(f"{number}," for number in range(1, 40)), "40."])
WHOLE = f"Well: How far can you count? {NUMBERS}"


@pytest.fixture
def app() -> Iterator[AnswerApp]:
    with AnswerApp(ANSWER_WORD_SECONDS="0.15") as running:
        yield running


async def ask_and_reload_in_the_middle(page: Page, url: str) -> None:
    await page.goto(f"{url}/ask")
    await page.locator("button").click()
    answer = page.locator("#answer")
    await expect(answer).to_have_text(re.compile(r"count\? 1, 2, 3,"))
    await expect(page.locator("#end")).to_be_hidden()
    await page.reload()
    # What was said so far, and then the rest: each word once.
    await expect(answer).to_have_text(re.compile(r"^Well: How far can you count\? 1, 2, 3, "))
    await expect(answer).to_have_text(WHOLE, timeout=60_000)
    await expect(page.locator("#end")).to_be_visible()
    # Who comes after the end gets it whole, and is told that it has ended.
    await page.reload()
    await expect(answer).to_have_text(WHOLE)
    await expect(page.locator("#end")).to_be_visible()


async def test_a_reload_in_the_middle_gets_what_was_said_then_the_rest_then_the_end(
    app: AnswerApp, page: Page
) -> None:
    await ask_and_reload_in_the_middle(page, app.url)


async def test_the_answer_arrives_behind_a_proxy_that_buffers(app: AnswerApp, page: Page) -> None:
    """No WebSocket, and streams that come when a buffer is full: the client polls."""
    with nginx.Nginx(nginx.buffering(app.port)) as proxy:
        await ask_and_reload_in_the_middle(page, proxy.url)
