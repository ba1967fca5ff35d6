"""Web pages that may talk to the hub: the `Origin` header against an allow list.

A browser attaches a user's stored credentials to any page's WebSocket, so the hub itself has to ask
where the page came from (RFC 6455 section 10.2). Rules:

- A request without `Origin` is allowed, because no page can read its answer; credentials decide.
  There is one exception: if the browser reports a page of another site (`Sec-Fetch-Site:
  cross-site`, `same-site`, or any other word than `none`, as for an image or a link), only the
  entry `*` covers the request. Otherwise any page could open sessions by the hundred. Public pages
  of the hub are not checked, so that links to them work.
- A page of the host and port that the request was sent to (`Host`) is always allowed, as with
  CORS, so that the hub's own pages keep working whatever is listed. The scheme is not compared,
  because TLS usually ends at a proxy.
- A page is also allowed if its browser reports the same origin (`Sec-Fetch-Site: same-origin`,
  which no page can set), because many proxies put a name of their own into `Host`, as nginx does by
  default. Browsers send it with requests of pages from HTTPS or loopback; Chromium not with a
  WebSocket.
- For any other page an entry must cover its origin: `https://example.com`,
  `https://example.com:8443`, `https://*.example.com` (subdomains at any depth, not the domain
  itself), or `*`.
- `Origin: null` (sandboxed frames, `file:`) names no site: only `*` covers it.

The rule of the same host does not stop DNS rebinding (a page whose own name is made to resolve to
the hub): `hub.auth.hosts` does.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from hub.errors import ForbiddenError, SettingsError

# RFC 6454 section 6.2: scheme "://" host [ ":" port ], no path. Compared in lower case.
_ORIGIN = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://"
    r"(?P<host>\[[0-9a-f:.]+\]|(?:\*\.)?[a-z0-9_~-][a-z0-9._~-]*)"
    r"(?::(?P<port>[0-9]{1,5}))?"
)
_DEFAULT_PORTS = {"http": 80, "https": 443}
MAX_PORT = 65_535
# As browsers write them in an origin.
LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
# Enough to recognise it in a log; the rest is whatever a stranger sent.
_SHOWN_CHARACTERS = 100
# What was judged of pages is known of so many, of at most so many characters each: 300 KB.
_MAX_KNOWN = 256
_KNOWN_CHARACTERS = 400
# W3C Fetch Metadata, section 2.3. `same-site` is another host or port of this site, `none` what
# a user asks for, as by typing an address.
_SAME_ORIGIN, _ASKED_BY_USER = "same-origin", "none"


@dataclass(frozen=True, slots=True)
class Origin:
    scheme: str
    host: str
    port: int | None
    """The port; the scheme's own where none is written, None where the scheme has none."""


def _parse(text: str) -> Origin | None:
    match = _ORIGIN.fullmatch(text.lower())
    if match is None:
        return None
    scheme, host, port = match.group("scheme", "host", "port")
    number = int(port) if port else _DEFAULT_PORTS.get(scheme)
    return None if number is not None and number > MAX_PORT else Origin(scheme, host, number)


