"""A body is never a request, whatever stands before the hub.

Each body looks like requests for what the proxy denies, and comes so that a read of the hub
may begin with one of them: padded to usual sizes of reads, and in a segment of its own.
"""

import asyncio
import re
from collections.abc import Iterator

import httpx2 as httpx
import pytest

from tests.front.proxied import PROXIES
from tests.support.frames import UPGRADE
from tests.support.hub_process import HubProcess
from tests.support.proxies.daemon import Daemon
from tests.support.raw_connection import raw_connection

DENIED = "POST /api/publish/smuggled HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n9"
HIDDEN = {
    "publish": DENIED,
    "websocket": f"GET /ws?channel=smuggled HTTP/1.1\r\nHost: localhost\r\n{UPGRADE}\r\n{DENIED}",
    "stream": f"GET /sse?channel=smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n{DENIED}",
}
UPGRADES = [
    "",
    "Upgrade: h2c\r\nConnection: Upgrade\r\n",
    "Upgrade: x\r\nConnection: Upgrade\r\n",
    UPGRADE,
]
# What the hub answers before the body is there, and with it.
TARGETS = ["/nowhere", "/poll", "/ws", "/sse?channel=a", "/healthz", "/api/publish/open"]
EVIL = "Origin: http://evil.example\r\n"
# Where reads of proxies and of the hub end.
SIZES = [0, 4096, 16384, 65536]


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    with HubProcess(HUB_HISTORY_SIZE="100") as process:
        yield process


@pytest.fixture(scope="module", params=PROXIES)
def proxy(request: pytest.FixtureRequest, hub: HubProcess) -> Iterator[Daemon]:
    with PROXIES[request.param](hub.port) as daemon:
        yield daemon


def is_untouched(hub: HubProcess) -> bool:
    """Whether nothing was ever published in, or asked of, the channel that bodies name."""
    return httpx.get(f"{hub.url}/api/channels/smuggled", timeout=30).status_code == 404


async def attack(proxy: Daemon, head: str, body: bytes) -> list[int]:
    """Returns the statuses that a client gets that sends its body in a segment of its own."""
    async with raw_connection(proxy.url) as peer:
        peer.send(f"{head}Content-Length: {len(body)}\r\n\r\n")
        await peer.sent()
        await asyncio.sleep(0.01)
        peer.send(body)
        peer.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answers = await peer.rest()
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)]


async def test_the_rule_holds_where_nobody_attacks(proxy: Daemon) -> None:
    async with httpx.AsyncClient(base_url=proxy.url, timeout=30) as client:
        assert (await client.post("/api/publish/smuggled", content=b"1")).status_code == 403
        assert (await client.post("/api/publish/open", content=b"1")).status_code == 200


@pytest.mark.parametrize("hidden", HIDDEN)
async def test_no_body_gets_past_a_rule_and_nobody_gets_anothers_answer(
    hub: HubProcess, proxy: Daemon, hidden: str
) -> None:
    """Every target, kind of upgrade and size; honest clients ask beside it all the time."""
    text = HIDDEN[hidden]
    attacks: list[tuple[str, bytes]] = []
    for target in TARGETS:
        for fields in (*UPGRADES, EVIL):
            method = "GET" if target == "/healthz" else "POST"
            head = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n{fields}"
            size = SIZES[len(attacks) % len(SIZES)]
            attacks.append((head, b" " * size + text.encode()))
            attacks.append((head, text.encode() * 20))
    async with httpx.AsyncClient(base_url=proxy.url, timeout=30) as honest:
        for start in range(0, len(attacks), 6):
            several = attacks[start : start + 6]
            asked = [honest.get(f"/nowhere-{start}-{number}") for number in range(4)]
            attacking = [attack(proxy, head, body) for head, body in several]
            answers, found = await asyncio.gather(
                asyncio.gather(*attacking), asyncio.gather(*asked)
            )
            for number, answer in enumerate(found):
                assert answer.status_code == 404
                assert f"/nowhere-{start}-{number}" in answer.json()["detail"]
            for (head, _), statuses in zip(several, answers, strict=True):
                assert len(statuses) <= 2, (head, statuses)
                assert 101 not in statuses, (head, statuses)
    assert is_untouched(hub)
