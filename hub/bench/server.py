"""The hub that is measured: nodes that the benchmark starts, or a node that runs at a URL."""

import contextlib
import http.client
import os
import platform
import shlex
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import IO
from urllib.parse import urlsplit

from hub.bench.cores import Cores, started
from hub.bench.meter import ProcessMeter
from hub.bench.plan import BenchError, ServerAddress

_OPENSSL_SECONDS = 30.0
# What servers show today: a key on P-256, so a handshake has one ECDSA signature.
_REQUEST = (
    *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
    *("-nodes", "-days", "1", "-subj", "/CN=hub bench"),
)


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """The two files, in PEM, of a certificate made for one run; nobody verifies it."""

    certificate: Path
    key: Path


@contextlib.contextmanager
def made_certificate() -> Iterator[CertificateFiles]:
    """Make one with openssl, as nothing that the hub needs can sign; it lasts as long as the block.

    Raises:
        BenchError: There is no openssl, or it fails.
    """
    program = shutil.which("openssl")
    if program is None:
        raise BenchError("what is measured over TLS needs openssl")
    with tempfile.TemporaryDirectory(prefix="hub-bench-") as folder:
        certificate, key = Path(folder) / "certificate.pem", Path(folder) / "key.pem"
        command = [program, *_REQUEST, "-keyout", str(key), "-out", str(certificate)]
        done = subprocess.run(  # noqa: S603 - a program from PATH and arguments of our own
            command, capture_output=True, text=True, timeout=_OPENSSL_SECONDS, check=False
        )
        if done.returncode:
            raise BenchError(f"openssl made no certificate: {done.stderr[-500:]}")
        yield CertificateFiles(certificate, key)


def unverified_context() -> ssl.SSLContext:
    """Return the context of a client that takes any certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


REDIS = "redis-server"
READY_SECONDS = 60.0
"""A start takes 0.7 s of CPU, and 20 s on a core that a dozen other programs keep busy."""
READY_STEP_SECONDS = 0.01
SERVE_COMMAND = (sys.executable, "-m", "hub", "serve")
NO_SETTINGS: Mapping[str, str] = MappingProxyType({})
_PORTS = {"http": 80, "ws": 80}


@dataclass(frozen=True, slots=True)
class Interpreter:
    """The Python that runs the hub: the same load takes 5 to 20 % more CPU in some builds."""

    implementation: str
    version: str
    compiler: str
    program: str
    """Its file, in place of whether it is optimised: Debian's is, and its sysconfig is silent."""

    def __str__(self) -> str:
        return f"{self.implementation} {self.version} ({self.compiler}), {self.program}"


def interpreter() -> Interpreter:
    """Return that of this process, which also runs every hub that the benchmark starts."""
    return Interpreter(
        platform.python_implementation(),
        # With a t where threads run without the global lock.
        f"{platform.python_version()}{sys.abiflags}",
        platform.python_compiler(),
        str(Path(sys.executable).resolve()),
    )


@dataclass(frozen=True, slots=True)
class BenchServer:
    """A hub and, where it runs on this machine, the meter of its process."""

    target: ServerAddress
    meter: ProcessMeter | None
    entry: ServerAddress | None = None
    """The address to publish at, when that is another node."""


@contextlib.contextmanager
def own_server(
    cores: Cores,
    *,
    command: Sequence[str] = SERVE_COMMAND,
    settings: Mapping[str, str] = NO_SETTINGS,
) -> Iterator[BenchServer]:
    """Start a fresh hub on a core of its own, with a memory broker and default limits.

    `settings` are environment variables that change the defaults; `{port}` in the command stands
    for the port, which is in the environment too.
    """
    port = free_port()
    command = [part.replace("{port}", str(port)) for part in command]
    target = ServerAddress(host="127.0.0.1", port=port, tls="HUB_TLS_CERT" in settings)
    with (
        tempfile.TemporaryFile() as log,
        started(
            command,
            cores.server,
            environment={**_environment(port), **settings},
            output=log,
            errors=log,
        ) as process,
    ):
        _wait_ready(target, process, log, shlex.join(command))
        yield BenchServer(target, ProcessMeter(process.pid))


def running_server(url: str, *, token: str | None, pid: int | None) -> BenchServer:
    """Return a hub that runs already; without `pid` its CPU and memory stay unknown.

    Raises:
        BenchError: The URL is not that of a plain HTTP hub.
    """
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise BenchError(f"--url is {url!r}, allowed is http://host:port or ws://host:port")
    target = ServerAddress(
        host=parts.hostname,
        port=parts.port or _PORTS[parts.scheme],
        base_path=parts.path.rstrip("/"),
        token=token,
    )
    return BenchServer(target, ProcessMeter(pid) if pid is not None else None)


def _environment(port: int) -> dict[str, str]:
    """Return this process's environment with the hub's settings replaced by the benchmark's own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HUB_")}
    return kept | {
        "HUB_HOST": "127.0.0.1",
        "HUB_PORT": str(port),
        "HUB_BROKER": "memory://",
        "HUB_LOG_LEVEL": "warning",
        "HUB_DRAIN_SECONDS": "0",
    }


def free_port() -> int:
    """Return a port of this machine that nothing listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_ready(
    target: ServerAddress, process: subprocess.Popen[bytes], log: IO[bytes], name: str
) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not _is_ready(target):
        if process.poll() is not None:
            raise BenchError(f"`{name}` ended with {process.returncode}: {_tail(log)}")
        if time.monotonic() > deadline:
            why = f"`{name}` is not ready after {READY_SECONDS:g} s, by /readyz at {target.port}"
            raise BenchError(f"{why}: {_tail(log)}")
        time.sleep(READY_STEP_SECONDS)


def _is_ready(target: ServerAddress) -> bool:
    connection = (
        http.client.HTTPSConnection(
            target.host, target.port, timeout=1.0, context=unverified_context()
        )
        if target.tls
        else http.client.HTTPConnection(target.host, target.port, timeout=1.0)
    )
    try:
        connection.request("GET", f"{target.base_path}/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _tail(log: IO[bytes]) -> str:
    log.seek(0)
    return log.read()[-2000:].decode(errors="replace").strip() or "it wrote nothing"


@contextlib.contextmanager
def own_nodes(cores: Cores, *, count: int) -> Iterator[BenchServer]:
    """Start `count` fresh nodes and a fresh Redis, all on the server's core; the last one is
    metered.

    Raises:
        BenchError: There is no redis-server, or a node does not become ready.
    """
    with redis(cores) as url, contextlib.ExitStack() as stack:
        settings = {"HUB_BROKER": url}
        all_of_them = [
            stack.enter_context(own_server(cores, settings=settings)) for _ in range(count)
        ]
        yield replace(all_of_them[-1], entry=all_of_them[0].target)


@contextlib.contextmanager
def redis(cores: Cores) -> Iterator[str]:
    """Yield the URL of an empty Redis that saves nothing; it is ended when the block is left.

    Raises `BenchError` where Redis is not installed.
    """
    if (program := shutil.which(REDIS)) is None:
        raise BenchError(f"--nodes needs {REDIS}, which is not installed")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="hub-bench-") as directory:
        command = (program, "--port", str(port), "--bind", "127.0.0.1", "--save", "")
        silent = subprocess.DEVNULL
        with started(
            (*command, "--dir", directory),
            cores.server,
            environment={},
            output=silent,
            errors=silent,
        ):
            yield f"redis://127.0.0.1:{port}/0"
