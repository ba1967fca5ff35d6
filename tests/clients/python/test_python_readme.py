"""Every block of the Python client's README runs against a real hub and keeps its promise."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub_client import SyncPublisher
from tests.support.hub_process import HubProcess

README = Path(__file__).parents[3] / "clients" / "python" / "README.md"
BLOCKS = dict(
    re.findall(r"^```python (\w+)\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
)
SAYS = {
    "publish": r"\w+:1\n1000\n",
    "resume": r"\{'id': 2\}\n",
    "sync": r"\{'id': 3\}\n",
    "threads": r"\w+:\d+\n",
    "options": r"",
}


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    with HubProcess() as process:
        yield process


def command(label: str, hub: HubProcess) -> list[str]:
    text = BLOCKS[label].replace("http://127.0.0.1:8000", hub.url)
    return [sys.executable, "-u", "-W", "error", "-c", text]


def test_no_block_is_left_out() -> None:
    """Whoever adds one says what it prints."""
    assert BLOCKS.keys() == SAYS.keys() | {"subscribe"}


@pytest.mark.parametrize("label", SAYS)
def test_a_block_runs_and_prints_what_it_should(hub: HubProcess, label: str) -> None:
    """As a program of its own, with warnings as errors."""
    ended = subprocess.run(
        command(label, hub), capture_output=True, text=True, timeout=40, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert re.fullmatch(SAYS[label], ended.stdout), ended.stdout


def test_the_first_block_prints_what_is_published(hub: HubProcess) -> None:
    """It begins with the newest message and goes on until it is ended."""
    with SyncPublisher(hub.url) as publisher:
        publisher.publish("prices", {"eur": 2})
    with subprocess.Popen(command("subscribe", hub), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert "{'eur': 2}" in process.stdout.readline()
        finally:
            process.kill()
