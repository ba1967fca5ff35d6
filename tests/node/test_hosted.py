"""Several workers of somebody else's server, each with a hub that knows nothing of the others."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import httpx2 as httpx
import pytest

from hub.node import hosted
from hub.node.hosted import ServerProcess, is_second_of_several
from tests.support.waiting import eventually_blocking

SECONDS = 50.0
APPLICATION = """
from hub import Hub, Settings
hub = Hub(Settings(drain_seconds=0), listen=False)
app = hub.asgi()
"""
SPAWN = ("python", "-c", "from multiprocessing.spawn import spawn_main", "--multiprocessing-fork")
TRACKER = ("python", "-c", "from multiprocessing.resource_tracker import main;main(5)")
GUNICORN = ("python", "gunicorn", "-w", "4", "app:app")


def beside(*others: tuple[int, tuple[str, ...]]) -> list[ServerProcess]:
    """Returns processes by id; a process with a greater id started later."""
    return [ServerProcess(pid, float(pid), command) for pid, command in others]


@pytest.mark.parametrize("worker", [SPAWN, GUNICORN], ids=["spawned", "forked"])
def test_a_single_worker_of_them_all_says_so(worker: tuple[str, ...]) -> None:
    """The second, because the first is alone when it starts."""
    children = beside((1, TRACKER), (2, worker), (3, worker), (4, worker), (5, ("sh",)))
    said = [
        pid for pid in range(2, 5) if is_second_of_several(pid, children_of_parent=lambda: children)
    ]
    assert said == [3]


@pytest.mark.parametrize(
    "children",
    [
        beside((1, TRACKER), (2, SPAWN)),
        beside((2, GUNICORN), (3, ("python", "gunicorn", "other:app"))),
        beside((1, ()), (2, ())),
        [],
    ],
)
def test_a_worker_that_is_alone_says_nothing(children: list[ServerProcess]) -> None:
    """A helper of multiprocessing, another program, a process that cannot be looked at."""
    for pid in range(1, 4):
        assert not is_second_of_several(pid, children_of_parent=lambda: children)


def test_where_processes_cannot_be_seen_nothing_is_said() -> None:
    def hidden() -> Iterable[ServerProcess]:
        raise PermissionError

    assert not is_second_of_several(children_of_parent=hidden)


def test_a_broker_that_workers_share_needs_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosted, "is_worker", lambda: True)
    monkeypatch.setattr(hosted, "is_second_of_several", lambda: True)
    assert hosted.should_warn_of_siblings("memory://")
    assert not hosted.should_warn_of_siblings("redis://127.0.0.1")


@pytest.mark.parametrize(("workers", "warnings"), [(1, 0), (3, 1)])
def test_under_uvicorn_it_is_said_once(tmp_path: Path, workers: int, warnings: int) -> None:
    """The warning comes once, however many workers there are beyond one."""
    pytest.importorskip("uvicorn")
    (tmp_path / "application.py").write_text(APPLICATION)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path / "log"
    with log.open("wb") as out:
        server = subprocess.Popen(
            [
                *(sys.executable, "-m", "uvicorn", "application:app", "--port", str(port)),
                *("--workers", str(workers), "--timeout-graceful-shutdown", "1"),
            ],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
            stdout=out,
            stderr=out,
        )
    try:

        def started() -> bool:
            return log.read_text().count("Application startup complete") == workers

        eventually_blocking(started, seconds=SECONDS, what="every worker's start")
        assert httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False).status_code == 200
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
    said = [line for line in log.read_text().splitlines() if "several_workers" in line]
    assert len(said) == warnings, log.read_text()
    assert all("HUB_BROKER=redis://" in line for line in said)
