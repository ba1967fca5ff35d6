"""The processes of the load: readers and one publisher, started, ordered, ended."""

import contextlib
import math
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from hub.bench.phases import PhaseListener
from hub.bench.plan import (
    BenchError,
    Contestant,
    Failed,
    LoadCommand,
    Plan,
    PublishJob,
    ReaderReport,
    ReadJob,
    ServerAddress,
)
from hub.bench.progress import FIELDS, Progress
from hub.bench.publisher import publish_job
from hub.bench.reader import OTHER_FILES, check_open_files, read_job

ANSWER_SECONDS = 60.0
"""The time that a process of the load may take for its next answer (15,000 reports: 1 s)."""
END_SECONDS = 5.0

# A fresh interpreter: a forked one would share pages and open sockets with this process.
_SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True, slots=True)
class LoadProcess:
    """A process of the load and the pipe to it."""

    process: BaseProcess
    pipe: Connection

    def order(self, message: object) -> None:
        """Send the process its next order."""
        self.pipe.send(message)

    def has_answered(self, timeout_seconds: float) -> bool:
        """Return whether an answer (or its end) is there within the time."""
        return self.pipe.poll(timeout_seconds)

    def answer(self) -> object:
        """Return its next answer.

        Raises:
            BenchError: It failed, ended, or took more than `ANSWER_SECONDS`.
        """
        if not self.pipe.poll(ANSWER_SECONDS):
            raise BenchError(f"{self.process.name} did not answer in {ANSWER_SECONDS:g} s")
        try:
            answer = self.pipe.recv()
        except EOFError as error:
            raise BenchError(f"{self.process.name} has ended") from error
        if isinstance(answer, Failed):
            raise BenchError(answer.reason)
        return answer

    def end(self) -> None:
        """Let it end, and end it when it does not."""
        with contextlib.suppress(OSError):
            self.pipe.send(LoadCommand.FINISH)
        self.process.join(END_SECONDS)
        if self.process.is_alive():
            self.process.kill()
            self.process.join(END_SECONDS)
        self.pipe.close()


def new_progress(plan: Plan) -> Progress:
    """Return shared numbers for all readers of a plan.

    Raises:
        BenchError: There is no shared memory, such as on a read-only /dev/shm.
    """
    try:
        return Progress(_SPAWN.RawArray("q", FIELDS * plan.readers))
    except OSError as error:
        raise BenchError(f"no memory to share with the readers: {error}") from error


@contextlib.contextmanager
def publisher(
    target: ServerAddress, contestant: Contestant, progress: Progress
) -> Iterator[LoadProcess]:
    """Yield a publisher process that is connected."""
    job = PublishJob(target, contestant)
    with _worker("the publisher", publish_job, job, progress) as worker:
        worker.answer()
        yield worker


@contextlib.contextmanager
def readers(
    plan: Plan, target: ServerAddress, contestant: Contestant, channel: str, progress: Progress
) -> Iterator[tuple[LoadProcess, ...]]:
    """Yield reader processes that begin to connect at once.

    Raises:
        BenchError: One of them would need more open files than the system allows.
    """
    jobs = list(_jobs(plan, target, contestant, channel))
    check_open_files(max(job.count for job in jobs) + OTHER_FILES)
    with contextlib.ExitStack() as stack:
        yield tuple(
            stack.enter_context(_worker(f"reader {job.slot}", read_job, job, progress))
            for job in jobs
        )


def finish(workers: tuple[LoadProcess, ...]) -> tuple[ReaderReport, ...]:
    """Ask every reader for its report."""
    for worker in workers:
        worker.order(LoadCommand.FINISH)
    reports = [worker.answer() for worker in workers]
    return tuple(report for report in reports if isinstance(report, ReaderReport))


def _jobs(
    plan: Plan, target: ServerAddress, contestant: Contestant, channel: str
) -> Iterator[ReadJob]:
    each = math.ceil(plan.subscribers / plan.readers)
    for slot in range(plan.readers):
        count = min(each, plan.subscribers - slot * each)
        if count > 0:
            yield ReadJob(
                target=target,
                contestant=contestant,
                channel=channel,
                count=count,
                in_flight=max(1, plan.in_flight // plan.readers),
                slot=slot,
                first=slot * each,
                channels=plan.channels,
                channels_each=plan.channels_each,
            )


@contextlib.contextmanager
def _worker(
    name: str, work: Callable[..., None], job: object, progress: Progress
) -> Iterator[LoadProcess]:
    ours, theirs = _SPAWN.Pipe()
    process = _SPAWN.Process(target=work, args=(job, theirs, progress), name=name, daemon=True)
    worker = LoadProcess(process, ours)

    def kill_if_failed(failure: type[BaseException] | None, *_: object) -> None:
        # Nobody wants its report any more, and a series takes seconds.
        if failure is not None:
            process.kill()

    with contextlib.ExitStack() as stack:
        with _without_ctrl_c():
            process.start()
            stack.callback(worker.end)
            stack.push(kill_if_failed)
        theirs.close()
        yield worker


@contextlib.contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Start processes that never get Ctrl-C; here it comes at the end of the block.

    A terminal sends it to all processes. This one ends its children itself, and else each of them
    would show a traceback. They inherit that the signal is blocked. Here another thread takes it
    all the same, so that its handler has to wait too.
    """
    # The start of multiprocessing's own tracker would end the block, so it comes first.
    resource_tracker.ensure_running()
    came: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler)
        if came:
            signal.raise_signal(signal.SIGINT)


STEP_SECONDS = 0.05
STALL_SECONDS = 20.0
CONNECT_SECONDS_EACH = 0.002
"""Time allowed per connection, ten times what a front door takes, on top of `STALL_SECONDS`."""
QUIET_SECONDS = 3.0
"""A round is over when nothing arrived for this long after the last publication."""


def await_connected(plan: Plan, progress: Progress, phases: PhaseListener, name: str) -> None:
    """Wait until every connection stands or has failed.

    Raises:
        BenchError: It takes too long, or none could connect.
    """
    phases.phase(f"{name}: connecting", plan.subscribers)
    deadline = time.monotonic() + STALL_SECONDS + CONNECT_SECONDS_EACH * plan.subscribers
    while progress.connected + progress.ended < plan.subscribers:
        phases.reached(progress.connected)
        if time.monotonic() > deadline:
            raise BenchError(f"only {progress.connected:,} of {plan.subscribers:,} connected")
        time.sleep(STEP_SECONDS)
    if not progress.connected:
        raise BenchError("no subscriber could connect")


def await_delivered(progress: Progress, expected: int, show: Callable[[], None]) -> None:
    """Wait until everything has arrived, or nothing did for `QUIET_SECONDS`."""
    last, since = progress.delivered, time.monotonic()
    while last < expected and time.monotonic() - since < QUIET_SECONDS:
        time.sleep(STEP_SECONDS)
        show()
        if progress.delivered != last:
            last, since = progress.delivered, time.monotonic()


def begin(herd: Sequence[LoadProcess]) -> None:
    """Tell every reader that the measured phase begins; return when all have begun it.

    Without the wait a reader might begin after the first deliveries, which its bytes would then
    lack.
    """
    for reader in herd:
        reader.order(LoadCommand.BEGIN)
    for reader in herd:
        reader.answer()
