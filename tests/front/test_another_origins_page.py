"""An ordinary page of another origin, in Chromium, tries to act through bodies it may send."""

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2 as httpx
import pytest
from playwright.async_api import Page

from tests.support.frames import UPGRADE
from tests.support.hub_process import HubProcess

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="session"),
]

# Simple requests, without a preflight. The body is full of requests, so that a read of it begins
# with one wherever the browser cuts it.
ATTACK = """async ([url, hidden, times]) => {
  const statuses = [];
  for (let number = 0; number < times; number++) {
    const padding = " ".repeat((number % 10) * 6553);
    const body = padding + hidden.repeat(1 + (number % 7) * 100);
    try {
      const answer = await fetch(url, {
        method: "POST", mode: "no-cors", body, headers: { "Content-Type": "text/plain" },
      });
      statuses.push(answer.type);
    } catch (error) {
      statuses.push(String(error));
    }
  }
  return statuses;
}"""
PUBLISH = "POST /api/publish/smuggled HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n9"
HIDDEN = {
    "websocket": f"GET /ws?channel=smuggled HTTP/1.1\r\nHost: localhost\r\n{UPGRADE}\r\n",
    "publish": PUBLISH,
    "stream": f"GET /sse?channel=smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n{PUBLISH}",
}
TIMES = 30


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>evil</title>")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        pass


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[str]:
    """A page of another origin: `localhost`, where the hub is `127.0.0.1`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Page)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://localhost:{server.server_port}/"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    with HubProcess() as process:
        yield process


@pytest.mark.parametrize("hidden", HIDDEN)
async def test_a_page_of_another_origin_publishes_nothing(
    hub: HubProcess, elsewhere: str, page: Page, hidden: str
) -> None:
    """All 30 of its POSTs are refused, and none of their bodies is read as a request."""
    before = await metric(hub, 'hub_http_errors_total{code="forbidden"}')
    await page.goto(elsewhere)
    url = f"{hub.url}/api/publish/open"
    told = await page.evaluate(ATTACK, [url, HIDDEN[hidden], TIMES])
    assert told == ["opaque"] * TIMES
    assert await metric(hub, 'hub_http_errors_total{code="forbidden"}') - before == TIMES
    assert await metric(hub, "hub_publications_total") == 0
    assert await metric(hub, "hub_connections_opened_total") == 0


async def metric(hub: HubProcess, start: str) -> float:
    """The sum of the samples whose names begin so."""
    answer = await asyncio.to_thread(httpx.get, f"{hub.url}/metrics", timeout=30)
    lines = [line for line in answer.text.splitlines() if line.startswith(start)]
    return sum(float(line.rpartition(" ")[2]) for line in lines)
