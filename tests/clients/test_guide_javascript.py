"""Parts of programs in the documents' JavaScript run in Node, against a real hub.

Whole pages are run in browsers (`tests/browser`). What a part leaves to the reader, such as
`render`, is put before it here.
"""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest

from tests.support.hub_process import HubProcess
from tests.support.snippets import ROOT, Block, blocks

PACKAGE = ROOT / "clients" / "js"
SOURCE = (PACKAGE / "src" / "hub.js").as_uri()
NODE, NPM = shutil.which("node"), shutil.which("npm")
KEY = "t" * 32
TOKEN = jwt.encode({"sub": "ada", "hub": {"subscribe": ["*"], "publish": ["*"]}}, KEY, "HS256")
SECONDS = 60.0
pytestmark = [
    pytest.mark.skipif(NODE is None, reason="Node 20 or newer is not installed"),
    pytest.mark.timeout(240),
]


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    """One that wants tokens, with presence for chats."""
    namespaces = '{"chat": {"presence": true}}'
    with HubProcess(HUB_TOKEN_KEYS=KEY, HUB_NAMESPACES=namespaces) as running:
        yield running


def run(program: str, hub: HubProcess) -> str:
    """Runs the program with this tree's client and this hub's address,
    and returns what it prints."""
    program = re.sub(
        r'from "(?:broadcast-hub-client|https://[^"]+/client\.js)"', f'from "{SOURCE}"', program
    )
    program = program.replace("https://hub.example.com", hub.url)
    arguments = ("--experimental-websocket", "--no-warnings", "--input-type=module", "-e", program)
    done = subprocess.run(
        [str(NODE), *arguments], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


IMPORT = 'import { Hub } from "broadcast-hub-client";\n'
# The application: what it answers to a page that asks for a token.
FETCH = "globalThis.fetch = async () => ({{ status: {status}, text: async () => '{text}' }});\n"


def one(label: str) -> Block:
    (block,) = blocks(label)
    return block


def test_a_token_comes_from_a_function_and_the_state_is_logged(hub: HubProcess) -> None:
    """Both parts of one page: the second prints what the first has led to."""
    program = (
        IMPORT
        + FETCH.format(status=200, text=TOKEN)
        + one("token-function").text
        + one("state-logged").text
        + 'hub.on("state", ({ state }) => { if (state === "connected") hub.close(); });\n'
        + 'hub.subscribe("prices", () => {});\n'
    )
    assert "connected websocket" in run(program, hub)


@pytest.mark.parametrize("block", blocks("logged-out"), ids=str)
@pytest.mark.parametrize(("status", "last"), [(200, "connected"), (401, "closed")])
def test_a_function_says_that_nobody_is_logged_in(
    hub: HubProcess, block: Block, status: int, last: str
) -> None:
    """401 of the application closes the hub; anything else is the token."""
    program = (
        FETCH.format(status=status, text=TOKEN)
        + block.text
        + 'hub.on("state", ({ state }) => {\n'
        + '  if (state === "connecting") return;\n'
        + "  console.log(state);\n"
        + '  if (state !== "closed") hub.close();\n'
        + "});\n"
        + 'hub.subscribe("prices", () => {}, { onError: () => {} });\n'
    )
    assert run(program, hub).split()[0] == last


def test_the_tour_of_the_client_does_what_it_says(hub: HubProcess) -> None:
    """From the first line to the last, with the functions that it leaves to the reader."""
    tour = one("client-tour").text
    program = (
        f"const fetchToken = () => '{TOKEN}', show = () => {{}}, render = show;\n"
        "const signal = AbortSignal.timeout(1000);\n" + tour + "console.log(hub.state);\n"
    )
    assert run(program, hub) == "closed\n"


@pytest.mark.skipif(
    NPM is None or not (PACKAGE / "node_modules").exists(),
    reason="the tools of clients/js are not installed",
)
def test_the_archive_that_is_packed_is_the_one_that_is_installed(tmp_path: Path) -> None:
    """Packed without `npm install`, which needs the registry; installed without the network."""
    prepare, pack = one("npm-pack").text.splitlines()
    (install,) = one("npm-install").text.splitlines()
    assert prepare == "npm install --prefix clients/js"
    subprocess.run(["node", "build.mjs", "--package"], cwd=PACKAGE, check=True, timeout=SECONDS)
    packed = pack.replace("./clients/js", str(PACKAGE)) + " --ignore-scripts"
    (tmp_path / "package.json").write_text('{"name": "page", "private": true}')
    for line in (packed, f"{install} --offline --no-audit --no-fund"):
        done = subprocess.run(
            ["bash", "-euc", line],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    module = tmp_path / "node_modules" / "broadcast-hub-client"
    assert (module / "package.json").is_file()
    assert not module.is_symlink()
