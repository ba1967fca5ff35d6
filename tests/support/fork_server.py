"""Python programs that start at once: one process has imported the hub, and forks for each of them.

A hub spends 0.9 s of a core on imports, 1.4 s with Redis, a command about 0.7 s (measured), and the
tests start several hundred of them. A fork takes 0.05 s. It runs the same program, with arguments,
an environment, a working directory, standard streams and an end of its own. What begins with a new
interpreter is tested where it matters, such as in tests/test_standard_streams.py.

    hub = fork_server().start(["-m", "hub", "serve"], {"HUB_PORT": "0"}, stderr=log.fileno())
    hub.send_signal(signal.SIGTERM)
    assert hub.wait(10) == 0

This file is both sides: the classes, and as a program the process that forks.
"""

import atexit
import contextlib
import ctypes
import fcntl
import functools
import gc
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import threading
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.forked_children import fork_helper, starts_itself
from tests.support.programs import outside

_ORDER_BYTES = 1 << 20
# What it imports takes two seconds of one core; the machine may be busy.
_START_SECONDS = 120.0
_ROOT = Path(__file__).parents[2]


class Forked:
    """A program that was forked: what `subprocess.Popen` is to one that was not."""

    def __init__(self, program: Sequence[str], pid: int, end: socket.socket) -> None:
        self.args = program
        self.pid = pid
        self.returncode: int | None = None
        """As `subprocess.Popen` has it: negative for a signal."""
        self._end = end

    def fileno(self) -> int:
        """Can be read once the program has ended."""
        return self._end.fileno()

    def poll(self) -> int | None:
        """The exit code; None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0.0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit code; raise `subprocess.TimeoutExpired` when that takes longer."""
        if self.returncode is None:
            self._end.settimeout(timeout)
            try:
                said = self._end.recv(16)
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0) from None
            assert said, "the process that forks has ended"
            self.returncode = int(said)
            self._end.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """The process that forks, as seen from here; it ends with this one, and so do its forks."""

    def __init__(self) -> None:
        self.is_usable = True
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._orders.settimeout(_START_SECONDS)
        self._lock = threading.Lock()
        self._null = os.open(os.devnull, os.O_RDWR)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.fork_server", str(theirs.fileno())],
                cwd=_ROOT,
                # Room for what children of forks show as theirs (`tests.support.forked_children`).
                env=outside() | {"_ROOM": "." * 1024},
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )

    def start(
        self,
        program: Sequence[str],
        environment: Mapping[str, str],
        *,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        directory: Path | None = None,
        in_terminal: bool = False,
    ) -> Forked:
        """Run `program`.

        Args:
            program: what would follow `python`: `-m` and a module, or `-c` and code; and arguments.
            environment: all of it. Nothing in it may be meant for the interpreter (`PYTHON...`).
            stdin, stdout, stderr: descriptors; without one it is /dev/null.
            directory: its working directory; that of this process when left out.
            in_terminal: `stdin` is a terminal; the program controls it, in a session of its own.
        """
        for_python = {each for each in environment.items() if each[0].startswith("PYTHON")}
        assert for_python <= os.environ.items(), "the interpreter has started already"
        order = json.dumps(
            {
                "program": list(program),
                "environment": dict(environment),
                "directory": str(directory or Path.cwd()),
                "in_terminal": in_terminal,
            }
        )
        streams = [self._null if each is None else each for each in (stdin, stdout, stderr)]
        end, theirs = socket.socketpair()
        with theirs, self._lock:
            try:
                socket.send_fds(self._orders, [order.encode()], [*streams, theirs.fileno()])
                pid = int(self._orders.recv(16))
            except BaseException:
                # The next order would be answered with the process of this one.
                self.is_usable = False
                end.close()
                raise
        return Forked(program, pid, end)

    def close(self) -> None:
        """End it, and what still runs."""
        self._orders.close()
        os.close(self._null)
        self._process.wait()


_making = threading.Lock()


def fork_server() -> ForkServer:
    """The one of this process; another one after an order that was not answered."""
    with _making:
        if not (made := _fork_server()).is_usable:
            _fork_server.cache_clear()
            made = _fork_server()
        return made


@functools.cache
def _fork_server() -> ForkServer:
    made = ForkServer()
    atexit.register(made.close)
    return made


