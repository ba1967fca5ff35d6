"""Binding the one port, and what is said where that cannot be done.

`::` is every address, IPv4 and IPv6, whatever the system's default for such sockets is; where the
kernel has no IPv6 it is every IPv4 address. `0.0.0.0` is IPv4 alone. A name is looked up, and where
it has addresses of both families, as `localhost` mostly does, the one of IPv4 is taken.
"""

import errno
import socket

from hub.errors import SettingsError

EVERY_ADDRESS = "::"
_EVERY_IPV4 = "0.0.0.0"
# No IPv6 in the kernel, or none that is switched on.
_NO_IPV6 = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT})


def bind(host: str, port: int, backlog: int, *, shared: bool = False) -> socket.socket:
    """A listening socket that does not block; a `SettingsError` says what is in the way.

    One that is `shared` lets others that are share its address.
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
    """`http://host:port/path`, with the brackets that an IPv6 address has in one."""
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
