"""The snippets of the guides in `hub/docs` run, against a real hub.

A fenced block has a language and a label (```` ```js gaps ````). Names of files, commands and
settings in it are checked by `tests/test_document_names.py`.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest
from websockets.sync.client import connect

from tests.support.hub_process import HubProcess
from tests.support.programs import running
from tests.support.proxies.nginx import Nginx
from tests.support.redis_server import free_port
from tests.support.snippets import URL, Block, blocks, finished
from tests.support.waiting import eventually_blocking

NODE = shutil.which("node")
# Only a failing test waits so long: a busy machine starts a program in ten seconds.
SECONDS = 20.0
START_SECONDS = 60.0
pytestmark = pytest.mark.timeout(180)


def run(block: Block, url: str, cwd: Path) -> str:
    """Run it to its end in `cwd`, with what a command keeps there too."""
    return finished(block, url, cwd=cwd, variables={"XDG_STATE_HOME": str(cwd / "state")})


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    with HubProcess() as running_hub:
        yield running_hub


def publish(hub: HubProcess, eur: float) -> None:
    url = f"{hub.url}/api/publish/prices"
    httpx.post(url, json={"eur": eur}, timeout=SECONDS).raise_for_status()


def history(hub: HubProcess, channel: str = "prices") -> list[object]:
    answer = httpx.get(f"{hub.url}/api/channels/{channel}/history", timeout=SECONDS).json()
    return [each["data"] for each in answer["publications"]]


def wait_for(log: Path, text: str) -> None:
    eventually_blocking(
        lambda: text in log.read_text(), seconds=START_SECONDS, what=f"{text} in {log}"
    )


@pytest.mark.skipif(NODE is None, reason="Node.js is not installed")
def test_the_subscriber_in_node_prints_what_is_published(hub: HubProcess, tmp_path: Path) -> None:
    """The newest message first, because it asks for it, and then the next."""
    (block,) = blocks("node")
    publish(hub, 1.0625)
    log = tmp_path / "log"
    with running(log, *block.command(hub.url), cwd=tmp_path, HUB_URL=hub.url, PYTHONUNBUFFERED="1"):
        wait_for(log, "1.0625")
        publish(hub, 1.125)
        wait_for(log, "1.125")


def test_an_application_publishes_in_the_hub_that_serves_it(tmp_path: Path) -> None:
    """Its path is beside the hub's own."""
    (block,) = blocks("serve")
    port = free_port()
    text = block.text.replace("port=8000", f"port={port}")
    url = f"http://127.0.0.1:{port}"

    def order() -> str:
        try:
            return str(httpx.post(f"{url}/orders", timeout=SECONDS).json()["position"])
        except httpx.TransportError:
            return ""

    with running(tmp_path / "log", *Block("python", "", text).command(URL)):
        position = eventually_blocking(order, seconds=START_SECONDS, what="the application")
        answer = httpx.get(f"{url}/api/channels/orders", timeout=SECONDS).json()
    assert answer["position"] == position


def test_a_file_is_published_line_by_line_and_once(hub: HubProcess, tmp_path: Path) -> None:
    """The snippet makes the same file anew: it was read already."""
    (block,) = blocks("ingest")
    before = len(history(hub))
    for _ in range(2):
        run(block, hub.url, tmp_path)
    assert history(hub)[before:] == [{"eur": 1.09}, "not JSON"]


def test_a_program_goes_on_where_it_was(hub: HubProcess, tmp_path: Path) -> None:
    """The program prints at its next start what was published while it did
    not run, and nothing twice."""
    publish(hub, 21)
    assert printed_by_resume(hub, tmp_path / "1", then=22) == ["{'eur': 21}", "{'eur': 22}"]
    publish(hub, 23)
    assert printed_by_resume(hub, tmp_path / "2", then=24) == ["{'eur': 23}", "{'eur': 24}"]


def printed_by_resume(hub: HubProcess, log: Path, *, then: int) -> list[str]:
    """Run it until it has kept the place of a price that is published when the first came."""
    (block,) = blocks("resume")
    place = log.parent / "prices.position"
    with running(log, *block.command(hub.url), cwd=log.parent, PYTHONUNBUFFERED="1"):
        wait_for(log, "eur")
        publish(hub, then)
        newest = f":{len(history(hub))}"
        eventually_blocking(
            # It is written after the line was printed.
            lambda: place.exists() and place.read_text().endswith(newest),
            seconds=START_SECONDS,
            what="the place",
        )
    return log.read_text().splitlines()


def test_the_rules_for_nginx_let_websockets_streams_and_publications_through(
    hub: HubProcess,
) -> None:
    """By the configuration as it stands there."""
    (block,) = blocks("proxy")
    publish(hub, 1.5)
    with Nginx(block.text.replace(URL, hub.url)) as proxy:
        query = "channel=prices&last=1"
        with connect(f"ws://127.0.0.1:{proxy.port}/ws?{query}", open_timeout=SECONDS) as session:
            pushes = [json.loads(session.recv(timeout=SECONDS)) for _ in range(3)]
        assert [push["op"] for push in pushes] == ["welcome", "subscribed", "message"]
        with httpx.stream("GET", f"{proxy.url}/sse?{query}", timeout=SECONDS) as stream:
            lines = stream.iter_lines()
            assert "message" in next(line for line in lines if '"data"' in line)
        answer = httpx.post(f"{proxy.url}/api/publish/prices", json=1, timeout=SECONDS)
        assert answer.status_code == 200
