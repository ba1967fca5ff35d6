"""Several nodes on a Redis of their own: published at the first, delivered by the last."""

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace

from hub.bench.cores import Cores, started
from hub.bench.plan import BenchError
from hub.bench.server import Server, free_port, own_server

REDIS = "redis-server"


@contextlib.contextmanager
def nodes(cores: Cores, *, count: int) -> Iterator[Server]:
    """`count` fresh nodes and a fresh Redis, all on the server's core; the last one is metered.

    Raises:
        BenchError: there is no redis-server, or a node does not become ready.
    """
    with redis(cores) as url, contextlib.ExitStack() as stack:
        settings = {"HUB_BROKER": url}
        all_of_them = [
            stack.enter_context(own_server(cores, settings=settings)) for _ in range(count)
        ]
        yield replace(all_of_them[-1], entry=all_of_them[0].target)


@contextlib.contextmanager
def redis(cores: Cores) -> Iterator[str]:
    """The URL of an empty Redis that saves nothing; it is ended when the block is left."""
    if (program := shutil.which(REDIS)) is None:
        raise BenchError(f"--nodes needs {REDIS}, which is not installed")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="hub-bench-") as directory:
        command = (program, "--port", str(port), "--bind", "127.0.0.1", "--save", "")
        silent = subprocess.DEVNULL
        with started(
            (*command, "--dir", directory),
            cores.server,
            environment={},
            output=silent,
            errors=silent,
        ):
            yield f"redis://127.0.0.1:{port}/0"
