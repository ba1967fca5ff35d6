"""How one URL setting describes a Redis deployment; pure text, nothing is connected here.

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
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from hub.errors import SettingsError

REDIS_PORT = 6379
SENTINEL_PORT = 26379  # that of redis.io's documents and of redis-sentinel itself
PLAIN = frozenset({"redis", "rediss", "unix"})
SENTINEL = frozenset({"redis+sentinel", "rediss+sentinel"})
CLUSTER = frozenset({"redis+cluster", "rediss+cluster"})


def scheme(url: str) -> str:
    return urlsplit(url).scheme.lower()


def split(urls: str) -> list[str]:
    """Cut at commas that a URL follows: a password may hold others."""
    return [url.strip() for url in re.split(r",\s*(?=[A-Za-z+]+://)", urls)]


def are_redis(urls: str) -> bool:
    """Whether these have schemes that go together."""
    schemes = [scheme(url) for url in split(urls)]
    return PLAIN.issuperset(schemes) or (len(schemes) == 1 and schemes[0] in SENTINEL | CLUSTER)


def without_secrets(url: str) -> str:
    """`url` without user, password and query."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()


@dataclass(frozen=True, slots=True)
class SentinelUrl:
    """What a `redis+sentinel://` URL says."""

    service: str
    sentinels: Sequence[str]
    """URLs of them."""
    _master: str
    """Of the master, with a place for the address."""

    def master(self, host: str, port: int) -> str:
        """The URL of the master that is there."""
        return self._master.format(address=address(host, port))


def address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_sentinel(url: str) -> SentinelUrl:
    """Raise `SettingsError` for a URL that names no sentinels or no service."""
    parts = urlsplit(url)
    plain = parts.scheme.lower().partition("+")[0]
    user, at, hosts = parts.netloc.rpartition("@")
    service, _, database = parts.path.strip("/").partition("/")
    if not service or not all(hosts.split(",")):
        raise SettingsError(
            f"{without_secrets(url)!r} names no service: expected "
            "redis+sentinel://host:port,host:port/service"
        )
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
    """What a `redis+cluster://` URL says."""

    seeds: Sequence[str]
    """URLs of the servers it names."""
    _node: str
    """Of any server, with a place for the address."""

    def node(self, address: str) -> str:
        """The URL of the server at `host:port`."""
        return self._node.format(address=address)


def parse_cluster(url: str) -> ClusterUrl:
    """Raise `SettingsError` for a URL that names no server, or a database."""
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
    """As it is after `format`."""
    return text.replace("{", "{{").replace("}", "}}")
