"""Put one ingestion together, from the lock on its checkpoint to the exit code."""

import asyncio
import contextlib
import signal
import stat
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from hub.errors import SettingsError
from hub.ingest.checkpoint import clear_forgotten, default_path, load, locked
from hub.ingest.encoding import Encoding
from hub.ingest.pace import Pace
from hub.ingest.report import Report
from hub.ingest.run import (
    CheckpointKeeper,
    ChunkSource,
    Ingest,
    Keeper,
    LineSink,
    LineTarget,
    NoKeeper,
    Parts,
    StoppedError,
)
from hub.ingest.source import FileSource, StdinSource
from hub_client import OutcomeUnknownError, Publisher, PublisherOptions, PublishRetry
from hub_client.route import find_route
from hub_client.transport import check_base_url

ALL_PUBLISHED, NOT_PUBLISHED, UNKNOWN = 0, 1, 3
SIGNALLED = 128
"""The exit code of a process that a signal ended is this plus the signal's number, as in shells."""

_Say = Callable[[str], None]
_TakeLines = Callable[[], Awaitable[list[bytes | None]]]
# The hub knows an idempotency key for 300 seconds; a request may take some of them.
_KEY_SECONDS = 270.0
# Between two looks for a file that is not there yet. A guess, not measured.
_LOOK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class IngestArguments:
    """The ingestion as the command line describes it."""

    target: LineTarget
    url: str
    key: str | None
    rate: float
    """Lines per second."""
    retry_seconds: float
    follow: bool
    stop_at_refused: bool
    encoding: Encoding | None = None
    """With None the beginning of each file decides."""


def ingest_stdin(order: IngestArguments, make_lines: Callable[[], _TakeLines], say: _Say) -> int:
    """Publish the lines of stdin to their end; return the exit code.

    Args:
        order: The ingestion.
        make_lines: Called in the event loop; makes the function that `StdinSource` takes.
        say: Prints a sentence on stderr.

    Raises `ValueError` where the order is wrong.
    """
    report = Report(say)

    async def run() -> int:
        source = StdinSource(make_lines())
        return await _ingest(order, source, NoKeeper(), report)

    return asyncio.run(run())


def ingest_file(order: IngestArguments, file: str, checkpoint: Path | None, say: _Say) -> int:
    """Publish a file's lines from where the last run ended; return the exit code.

    Raises:
        SettingsError: The file or the checkpoint cannot be used.
        ValueError: Another part of the order is wrong.
        OSError: Reading or saving failed later on.
    """
    # Before anything is said, waited for or written: the publisher comes to it last.
    find_route(check_base_url(order.url))
    path = Path(file).absolute()
    if order.follow:
        _wait_for(path, say)
    _check_regular(path)
    report = Report(say)
    channel = order.target.channel
    saved = checkpoint or default_path(path, channel, order.url)
    if checkpoint is None:
        # A folder that is given may hold checkpoints of others, whose files are elsewhere.
        for gone in clear_forgotten(saved.parent, now=time.time()):
            say(f"the checkpoint of {gone} is removed: the file has been gone for long")
    with locked(saved):
        known = load(saved, channel=channel)
        say(f"checkpoint {saved}: " + (f"after line {known.lines:,}" if known else "new"))
        # Before 0 the wall clock was set since, and nobody knows how long ago it was.
        if known and not known.settled and not 0 <= time.time() - known.saved_at <= _KEY_SECONDS:
            say(
                "the last run was cut off longer ago than the hub knows idempotency keys: if "
                "that was in the middle of a request, the lines of that request come twice"
            )
        place = known.place if known else None
        source = FileSource(path, place, follow=order.follow, tell=say, encoding=order.encoding)
        with contextlib.closing(source):
            keeper = CheckpointKeeper(saved, file=path, channel=channel)
            settled = known is None or known.settled
            return asyncio.run(_ingest(order, source, keeper, report, settled=settled))


def _wait_for(path: Path, say: _Say) -> None:
    """Wait until the file exists, because its writer may start later."""
    if not path.exists():
        say(f"{path} is not there yet: waiting for it")
    while not path.exists():
        time.sleep(_LOOK_SECONDS)


def _check_regular(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from None
    if not stat.S_ISREG(mode):
        raise SettingsError(f"{path} is no regular file: give it as stdin, with -")


async def _ingest(
    order: IngestArguments,
    source: ChunkSource,
    keeper: Keeper,
    report: Report,
    *,
    settled: bool = True,
) -> int:
    # No circuit breaker: one request at a time needs no protection from a crowd of them.
    options = PublisherOptions(
        retry=PublishRetry(order.retry_seconds), breaker=None, on_retry=report.retrying
    )
    publisher = Publisher(order.url, key=order.key, options=options)
    termination = _Termination()
    try:
        async with publisher:
            sink = LineSink(publisher, order.target)
            pace = Pace(order.rate)
            parts = Parts(source, sink, keeper, pace, report, order.stop_at_refused, settled)
            await Ingest(parts).run()
    except StoppedError as stop:
        return UNKNOWN if isinstance(stop.error, OutcomeUnknownError) else NOT_PUBLISHED
    except asyncio.CancelledError:
        if termination.signal is None:
            raise
        if not order.follow:
            return SIGNALLED + termination.signal
    finally:
        report.summarize(order.target.channel)
    return NOT_PUBLISHED if report.refused else ALL_PUBLISHED


class _Termination:
    """SIGTERM and the loss of the terminal cancel the present task, as SIGINT does by
    `asyncio.run`, so that the place is saved. Under `nohup` the loss of a terminal is ignored, and
    stays so."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._task = asyncio.current_task()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, self._cancel, number)

    def _cancel(self, number: signal.Signals) -> None:
        self.signal = number
        if self._task is not None:
            self._task.cancel()
