"""Recent commits: in the file as they came, and on their way into its tables.

A commit of 64 publications in 64 channels would change some 90 pages of the tables, and changes
five of `recent`. Many commits together bring each channel many publications, in one block, so that
moving them takes a tenth of a commit each. Memory has the recent commits too: pages of history come
from there until the file's blocks have them, and a start moves what a process has left.

`merged` is plain arithmetic; `Recent` belongs to the event loop. No I/O, no clock.
"""

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice

from hub.brokers.sqlite.layout import (
    MAX_BLOCK_BYTES,
    MAX_BLOCK_PUBLICATIONS,
    Block,
    Commit,
    Placed,
)
from hub.core.options import MIB

# Commits are moved when they have so many bytes, or so many changes of channels, rows and keys.
# Measured with 64 channels: moving 16 commits at a time takes 1.5 us for a publication, 64 commits
# take 1.0.
MOVED_BYTES = MIB
MOVED_CHANGES = 2048
# Bounds of one step: some milliseconds, which a commit may have to wait. A change of one more
# channel takes some 8 us, a change of the same channel nearly nothing.
_STEP_BYTES = MIB
_STEP_CHANNELS = 400
_STEP_KEYS = 2000
# A page in the WAL for each channel that a step changes.
_PAGE_BYTES = 4096
# The file holds a block as long as its newest publication, so that those of one block must be of
# nearly the same age.
_BLOCK_MS = 250


class Recent:
    """The recent commits of one file, and what has moved into its tables.

    Args:
        moved_bytes: so many bytes of commits are moved at the latest.
    """

    def __init__(self, moved_bytes: int = MOVED_BYTES) -> None:
        self._moved_bytes = moved_bytes
        self._commits: deque[Commit] = deque()
        self._bytes = self._changes = 0
        self.moves = 0
        """The number of times that commits have left: a channel asked of them before may be in the
        file now."""
        self._blocks: dict[int, list[tuple[Block, bytes]]] = {}
        """The blocks by channel, with the bytes they lie in, of the first `_indexed` commits."""
        self._indexed = 0

    def __len__(self) -> int:
        return len(self._commits)

    @property
    def due(self) -> bool:
        """Whether some are to be moved before the next commit."""
        return self._bytes >= self._moved_bytes or self._changes >= MOVED_CHANGES

    @property
    def oldest(self) -> int:
        """The number of the first commit; 0 without one."""
        return self._commits[0].commits if self._commits else 0

    @property
    def newest(self) -> int:
        """The number of the last commit; 0 without one."""
        return self._commits[-1].commits if self._commits else 0

    def add(self, commit: Commit) -> None:
        """Take a commit that was written."""
        self._commits.append(commit)
        self._bytes += len(commit.data)
        self._changes += _changes(commit)

    def all(self) -> Sequence[Commit]:
        return tuple(self._commits)

    def step(self) -> Sequence[Commit]:
        """Return the oldest commits: as many as one step moves, and one at least."""
        return next(steps(self._commits), ())

    @property
    def step_bytes(self) -> int:
        """About how many bytes the next step writes."""
        commits = self.step()
        return sum([len(each.data) for each in commits]) + _PAGE_BYTES * len(changed(commits))

    def moved(self, through: int) -> None:
        """Drop the commits up to this number: their content is in the tables."""
        while self._commits and self._commits[0].commits <= through:
            commit = self._commits.popleft()
            self._bytes -= len(commit.data)
            self._changes -= _changes(commit)
        self.moves += 1
        self._blocks, self._indexed = {}, 0

    def clear(self) -> None:
        """Drop all: a file was opened, and opening it has moved them."""
        self._commits.clear()
        self._bytes = self._changes = 0
        self.moved(0)

    def first(self, channel: int) -> int | None:
        """Return the first offset of a channel that no block of the file has yet, if there is
        one."""
        blocks = self._of(channel)
        return blocks[0][0][1] if blocks else None

    def page(
        self, channel: int, after: int, limit: int, max_bytes: int, fresh_ms: int
    ) -> tuple[int | None, bytes]:
        """Return the first offset held, and blocks that follow `after`: as a file's reader."""
        fresh = [each for each in self._of(channel) if each[0][3] >= fresh_ms]
        found: list[bytes] = []
        for block, data in fresh:
            if block[2] <= after:
                continue
            if len(found) == limit or max_bytes <= 0:
                break
            found.append(bytes_of(block, data))
            max_bytes -= block[5]
        return fresh[0][0][1] if fresh else None, b"".join(found)

    def _of(self, channel: int) -> Sequence[tuple[Block, bytes]]:
        """Index the commits that came since the last question, and return a channel's blocks."""
        for commit in islice(self._commits, self._indexed, None):
            for block in commit.blocks:
                self._blocks.setdefault(block[0], []).append((block, commit.data))
        self._indexed = len(self._commits)
        return self._blocks.get(channel, ())


