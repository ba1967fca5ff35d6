"""The configurations of `hub/docs/proxies.md` before two nodes that share a Redis."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack

import httpx2 as httpx
import pytest

from hub_client import Gap, HubClient, Publisher
from tests.support.hub_process import HubProcess
from tests.support.proxies.documented import DOCUMENTED, documented
from tests.support.redis_server import RedisServer
from tests.support.snippets import ROOT, Block, blocks, finished

pytestmark = pytest.mark.timeout(240)
MESSAGES = 60
SECONDS = 20.0


class Deployment:
    def __init__(self, url: str, nodes: list[HubProcess]) -> None:
        self.url = url
        self.nodes = nodes


def node_on(redis: RedisServer) -> HubProcess:
    """As the document starts one."""
    trusted = "127.0.0.1"
    return HubProcess(HUB_BROKER=redis.url, HUB_TRUSTED_PROXIES=trusted, HUB_DRAIN_SECONDS="1")


@pytest.fixture(params=DOCUMENTED)
def deployment(request: pytest.FixtureRequest, redis: RedisServer) -> Iterator[Deployment]:
    with ExitStack() as stack:
        nodes = [stack.enter_context(node_on(redis)) for _ in range(2)]
        proxy = stack.enter_context(documented(request.param, [node.port for node in nodes]))
        yield Deployment(proxy.url, nodes)


@pytest.mark.parametrize("transport", ["websocket", "sse", "poll"])
async def test_nothing_is_lost_while_the_nodes_are_restarted_in_turn(
    deployment: Deployment, transport: str
) -> None:
    """Everything arrives once and in order, by each transport, and publishers notice nothing."""
    seen: list[object] = []
    client = HubClient(deployment.url, transports=(transport,))
    async with client as hub, Publisher(deployment.url) as out:
        subscription = hub.subscribe("prices", last=100, gaps=True)
        await out.publish("prices", -1)

        async def read() -> None:
            async for item in subscription:
                seen.append(item if isinstance(item, Gap) else item.data)
                if seen[-1] == MESSAGES - 1:
                    return

        reading = asyncio.create_task(read())
        for number in range(MESSAGES):
            await out.publish("prices", number)
            if number == MESSAGES // 3:
                await asyncio.to_thread(deployment.nodes[0].restart)
            if number == 2 * MESSAGES // 3:
                await asyncio.to_thread(deployment.nodes[1].restart)
        async with asyncio.timeout(SECONDS):
            await reading
    assert [each for each in seen if each != -1] == list(range(MESSAGES))


def test_a_path_that_asks_nobody_who_they_are_is_not_led_to(deployment: Deployment) -> None:
    """Every other path is led to the hub."""
    for path in ("/metrics", "/healthz", "/readyz"):
        assert httpx.get(deployment.url + path, timeout=SECONDS).status_code == 404
    for path in ("/", "/docs", "/dashboard", "/client.js", "/api/channels"):
        assert httpx.get(deployment.url + path, timeout=SECONDS).status_code == 200


def test_the_hub_sees_who_stands_before_the_proxy(deployment: Deployment) -> None:
    """Here somebody behind a trusted proxy of the same machine."""
    url = f"{deployment.url}/sse?channel=prices"
    with httpx.stream("GET", url, headers={"X-Forwarded-For": "203.0.113.7"}, timeout=SECONDS):
        listed = httpx.get(f"{deployment.url}/api/connections", timeout=SECONDS).json()
        assert "203.0.113.7" in {each["address"] for each in listed["connections"]}


def test_the_compose_file_has_the_documents_nginx() -> None:
    """With the names that its containers have, and nothing else."""
    (block,) = blocks("two-nodes-nginx")
    text = block.text.replace("127.0.0.1:8001", "hub1:8000").replace("127.0.0.1:8002", "hub2:8000")
    assert (ROOT / "k8s" / "nginx.conf").read_text() == text


def test_the_commands_for_two_nodes_start_two_on_one_redis() -> None:
    """`hub config` in place of `hub serve` shows what each would use."""
    (block,) = blocks("two-nodes")
    text = block.text.replace("hub serve", "hub config --json").replace(" &", "")
    shown = finished(Block("sh", "", text))
    assert shown.count("redis://127.0.0.1:6379") == 2
    assert "8001" in shown
    assert "8002" in shown
