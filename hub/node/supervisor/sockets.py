"""The sockets that outlive workers: made by the supervisor, inherited by its children.

Each worker has a listening socket of its own on the one port (SO_REUSEPORT), among which the
kernel spreads connections. A socket that is closed takes along what waits in its queue, so none
ever is before the hub ends: a worker that goes stops accepting, and its successor, or another
worker, accepts what waits.
"""

import contextlib
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hub.errors import SettingsError
from hub.node.binding import bind
from hub.node.supervisor.roles import unix_address
from hub.settings import Settings

_BACKLOG = 128


def listening_sockets(settings: Settings) -> list[socket.socket]:
    """One per worker; raise `SettingsError` where the port cannot be had."""
    if not hasattr(socket, "SO_REUSEPORT"):
        raise SettingsError("HUB_WORKERS: this system has no SO_REUSEPORT; allowed: 1")
    # A socket that shares the port would be bound beside another program's of the same user, which
    # shares it as well, without a word. This one would not.
    bind(settings.host, settings.port, 1).close() if settings.port else None
    made: list[socket.socket] = []
    port = settings.port
    for _ in range(settings.workers):
        made.append(bind(settings.host, port, settings.backlog, shared=True))
        port = made[0].getsockname()[1]
    return made


@contextlib.contextmanager
def broker_socket() -> Iterator[tuple[str, socket.socket]]:
    """Where the broker process accepts workers: a name that no file has where the system allows it,
    because a container's file system may be read-only."""
    with contextlib.ExitStack() as stack:
        if sys.platform == "linux":
            name = f"@hub-{os.getpid()}-{secrets.token_hex(8)}"
        else:
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="hub-"))
            name = str(Path(directory) / "broker")
        made = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        made.bind(unix_address(name))
        made.listen(_BACKLOG)
        made.setblocking(False)
        yield name, made


def is_of_this_user(peer: socket.socket) -> bool:
    """Whether the process at the other end runs as this user: a name without a file has no
    permissions."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    size = 3 * 4  # ucred: pid, uid, gid
    uid = int.from_bytes(
        peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)[4:8], sys.byteorder
    )
    return uid == os.geteuid()
