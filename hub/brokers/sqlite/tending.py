"""The upkeep of the history file beside commits: recent commits moved into the tables, trimming,
checkpoints, and pages given back.

`Tending` decides the next step; each step is small, so that a commit never waits long behind one.
Trimming to the bound in bytes goes before anything else is written: the file stays within it.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import islice
from typing import Protocol

from hub.brokers.idempotency import IdempotencyKeys
from hub.brokers.sqlite.file import VACUUM_PAGES, HistoryFile, Victim
from hub.brokers.sqlite.intake import StoredLog, StoredLogs
from hub.brokers.sqlite.key_upkeep import KEY_BYTES, ROWS_AT_ONCE, KeyUpkeep
from hub.brokers.sqlite.layout import Commit
from hub.brokers.sqlite.recent import Recent, changed
from hub.core.options import MIB

Step = Callable[[], Callable[[], object]]
"""Runs in the writing thread; returns a call for the event loop."""
# Trimming begins so far below the bound that the file itself does not get over it.
_MARGIN = 1 / 32
# Bytes of the file for a byte of publications, at most, unless they are tiny.
_GROWTH = 1.3
# Blocks beyond `history_size` go when they have so many publications. Guess.
_SLACK = 64
# The WAL is copied into the file when about so much is in it. A page that changed is in it again
# with each change, so that few publications make it large: some pages for a commit, and some for
# each channel of a step that moves commits.
_CHECKPOINT_BYTES = 16 * MIB
# Checkpoints beside the writing thread before that thread copies the rest itself. Each copies what
# came during the one before. Guess, not measured.
_MAX_ROUNDS = 3
_PAGE_BYTES = 4096
_PAGES_PER_COMMIT = 4
_PAGES_PER_CHANNEL = 2
# Under load a step has its turn after so many commits.
_COMMITS_BETWEEN = 8
# Channels whose blocks are trimmed in one step: as many look-ups in an index, and few blocks each.
_CHANNELS_AT_ONCE = 200
# Pages without content are given back where they are this share of the file, and so many bytes.
_FREE_SHARE = 1 / 4
_FREE_BYTES = 4 * MIB


def is_crowded(stored: StoredLog) -> bool:
    """Return whether trimming pays: the file has much that history has no room for."""
    return stored.oldest + _SLACK < stored.first


class _Trimmed(Protocol):
    """Called with blocks of channels that are deleted, and whether there are more."""

    def __call__(self, victims: Sequence[Victim], /, *, more: bool) -> None: ...


class Tending:
    """Decides the next step of upkeep; one per broker."""

    def __init__(
        self, total_bytes: int, logs: StoredLogs, recent: Recent, *, max_keys: int
    ) -> None:
        self._total_bytes = total_bytes
        self._logs = logs
        self._recent = recent
        self._key_upkeep = KeyUpkeep(max_keys)
        self._sifted = False
        """Whether keys were sifted since the last commit."""
        self.used_bytes = 0
        self._free_bytes = 0
        self._unlooked_bytes = 0
        self._trimmed_bytes = 0
        """Bytes of the blocks that were trimmed since the last commit."""
        self._wal_bytes = 0
        self._look = True
        self._nothing_left = False
        """Whether all publications have gone and the file is still too large."""
        self._no_block = False
        """Whether all blocks have gone; commits that are not moved yet have more."""
        self._expired = self._keys = self._identity = False
        self._move_through = 0
        """The newest commit of a second ago, by number: it is moved although few came."""
        self._checkpoint = self._checkpointing = self._finish = False
        self._is_behind = False
        """Whether the WAL grows faster than it is copied: upkeep waits until all of it is."""
        self._rounds = 0
        """Checkpoints since the WAL began anew."""
        self._commits = 0
        """Commits since the last step."""
        self._crowded: dict[int, None] = {}
        self._dead: dict[int, None] = {}

    def begin(
        self, logs: StoredLogs, crowded: Iterable[int], keys: IdempotencyKeys, keys_stored: int
    ) -> None:
        """Go on with the channels and keys of another file; `is_crowded` is true of some."""
        self._key_upkeep.begin(keys, keys_stored)
        self._logs = logs
        self._crowded = dict.fromkeys(crowded)
        self._dead.clear()

    def opened(self) -> None:
        """Look at everything: the file was just opened."""
        self._look = self._expired = self._keys = self._checkpoint = True
        self._finish = self._is_behind = False

    def a_second_passed(self) -> None:
        self._look = self._expired = self._keys = self._identity = True
        self._move_through = self._recent.newest

    def written(self, size: int, keys: int = 0) -> None:
        """Note a commit of so many bytes, which has made so many idempotency keys."""
        self._key_upkeep.written(keys)
        self._commits += 1
        self._unlooked_bytes += size
        self._trimmed_bytes = 0
        self._nothing_left = self._sifted = False
        self._grown(size, 0)

    def _grown(self, size: int, pages: int) -> None:
        """Note how much more the WAL has."""
        self._wal_bytes += size + (_PAGES_PER_COMMIT + pages) * _PAGE_BYTES
        if self._wal_bytes > _CHECKPOINT_BYTES:
            self._wal_bytes, self._checkpoint = 0, True
            self._is_behind = self._checkpointing or self._finish

    def _grown_by_deleting(self, victims: Sequence[Victim]) -> None:
        # Pages that are given free are in the WAL too: SQLite may overwrite them, and lists them.
        self._grown(sum([each.bytes for each in victims]), len(victims))

    def forgotten(self, channel: int) -> None:
        """Delete the blocks of a channel that is forgotten, step by step."""
        self._crowded.pop(channel, None)
        self._dead[channel] = None

    def trimmed(self, victims: Sequence[Victim]) -> None:
        """Note that these blocks are deleted, because an operator clears their channel."""
        self._gone(victims)
        self._look = True

    def checkpoint_due(self) -> bool:
        """Return whether a checkpoint is to begin, beside the writing thread; `checkpointed` ends
        it."""
        if not self._checkpoint or self._checkpointing or self._finish:
            return False
        self._checkpoint, self._checkpointing = False, True
        return True

    def checkpointed(self) -> None:
        """End a checkpoint; the writing thread copies the little that was written meanwhile.

        Only the writing thread knows that nothing comes behind it: the next commit finds all of the
        WAL in the file, and begins it anew. Where much was written meanwhile, another checkpoint
        beside the thread comes first, a few times.
        """
        self._checkpointing = False
        if self._checkpoint and self._rounds < _MAX_ROUNDS:
            self._rounds += 1
            return
        self._checkpoint, self._rounds, self._finish = False, 0, True

    def urgent(self, file: HistoryFile, now_ms: int, coming_bytes: int | None) -> Step | None:
        """Return the step that has to come before so many bytes are written; None without one.

        A file far above its bound, which was lowered, would make a commit wait until all of it is
        trimmed. A commit only waits until trimming has made more room than the commit takes, so
        that the file becomes smaller all the same.

        Args:
            coming_bytes: of publications; None where nothing is to be written.
        """
        if self._finish:
            return self._finishing(file)
        if self._key_upkeep.due and not self._is_behind and not self._sifted:
            self._sifted = coming_bytes is not None
            return self._sifting_keys(file)
        if self._is_over(self._unlooked_bytes + (coming_bytes or 0)) and not self._nothing_left:
            if self._look or self._unlooked_bytes:
                return self._looking(file)
            if self._no_block and self._recent:
                return self._moving(file)
            if coming_bytes is None and self._is_behind:
                return None
            if coming_bytes is None or self._trimmed_bytes <= coming_bytes * _GROWTH * 2:
                return self._trimming(file.trim_oldest, self._trimmed_oldest)
        if self._recent.due:
            return self._moving(file)
        if self._commits >= _COMMITS_BETWEEN:
            self._commits = 0
            return self.next(file, now_ms)
        return None

    def next(self, file: HistoryFile, now_ms: int) -> Step | None:
        """Return the next step where nothing is to be written; None without one."""
        if self._is_behind:
            return None
        if self._look:
            return self._looking(file)
        if self._identity:
            self._identity = False
            return self._quiet(file.check_identity)
        if 0 < self._recent.oldest <= self._move_through:
            return self._moving(file)
        if self._crowded:
            return self._trimming_channels(file)
        if self._dead:
            return self._trimming_dead(file)
        if self._expired:
            return self._trimming(lambda: file.trim_expired(now_ms), self._trimmed_expired)
        if self._keys:
            return self._forgetting_keys(file, now_ms)
        if self._free_bytes > max(_FREE_BYTES, self.used_bytes * _FREE_SHARE):
            return self._vacuuming(file)
        return None

    def _finishing(self, file: HistoryFile) -> Step:
        def step() -> Callable[[], object]:
            file.checkpoint()

            def then() -> None:
                self._finish = self._is_behind = False
                self._wal_bytes = 0

            return then

        return step

    def _quiet(self, work: Callable[[], object]) -> Step:
        def step() -> Callable[[], object]:
            work()
            return lambda: None

        return step

    def _looking(self, file: HistoryFile) -> Step:
        def step() -> Callable[[], object]:
            size = file.size()
            return lambda: self._looked(size.used, size.free)

        return step

    def _looked(self, used: int, free: int) -> None:
        self._look, self._unlooked_bytes = False, 0
        self.used_bytes, self._free_bytes = used, free

    def _is_over(self, more_bytes: int) -> bool:
        """Return whether the file might get over its bound with so much more."""
        return self.used_bytes + more_bytes * _GROWTH > self._total_bytes * (1 - _MARGIN)

    def _moving(self, file: HistoryFile) -> Step:
        commits = self._recent.step()
        oldest: dict[int, int] = {}
        for id_ in changed(commits):
            stored = self._logs.by_id(id_)
            oldest[id_] = 0 if stored is None else stored.first

        def step() -> Callable[[], object]:
            file.move(commits, oldest)
            return lambda: self.moved(commits, oldest)

        return step

    def moved(self, commits: Sequence[Commit], channels: Collection[int]) -> None:
        """Note that the content of these commits, which change `channels`, is in the tables."""
        self._no_block = False
        self._recent.moved(commits[-1].commits)
        self._grown(sum([len(each.data) for each in commits]), _PAGES_PER_CHANNEL * len(channels))
        for id_ in channels:
            if (stored := self._logs.by_id(id_)) is None:
                self._dead[id_] = None
            elif is_crowded(stored):
                self._crowded[id_] = None

    def _trimming(
        self,
        work: Callable[[], Sequence[Victim]],
        then: Callable[[Sequence[Victim]], None],
    ) -> Step:
        def step() -> Callable[[], object]:
            victims = work()
            return lambda: then(victims)

        return step

    def _trimmed_oldest(self, victims: Sequence[Victim]) -> None:
        self._gone(victims)
        self._trimmed_bytes += sum([each.bytes for each in victims])
        self._no_block, self._look = not victims, True
        # Where nothing is left, the bound is smaller than the least size of a file.
        self._nothing_left = not victims and not self._recent

    def _trimmed_expired(self, victims: Sequence[Victim]) -> None:
        self._gone(victims)
        self._expired = bool(victims)

    def _trimming_channels(self, file: HistoryFile) -> Step:
        """Delete blocks that history has no room for, of some channels."""
        before: dict[int, int] = {}
        for id_ in islice(self._crowded, _CHANNELS_AT_ONCE):
            log = self._logs.by_id(id_)
            before[id_] = 0 if log is None else log.first

        def then(victims: Sequence[Victim], *, more: bool) -> None:
            self._gone(victims)
            if more:
                return
            for id_, first in before.items():
                self._crowded.pop(id_, None)
                if (stored := self._logs.by_id(id_)) is not None:
                    # Others were left out when they were to be moved.
                    stored.oldest = max(stored.oldest, first)

        return self._trimming_of(file, before, then)

    def _trimming_dead(self, file: HistoryFile) -> Step:
        before = dict.fromkeys(islice(self._dead, _CHANNELS_AT_ONCE), 1 << 62)

        def then(victims: Sequence[Victim], *, more: bool) -> None:
            self._grown_by_deleting(victims)
            for id_ in () if more else before:
                self._dead.pop(id_, None)

        return self._trimming_of(file, before, then)

    def _trimming_of(self, file: HistoryFile, before: Mapping[int, int], then: _Trimmed) -> Step:
        def step() -> Callable[[], object]:
            victims, more = file.trim_channels(before)
            return lambda: then(victims, more=more)

        return step

    def _forgetting_keys(self, file: HistoryFile, now_ms: int) -> Step:
        def step() -> Callable[[], object]:
            more = file.trim_keys(now_ms)

            def then() -> None:
                self._keys = more

            return then

        return step

    def _sifting_keys(self, file: HistoryFile) -> Step:
        upkeep = self._key_upkeep
        changed, after = upkeep.changed, upkeep.after

        def step() -> Callable[[], object]:
            found = file.sift_keys(changed, after, ROWS_AT_ONCE)

            def then() -> None:
                upkeep.looked(found)
                self._grown(KEY_BYTES * sum(map(len, changed.values())), len(changed))
                self._look = self._look or bool(changed)

            return then

        return step

    def _vacuuming(self, file: HistoryFile) -> Step:
        def step() -> Callable[[], object]:
            file.vacuum()
            size = file.size()

            def then() -> None:
                self._grown(0, VACUUM_PAGES)
                self._looked(size.used, size.free)

            return then

        return step

    def _gone(self, victims: Sequence[Victim]) -> None:
        """Note that these blocks are deleted."""
        self._grown_by_deleting(victims)
        for each in victims:
            if (stored := self._logs.by_id(each.channel)) is not None:
                stored.forget(each.last)
