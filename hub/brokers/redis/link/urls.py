"""The forms of a URL setting that describe a Redis deployment; pure text, no connection.

- `redis://[user:password@]host:port/db`, `rediss://` (TLS), `unix://path`: one server.
- Several whole URLs of these, separated by commas: independent servers.
- `redis+sentinel://[user:password@]host:port,host:port/service[/db]`, `rediss+sentinel://`:
  the master that the sentinels at these places know under that name. User and password are
  those of the Redis servers; the sentinels' own are the query's `sentinel_username` and
  `sentinel_password`.
- `redis+cluster://[user:password@]host:port,host:port`, `rediss+cluster://`: the Redis Cluster
  that these servers, some of it, belong to.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from hub.errors import SettingsError

REDIS_PORT = 6379
SENTINEL_PORT = 26379  # that of redis.io's documents and of redis-sentinel itself
PLAIN = frozenset({"redis", "rediss", "unix"})
SENTINEL = frozenset({"redis+sentinel", "rediss+sentinel"})
CLUSTER = frozenset({"redis+cluster", "rediss+cluster"})
ENCRYPTED = frozenset({"rediss", "rediss+sentinel", "rediss+cluster"})


# The part between `//` and the path, without a user.
_HOST = re.compile(r"(\[[^\s\[\]@]+\]|[^\s\[\]@:]*)(:[0-9]*)?")
_SECRET_NAME = re.compile(
    r"(password|passwd|secret|token|credential|^key$|[_-]key$)", re.IGNORECASE
)
HIDDEN = "********"


def scheme(url: str) -> str:
    """Return the scheme in small letters; empty where there is none."""
    # Not `urlsplit`, whose errors repeat the URL, passwords and all.
    name, found, _ = url.partition(":")
    return name.strip().lower() if found else ""


def split(urls: str) -> list[str]:
    """Cut at commas before a URL: a password may hold other commas."""
    return [url.strip() for url in re.split(r",\s*(?=[A-Za-z+]+://)", urls)]


def are_redis(urls: str) -> bool:
    """Return whether the URLs have schemes that go together."""
    schemes = [scheme(url) for url in split(urls)]
    return PLAIN.issuperset(schemes) or (len(schemes) == 1 and schemes[0] in SENTINEL | CLUSTER)


def without_secrets(url: str) -> str:
    """Return `url` without user, password and query; raise nothing for any text."""
    parts = _cut(url)
    if parts is None:
        return f"{scheme(url)}://{HIDDEN}"
    return f"{scheme(url)}://{parts.hosts}{parts.path}"


def masked(urls: str) -> str:
    """Return one URL or several with `HIDDEN` for users and passwords, also those of their queries.

    Where one cannot be told from the rest, because it holds `/`, `?`, `#` or `@` unescaped, all
    of that URL is hidden.
    """
    if "@" not in urls and "?" not in urls:
        return urls
    return ",".join(map(_masked, split(urls)))


def _masked(url: str) -> str:
    parts = _cut(url)
    if parts is None:
        return f"{scheme(url)}://{HIDDEN}" if "://" in url else HIDDEN
    user = f"{HIDDEN}@" if parts.user else ""
    query = "&".join(_without_secret(pair) for pair in parts.query.split("&"))
    asked = f"?{query}" if query else ""
    return f"{url.partition('://')[0]}://{user}{parts.hosts}{parts.path}{asked}"


def _without_secret(pair: str) -> str:
    name, equals, value = pair.partition("=")
    if pair and not equals:
        return HIDDEN  # the rest of a value with an unescaped `&`, as no option has no value
    return f"{name}={HIDDEN}" if value and _is_secret(name) else pair


def _is_secret(name: str) -> bool:
    return _SECRET_NAME.search(unquote(name)) is not None


@dataclass(frozen=True, slots=True)
class _Parts:
    user: str
    """Name and password, as they stand there."""
    hosts: str
    path: str
    query: str


def _cut(url: str) -> _Parts | None:
    """Return the parts of a URL; None where it is not sure which is which.

    `redis://:pa/ss@host` is an example: a parser takes `:pa` for host and port.
    """
    _, found, rest = url.partition("://")
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    user, _, hosts = authority.rpartition("@")
    path, _, query = rest[len(authority) :].partition("?")
    shown = [pair for pair in query.split("&") if not _is_secret(pair.partition("=")[0])]
    # A file's path may hold one; nothing else that a Redis needs to be told does.
    stray = "@" in path and scheme(url) != "unix"
    if not found or stray or "#" in path + query or any("@" in pair for pair in shown):
        return None
    if not all(_HOST.fullmatch(host) for host in hosts.split(",")):
        return None
    return _Parts(user, hosts, path, query)


def check_form(url: str) -> None:
    """Raise `SettingsError` for a URL whose parts cannot be told from each other."""
    if "://" not in url:
        raise SettingsError(
            f"{scheme(url) or HIDDEN!r} is not the URL of a Redis: two slashes are missing"
            " behind its scheme"
        )
    if _cut(url) is None or not _can_be_split(url):
        raise SettingsError(
            f"{without_secrets(url)!r} is not the URL of a Redis: expected"
            f" {scheme(url)}://user:password@host:port. In user and password / ? # @ : % are"
            " written %2F %3F %23 %40 %3A %25, and the port is a number"
        )


def check_database(name: str, url: str) -> None:
    """Raise `SettingsError` where a database's name is no number: redis-py takes 0 then."""
    if re.fullmatch("[0-9]*", name) is None:
        raise SettingsError(
            f"{without_secrets(url)!r} is not the URL of a Redis: its database is {name[:40]!r},"
            " expected a number"
        )


