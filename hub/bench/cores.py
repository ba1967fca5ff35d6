"""The cores of the server and of the load, and the start of a program on them."""

import contextlib
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

END_SECONDS = 5.0
"""A program that was asked to end is killed after this long."""


@dataclass(frozen=True, slots=True)
class Cores:
    """The first core is for the measured server, all others for the load; a single core is
    shared."""

    server: frozenset[int]
    load: frozenset[int]

    @classmethod
    def divide(cls) -> "Cores":
        """Divide the cores that this process may use."""
        usable = sorted(os.sched_getaffinity(0))
        return cls(server=frozenset(usable[:1]), load=frozenset(usable[1:] or usable))

    @contextlib.contextmanager
    def as_load(self) -> Iterator[None]:
        """Stay on the load's cores meanwhile; processes started here inherit that."""
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, self.load)
        try:
            yield
        finally:
            os.sched_setaffinity(0, before)


@contextlib.contextmanager
def started(
    command: Sequence[str],
    cores: frozenset[int],
    *,
    environment: Mapping[str, str],
    output: IO[bytes] | int,
    errors: IO[bytes] | int,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program on the given cores; it is ended when the block is left."""
    process = subprocess.Popen(  # noqa: S603 - the interpreter, or what we compiled ourselves
        command, env=environment, stdin=subprocess.PIPE, stdout=output, stderr=errors
    )
    try:
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(process.pid, cores)
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(END_SECONDS)
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
