"""Somebody else's ASGI server as a process of its own, with the hub as its application."""

import json
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import httpx2 as httpx

from tests.support.fork_server import fork_server
from tests.support.own_process import OwnProcess
from tests.support.programs import outside
from tests.support.waiting import eventually_blocking

SERVERS: Mapping[str, tuple[str, ...]] = {
    "uvicorn": (
        "-m",
        "uvicorn",
        "application:app",
        "--port",
        "{port}",
        "--ws",
        "websockets-sansio",
    ),
    # Without workers: its command line tells those of a stop by no signal.
    "hypercorn": ("-m", "hypercorn", "application:app", "--bind", "127.0.0.1:{port}", "-w", "0"),
    "granian": ("-m", "granian", "application:app", "--interface", "asgi", "--port", "{port}"),
}
"""The arguments of the interpreter for each server; the application is in `application.py`."""

_APPLICATION = """
import json

from hub import Hub, Settings

hub = Hub(Settings(**json.loads({settings!r})), listen=False)
app = hub.asgi()
"""
_START_SECONDS = 30.0
# Starts the interpreter that it finds again, for its own process.
_NOT_FORKED = "granian"


class ForeignServer(OwnProcess):
    """Runs from `with` to its end.

    Args:
        name: one of `SERVERS`.
        more: arguments to it.
        application: the source of its module; the hub itself when left out.
        settings: of the hub.
    """

    def __init__(
        self, name: str, *more: str, application: str = _APPLICATION, **settings: object
    ) -> None:
        super().__init__(name)
        self._name = name
        settings = {"node": "test-node", "log_format": "json"} | settings
        source = application.format(settings=json.dumps(settings))
        (self.path / "application.py").write_text(source)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self._command = [part.format(port=self._port) for part in (*SERVERS[name], *more)]
        self.url = f"http://127.0.0.1:{self._port}"

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self._port}/ws"

    def start(self) -> None:
        with (self.path / "log").open("ab") as log:
            if self._name == _NOT_FORKED:
                self._process = subprocess.Popen(
                    [sys.executable, *self._command],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self.path,
                    env=outside() | {"PYTHONPATH": str(Path(__file__).parents[2])},
                )
            else:
                number = log.fileno()
                self._process = fork_server().start(
                    self._command, outside(), stdout=number, stderr=number, directory=self.path
                )
        eventually_blocking(self._answers, seconds=_START_SECONDS, what="the server's start")

    def _answers(self) -> bool:
        self.check_alive()
        try:
            # Cheaper to ask again and again than a whole client.
            socket.create_connection(("127.0.0.1", self._port)).close()
            answer = httpx.get(f"{self.url}/healthz", trust_env=False)
        except (OSError, httpx.TransportError):
            return False
        return answer.status_code == 200

    def finish(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
