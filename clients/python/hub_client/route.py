"""The way to a hub as the environment describes it: a proxy or none, and trusted certificates.

`HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`, `SSL_CERT_FILE`, `SSL_CERT_DIR` and
`SSLKEYLOGFILE` are read once, when a client is made, for its one address. Variables that do not
concern that address are ignored: a SOCKS proxy is no error where `NO_PROXY` names the hub, nor is a
missing certificate for `http`. The libraries get the outcome and read no environment themselves,
because each would do so in its own way, with errors of its own.
"""

import importlib
import importlib.util
import ipaddress
import os
import re
import ssl
import sys
import urllib.request
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

import httpx2

from hub_client.errors import whole_url

_PROXIES = frozenset({"http", "https", "socks5", "socks5h"})
_PORTS = {"http": 80, "https": 443}
# What the two libraries speak SOCKS with; neither is there unless it is asked for.
_SOCKS_MODULES = ("socksio", "python_socks")


def _errors_of_socks() -> tuple[type[Exception], ...]:
    try:
        module = importlib.import_module("socksio")
    except ImportError:
        return ()
    return (module.SOCKSError,)


SOCKS_ERRORS = _errors_of_socks()
"""The errors of httpx2 for a SOCKS proxy that breaks off, which are none of its own classes.
Nothing was sent to the hub before them."""
HTTP_ERRORS: tuple[type[Exception], ...] = (httpx2.HTTPError, *SOCKS_ERRORS)
"""All errors that a request may end with."""


@dataclass(frozen=True)
class OutboundRoute:
    """The way to one hub."""

    proxy: str | None = None
    """The proxy's URL, with its user's name and password; None for no proxy."""
    tls: ssl.SSLContext | None = None
    """The context for a hub or a proxy that is `https`; None where neither is."""

    @property
    def verify(self) -> ssl.SSLContext:
        """The context for httpx2 where no redirection is followed; without TLS it costs nothing to
        make."""
        return self.tls or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    @cached_property
    def verify_redirected(self) -> ssl.SSLContext:
        """The context for httpx2 where an `http` address may redirect to an `https` one.

        It reads the system's certificates, which takes 34 ms (measured).
        """
        try:
            return self.tls or _tls_context()
        except ValueError:
            return httpx2.create_ssl_context(trust_env=False)

    @property
    def httpx_proxy(self) -> httpx2.Proxy | None:
        if self.proxy is None:
            return None
        inner = self.tls if self.proxy.startswith("https:") else None
        return httpx2.Proxy(self.proxy, ssl_context=inner)


def find_route(url: str) -> OutboundRoute:
    """Return the way to the hub at `url`, which is `http` or `https`.

    Raises:
        ValueError: The environment names a proxy for it that cannot be used, or certificates
            that cannot be read; the message names the variable.
    """
    hub = urlsplit(url)
    proxy = _proxy_for(hub)
    secure = hub.scheme == "https" or (proxy or "").startswith("https:")
    return OutboundRoute(proxy, _tls_context() if secure else None)


# -- proxies -------------------------------------------------------------------------------


def _proxy_for(hub: SplitResult) -> str | None:
    """Return the URL of the proxy on the way to `hub`."""
    # Of the environment or, where that names none, of the system's settings (macOS, Windows).
    known = urllib.request.getproxies()
    name = next((name for name in (hub.scheme, "all") if known.get(name)), None)
    if name is None or _goes_past(hub, known.get("no", "")):
        return None
    return _checked_proxy(known[name], f"{name.upper()}_PROXY", hub)


def _checked_proxy(value: str, variable: str, hub: SplitResult) -> str:
    url = value if "://" in value else f"http://{value}"
    try:
        parts = urlsplit(url)
        usable = parts.scheme in _PROXIES and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not url.isascii() or re.search(r"[\s?#]", url):
        kinds = ", ".join(sorted(_PROXIES))
        given = whole_url(url)
        raise ValueError(f"{variable} is {given!r}, allowed is the URL of a proxy ({kinds})")
    if parts.scheme.startswith("socks") and not _speaks_socks():
        raise ValueError(
            f"{variable} is {whole_url(url)!r}, and SOCKS takes broadcast-hub-client[socks]; "
            f"with {hub.hostname} in NO_PROXY the hub is reached without a proxy"
        )
    # A user without a password has an empty one (websockets knows no other).
    return url if parts.password is not None else url.replace("@", ":@", 1)


def _speaks_socks() -> bool:
    return all(importlib.util.find_spec(module) for module in _SOCKS_MODULES)


def _goes_past(hub: SplitResult, no_proxy: str) -> bool:
    """Return whether `no_proxy` names the hub; entries without a meaning are ignored.

    Entries are names (which include their subdomains), addresses, networks, and each of these with
    a port, divided by commas or spaces; `*` is everything. The rules are those of curl.
    """
    entries = (entry for entry in re.split(r"[,\s]+", no_proxy.lower()) if entry)
    if any(_names(hub, entry) for entry in entries):
        return True
    if sys.platform in {"darwin", "win32"}:  # the system's own exceptions
        return bool(urllib.request.proxy_bypass(hub.hostname or ""))
    return False


def _names(hub: SplitResult, entry: str) -> bool:
    if entry == "*":
        return True
    scheme, _, rest = entry.rpartition("://")
    if scheme not in {"", "all", hub.scheme}:
        return False
    host, port = _host_and_port(rest.rstrip("/") if scheme else rest)
    if port and port != str(hub.port or _PORTS[hub.scheme]):
        return False
    name = (hub.hostname or "").rstrip(".")
    if (address := _address(name)) is not None:
        return _covers(host, address)
    suffix = host.removeprefix("*").strip(".")
    return bool(suffix) and (name == suffix or name.endswith(f".{suffix}"))


def _host_and_port(entry: str) -> tuple[str, str]:
    """Return an entry without brackets, and its port; an IPv6 address has a port only in
    brackets."""
    if entry.startswith("["):
        host, _, rest = entry[1:].partition("]")
        # `[fd00::]/8` is a network, `[::1]:8000` an address with a port.
        return (host + rest, "") if rest.startswith("/") else (host, rest.removeprefix(":"))
    if entry.count(":") == 1:
        host, _, port = entry.partition(":")
        return host, port
    return entry, ""


def _covers(entry: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    try:
        return address in ipaddress.ip_network(unquote(entry).partition("%")[0], strict=False)
    except ValueError:
        return False


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


# -- certificates --------------------------------------------------------------------------


def _tls_context() -> ssl.SSLContext:
    """Return a context that trusts the certificates of the environment, else those of the
    system."""
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if file or folder:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        _trust(context, file, folder)
    else:
        context = httpx2.create_ssl_context(trust_env=False)
    if keys := os.environ.get("SSLKEYLOGFILE"):
        try:
            context.keylog_filename = keys
        except OSError as error:
            raise ValueError(f"SSLKEYLOGFILE is {keys!r}: {_why(error)}") from None
    return context


def _trust(context: ssl.SSLContext, file: str | None, folder: str | None) -> None:
    if file:
        try:
            context.load_verify_locations(cafile=file)
        except OSError as error:  # ssl.SSLError is one
            raise ValueError(f"SSL_CERT_FILE is {file!r}: {_why(error)}") from None
    if folder:
        # Several, as OpenSSL takes them.
        if not any(Path(each).is_dir() for each in folder.split(os.pathsep)):
            raise ValueError(f"SSL_CERT_DIR is {folder!r}: there is no such folder")
        context.load_verify_locations(capath=folder)


def _why(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return "there are no certificates in it that can be read"
    return error.strerror or str(error)
