"""Count the outcomes of lines, report them while they happen, and sum them up at the end."""

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from hub.ingest.lines import Line
from hub.ingest.opened import Chunk
from hub_client import OutcomeUnknownError, Position, Published, PublishError, Retrying

# Each line that is refused is named, up to this many; all are counted.
_MAX_NAMED = 100
_PROGRESS_SECONDS = 10.0


class Report:
    """Counts, and sentences for stderr.

    Args:
        say: Prints one sentence.
        progress_seconds: The time between two sentences about progress.
    """

    def __init__(
        self, say: Callable[[str], None], *, progress_seconds: float = _PROGRESS_SECONDS
    ) -> None:
        self.say = say
        self._progress_seconds = progress_seconds
        self._said_at = time.monotonic()
        self._said_lines = 0
        self.published = 0
        self.repeats = 0
        self.mended = 0
        self.zeros: Counter[Literal["bytes", "lines"]] = Counter()
        self.refused: Counter[str] = Counter()
        self.unknown = 0
        self._last: Position | None = None

    def published_line(self, line: Line, outcome: Published) -> None:
        self.published += 1
        self.repeats += outcome.duplicate
        self.mended += line.data is not None and not _is_utf8(line.data)
        self._last = outcome.position

    def taken_line(self, file: Path, line: Line) -> None:
        """Report a line that is sent without the zeros before it."""
        if not line.zeros or line.data is None:
            return
        self.zeros.update({"bytes": line.zeros, "lines": 1})
        if self.zeros["lines"] <= _MAX_NAMED:
            where = f"{file}: line {line.number:,} (byte {line.start:,})"
            self.say(f"{where}: {line.zeros:,} zero bytes before its text are left out")
        if self.zeros["lines"] == _MAX_NAMED:
            self.say("further lines with zeros before them are only counted")

    def refused_line(self, file: Path, line: Line, error: PublishError) -> None:
        self.refused[error.code] += 1
        named = self.refused.total()
        if named <= _MAX_NAMED:
            self.say(f"{file}: line {line.number:,} (byte {line.start:,}) not published: {error}")
        if named == _MAX_NAMED:
            self.say("further lines that are refused are only counted")

    def failed_line(self, file: Path, line: Line, error: PublishError) -> None:
        """Report the line at which the ingestion ends."""
        unknown = isinstance(error, OutcomeUnknownError)
        self.unknown += unknown
        verdict = "outcome unknown" if unknown else "not published"
        hint = " (--key or HUB_PUBLISH_KEY)" if error.code == "unauthorized" else ""
        self.say(f"{file}: line {line.number:,} (byte {line.start:,}): {verdict}: {error}{hint}")

    def retrying(self, retrying: Retrying) -> None:
        """Report that the hub is away, or refuses for now."""
        again = f"trying again in {retrying.pause_seconds:.1f} s at {retrying.hub}"
        self.say(f"attempt {retrying.attempt}: {retrying.why}; {again}")

    def progress(self, chunk: Chunk) -> None:
        """Report the progress from time to time."""
        seconds = time.monotonic() - self._said_at
        if seconds < self._progress_seconds:
            return
        rate = (self.published - self._said_lines) / seconds
        offset, size = chunk.after.mark.offset, chunk.size
        share = f", {min(100, offset * 100 // size)} % of {size:,} bytes" if size else ""
        self.say(f"{chunk.file}: {self.published:,} lines published, {rate:,.0f}/s{share}")
        self._said_at, self._said_lines = time.monotonic(), self.published

    def summarize(self, channel: str) -> None:
        """Report the outcomes of all lines."""
        parts = [f"{self.published:,} published"]
        if self.repeats:
            parts[0] += f" ({self.repeats:,} of them had been before, and were not repeated)"
        parts += [f"{count:,} refused as {code}" for code, count in sorted(self.refused.items())]
        if self.unknown:
            parts.append("the last with an unknown outcome")
        if self.mended:
            parts.append(f"{self.mended:,} were not UTF-8 and went with U+FFFD in place of bytes")
        if self.zeros:
            lines = "a line" if self.zeros["lines"] == 1 else f"{self.zeros['lines']:,} lines"
            parts.append(f"{self.zeros['bytes']:,} zero bytes before {lines} were left out")
        where = f"; the last at {self._last}" if self._last else ""
        self.say(f"{channel}: {', '.join(parts)}{where}")


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True
