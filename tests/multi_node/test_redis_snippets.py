"""The documents' snippets for a Redis run against one, with a node that listens."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from tests.support.hub_process import HubProcess
from tests.support.redis_server import PROGRAM, RedisServer
from tests.support.snippets import Block, blocks, finished
from tests.support.waiting import eventually_blocking

PORT = "6379"


def at(block: Block, redis: RedisServer) -> Block:
    assert PORT in block.text
    return Block(block.language, block.label, block.text.replace(PORT, str(redis.port)))


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    if shutil.which(PROGRAM) is None:
        pytest.skip(f"{PROGRAM} is not installed")
    with RedisServer() as running:
        yield running


@pytest.fixture(scope="module")
def hub(server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """A node with the settings that the document shows."""
    (block,) = blocks("allow-raw")
    path: Path = tmp_path_factory.mktemp("settings") / "hub.toml"
    path.write_text(block.text)
    with HubProcess("--config", str(path), HUB_BROKER=server.url) as running:
        yield running


CHANNELS = {"prices", "ticks:eur"}


def polled(hub: HubProcess, query: str, secret: str = "") -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    answer = httpx.get(f"{hub.url}/poll?{query}", headers=headers, timeout=10)
    told: dict[str, Any] = answer.raise_for_status().json()
    return told


def publishes_both(hub: HubProcess, publish: Callable[[], object]) -> None:
    """Checks that `publish` makes a publication with an offset on one channel
    and one without on another."""
    welcome = polled(hub, "channel=prices&channel=ticks:eur&wait=0")["welcome"]
    session = partial(polled, hub, secret=welcome["secret"])
    query = f"connection={welcome['connection']}"
    came: list[dict[str, object]] = []

    def subscribed() -> bool:
        # What is published before that is none of this session's.
        return set(session(f"{query}&wait=0")["positions"]) == CHANNELS

    def both() -> bool:
        came.extend(session(f"{query}&wait=10")["pushes"])
        return {push["channel"] for push in came} == CHANNELS

    eventually_blocking(subscribed, what="both subscriptions")
    # At once, so that the session is continued however long the snippet takes to start.
    with ThreadPoolExecutor(1) as elsewhere:
        publishing = elsewhere.submit(publish)
        eventually_blocking(both, what="both publications")
        publishing.result()
    numbered = [push for push in came if push["channel"] == "prices"]
    (raw,) = [push for push in came if push["channel"] == "ticks:eur"]
    assert numbered[0]["data"] == raw["data"] == {"eur": 1.09}
    assert "offset" in numbered[0]
    assert "offset" not in raw


@pytest.mark.parametrize("block", blocks("redis"), ids=str)
def test_a_snippet_publishes_with_an_offset_and_without(
    hub: HubProcess, server: RedisServer, block: Block
) -> None:
    """The first as the hub itself does it, the second to whoever is there."""
    if block.language == "sh" and shutil.which("redis-cli") is None:
        pytest.skip("redis-cli is not installed")
    publishes_both(hub, lambda: finished(at(block, server)))


def test_a_snippet_puts_a_row_and_takes_it_away(hub: HubProcess, server: RedisServer) -> None:
    (block,) = blocks("redis-rows")
    if shutil.which("redis-cli") is None:
        pytest.skip("redis-cli is not installed")
    finished(at(block, server))
    path = "/api/channels/prices/history?limit=100"
    *_, put, removed = httpx.get(hub.url + path).raise_for_status().json()["publications"]
    assert (put["key"], put.get("remove", False)) == ("eur", False)
    assert (removed["key"], removed["remove"]) == ("eur", True)


def test_the_snippet_for_node_publishes_as_well(
    hub: HubProcess, server: RedisServer, tmp_path: Path
) -> None:
    """With the client that npm has under the name of redis."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("Node.js and npm are not installed")
    (block,) = blocks("node-redis")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    script = tmp_path / "publish.js"
    script.write_text(at(block, server).text)
    install = [npm, "install", "--silent", "--no-audit", "--no-fund", "redis@6"]
    subprocess.run(install, cwd=tmp_path, check=True, timeout=50)
    run = [node, str(script)]
    publishes_both(hub, lambda: subprocess.run(run, cwd=tmp_path, check=True, timeout=20))


def test_the_command_of_the_documents_starts_a_node_on_redis() -> None:
    """`hub config` in place of `hub serve` shows what it would use."""
    for block in blocks("nodes"):
        shown = finished(Block("sh", "", block.text.replace("hub serve", "hub config")))
        assert "redis://127.0.0.1:6379" in shown
