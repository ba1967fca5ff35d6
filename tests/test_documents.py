"""The documents' snippets run and their tables are true.

Every fenced block with a label (```` ```sh publish ````) is run against a real hub; tables are
compared with the declarations they repeat. `python -m tests.test_documents` rewrites the table
of settings.
"""

import asyncio
import re
import shutil
import signal
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Iterator
from configparser import ConfigParser
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2 as httpx
import pytest

from hub.settings import load_settings
from hub.settings.catalog import declared
from hub.wire.codes import CloseCode
from tests.support.foreign_server import ForeignServer
from tests.support.hub_process import HubProcess
from tests.support.snippets import (
    DOCS,
    GUIDES,
    ROOT,
    RUN_SECONDS,
    Block,
    blocks,
    blocks_in,
    environment,
    finished,
)
from tests.support.waiting import eventually
from tests.transports.peers import Query, SsePeer

README = ROOT / "README.md"
SETTINGS, ENDPOINTS = DOCS / "settings.md", DOCS / "endpoints.md"
REGENERATE = "uv run python -m tests.test_documents"
TABLE_BEGIN = f"<!-- settings: made by `{REGENERATE}` -->\n"
TABLE_END = "<!-- end of settings -->\n"
KEYS = {"HUB_PUBLISH_KEYS": "p" * 32, "HUB_OPERATOR_KEYS": "o" * 32, "HUB_TOKEN_KEYS": "t" * 32}


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    with HubProcess() as running:
        yield running


def publish(hub: HubProcess, data: object) -> None:
    httpx.post(f"{hub.url}/api/publish/prices", json=data, timeout=30).raise_for_status()


def newest(hub: HubProcess, channel: str) -> tuple[int, object]:
    """The channel's last offset and data; 0 and None before the first."""
    answer = httpx.get(f"{hub.url}/api/channels/{channel}/history", timeout=30).json()
    kept = answer["publications"]
    return (kept[-1]["offset"], kept[-1]["data"]) if kept else (0, None)


# -- the snippets ------------------------------------------------------------------------------


@asynccontextmanager
async def output_of(block: Block, url: str) -> AsyncIterator[asyncio.StreamReader]:
    """The block as a process that runs until the end of `async with`."""
    process = await asyncio.create_subprocess_exec(
        *block.command(url), env=environment(url), cwd=ROOT, stdout=PIPE, stderr=PIPE
    )
    try:
        assert process.stdout is not None
        yield process.stdout
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.parametrize(
    "block", [b for b in blocks("subscribe") if b.language in {"sh", "python"}], ids=str
)
async def test_a_subscribing_snippet_prints_what_is_published(
    hub: HubProcess, block: Block
) -> None:
    """The newest message first, because each asks for `last`, and then the next."""
    publish(hub, {"eur": 1.0625})
    async with output_of(block, hub.url) as output, asyncio.timeout(RUN_SECONDS):
        for number in (b"1.0625", b"1.125"):
            while number not in (line := await output.readline()):
                assert line, "the snippet ended"
            publish(hub, {"eur": 1.125})


@pytest.mark.parametrize(
    "block", [b for b in blocks("subscribe") if b.language == "python"], ids=str
)
async def test_ctrl_c_ends_a_subscribing_snippet_quietly(hub: HubProcess, block: Block) -> None:
    """With the code that shells know, and without a traceback."""
    publish(hub, {"eur": 1.0})
    process = await asyncio.create_subprocess_exec(
        *block.command(hub.url), env=environment(hub.url), cwd=ROOT, stdout=PIPE, stderr=PIPE
    )
    async with asyncio.timeout(RUN_SECONDS):
        assert process.stdout is not None
        await process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
    assert (process.returncode, err.decode()) == (130, "")


