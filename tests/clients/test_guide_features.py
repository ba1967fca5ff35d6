"""The snippets about state, presence, history and ends run against the hubs that they ask for."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from tests.support.hub_process import HubProcess
from tests.support.programs import running
from tests.support.snippets import Block, blocks, finished
from tests.support.waiting import eventually_blocking

SECONDS = 20.0
pytestmark = pytest.mark.timeout(180)


def block(label: str) -> Block:
    (only,) = blocks(label)
    return only


def documents(text: str) -> list[Any]:
    """The JSON documents that stand in `text`, with or without line ends between them."""
    found: list[Any] = []
    reader = json.JSONDecoder()
    while text := text.lstrip():
        value, end = reader.raw_decode(text)
        found.append(value)
        text = text[end:]
    return found


@pytest.fixture
def keyed(tmp_path: Path) -> Iterator[HubProcess]:
    path = tmp_path / "hub.toml"
    path.write_text(block("state-config").text)
    with HubProcess("--config", str(path)) as hub:
        yield hub


def test_a_table_is_published_read_and_followed(keyed: HubProcess, tmp_path: Path) -> None:
    """By HTTP, from a terminal, and from Python, with the change that comes later."""
    *published, removed, page = documents(finished(block("state-http"), keyed.url))
    assert [each["offset"] for each in (*published, removed)] == [1, 2, 3]
    rows = page["rows"]
    assert [(row["key"], row["data"]) for row in rows] == [("EURUSD", 1.08)]
    (shown,) = documents(finished(block("state-shown"), keyed.url))
    assert shown["key"] == "EURUSD"
    follow(keyed, "state-followed", '"op":"message"', tmp_path / "shell")
    follow(keyed, "state", "{'EURUSD': 1.09}", tmp_path / "python")


def follow(hub: HubProcess, label: str, told: str, log: Path) -> None:
    """Run a block until it has the row, and then until `told` stands there, for a change."""

    def wait_for(text: str) -> None:
        eventually_blocking(lambda: text in log.read_text(), seconds=SECONDS, what=text)

    with running(log, *block(label).command(hub.url), HUB_URL=hub.url, PYTHONUNBUFFERED="1"):
        wait_for("EURUSD")
        url = f"{hub.url}/api/publish/prices:fx?key=EURUSD"
        httpx.post(url, json=1.09, timeout=SECONDS).raise_for_status()
        wait_for(told)


def test_a_member_says_something_of_itself_and_is_asked_for() -> None:
    """By the settings, the program and the requests of the page."""
    (line,) = block("presence-hub").text.splitlines()
    settings, _, _ = line.partition(" uv run hub serve")
    with HubProcess(HUB_NAMESPACES=settings.removeprefix("HUB_NAMESPACES=").strip("'")) as hub:
        said = finished(block("presence-python"), hub.url)
        assert said == "{'name': 'Ann', 'typing': True}\n1\n"
        who, how_many = documents(finished(block("presence-asked"), hub.url))
    assert who["channel"] == how_many["channel"] == "chat:42"
    assert "members" in who
    assert "count" in how_many


def test_history_is_read_both_ways_and_from_a_moment_on_and_let_go_of() -> None:
    """A publication with a shorter time, or none, is kept for that time or not at all."""
    with HubProcess() as hub:
        for price in (1, 2, 3):
            httpx.post(f"{hub.url}/api/publish/prices", json=price).raise_for_status()
        pages = documents(finished(block("history-read"), hub.url))
        prices = [[each["data"] for each in page["publications"]] for page in pages]
        assert prices[:2] == [[1, 2, 3], [3, 2, 1]]
        assert prices[2] in ([1, 2, 3], [])  # by this machine's clock
        finished(block("history-less"), hub.url)
        shown = documents(finished(block("history-shown"), hub.url))
        (whole, *_) = documents(finished(block("history-read"), hub.url))
        kept = whole["publications"]
        assert shown == [*kept, *reversed(kept)]
        (page, *_) = documents(finished(block("history-read"), hub.url))
        kept = [each["data"] for each in page["publications"]]
        assert kept == [1, 2, 3, "for a minute"]
        finished(block("history-deleted"), hub.url)
        (page, *_) = documents(finished(block("history-read"), hub.url))
        assert page["publications"] == []


def test_a_loop_ends_behind_the_last_message_of_its_channel() -> None:
    """The program publishes the end itself."""
    with HubProcess() as hub:
        said = finished(block("ending"), hub.url)
    assert said.splitlines() == ["All", "is", "said", "", "the end"]


def test_an_answer_said_so_far_is_one_message() -> None:
    """The end of the answer comes as a message of its own."""
    with HubProcess() as hub:
        said = finished(block("joined"), hub.url)
    assert said.splitlines() == ["3 All is said", "0 "]
