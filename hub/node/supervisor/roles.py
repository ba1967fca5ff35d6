"""The role of this process in `hub serve --workers N`, and the sockets that a worker inherits.

A child runs the command line of its supervisor again, so that a worker started later runs the
version and the settings that stand on the disk then. One variable of its environment makes it a
child. The child takes the variable out: its own children are none.
"""

import contextlib
import os
import socket
import sys
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from hub.settings import Settings


@dataclass(frozen=True, slots=True)
class Worker:
    """The place of a worker among the `workers` nodes behind one port."""

    number: int
    """From 1."""
    workers: int
    sockets: tuple[socket.socket, ...]
    """Listening sockets, one per worker, all on the port. A worker accepts at its own, and at those
    of workers that do not take connections now. They stay open in the supervisor, so that
    connections in the kernel's queue outlive the worker that accepts from it."""
    connect: Callable[[], socket.socket] | None
    """Returns a new connection to the broker process; None where the broker is elsewhere."""
    broker_url: str = ""
    """`HUB_BROKER` of the broker process."""
    supervisor: str = ""
    """A name of its supervisor that no other one has."""
    on_outdated: Callable[[], None] = lambda: None
    """Called when the broker process is of a newer version than this worker."""

    def settings(self, settings: Settings, *, node: str) -> Settings:
        """Return this worker's settings; `node` is the name that all workers share.

        A bound that follows from the machine's memory is this worker's share of it. The broker is
        that of the broker process, whatever the settings say now.
        """
        own: dict[str, object] = {"node": f"{node}-{self.number}"}
        if self.broker_url:
            own["broker"] = self.broker_url
        if settings.is_default("outbox_total_bytes"):
            own["outbox_total_bytes"] = settings.outbox_total_bytes // self.workers
        return settings.model_copy(update=own)


_VARIABLE = "_HUB_ROLE"
# proc(5): a longer name is cut.
_COMM_LENGTH = 15
BROKER = 0
"""In place of a worker's number."""


class Role(msgspec.Struct, frozen=True):
    """A child of a supervisor. Descriptors are inherited."""

    number: int
    """A worker's number from 1; `BROKER` for the broker process."""
    workers: int
    node: str
    """The name that the workers' names begin with."""
    control: int
    """The way to the supervisor (`hub.node.supervisor.control`)."""
    listening: tuple[int, ...]
    """Sockets where a worker accepts peers, or the broker process accepts workers."""
    broker: str = ""
    """The broker process' address; empty where there is none. It begins with @ where it
    stands in no directory (unix(7), abstract sockets)."""
    broker_url: str = ""
    """`HUB_BROKER` of the broker process; empty where there is none."""
    supervisor: str = ""
    """A name of the supervisor that no other one has."""
    digests: Mapping[str, str] = {}
    """Of the supervisor's settings (`hub.node.supervisor.until_restart`)."""

    def environment(self) -> dict[str, str]:
        """Return the environment that gives a process this role."""
        return {_VARIABLE: msgspec.json.encode(self).decode()}

    def worker(self) -> Worker:
        """Take over the sockets."""
        sockets = tuple(map(adopted, self.listening))
        return Worker(
            self.number,
            self.workers,
            sockets,
            self._connect if self.broker else None,
            broker_url=self.broker_url,
            supervisor=self.supervisor,
        )

    def _connect(self) -> socket.socket:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            made.setblocking(False)
            made.connect(unix_address(self.broker))
        except BaseException:
            made.close()
            raise
        return made


def adopted(descriptor: int) -> socket.socket:
    """Return an inherited socket that children of this process do not inherit."""
    os.set_inheritable(descriptor, False)
    return socket.socket(fileno=descriptor)


def unix_address(name: str) -> str:
    """Return the address as the system takes it."""
    return f"\0{name[1:]}" if name.startswith("@") else name


def take_role(environment: MutableMapping[str, str] = os.environ) -> Role | None:
    """Return the role of this process; None without a supervisor. To be called once."""
    raw = environment.pop(_VARIABLE, None)
    if raw is None:
        return None
    role = msgspec.json.decode(raw, type=Role)
    _be_called("hub-broker" if role.number == BROKER else f"hub-worker-{role.number}")
    return role


def _be_called(name: str) -> None:
    """Show this name in `top` and `ps -o comm`, where all have the same command line."""
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text(name[:_COMM_LENGTH])


def run_beside_nodes(
    settings: Settings,
    role: Role | None,
    *,
    command: Sequence[str],
    demo: bool = False,
    beside: bool = False,
) -> int | None:
    """Be the supervisor or the broker process, and return the exit code.

    Returns None where this process is to be a node. `command` starts this program again; `demo` and
    `beside` are for the greeting. Raises `SettingsError` where the port cannot be had.
    """
    if role is not None and role.number == BROKER:
        from hub.node.supervisor.broker_process import run_broker_process  # noqa: PLC0415 - a node needs neither

        return run_broker_process(settings, role)
    if role is None and settings.workers > 1:
        from hub.node.supervisor.start import run_supervisor  # noqa: PLC0415 - as above

        return run_supervisor(settings, command=command, demo=demo, beside=beside)
    return None


def this_program() -> Sequence[str]:
    """Return the command line of this process, as the interpreter got it."""
    return [sys.executable, *sys.orig_argv[1:]]