@pytest.mark.parametrize("block", blocks("publish"), ids=str)
def test_a_publishing_snippet_publishes_the_price(hub: HubProcess, block: Block) -> None:
    """Each of them the same one, so that a reader can mix them with any subscriber."""
    before, _ = newest(hub, "prices")
    finished(block, hub.url)
    assert newest(hub, "prices") == (before + 1, {"eur": 1.09})


@pytest.mark.browser
async def test_the_page_of_the_readme_shows_and_publishes_prices(hub: HubProcess) -> None:
    """In a page of the hub's own host, as the text beside it says."""
    pytest.importorskip("playwright", reason="comes with `uv sync --group browser`")
    from playwright.async_api import async_playwright, expect

    if (chromium := shutil.which("chromium")) is None:
        pytest.skip("chromium is not installed")
    chosen = [b for b in blocks_in(README) if b.label == "subscribe"]
    script, page_block = (b for b in chosen if b.language in {"html", "js"})
    publish(hub, {"eur": 1.5})
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        page = await browser.new_page()
        logged: list[str] = []
        page.on("console", lambda message: logged.append(message.text))
        body = f"<!doctype html>{page_block.against(hub.url)}"
        await page.route(
            "**/example", lambda route: route.fulfill(body=body, content_type="text/html")
        )
        await page.goto(f"{hub.url}/example")
        shown = expect(page.locator("#eur"))
        await shown.to_have_text("1.5", timeout=RUN_SECONDS * 1000)
        await page.add_script_tag(content=script.against(hub.url))
        await page.locator("#raise").click()
        await shown.to_have_text("1.1", timeout=RUN_SECONDS * 1000)
        await eventually(lambda: any("1.1" in line for line in logged), what="the EventSource")
        await browser.close()


def test_the_embedding_snippet_starts_a_hub_and_publishes() -> None:
    """On a free port here; a hub of its own, so its first publication."""
    (block,) = blocks("embed")
    assert "port=8000" in block.text
    printed = finished(Block("python", "", block.text.replace("port=8000", "port=0")))
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+ \w+:1\n", printed)


async def test_the_mounting_snippet_serves_hub_and_application_under_uvicorn() -> None:
    """A publication of the application arrives, and a signal ends hub and application in order."""
    (block,) = blocks("mount")
    source = block.text.replace("{", "{{").replace("}", "}}")
    with ForeignServer("uvicorn", application=source) as server:
        async with SsePeer(server.url, Query("prices"), {}) as peer:
            answer = httpx.post(f"{server.url}/price/1.09", timeout=RUN_SECONDS)
            assert re.fullmatch(r'"\w+:1"', answer.text)
            assert (await peer.message())["data"] == {"eur": 1.09}
        assert httpx.get(f"{server.url}/docs", timeout=RUN_SECONDS).status_code == 200


def test_a_hub_with_keys_takes_the_token_and_the_requests_of_the_readme() -> None:
    """The token subscribes where it is granted and nowhere else."""
    (minting,), (using,) = blocks("token"), blocks("with-keys")
    with HubProcess(allow_tracebacks=False, **KEYS) as hub:
        token = finished(minting, variables=KEYS).strip()
        printed = finished(using, hub.url, variables=KEYS | {"TOKEN": token})
        assert '"offset":1' in printed
        assert '{"eur": 1.09}' in printed
        assert '"connections":[' in printed
        headers = {"Authorization": f"Bearer {token}"}
        poll = f"{hub.url}/poll?channel=secrets&wait=0"
        assert httpx.get(poll, headers=headers, timeout=30).status_code == 403


def test_the_keys_of_the_readme_let_the_hub_listen_everywhere() -> None:
    """The hub prints no warning about the keys."""
    block = blocks("keys")[0]
    *exports, serve = block.text.splitlines()
    shown = "uv run hub config " + serve.removeprefix("uv run hub serve ") + " 2>&1"
    printed = finished(Block("sh", "", "\n".join([*exports, shown])))
    assert "0.0.0.0" in printed
    assert "hub: " not in printed


