"""Every block of the guides to the Python client runs against a real hub and keeps its promise."""

import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support.hub_process import HubProcess
from tests.support.snippets import blocks

SAYS = {
    "many": r"\w+:1\n1000\nnews\n",
    "since": r"\{'id': 2\}\n",
    "sync": r"\{'id': 3\}\n",
    "threads": r"\w+:\d+\n",
    "options": r"",
    "pattern": r"prices:eur 1.08\nprices:usd 0.93\n",
}


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    with HubProcess() as process:
        yield process


def command(label: str, hub: HubProcess) -> list[str]:
    (block,) = blocks(label)
    text = block.text.replace("http://127.0.0.1:8000", hub.url)
    return [sys.executable, "-u", "-W", "error", "-c", text]


@pytest.mark.parametrize("label", SAYS)
def test_a_block_runs_and_prints_what_it_should(hub: HubProcess, label: str) -> None:
    """As a program of its own, with warnings as errors."""
    ended = subprocess.run(
        command(label, hub), capture_output=True, text=True, timeout=40, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert re.fullmatch(SAYS[label], ended.stdout), ended.stdout
