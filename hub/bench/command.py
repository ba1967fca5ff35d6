"""What `hub bench` does once its options are read: plan, run, show."""

import contextlib
import json
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from functools import partial

import typer
from rich.console import Console

from hub.bench import several_nodes, workers
from hub.bench.contest import OpenServer, Outcome, run
from hub.bench.cores import Cores
from hub.bench.intake import Intake
from hub.bench.plan import FLOORS, BenchError, Contestant, Plan
from hub.bench.server import Server, own_server, running_server
from hub.bench.table import intake_table, table, workers_table
from hub.bench.watch import ProgressBar

MAX_READERS = 4
"""Reader processes nobody asked for: more than one server keeps busy."""
_STREAMS = (Contestant.WEBSOCKET, Contestant.SSE)


def contestants(transport: str, compare: str | None, *, baseline: bool) -> tuple[Contestant, ...]:
    """Whom a round measures, in this order.

    Raises:
        BenchError: A transport has another name.
    """
    asked = tuple(_stream(name) for name in (transport, compare) if name)
    return (*dict.fromkeys(asked), *(FLOORS if baseline else ()))


def usual_readers() -> int:
    """A reader per core that the server leaves.

    Raises:
        BenchError: This is not Linux.
    """
    if not hasattr(os, "sched_getaffinity"):
        raise BenchError("the benchmark needs Linux: epoll, processor affinity")
    return max(1, min(MAX_READERS, len(os.sched_getaffinity(0)) - 1))


def opener(url: str | None, *, token: str | None, pid: int | None, nodes: int = 1) -> OpenServer:
    """How each round comes by its hub: fresh processes, or what runs at `url`.

    Raises:
        BenchError: `url` is no hub's, or is given beside several nodes.
    """
    if url is None:
        return own_server if nodes == 1 else partial(several_nodes.nodes, count=nodes)
    if nodes > 1:
        raise BenchError("--nodes starts nodes of its own, --url names one that runs already")
    server = running_server(url, token=token, pid=pid)

    def found(_: Cores) -> AbstractContextManager[Server]:
        return contextlib.nullcontext(server)

    return found


def measure(plan: Plan, open_server: OpenServer) -> Outcome:
    """Run the plan with a progress bar on stderr."""
    with ProgressBar(Console(stderr=True)) as bar:
        return run(plan, open_server, bar)


def show_intake(rows: Sequence[Intake], *, as_json: bool) -> None:
    """Print what a node took in, a row for each way of publishing."""
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        Console().print(intake_table(rows))


def measure_workers(plan: Plan, count: int, *, as_json: bool) -> bool:
    """Measure and print; whether nothing was lost silently and nothing came twice."""
    with ProgressBar(Console(stderr=True)) as bar:
        rows = workers.run(plan, count, bar)
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        Console().print(workers_table(rows))
    return not any(row.faults for row in rows)


def show(outcome: Outcome, *, as_json: bool) -> None:
    """Print the figures on stdout."""
    if as_json:
        typer.echo(json.dumps(outcome.as_dict(), indent=2))
    else:
        Console().print(table(outcome))


def _stream(name: str) -> Contestant:
    if name not in _STREAMS:
        raise BenchError(f"transport is {name!r}, allowed are {', '.join(_STREAMS)}")
    return Contestant(name)
