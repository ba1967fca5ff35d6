"""The floors: bare loops in C and in Python, read and checked by the same readers as the hub.

Their sources are in `tests`; without them or without a compiler there is no baseline.
"""

import contextlib
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hub.bench.cores import Cores, started
from hub.bench.figures import Figures, Outside, round_figures
from hub.bench.greetings import payload
from hub.bench.load import await_connected, await_delivered, begin, finish, new_progress, readers
from hub.bench.meter import ProcessMeter
from hub.bench.phases import PhaseListener
from hub.bench.plan import BenchError, Contestant, Plan, PublishReport, ServerAddress

_SOURCES = Path(__file__).parents[2] / "tests" / "benchmarks"
SOURCE = _SOURCES / "send_loop.c"
DESCRIPTOR_LOOP = _SOURCES / "descriptor_loop.py"
COMPILE_SECONDS = 60.0
ANSWER_SECONDS = 10.0
SPARE_SECONDS = 30.0
"""A run may take so much longer than its ticks."""
STEP_SECONDS = 0.1
FLAT_OUT_TICKS = 3000
_HEAD = b'\x81\x7e..{"op":"message","channel":"bench","offset":000000000000,"data":'


@contextlib.contextmanager
def command_of(contestant: Contestant) -> Iterator[Sequence[str]]:
    """Yield the command that starts this loop, while the block lasts.

    Raises:
        BenchError: Its source is absent, or does not compile.
    """
    if contestant is Contestant.SEND_LOOP:
        with compiled() as binary:
            yield (str(binary),)
    elif DESCRIPTOR_LOOP.is_file():
        yield (sys.executable, str(DESCRIPTOR_LOOP))
    else:
        raise BenchError(f"the baseline needs {DESCRIPTOR_LOOP}")


@contextlib.contextmanager
def compiled(source: Path = SOURCE) -> Iterator[Path]:
    """Yield the compiled loop, in a directory that is removed afterwards.

    Raises:
        BenchError: There is no source, no compiler, or it does not compile.
    """
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or not source.is_file():
        raise BenchError(f"the baseline needs a C compiler and {source}")
    with tempfile.TemporaryDirectory() as directory:
        binary = Path(directory) / "send_loop"
        command = [compiler, "-O2", "-o", str(binary), str(source)]
        done = subprocess.run(  # noqa: S603 - a compiler from PATH and our own source
            command, capture_output=True, text=True, timeout=COMPILE_SECONDS, check=False
        )
        if done.returncode:
            raise BenchError(f"send_loop.c does not compile: {done.stderr[-1000:]}")
        yield binary


def bare_frame(size_bytes: int) -> bytes:
    """Return a frame of that size (107 bytes at least) with places for an offset and a time."""
    return _HEAD + payload(0, size_bytes - len(_HEAD) - 1) + b"}"


@dataclass(frozen=True, slots=True)
class BareLoop:
    """Run rounds of a loop on the server's core."""

    contestant: Contestant
    command: Sequence[str]
    cores: Cores
    processes: int = 1
    """The number of loops that share the connections. The loop in C is always one."""

    def measure(self, plan: Plan, frame_bytes: int, phases: PhaseListener) -> Figures:
        """Run one round of `plan` without any hub, with frames as long as the hub's."""
        # As many writes as the hub's, and as many in a row: the first of them wakes the reader.
        plan = replace(plan, subscribers=plan.receivers, channels=1, channels_each=1)
        ticks = plan.measured_publications or FLAT_OUT_TICKS
        frame = bare_frame(frame_bytes)
        numbers = [plan.subscribers, ticks, plan.rate, len(frame)]
        if self.processes > 1:
            numbers.append(self.processes)
        with started(
            [*self.command, *map(str, numbers)],
            self.cores.server,
            environment={},
            output=subprocess.PIPE,
            errors=subprocess.DEVNULL,
        ) as process:
            _write(process, frame)
            target = ServerAddress(host="127.0.0.1", port=int(_line(process, ANSWER_SECONDS)))
            return _round(plan, self.contestant, ticks, target, process, phases)


def _round(
    plan: Plan,
    contestant: Contestant,
    ticks: int,
    target: ServerAddress,
    process: subprocess.Popen[bytes],
    phases: PhaseListener,
) -> Figures:
    progress = new_progress(plan)
    meter = ProcessMeter(process.pid)

    def show() -> None:
        phases.reached(progress.delivered)

    with readers(plan, target, contestant, "", progress) as herd:
        await_connected(plan, progress, phases, contestant)
        begin(herd)
        phases.phase(f"{contestant}: deliveries", ticks * plan.subscribers)
        before = meter.usage()
        _write(process, b"g")
        planned_seconds = ticks / plan.rate if plan.rate else plan.seconds
        line = _line(process, planned_seconds + SPARE_SECONDS, show)
        used = meter.usage().since(before)
        sends, cpu_seconds, start_ns = line.split()
        await_delivered(progress, int(sends), show)
        reports = finish(herd)
    published = PublishReport(count=ticks, acknowledged=ticks, first_ns=int(start_ns))
    outside = Outside(cpu_seconds=float(cpu_seconds), waited_seconds=used.waited_seconds)
    return round_figures(contestant, plan, reports, published, outside)


def _write(process: subprocess.Popen[bytes], data: bytes) -> None:
    """Hand over at most a pipe's 64 KiB, which never waits: the loop reads before it answers."""
    if process.stdin is None:
        raise BenchError("the bare loop has no input")
    process.stdin.write(data)
    process.stdin.flush()


def _line(
    process: subprocess.Popen[bytes], seconds: float, show: Callable[[], None] = lambda: None
) -> bytes:
    """Return the next line that the loop prints."""
    deadline = time.monotonic() + seconds
    if process.stdout is None:
        raise BenchError("the bare loop has no output")
    while not select.select([process.stdout], [], [], STEP_SECONDS)[0]:
        show()
        if time.monotonic() > deadline:
            raise BenchError(f"the bare loop says nothing for {seconds:.0f} s")
    line = process.stdout.readline()
    if not line:
        raise BenchError(f"the bare loop has ended with {process.wait(ANSWER_SECONDS)}")
    return line
