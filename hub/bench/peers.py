"""Other servers to measure beside the hub: nchan, or any that a command line starts."""

import contextlib
import shlex
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hub.bench.contest import OpenServer
from hub.bench.cores import Cores, started
from hub.bench.meter import ProcessMeter
from hub.bench.plan import BenchError, Contestant, ServerAddress
from hub.bench.server import BenchServer, free_port, own_server

NCHAN = "nchan"
MODULE = "ngx_nchan_module.so"
# Where Debian's libnginx-mod-nchan puts it, and nginx's own default prefix.
_FOLDERS = (Path("/usr/lib/nginx/modules"), Path("/usr/local/nginx/modules"))
_READY_SECONDS = 10.0
_STEP_SECONDS = 0.05
# One process, as the hub is one. Its defaults otherwise, but for files: a log line for each
# publication would be measured too.
_CONFIGURATION = """\
load_module {module};
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr warn;
worker_rlimit_nofile 40000;
events {{ worker_connections 20000; }}
http {{
    access_log off;
    client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
    uwsgi_temp_path {folder}; scgi_temp_path {folder};
    keepalive_requests 100000000;
    tcp_nodelay on;
    nchan_shared_memory_size 256m;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location ~ ^/sub/([a-z0-9,-]+)$ {{
            nchan_subscriber websocket;
            nchan_channel_id $1;
            nchan_channel_id_split_delimiter ",";
            nchan_subscriber_first_message newest;
        }}
        location ~ ^/pub/([a-z0-9-]+)$ {{ nchan_publisher http; nchan_channel_id $1; }}
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class Peer:
    """A server that is measured beside the hub, and how to start it."""

    contestant: Contestant
    open_server: OpenServer
    command: Sequence[str] | None = None
    """The command line that starts it, if it speaks as the hub does."""


def peer_of(text: str) -> Peer:
    """The peer that `--against` names: `nchan`, its module's path, or a command line.

    A command line starts a server that speaks as the hub does, as another version of it.

    Raises:
        BenchError: There is no nginx with nchan here, no such module, or no such command.
    """
    if text == NCHAN or text.endswith(MODULE):
        if text != NCHAN and not Path(text).is_file():
            raise BenchError(f"--against is {text!r}: no such file")
        nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
        asked = [Path(text)] if text != NCHAN else [folder / MODULE for folder in _FOLDERS]
        module = next((path for path in asked if path.is_file()), None)
        if nginx is None or module is None:
            raise BenchError("nchan is not installed (Debian: libnginx-mod-nchan)")
        return Peer(Contestant.NCHAN, partial(_nchan, nginx=nginx, module=module.resolve()))
    try:
        command = shlex.split(text)
    except ValueError as error:
        raise BenchError(f"--against is no command line: {error}") from error
    if not command:
        raise BenchError(f"--against is {text!r}, allowed are nchan and a command line")
    if shutil.which(command[0]) is None:
        raise BenchError(
            f"--against is {text!r}: there is no program {command[0]!r} here; "
            "allowed are nchan and a command line"
        )
    return Peer(Contestant.PEER, partial(own_server, command=command), command)


@contextlib.contextmanager
def _nchan(cores: Cores, *, nginx: str, module: Path) -> Iterator[BenchServer]:
    port = free_port()
    with (
        tempfile.TemporaryDirectory(prefix="hub-bench-") as folder,
        tempfile.TemporaryFile() as log,
    ):
        file = Path(folder) / "nginx.conf"
        file.write_text(_CONFIGURATION.format(module=module, folder=folder, port=port))
        command = (nginx, "-p", folder, "-c", str(file), "-e", "stderr")
        with started(command, cores.server, environment={}, output=log, errors=log) as process:
            deadline = time.monotonic() + _READY_SECONDS
            while not _listens(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise BenchError(f"nginx did not start: {log.read()[-1000:].decode()}")
                time.sleep(_STEP_SECONDS)
            yield BenchServer(ServerAddress(host="127.0.0.1", port=port), ProcessMeter(process.pid))


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