def _changes(commit: Commit) -> int:
    return len(commit.channels) + len(commit.rows) + len(commit.removed) + len(commit.made)


def changed(commits: Sequence[Commit]) -> Collection[int]:
    """Return the channels that these commits change."""
    return {channel[0] for commit in commits for channel in commit.channels}


def steps(commits: Iterable[Commit]) -> Iterator[Sequence[Commit]]:
    """Yield stretches of commits that one step moves each."""
    step: list[Commit] = []
    channels: set[int] = set()
    size = rows = keys = 0
    for commit in commits:
        size += len(commit.data)
        rows += len(commit.rows) + len(commit.removed)
        keys += len(commit.made)
        channels.update([each[0] for each in commit.channels])
        full = size > _STEP_BYTES or len(channels) + rows > _STEP_CHANNELS or keys > _STEP_KEYS
        if full and step:
            yield step
            step, channels = [], {each[0] for each in commit.channels}
            size, keys = len(commit.data), len(commit.made)
            rows = len(commit.rows) + len(commit.removed)
        step.append(commit)
    if step:
        yield step


def merged(commits: Sequence[Commit], oldest: Mapping[int, int]) -> Commit:
    """Return one commit that does what all of these do, one after another.

    Args:
        oldest: the first offset by channel that history still has; blocks before it are left out.
    """
    sum_ = _Sum(oldest)
    for commit in commits:
        sum_.add(commit)
    return sum_.commit(commits[-1])


class _Sum:
    """The changes of several commits together."""

    def __init__(self, oldest: Mapping[int, int]) -> None:
        self._oldest = oldest
        self._channels: dict[int, tuple[int, str, str, int, int]] = {}
        self._blocks: dict[int, list[tuple[Block, bytes]]] = {}
        self._rows: dict[tuple[int, str], tuple[Placed, bytes]] = {}
        self._removed: dict[tuple[int, str], None] = {}
        self._gone: list[int] = []
        self._ended: dict[int, int] = {}
        self._made: list[tuple[str, str, int, int, str, int]] = []

    def add(self, commit: Commit) -> None:
        for id_ in commit.gone:
            self._forget(id_)
        self._ended.update(commit.ended)
        self._made += commit.made
        self._channels |= {channel[0]: channel for channel in commit.channels}
        for block in commit.blocks:
            if block[2] >= self._oldest.get(block[0], 0):
                self._blocks.setdefault(block[0], []).append((block, commit.data))
        for id_, key in commit.removed:
            self._rows.pop((id_, key), None)
            self._removed[id_, key] = None
        for row in commit.rows:
            self._removed.pop((row[0], row[1]), None)
            self._rows[row[0], row[1]] = row, commit.data

    def _forget(self, id_: int) -> None:
        self._gone.append(id_)
        self._channels.pop(id_, None)
        self._blocks.pop(id_, None)
        for place in [each for each in self._rows if each[0] == id_]:
            del self._rows[place]

    def commit(self, last: Commit) -> Commit:
        parts: list[bytes] = []
        blocks: list[Block] = []
        rows: list[Placed] = []
        at = 1
        for of_channel in self._blocks.values():
            for joined in _joined(of_channel):
                raw = b"".join([bytes_of(block, data) for block, data in joined])
                id_, _, newest, taken_ms, expires_ms, _, _, _ = joined[-1][0]
                first, size = joined[0][0][1], sum([block[5] for block, _ in joined])
                blocks.append((id_, first, newest, taken_ms, expires_ms, size, at, len(raw)))
                parts.append(raw)
                at += len(raw)
        for row, data in self._rows.values():
            id_, key, offset, taken_ms, _, length = row
            parts.append(bytes_of(row, data))
            rows.append((id_, key, offset, taken_ms, at, length))
            at += length
        return Commit(
            commits=last.commits,
            clock_ms=last.clock_ms,
            channels=list(self._channels.values()),
            blocks=blocks,
            made=self._made,
            rows=rows,
            removed=list(self._removed),
            gone=self._gone,
            ended=list(self._ended.items()),
            data=b"".join(parts),
        )


def _joined(blocks: Sequence[tuple[Block, bytes]]) -> Iterator[Sequence[tuple[Block, bytes]]]:
    """Yield stretches of one channel's blocks that make one block each."""
    stretch: list[tuple[Block, bytes]] = []
    first = first_ms = size = 0
    for block, data in blocks:
        size += block[5]
        if stretch and (
            size > MAX_BLOCK_BYTES
            or block[2] - first >= MAX_BLOCK_PUBLICATIONS
            or block[3] - first_ms > _BLOCK_MS
        ):
            yield stretch
            stretch, size = [], block[5]
        if not stretch:
            first, first_ms = block[1], block[3]
        stretch.append((block, data))
    yield stretch


def bytes_of(placed: Block | Placed, data: bytes) -> bytes:
    """Return the bytes of a block or of a row in a commit's `data`."""
    begins, length = placed[-2:]
    return data[begins - 1 : begins - 1 + length]
