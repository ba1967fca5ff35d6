"""nginx and HAProxy before a hub, with a rule that no body may get past.

`/api` is denied, but for `/api/publish/open`. Where connections to the hub are kept, clients
share them.
"""

from collections.abc import Callable

from tests.support.proxies.daemon import Daemon
from tests.support.proxies.haproxy import HaProxy
from tests.support.proxies.nginx import Nginx

_RULE = "location /api {{ return 403; }} location = /api/publish/open {{ {hub} }} "


def as_documented(port: int) -> Nginx:
    """nginx by the documents' snippet: an upgrade of any kind is handed on."""
    hub = (
        f"proxy_pass http://127.0.0.1:{port}; proxy_http_version 1.1; "
        "proxy_set_header Host $http_host; proxy_set_header Upgrade $http_upgrade; "
        "proxy_set_header Connection $connection_upgrade; "
        "proxy_buffering off; proxy_read_timeout 60s;"
    )
    # `map` belongs outside of `server`; this is the same.
    same = 'set $connection_upgrade ""; if ($http_upgrade) { set $connection_upgrade upgrade; } '
    return Nginx(f"{same}{_RULE.format(hub=hub)} location / {{ {hub} }}")


def nginx_that_streams(port: int) -> Nginx:
    """Bodies are handed on as they come, not when they are whole."""
    hub = (
        f"proxy_pass http://127.0.0.1:{port}; proxy_http_version 1.1; "
        "proxy_set_header Host $http_host; proxy_set_header Upgrade $http_upgrade; "
        'proxy_set_header Connection "upgrade"; '
        "proxy_request_buffering off; proxy_buffering off;"
    )
    return Nginx(f"{_RULE.format(hub=hub)} location / {{ {hub} }}")


def haproxy_that_shares(port: int) -> HaProxy:
    """One connection to the hub for all clients, reused whenever it can be."""
    return HaProxy(
        "backend hubs\n"
        "  http-reuse always\n"
        "  http-request deny if { path_beg /api } !{ path /api/publish/open }\n"
        f"  server hub 127.0.0.1:{port} pool-max-conn 1 maxconn 4"
    )


PROXIES: dict[str, Callable[[int], Daemon]] = {
    "nginx as documented": as_documented,
    "nginx that streams": nginx_that_streams,
    "HAProxy that shares": haproxy_that_shares,
}
