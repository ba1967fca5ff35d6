"""Sockets that the hub listens at: the one port, a worker's share of it, the broker process' own.

`::` is every address, IPv4 and IPv6, whatever the system's default for such sockets is; where the
kernel has no IPv6 it is every IPv4 address. `0.0.0.0` is IPv4 alone. A name is looked up, and where
it has addresses of both families, as `localhost` mostly does, the one of IPv4 is taken.

Sockets for workers outlive them: the supervisor makes them, its children inherit them. Each worker
has a listening socket of its own on the one port (SO_REUSEPORT), among which the kernel spreads
connections. A socket that is closed takes along the connections in its queue, so none is closed
before the hub ends: a worker that goes stops accepting, and its successor, or another worker,
accepts from the queue.
"""

import contextlib
import errno
import os
import secrets
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from hub.errors import SettingsError
from hub.node.supervisor.roles import unix_address
from hub.settings import Settings

EVERY_ADDRESS = "::"
_EVERY_IPV4 = "0.0.0.0"
# No IPv6 in the kernel, or none that is switched on.
_NO_IPV6 = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT})


def bind(host: str, port: int, backlog: int, *, shared: bool = False) -> socket.socket:
    """Return a listening socket that does not block; raise `SettingsError` with the reason.

    A `shared` one lets other shared sockets have its address.
    """
    try:
        return _listening(host, port, backlog, shared=shared)
    except OSError as error:
        if host != EVERY_ADDRESS or error.errno not in _NO_IPV6:
            raise SettingsError(_in_the_way(error, host, port)) from error
    try:
        return _listening(_EVERY_IPV4, port, backlog, shared=shared)
    except OSError as error:
        raise SettingsError(_in_the_way(error, host, port)) from error


def url_of(host: str, port: int, path: str = "", *, tls: bool = False) -> str:
    """Return `http://host:port/path`, with brackets around an IPv6 address."""
    scheme = "https" if tls else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}{path}"


def _listening(host: str, port: int, backlog: int, *, shared: bool) -> socket.socket:
    family, address = _resolved(host, port)
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host != EVERY_ADDRESS)
        bound.bind(address)
        bound.listen(backlog)
        bound.setblocking(False)
    except BaseException:
        bound.close()
        raise
    return bound


def _resolved(host: str, port: int) -> tuple[socket.AddressFamily, tuple[object, ...]]:
    flags = socket.AI_PASSIVE
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    family, _, _, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
    return family, address


def _in_the_way(error: OSError, host: str, port: int) -> str:
    reason = error.strerror or str(error)
    if isinstance(error, socket.gaierror) or error.errno in _NO_IPV6:
        return (
            f"HUB_HOST is {host}: cannot listen there ({reason}); "
            "allowed: an address of this machine, such as 127.0.0.1, 0.0.0.0 for all of IPv4, "
            "or :: for all"
        )
    return (
        f"HUB_PORT is {port} on HUB_HOST {host}: cannot listen there ({reason}); "
        "allowed: a free port, or 0 for any free one"
    )


_BACKLOG = 128
_AGAIN_SECONDS = 0.05


def listening_sockets(settings: Settings, *, patience_seconds: float = 2.0) -> list[socket.socket]:
    """Return a listening socket per worker; raise `SettingsError` where the port cannot be had.

    A port that is in use is waited for: workers of a hub that was killed let go of it as soon as
    they notice, and one that was just starting notices a second later.
    """
    if not hasattr(socket, "SO_REUSEPORT"):
        raise SettingsError("HUB_WORKERS: this system has no SO_REUSEPORT; allowed: 1")
    if settings.port:
        _wait_for(settings.host, settings.port, patience_seconds)
    made: list[socket.socket] = []
    port = settings.port
    for _ in range(settings.workers):
        made.append(bind(settings.host, port, settings.backlog, shared=True))
        port = made[0].getsockname()[1]
    return made


def _wait_for(host: str, port: int, seconds: float) -> None:
    """Return when nobody listens at the port, and raise `SettingsError` where that takes longer.

    A socket that shares the port would be bound beside another program's of the same user, which
    shares it as well, without a word. This one is not.
    """
    until = time.monotonic() + seconds
    while True:
        try:
            return bind(host, port, 1).close()
        except SettingsError as error:
            is_used = getattr(error.__cause__, "errno", None) == errno.EADDRINUSE
            if not is_used or time.monotonic() >= until:
                raise
        time.sleep(_AGAIN_SECONDS)


@contextlib.contextmanager
def broker_socket() -> Iterator[tuple[str, socket.socket]]:
    """Yield the name and socket where the broker process accepts.

    The name has no file where possible: a container's file system may be read-only.
    """
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
    """Return whether the process at the other end runs as this user: a name without a file has no
    permissions."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    size = 3 * 4  # ucred: pid, uid, gid
    uid = int.from_bytes(
        peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)[4:8], sys.byteorder
    )
    return uid == os.geteuid()