class OriginList:
    """The allow list, parsed once at the start."""

    __slots__ = ("_any", "_exact", "_known", "_subdomains")

    def __init__(self, entries: Iterable[str], *, setting: str = "HUB_ORIGINS") -> None:
        """Take the entries; raise `SettingsError` naming the first that cannot be an origin."""
        entries = tuple(entries)
        parsed = [_entry(entry, setting) for entry in entries if entry != "*"]
        self._any = "*" in entries
        self._known: dict[tuple[str | None, str | None, str | None], str] = {}
        """Judgements by question: the reason of a refusal, or an empty text. The same pages ask
        again and again."""
        self._exact = frozenset(origin for origin in parsed if not origin.host.startswith("*."))
        self._subdomains = tuple(origin for origin in parsed if origin.host.startswith("*."))

    def check(self, origin: str | None, host: str | None, fetch_site: str | None = None) -> None:
        """Raise `ForbiddenError` unless a page of `origin` may talk to the hub at `host`.

        Args:
            origin: the request's `Origin` header, None where there was none.
            host: its `Host` header.
            fetch_site: its `Sec-Fetch-Site` header (W3C Fetch Metadata, section 2.3).
        """
        site = _site(fetch_site)
        if self._any or site == _SAME_ORIGIN:
            return
        if origin is None and site in {None, _ASKED_BY_USER}:
            return
        asked = origin, host, site
        if (known := self._known.get(asked)) is not None:
            if known:
                raise ForbiddenError(known)
            return
        why = self._judge(origin, host, site)
        if sum(len(part) for part in asked if part is not None) <= _KNOWN_CHARACTERS:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            self._known[asked] = why
        if why:
            raise ForbiddenError(why)

    def _judge(self, origin: str | None, host: str | None, site: str | None) -> str:
        """Return why a page of `origin` is refused; empty where it is allowed."""
        if origin is None:
            shown = (site or "")[:_SHOWN_CHARACTERS]
            return (
                f"a page of elsewhere asks ({shown}) and its browser names no origin"
                " that could be allowed (see HUB_ORIGINS)"
            )
        page = _parse(origin)
        if page is None or not (_same_host(page, host) or self._covers(page)):
            return _refusal(origin, page, host)
        return ""

    def names(self, origin: str | None, host: str | None, fetch_site: str | None = None) -> bool:
        """Return whether the request comes from a page of the hub itself, or of an origin listed by
        name.

        The question matters where a browser alone vouches for the user, as with a cookie: `*` names
        no origin.
        """
        if _site(fetch_site) == _SAME_ORIGIN:
            return True
        page = None if origin is None else _parse(origin)
        return page is not None and (_same_host(page, host) or self._covers(page))

    def _covers(self, page: Origin) -> bool:
        # A star is an entry's way of speaking; no page comes from a host of that name.
        if page.host.startswith("*"):
            return False
        return page in self._exact or any(_is_below(page, entry) for entry in self._subdomains)


def _site(header: str | None) -> str | None:
    """Return the site that a browser states for the request; None where no field states one.

    A value counts only as browsers write it (RFC 9651: tokens have a case). A repeated value, or
    one in other letters or with a suffix, was written by something else and lets no request in.
    """
    if header is None or not header.strip():
        return None
    return header.strip()


def _entry(text: str, setting: str) -> Origin:
    origin = _parse(text)
    if origin is None:
        hint = ": leave out the / at its end" if _parse(text.rstrip("/")) is not None else ""
        raise SettingsError(
            f"{setting}: {text!r} is not allowed: * or scheme://host[:port] without a path, "
            f"where host may begin with *.{hint}"
        )
    return origin


def _is_below(page: Origin, entry: Origin) -> bool:
    """Whether `page` is a subdomain of `entry`'s host, which is `*.` and a domain."""
    same_place = (page.scheme, page.port) == (entry.scheme, entry.port)
    return same_place and page.host.endswith(entry.host[1:])


def _named_by(host: str | None, page: Origin) -> Origin | None:
    """Return the host of a `Host` field as an origin of the page's scheme: TLS may end at a
    proxy."""
    return _parse(f"{page.scheme}://{host}") if host else None


def _same_host(page: Origin, host: str | None) -> bool:
    return page.scheme in _DEFAULT_PORTS and page == _named_by(host, page)


def _refusal(origin: str, page: Origin | None, host: str | None) -> str:
    """Return both values, and the cure where a proxy seems to have changed one of them."""
    if host is None:
        named = "the request names no host"
    else:
        named = f"the host that the request names is {host[:_SHOWN_CHARACTERS]!r}"
    cure = "list it in HUB_ORIGINS"
    if origin == "null":
        cure = (
            "a page opened as a file or in a sandboxed frame has no origin: serve it over HTTP,"
            " take the origin that its server gives it, and list it in HUB_ORIGINS"
        )
    elif page is not None and _is_alias(page, host):
        cure = (
            f"open the page at {page.scheme}://{host}, which a browser takes for another origin,"
            f" or {cure}"
        )
    elif page is not None and _differs_in_port(page, host):
        cure = (
            f"{cure}; or, where a proxy stands between and that is the page's own host, have it"
            " pass Host on as it came (nginx: proxy_set_header Host $http_host)"
        )
    return f"origin {origin[:_SHOWN_CHARACTERS]!r} is not allowed, {named}: {cure}"


def _differs_in_port(page: Origin, host: str | None) -> bool:
    """Return whether `host` is that of the page but for its port."""
    named = _named_by(host, page)
    return named is not None and (named.host, named.scheme) == (page.host, page.scheme)


def _is_alias(page: Origin, host: str | None) -> bool:
    """Return whether `host` is the page's port of this machine under another name of loopback."""
    named = _named_by(host, page)
    return named is not None and named.port == page.port and {named.host, page.host} <= LOOPBACK
