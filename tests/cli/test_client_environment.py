"""Commands in an environment that says something wrong about the way to the hub."""

import asyncio
import os
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import certificates
from tests.support.fork_server import ran
from tests.support.forked_process import piped
from tests.support.hub_process import HubProcess

SECONDS = 40.0
SOCKS = {"ALL_PROXY": "socks5://127.0.0.1:9"}
COMMANDS = {
    "publish": ("publish", "a", "1"),
    "publish-lines": ("publish", "a", "-"),
    "subscribe": ("subscribe", "a"),
    "ingest": ("ingest", "-", "a"),
    "ingest-file": ("ingest", __file__, "a", "--checkpoint", "/nowhere/at/all"),
    "nodes": ("nodes",),
    "connections": ("connections",),
    "channels": ("channels",),
    "closed": ("closed",),
    "top": ("top",),
    "tail": ("tail", "a"),
    "explain": ("explain", "c", "a", "1"),
    "disconnect": ("disconnect", "c"),
    "drain": ("drain", "n"),
    "rebalance": ("rebalance",),
}
# They have nothing to publish where stdin is empty; that of a file says more than one line.
TAKE_NO_LINE = {"publish-lines", "ingest", "ingest-file"}
every_command = pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    with HubProcess() as process:
        yield process


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("HUB_", "SSL")) and not name.lower().endswith("_proxy")
    }
    return ran("-m", "hub", *arguments, environment=inherited | environment, seconds=SECONDS)


@every_command
def test_a_proxy_that_cannot_be_used_is_one_line_and_code_2(command: tuple[str, ...]) -> None:
    """The command prints no traceback of a library."""
    ended = run(*command, "--url", "http://127.0.0.1:9", **SOCKS)
    assert (ended.returncode, ended.stdout) == (2, ""), ended
    (line,) = ended.stderr.splitlines()
    assert line.startswith("hub: ALL_PROXY is 'socks5://127.0.0.1:9'")


@every_command
def test_certificates_that_are_gone_are_one_line_and_code_2(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    gone = str(tmp_path / "gone.pem")
    ended = run(*command, "--url", "https://127.0.0.1:9", SSL_CERT_FILE=gone)
    assert (ended.returncode, ended.stdout) == (2, ""), ended
    assert ended.stderr == f"hub: SSL_CERT_FILE is {gone!r}: No such file or directory\n"


@pytest.mark.skipif(not certificates.is_installed(), reason="no openssl here")
@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in TAKE_NO_LINE])
async def test_a_certificate_that_is_not_trusted_ends_a_command_with_the_cure(
    name: str, tmp_path: Path
) -> None:
    """Another attempt would meet the same one: one line, and not for ever."""
    made = certificates.make_certificates(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(made.certificate, made.key)
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=tls)
    async with server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        ended = await asyncio.to_thread(run, *COMMANDS[name], "--url", url)
    assert (ended.returncode, ended.stdout) == (1, ""), ended
    [line] = ended.stderr.splitlines()
    assert "the hub's certificate is not trusted" in line
    assert "SSL_CERT_FILE" in line


@pytest.mark.parametrize(
    "environment",
    [
        SOCKS | {"NO_PROXY": "127.0.0.1"},
        SOCKS | {"no_proxy": "localhost,127.0.0.0/8"},
        {"NO_PROXY": "fd00::/8"},
        {"NO_PROXY": "[::1]"},
        {"HTTPS_PROXY": "socks5://127.0.0.1:9"},
        {"SSL_CERT_FILE": "/nowhere/at/all.pem"},
        {"SSL_CERT_DIR": "/nowhere/at/all"},
        {"SSLKEYLOGFILE": "/nowhere/at/all"},
    ],
    ids=lambda environment: ",".join(f"{name}={value}" for name, value in environment.items()),
)
async def test_a_variable_that_does_not_concern_the_hubs_address_is_not_looked_at(
    hub: HubProcess, environment: dict[str, str]
) -> None:
    """A command that publishes, one that subscribes, and one for operators."""
    results = await asyncio.gather(
        asyncio.to_thread(run, "publish", "a", "1", "--url", hub.url, **environment),
        asyncio.to_thread(run, "nodes", "--url", hub.url, **environment),
    )
    for ended in results:
        assert (ended.returncode, ended.stderr) == (0, ""), ended
    assert await _first_line(hub, environment)


async def _first_line(hub: HubProcess, environment: dict[str, str]) -> bytes:
    """Returns the first line that `hub subscribe` prints over WebSocket."""
    asked = ("-m", "hub", "subscribe", "a", "--last", "1", "--url", hub.url)
    program = (*asked, "--transport", "websocket")
    async with (
        piped(program, {"PATH": os.environ["PATH"], **environment}) as process,
        asyncio.timeout(SECONDS),
    ):
        return await process.stdout.readline()
