"""HAProxy before one hub or several."""

import signal
from pathlib import Path

from tests.support.proxies.daemon import GENERATION, Daemon

# The time-outs are those of Debian's default file.
_FILE = """\
global
  maxconn 1000
defaults
  mode http
  timeout connect 5s
  timeout client 50s
  timeout server 50s
  option redispatch
frontend hubs
  bind 127.0.0.1:{port}
  http-after-response set-header {header} {generation}
  default_backend hubs
{rules}
"""


class HaProxy(Daemon):
    """Its rules are the rest of the frontend-less file: a backend `hubs`."""

    program = "haproxy"
    # To the master of master-worker mode: a new worker, while the old one serves what it has.
    reload_signal = signal.SIGUSR2

    def configuration(self, rules: str, generation: int) -> str:
        return _FILE.format(port=self.port, header=GENERATION, generation=generation, rules=rules)

    def command(self, program: str, file: Path) -> list[str]:
        return [program, "-W", "-q", "-f", str(file)]


def one(hub_port: int) -> str:
    """Returns rules in mode http that do not mention WebSocket."""
    return f"backend hubs\n  server hub 127.0.0.1:{hub_port}"


def refusing(hub_port: int, status: int) -> str:
    """Answers every upgrade by itself with `status`."""
    deny = f"  http-request deny deny_status {status} if {{ req.hdr(Upgrade) -m found }}"
    return f"backend hubs\n{deny}\n  server hub 127.0.0.1:{hub_port}"


def balancing(*hub_ports: int) -> str:
    """Round robin over the nodes that are ready; asks them ten times a second."""
    servers = [
        f"  server hub{number} 127.0.0.1:{port} check inter 100ms fall 1 rise 1"
        for number, port in enumerate(hub_ports)
    ]
    return "\n".join(["backend hubs", "  option httpchk GET /readyz", *servers])
