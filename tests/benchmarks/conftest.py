"""Rounds of the benchmark whose processes start at once: hubs and load are forked.

A round starts a hub, a publisher and readers, each of which imports what a process here has
imported already: most of what a short round costs. Rounds with interpreters of their own are in
`test_connections_that_are_held_idle_answer_pings` and the tests that run `hub bench` as a program.
"""

import contextlib
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import IO

import pytest

from hub.bench import load, server
from hub.bench.cores import started
from tests.support.fork_server import Forked, fork_server
from tests.support.programs import end


@pytest.fixture
def quick_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a program of Python, and each process of the load, forked from one that has imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", load.__name__])
    monkeypatch.setattr(load, "_SPAWN", context)
    monkeypatch.setattr(server, "started", _forked)


@contextlib.contextmanager
def _forked(
    command: Sequence[str],
    cores: frozenset[int],
    *,
    environment: Mapping[str, str],
    output: IO[bytes] | int,
    errors: IO[bytes] | int,
) -> Iterator[Forked | subprocess.Popen[bytes]]:
    """`hub.bench.cores.started`, but for an interpreter that begins."""
    if tuple(command[:2]) != (sys.executable, "-m"):
        with started(
            command, cores, environment=environment, output=output, errors=errors
        ) as process:
            yield process
        return
    # What is meant for an interpreter comes too late for one that has begun.
    kept = {
        name: text
        for name, text in environment.items()
        if not name.startswith("PYTHON") or os.environ.get(name) == text
    }
    forked = fork_server().start(command[1:], kept, stdout=_number(output), stderr=_number(errors))
    try:
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(forked.pid, cores)
        yield forked
    finally:
        end(forked)


def _number(stream: IO[bytes] | int) -> int | None:
    if isinstance(stream, int):
        return None if stream == subprocess.DEVNULL else stream
    return stream.fileno()
