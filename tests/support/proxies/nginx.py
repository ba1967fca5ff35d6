"""nginx before a hub, as people configure it: with and without thinking of streams."""

import os
import signal
from pathlib import Path

from tests.support.proxies.daemon import GENERATION, Daemon

_FILE = """\
{user}
daemon off;
pid nginx.pid;
error_log stderr warn;
worker_processes 1;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  scgi_temp_path scgi;
  uwsgi_temp_path uwsgi;
  {rules}
}}
"""


def whole_file(rules: str) -> str:
    """Return a configuration whose `http` has these rules."""
    # As root its workers would be "nobody", who may not look into a temporary directory.
    user = "user root;" if os.geteuid() == 0 else ""
    return _FILE.format(user=user, rules=rules)


class Nginx(Daemon):
    """Its rules are what stands in `server`."""

    program = "nginx"
    reload_signal = signal.SIGHUP

    def configuration(self, rules: str, generation: int) -> str:
        mark = f"add_header {GENERATION} {generation} always;"
        return whole_file(f"server {{ listen 127.0.0.1:{self.port}; {mark}\n{rules}\n}}")

    def command(self, program: str, file: Path) -> list[str]:
        return [program, "-p", f"{self.path}/", "-c", str(file), "-e", "stderr"]


def plain(hub_port: int) -> str:
    """Returns what every tutorial has: HTTP/1.0 to the hub, no upgrade, `proxy_buffering` on."""
    return f"location / {{ proxy_pass http://127.0.0.1:{hub_port}; }}"


def buffering(hub_port: int) -> str:
    """The same, deaf to `X-Accel-Buffering: no`: a stream comes when a buffer is full.

    With larger buffers than by default (4 KiB), so that a busy stream does not fill them.
    """
    buffers = "proxy_buffer_size 64k; proxy_buffers 8 64k; proxy_busy_buffers_size 128k;"
    deaf = f"proxy_ignore_headers X-Accel-Buffering; {buffers}"
    return f"location / {{ proxy_pass http://127.0.0.1:{hub_port}; {deaf} }}"


def refusing(hub_port: int, status: int) -> str:
    """Answers every upgrade by itself with `status`."""
    refusal = f'if ($http_upgrade) {{ return {status} "no upgrades here"; }}'
    return f"{refusal} {plain(hub_port)}"


def upgrading(hub_port: int) -> str:
    """Returns the rules that nginx' own documentation has for WebSocket."""
    upgrade = (
        "proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; "
        'proxy_set_header Connection "upgrade"; proxy_set_header Host $http_host;'
    )
    return f"location / {{ proxy_pass http://127.0.0.1:{hub_port}; {upgrade} }}"
