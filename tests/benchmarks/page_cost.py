"""Measures what the browser client costs a page: CPU and memory at a rate, and the time to its
first message.

    uv run python -m tests.benchmarks.page_cost
    uv run python -m tests.benchmarks.page_cost --seconds 600 --rate 200

A real Chromium has a page for each transport, and one that reads a bare `WebSocket` and parses each
message, so that what the browser itself costs is seen beside it. CPU is that of a page's main
thread. The heap is looked at after a collection. The way to the first message goes through a
proxy that holds back every byte; it is told in round trips, because those are the same on a busy
machine.
"""

import argparse
import asyncio
import contextlib
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from playwright.async_api import Browser, CDPSession, Page, Route, async_playwright

from hub_client import Publisher
from tests.browser.conftest import CHROMIUM, CHROMIUM_ARGUMENTS
from tests.support.hub_process import HubProcess

CHANNEL = "page-cost"
TRANSPORTS = ("websocket", "sse", "poll")
BARE = "bare WebSocket"
PAYLOAD = {"eur": 1.09, "desk": "fx", "name": "x" * 160}
# Publications of one go.
BATCHES_PER_SECOND = 20
SETTLE_SECONDS = 5.0
# Long enough that what the machine adds is a small part of it.
HALF_TRIP_SECONDS = 0.3
LOADS = 3
TIMEOUT_MS = 60_000

BARE_PAGE = f"""<!doctype html><script>
  globalThis.got = 0;
  globalThis.gaps = 0;
  const socket = new WebSocket(`ws://${{location.host}}/ws?channel={CHANNEL}`);
  socket.onmessage = ({{ data }}) => (got += JSON.parse(data).op === "message" ? 1 : 0);
</script>"""


def client_page(transport: str, last: int) -> str:
    return f"""<!doctype html><script>
      globalThis.got = 0;
      globalThis.gaps = 0;
      globalThis.begun = performance.now();
    </script><script type="module">
      import {{ Hub }} from "/client.js";
      const hub = new Hub(undefined, {{ transports: ["{transport}"] }});
      const show = () => {{
        globalThis.first ??= performance.now();
        got += 1;
      }};
      hub.subscribe("{CHANNEL}", show, {{ last: {last}, onGap: () => (gaps += 1) }});
    </script>"""


async def opened(browser: Browser, url: str, body: str) -> Page:
    page = await (await browser.new_context()).new_page()

    async def answer(route: Route) -> None:
        await route.fulfill(body=body, content_type="text/html")

    await page.route("**/page-cost", answer)
    await page.goto(f"{url}/page-cost")
    return page


# -- at a rate -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reading:
    cpu_seconds: float
    heap_bytes: float
    got: int
    gaps: int


async def read(page: Page, session: CDPSession) -> Reading:
    await session.send("HeapProfiler.collectGarbage")
    answer = await session.send("Performance.getMetrics")
    found = {each["name"]: each["value"] for each in answer["metrics"]}
    got, gaps = await page.evaluate("[got, gaps]")
    return Reading(found["TaskDuration"], found["JSHeapUsedSize"], got, gaps)


async def publish(url: str, rate: int) -> None:
    """Until it is cancelled."""
    async with Publisher(url) as publisher:
        due = time.monotonic()
        while True:
            each = [publisher.publish(CHANNEL, PAYLOAD) for _ in range(rate // BATCHES_PER_SECOND)]
            await asyncio.gather(*each)
            due += 1 / BATCHES_PER_SECOND
            await asyncio.sleep(max(0.0, due - time.monotonic()))


async def at_a_rate(browser: Browser, url: str, *, rate: int, seconds: float) -> None:
    bodies = {name: client_page(name, 0) for name in TRANSPORTS} | {BARE: BARE_PAGE}
    pages = {name: await opened(browser, url, body) for name, body in bodies.items()}
    sessions = {name: await page.context.new_cdp_session(page) for name, page in pages.items()}
    for session in sessions.values():
        await session.send("Performance.enable")
    publishing = asyncio.create_task(publish(url, rate))
    await asyncio.sleep(SETTLE_SECONDS)
    before = {name: await read(pages[name], sessions[name]) for name in pages}
    await asyncio.sleep(seconds)
    after = {name: await read(pages[name], sessions[name]) for name in pages}
    publishing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await publishing
    for name, page in pages.items():
        first, last = before[name], after[name]
        count = last.got - first.got
        cpu = (last.cpu_seconds - first.cpu_seconds) / max(1, count)
        print(
            f"{name:>14}: {count:,} messages, {last.gaps} gaps, {cpu * 1e6:,.0f} us of the page's"
            f" CPU each, heap {first.heap_bytes / 1e3:,.0f} to {last.heap_bytes / 1e3:,.0f} KB"
        )
        await page.context.close()


# -- the first message -----------------------------------------------------------------------------


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on every byte half a round trip after it came, until the end."""
    late: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def write() -> None:
        data = b"-"
        while data:
            due, data = await late.get()
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            writer.write(data)
            await writer.drain()
        writer.close()

    writing = asyncio.create_task(write())
    data = b"-"
    while data:
        data = await reader.read(64 * 1024)
        late.put_nowait((time.monotonic() + HALF_TRIP_SECONDS, data))
    await writing


def far(port: int) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(2 * HALF_TRIP_SECONDS)  # TCP's own handshake
        there, back = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(pump(reader, back), pump(there, writer))

    return connected


@contextlib.asynccontextmanager
async def far_away(port: int) -> AsyncIterator[str]:
    """The address at which the hub is a round trip away."""
    server = await asyncio.start_server(far(port), "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()


async def to_the_first(browser: Browser, hub: HubProcess) -> None:
    async with Publisher(hub.url) as publisher:
        await publisher.publish(CHANNEL, PAYLOAD)
    async with far_away(hub.port) as url:
        for transport in TRANSPORTS:
            trips = []
            for _ in range(LOADS):
                page = await opened(browser, url, client_page(transport, 1))
                await page.wait_for_function("globalThis.first", timeout=TIMEOUT_MS)
                milliseconds = await page.evaluate("first - begun")
                trips.append(milliseconds / 2000 / HALF_TRIP_SECONDS)
                await page.context.close()
            print(f"{transport:>14}: the first message after {statistics.median(trips):.1f} trips")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=int, default=200, help="publications per second")
    asked = parser.parse_args()
    with HubProcess() as hub:
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(
                executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS
            )
            await to_the_first(browser, hub)
            await at_a_rate(browser, hub.url, rate=asked.rate, seconds=asked.seconds)
            await browser.close()


if __name__ == "__main__":
    asyncio.run(main())
