"""The hub and its client as they are installed, under the other versions of Python found here.

A node with two workers and a file is killed; a subscriber that was there goes on where it was.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.hub_process import START_SECONDS
from tests.support.programs import asked_of_an_index, outside
from tests.support.waiting import eventually_blocking

ROOT = Path(__file__).parents[1]
INSTALL_SECONDS = 150.0
PATIENCE_SECONDS = 60.0
_OLDEST, _NEWEST = 11, 19

# Publishes and subscribes, and does so again once a line comes.
_CLIENT = """
import asyncio, sys
from hub_client import HubClient, Publisher

async def main(url):
    async with HubClient(url) as hub, Publisher(url) as publisher:
        stream = hub.subscribe("prices", last=10, on_gap=lambda gap: print(gap, flush=True))
        for number in (1, 2):
            await publisher.publish("prices", number)
            message = await anext(stream)
            print(message.data, message.position.offset, flush=True)
            await asyncio.to_thread(sys.stdin.readline)

asyncio.run(main(sys.argv[1]))
"""


def other_pythons() -> dict[str, Path]:
    """One interpreter for each version of CPython but this one; pyenv's and those of PATH."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = {}
    for folder in sorted(pyenv.glob("3.*")):
        # Neither a virtual environment nor a build without the global lock.
        if version := re.fullmatch(r"3\.(\d+)\.\d+", folder.name):
            found[int(version[1])] = folder / "bin" / "python3"
    for minor in range(_OLDEST, _NEWEST + 1):
        program = shutil.which(f"python3.{minor}")
        # A shim of pyenv may stand for a version that is not there.
        if program is not None and "shims" not in Path(program).parts:
            found.setdefault(minor, Path(program))
    return {
        f"3.{minor}": program
        for minor, program in sorted(found.items())
        if minor >= _OLDEST and (3, minor) != sys.version_info[:2] and program.exists()
    }


def installed(python: Path, environment: Path) -> Path:
    """The locked packages, and both of ours as wheels; return the folder of their programs."""
    command = ("uv", "sync", "--quiet", "--frozen", "--no-dev", "--no-editable", "--python", python)
    folder = {"UV_PROJECT_ENVIRONMENT": str(environment)}
    asked_of_an_index(*command, cwd=ROOT, seconds=INSTALL_SECONDS, environment=outside() | folder)
    return environment / "bin"


@contextmanager
def serving(programs: Path, folder: Path, port: int) -> Iterator[None]:
    """Two workers and their broker process, until all are killed at once."""
    log, settings = folder / "log", {"HUB_PORT": str(port), "HUB_LOG_FORMAT": "json"}
    command = (programs / "hub", "serve", "--workers", "2", "--broker", f"sqlite:///{folder}/x.db")
    begin = log.stat().st_size if log.exists() else 0
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            env=outside() | settings | {"PYTHONWARNINGS": "default"},
            stdin=subprocess.DEVNULL,
            stderr=output,
            start_new_session=True,
        )

    def has_started() -> bool:
        told = log.read_text()[begin:]
        assert process.poll() is None, told
        return '"event":"started"' in told

    try:
        eventually_blocking(has_started, seconds=START_SECONDS, what="the start")
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE_SECONDS)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.mark.skipif(shutil.which("uv") is None, reason="no uv here")
@pytest.mark.parametrize("version", other_pythons())
def test_a_hub_installs_serves_and_loses_nothing_when_it_is_killed(
    version: str, tmp_path: Path
) -> None:
    """The interpreter warns of nothing deprecated in the project's code."""
    programs = installed(other_pythons()[version], tmp_path / "environment")
    port = free_port()
    client = subprocess.Popen(
        [programs / "python", "-W", "error", "-c", _CLIENT, f"http://127.0.0.1:{port}"],
        env=outside(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with client:
        try:
            assert client.stdin is not None
            assert client.stdout is not None
            with serving(programs, tmp_path, port):
                assert client.stdout.readline() == "1 1\n"
            with serving(programs, tmp_path, port):
                client.stdin.write("\n")
                client.stdin.flush()
                assert client.stdout.readline() == "2 2\n"
                rest, _ = client.communicate("\n", PATIENCE_SECONDS)
                assert rest == ""
            assert client.returncode == 0
        finally:
            client.kill()
    log = (tmp_path / "log").read_text()
    assert "Traceback" not in log
    ours = [line for line in log.splitlines() if re.search(r"/hub(_client)?/.*Warning", line)]
    assert ours == []