def _can_be_split(url: str) -> bool:
    """Return whether `urlsplit` can cut it: its errors repeat the URL, so they must not be
    shown."""
    try:
        urlsplit(url)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class SentinelUrl:
    """The parts of a `redis+sentinel://` URL."""

    service: str
    sentinels: Sequence[str]
    """URLs of the sentinels."""
    _master: str
    """URL of the master, with a place for the address."""

    def master(self, host: str, port: int) -> str:
        """Return the URL of the master at this address."""
        return self._master.format(address=address(host, port))


def address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_sentinel(url: str) -> SentinelUrl:
    """Raise `SettingsError` for a URL that names no sentinels or no service."""
    check_form(url)
    parts = urlsplit(url)
    plain = parts.scheme.lower().partition("+")[0]
    user, at, hosts = parts.netloc.rpartition("@")
    service, _, database = parts.path.strip("/").partition("/")
    if not service or not all(hosts.split(",")):
        raise SettingsError(
            f"{without_secrets(url)!r} names no service: expected "
            "redis+sentinel://host:port,host:port/service"
        )
    check_database(database, url)
    query = dict(parse_qsl(parts.query))
    name, password = query.pop("sentinel_username", ""), query.pop("sentinel_password", "")
    login = f"{quote(name, safe='')}:{quote(password, safe='')}@" if password else ""
    rest = f"?{urlencode(query)}" if query else ""
    return SentinelUrl(
        service=service,
        sentinels=[
            f"{plain}://{login}{_with_port(host, SENTINEL_PORT)}{rest}" for host in hosts.split(",")
        ],
        _master=f"{plain}://{_literal(user + at)}{{address}}/{_literal(database + rest)}",
    )


@dataclass(frozen=True, slots=True)
class ClusterUrl:
    """The parts of a `redis+cluster://` URL."""

    seeds: Sequence[str]
    """URLs of the servers that it names."""
    _node: str
    """URL of any server, with a place for the address."""

    def node(self, address: str) -> str:
        """Return the URL of the server at `host:port`."""
        return self._node.format(address=address)


def parse_cluster(url: str) -> ClusterUrl:
    """Raise `SettingsError` for a URL that names no server, or a database."""
    check_form(url)
    parts = urlsplit(url)
    plain = parts.scheme.lower().partition("+")[0]
    user, at, hosts = parts.netloc.rpartition("@")
    if not all(hosts.split(",")) or parts.path.strip("/") not in {"", "0"}:
        raise SettingsError(
            f"{without_secrets(url)!r} is not the URL of a cluster, which has no databases: "
            "expected redis+cluster://host:port,host:port"
        )
    rest = f"?{parts.query}" if parts.query else ""
    made = ClusterUrl((), f"{plain}://{_literal(user + at)}{{address}}{_literal(rest)}")
    return replace(
        made, seeds=[made.node(_with_port(host, REDIS_PORT)) for host in hosts.split(",")]
    )


def _with_port(host: str, port: int) -> str:
    return host if re.search(r":\d+$", host) and not host.endswith("]") else f"{host}:{port}"


def _literal(text: str) -> str:
    """Return `text` so that `format` leaves it as it is."""
    return text.replace("{", "{{").replace("}", "}}")
