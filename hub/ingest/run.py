"""The loop of an ingestion: take lines, wait for their turn, publish them, save the place."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from hub.ingest.checkpoint import Checkpoint, FilePlace, save
from hub.ingest.lines import CODES_OF_ONE_LINE, MAX_LINE_BYTES, Line
from hub.ingest.opened import Chunk
from hub.ingest.pace import Pace
from hub.ingest.report import Report
from hub_client import NotPublishedError, OutcomeUnknownError, Outgoing, Published, PublishError

Outcome = Published | PublishError


class Publishes(Protocol):
    """The part of `hub_client.Publisher` that an ingestion uses; it also retries."""

    async def publish_many(self, items: Sequence[Outgoing], /) -> Sequence[Outcome]: ...


@dataclass(frozen=True, slots=True)
class LineTarget:
    """The channel of the lines, and their form."""

    channel: str
    to_payload: Callable[[bytes], bytes]
    """Return the JSON of a line; raise `ValueError` with the reason where the line is refused."""
    message_key: str | None = None


class LineSink:
    """Publish lines; those of one call travel in one request."""

    def __init__(self, publisher: Publishes, target: LineTarget) -> None:
        self._publisher = publisher
        self._target = target

    async def publish(self, lines: Sequence[Line], id_: str) -> list[Outcome]:
        """Return one outcome for each line, without raising.

        `id_` and a line's first byte make its idempotency key.
        """
        items = [self._outgoing(line, id_) for line in lines]
        sent = [item for item in items if isinstance(item, Outgoing)]
        answers: Iterator[Outcome] = iter(await self._publisher.publish_many(sent))
        return [next(answers) if isinstance(item, Outgoing) else item for item in items]

    def _outgoing(self, line: Line, id_: str) -> Outgoing | PublishError:
        if line.data is None:
            return PublishError("too_large", f"line is over {MAX_LINE_BYTES:,} bytes")
        try:
            payload = self._target.to_payload(line.data)
        except ValueError as error:
            return PublishError("bad_request", str(error))
        key = f"{id_}:{line.start}"
        return Outgoing(self._target.channel, payload, self._target.message_key, key)


class ChunkSource(Protocol):
    @property
    def place(self) -> FilePlace:
        """The place behind the lines that were taken last."""
        ...

    async def take(self, most: int) -> Chunk | None: ...
    def place_before(self, line: Line) -> FilePlace: ...


class Keeper(Protocol):
    async def keep(self, place: FilePlace, *, settled: bool) -> None: ...


class StoppedError(Exception):
    """A line could not be published, and going on without it was not asked for or is of no use."""

    def __init__(self, error: PublishError) -> None:
        super().__init__(str(error))
        self.error = error


class CheckpointKeeper:
    """Save places of one file and channel."""

    def __init__(
        self, path: Path, *, file: Path, channel: str, now: Callable[[], float] = time.time
    ) -> None:
        self._path = path
        self._file = file
        self._channel = channel
        self._now = now
        # A save goes on in its thread when its caller is cancelled: the last one waits for it.
        self._lock = threading.Lock()

    async def keep(self, place: FilePlace, *, settled: bool) -> None:
        """Save the place; raise `OSError`."""
        mark = place.mark
        checkpoint = Checkpoint(
            file=str(self._file),
            channel=self._channel,
            id=place.id,
            inode=mark.inode,
            offset=mark.offset,
            digest=mark.digest,
            lines=place.lines,
            done=sorted(place.done),
            settled=settled,
            saved_at=self._now(),
            written_ns=place.written_ns,
        )
        await asyncio.to_thread(self._save, checkpoint)

    def _save(self, checkpoint: Checkpoint) -> None:
        with self._lock:
            save(self._path, checkpoint)


class NoKeeper:
    """Save nothing: stdin cannot be read again."""

    async def keep(self, place: FilePlace, *, settled: bool) -> None:  # noqa: ARG002 - the port's shape
        return


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of an ingestion."""

    source: ChunkSource
    sink: LineSink
    keeper: Keeper
    pace: Pace
    report: Report
    stop_at_refused: bool = False
    """Whether a refused line ends the ingestion, or is counted and left out."""
    settled: bool = True
    """False where the last run was cut off."""


class Ingest:
    """Publish the lines of a source, one request at a time, so that their order is kept."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._place = parts.source.place
        self._settled = parts.settled

    async def run(self) -> None:
        """Run to the end of the source, or for ever where it follows.

        Raises:
            StoppedError: The run stops at a line; its place is saved as before that line.
            OSError: The file cannot be read, or the checkpoint cannot be written.
        """
        parts = self._parts
        # Now, because the file may be another one than last time, and have no line yet.
        await parts.keeper.keep(self._place, settled=False)
        try:
            while chunk := await parts.source.take(parts.pace.lines):
                await parts.pace.wait(len(chunk.lines))
                await self._before(chunk)
                await self._publish(chunk)
                parts.report.progress(chunk)
        finally:
            await parts.keeper.keep(self._place, settled=self._settled)

    async def _before(self, chunk: Chunk) -> None:
        """Save a file's id before its first line is sent."""
        if self._place.id != chunk.before.id:
            await self._parts.keeper.keep(chunk.before, settled=False)
        self._place = chunk.before

    async def _publish(self, chunk: Chunk) -> None:
        lines = [line for line in chunk.lines if line.start not in chunk.before.done]
        self._settled = False
        outcomes = await self._parts.sink.publish(lines, chunk.before.id)
        settled = dict(zip(lines, outcomes, strict=True))
        stop = self._count(chunk, settled)
        self._settled = not any(isinstance(each, OutcomeUnknownError) for each in outcomes)
        if stop is not None:
            self._place = self._place_of(chunk, settled)
            raise StoppedError(stop)
        self._place = chunk.after
        await self._parts.keeper.keep(chunk.after, settled=False)

    def _count(self, chunk: Chunk, outcomes: dict[Line, Outcome]) -> PublishError | None:
        """Count the outcomes; return the error that ends the ingestion, if any."""
        stop: PublishError | None = None
        for line, outcome in outcomes.items():
            self._parts.report.taken_line(chunk.file, line)
            if isinstance(outcome, Published):
                self._parts.report.published_line(line, outcome)
            elif not self._ends(outcome):
                self._parts.report.refused_line(chunk.file, line, outcome)
            elif stop is None:
                self._parts.report.failed_line(chunk.file, line, outcome)
                stop = outcome
        return stop

    def _ends(self, error: PublishError) -> bool:
        failed = isinstance(error, NotPublishedError | OutcomeUnknownError)
        return failed or self._parts.stop_at_refused or error.code not in CODES_OF_ONE_LINE

    def _place_of(self, chunk: Chunk, outcomes: dict[Line, Outcome]) -> FilePlace:
        """Return the place before the first line without an outcome; later lines with one are
        noted."""
        open_lines = [
            line
            for line, outcome in outcomes.items()
            if isinstance(outcome, PublishError) and self._ends(outcome)
        ]
        first = open_lines[0]
        place = self._parts.source.place_before(first)
        after = {line.start for line in chunk.lines if line.start > first.start}
        done = after - {line.start for line in open_lines}
        return replace(place, done=frozenset(done))