def ran(
    *program: str, environment: Mapping[str, str], seconds: float
) -> subprocess.CompletedProcess[str]:
    """Runs `program` without input and returns its result; see `ForkServer.start`."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        forked = fork_server().start(program, environment, stdout=out.fileno(), stderr=err.fileno())
        try:
            code = forked.wait(seconds)
        finally:
            forked.kill()
        printed, told = (os.pread(each.fileno(), 1 << 24, 0).decode() for each in (out, err))
    return subprocess.CompletedProcess(forked.args, code, printed, told)


# -- the process that forks ------------------------------------------------------------------


class _Parent:
    """Forks for each order, and tells each end."""

    def __init__(self, orders: socket.socket) -> None:
        self._orders = orders
        self._selector = selectors.DefaultSelector()
        self._selector.register(orders, selectors.EVENT_READ)
        self._ends: dict[int, int] = {}

    def work(self) -> dict[str, Any] | None:
        """Return in each fork what it is to do; None in the parent, when all is done."""
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is not self._orders:
                    self._selector.unregister(key.fileobj)
                    os.close(key.fd)
                    self._tell_end(key.data)
                    continue
                order, descriptors, _, _ = socket.recv_fds(self._orders, _ORDER_BYTES, 4)
                if not order:
                    for pid in self._ends:
                        os.kill(pid, signal.SIGKILL)
                    return None
                *streams, end = descriptors
                if (pid := os.fork()) == 0:
                    for number, stream in enumerate(streams):
                        os.dup2(stream, number)
                    # Now, not when it is collected: the program would lose what has its number.
                    self._selector.close()
                    self._orders.close()
                    return dict(json.loads(order))
                for stream in streams:
                    os.close(stream)
                self._ends[pid] = end
                self._selector.register(os.pidfd_open(pid), selectors.EVENT_READ, pid)
                self._orders.send(b"%d" % pid)

    def _tell_end(self, pid: int) -> None:
        _, status = os.waitpid(pid, 0)
        with socket.socket(fileno=self._ends.pop(pid)) as end, contextlib.suppress(OSError):
            end.send(b"%d" % os.waitstatus_to_exitcode(status))


def _become(order: dict[str, Any]) -> None:
    """Be the program, and nothing else of what was forked."""
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    if order["in_terminal"]:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    if starts_itself(order):
        order = fork_helper() or order
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["directory"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _open_streams()
    _be_called("python", *order["program"])
    _End().run(order["program"])


class _End:
    """Ends a fork as an interpreter ends, but for taking apart what was forked.

    That would take 50 ms: each page that is touched then is copied first.
    """

    def __init__(self) -> None:
        # Registered before all else: called last, when threads have ended.
        atexit.register(self._exit)
        self._code: int | None = None

    def run(self, program: Sequence[str]) -> None:
        """Runs the program to its end; an exception that it raises goes on."""
        try:
            _run(*program)
        except SystemExit as ended:
            if ended.code is None or isinstance(ended.code, int):
                self._code = ended.code or 0
            raise
        self._code = 0

    def _exit(self) -> None:
        # What cannot be flushed, or ends otherwise, the interpreter ends as it does.
        if self._code is not None:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(self._code & 0xFF)


def _run(kind: str, what: str, *arguments: str) -> None:
    if kind == "-m":
        sys.argv[1:] = arguments
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        assert kind == "-c", kind
        sys.argv[:] = [kind, *arguments]
        module = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(what, "<string>", "exec"), module.__dict__)


def _open_streams() -> None:
    """Opens the streams as the interpreter does when it starts."""
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - for as long as the process lives
    sys.stdout = open(1, "w", closefd=False, buffering=1 if os.isatty(1) else -1)  # noqa: SIM115
    sys.stderr = open(2, "w", closefd=False, buffering=1, errors="backslashreplace")  # noqa: SIM115


def _be_called(*command: str) -> None:
    """Show these words as command line, as a program started so does.

    The hub looks at it: one with the command line of its parent is a worker of somebody's server.
    """
    after_name = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(after_name[45]), int(after_name[46])  # proc(5): arg_start, arg_end
    words = "\0".join([*command, ""]).encode()[: end - start]
    ctypes.memmove(start, words.ljust(end - start, b"\0"), end - start)


def _import_what_they_need() -> None:
    """Imports the modules that a node and the commands load when they run."""
    import rich.live
    import rich.table  # noqa: F401

    import hub.brokers.redis.broker
    import hub.brokers.redis.bus
    import hub.brokers.redis.leases
    import hub.cli
    import hub.main
    import hub_client  # noqa: F401
    from hub import dashboard
    from hub.cli import command
    from hub.cli.flags import setting_flags
    from hub.transports.http.pages import read_directory

    # Each hub compresses the pages at its start, unless its process has done that.
    for directory in (Path(hub.__file__).parent / "pages", dashboard.DIRECTORY):
        read_directory(directory)
    # Typer makes all commands to run one, and prepares a hundred flags to read one: 30 ms.
    command()
    for flag in setting_flags():
        flag.get_runtime_param()


def _main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _import_what_they_need()
    gc.collect()
    gc.freeze()
    order = _Parent(socket.socket(fileno=int(sys.argv[1]))).work()
    if order is not None:
        _become(order)


if __name__ == "__main__":
    _main()