def test_the_settings_file_of_the_readme_is_accepted(tmp_path: Path) -> None:
    """As `--config` takes it."""
    (block,) = blocks("settings")
    (tmp_path / "hub.toml").write_text(block.text)
    settings = load_settings(config_file=tmp_path / "hub.toml", flags={}, environ={})
    assert settings.namespaces().options("chat:42").presence
    assert settings.warnings() == []


def test_the_readme_is_short_enough_to_be_read() -> None:
    """What, start, subscribe, publish, keys, deploy, links. The rest is in the guides."""
    assert len(README.read_text().splitlines()) <= 200


def test_every_block_with_a_label_is_run_by_a_test() -> None:
    """Its label stands in a test, so that nobody believes a block to be tested that is not."""
    texts = (path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    tests = "".join(text for text in texts if "tests.support.snippets import" in text)
    labels = {block.label for guide in GUIDES for block in blocks_in(guide)} - {""}
    assert [label for label in sorted(labels) if f'"{label}"' not in tests] == []


def test_the_unit_for_systemd_gives_the_hub_time_to_stop_and_files_for_its_connections() -> None:
    """As systemd reads it; its defaults would be 90 seconds and 1,024 files."""
    (block,) = blocks("systemd")
    unit = ConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]  # names keep their case
    unit.read_string(block.text)
    settings = load_settings(config_file=None, flags={}, environ={})
    stop = settings.ready_delay_seconds + settings.drain_seconds + settings.close_timeout_seconds
    assert int(unit["Service"]["TimeoutStopSec"]) >= stop + 5
    assert int(unit["Service"]["LimitNOFILE"]) > settings.max_connections
    assert unit["Service"]["ExecStart"].endswith("/hub serve")


# -- the tables --------------------------------------------------------------------------------


def settings_table() -> str:
    """The table that `hub/docs/settings.md` has to hold."""
    lines = ["| setting | default | meaning |", "|---|---|---|"]
    group = ""
    for info in declared():
        if info.group != group:
            group = info.group
            lines.append(f"| **{group}** | | |")
        choices = info.allowed.removeprefix("one of ")
        meaning = info.meaning.replace("|", r"\|")
        if choices != info.allowed:
            meaning += f" One of {choices}."
        lines.append(f"| `{info.env}` | {info.default} | {meaning} |")
    return "\n".join(lines) + "\n"


def rewritten() -> str:
    """The document with the table as the declarations have it now."""
    before, _, rest = SETTINGS.read_text().partition(TABLE_BEGIN)
    _, _, after = rest.partition(TABLE_END)
    assert after, "the marks of the table of settings are gone"
    return f"{before}{TABLE_BEGIN}\n{settings_table()}\n{TABLE_END}{after}"


def test_the_table_of_settings_is_that_of_the_declarations() -> None:
    assert SETTINGS.read_text() == rewritten(), f"run `{REGENERATE}`"


def test_the_table_of_endpoints_is_that_of_the_hub(hub: HubProcess) -> None:
    """The OpenAPI document's paths, and those that are not its business."""
    table = re.compile(r"^\| `(?:GET|POST|DELETE) ([^`]+)` \|", re.MULTILINE)
    named = set(table.findall(ENDPOINTS.read_text()))
    described = set(httpx.get(f"{hub.url}/api/openapi.json", timeout=30).json()["paths"])
    besides = {"/api/openapi.json", "/dashboard", "/docs", "/client.js"}
    assert named == described | besides
    for path in besides:
        assert httpx.get(hub.url + path, timeout=30).status_code == 200, path


def test_the_table_of_close_codes_is_that_of_the_wire() -> None:
    rows = re.findall(r"^\| (4\d{3}) (\w+) \|", ENDPOINTS.read_text(), re.MULTILINE)
    ours = {(str(code.value), code.name.lower()) for code in CloseCode if code >= 4000}
    assert set(rows) == ours


if __name__ == "__main__":
    SETTINGS.write_text(rewritten())
