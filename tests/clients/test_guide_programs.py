"""The documented commands of whole programs run them, with what the programs say that they need."""

import shutil
import subprocess
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.support.hub_process import HubProcess
from tests.support.programs import running
from tests.support.redis_server import free_port
from tests.support.snippets import ROOT, blocks, finished
from tests.support.waiting import eventually_blocking

# Only a failing test waits so long: on a busy machine uv makes an environment first.
SECONDS = 100.0
pytestmark = pytest.mark.timeout(240)


def command(label: str) -> list[str]:
    """The documented one; skips where what the program needs cannot be installed."""
    (block,) = blocks(label)
    words = block.text.split()
    assert words[:3] == ["uv", "run", "--script"]
    if shutil.which("uv") is None:
        pytest.skip("uv is not installed")
    sync = ("uv", "sync", "--quiet", "--script", words[3])
    if subprocess.run(sync, cwd=ROOT, capture_output=True, timeout=SECONDS, check=False).returncode:
        pytest.skip("what the program needs cannot be installed")
    return words


def wait_until_it_answers(url: str) -> None:
    def answers() -> bool:
        try:
            return httpx.get(url, timeout=SECONDS).status_code < 500
        except httpx.TransportError:
            return False

    eventually_blocking(answers, seconds=SECONDS, what=url)


@pytest.mark.parametrize(
    ("label", "path"), [("fastapi-example", "/ticker"), ("answer-example", "/ask")]
)
def test_a_program_that_runs_the_hub_serves_both(label: str, path: str, tmp_path: Path) -> None:
    """Its own page and the hub, on one port."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with running(tmp_path / "log", *command(label), cwd=ROOT, HUB_PORT=str(port)):
        wait_until_it_answers(f"{url}/healthz")
        assert httpx.get(url + path, timeout=SECONDS).status_code == 200


def test_an_order_that_django_takes_is_published(tmp_path: Path) -> None:
    """By the two commands of the page, at another port here."""
    (order,) = blocks("django-order")
    serve, port = command("django-example"), str(free_port())
    assert serve[-1] == "8001"
    serve[-1] = port
    with HubProcess() as hub, running(tmp_path / "log", *serve, cwd=ROOT, HUB_URL=hub.url):
        wait_until_it_answers(f"http://127.0.0.1:{port}/orders")
        here = type(order)("sh", "", order.text.replace("8001", port))
        assert '"announced"' in finished(here)
        kept = httpx.get(f"{hub.url}/api/channels/orders/history", timeout=SECONDS).json()
    assert [each["data"] for each in kept["publications"]] == [{"id": "17", "amount": 3}]
