"""What the file needs beside commits: to be trimmed, checkpointed, and given back.

Decides what is next; each step is small, so that a commit never waits long behind one. What is over
the bound in bytes goes before anything else is written: the file stays as large as it may be.
"""

from collections.abc import Callable, Sequence

from hub.brokers.sqlite.file import HistoryFile
from hub.brokers.sqlite.intake import StoredLog, StoredLogs
from hub.core.options import MIB

Step = Callable[[], Callable[[], object]]
"""For the one that writes; returns what the event loop is to do then."""
# The size is looked at after so many bytes of publications, and once a second.
_LOOK_BYTES = MIB
# So much below the bound trimming begins, that the file itself does not get over it.
_MARGIN = 1 / 32
# Blocks beyond `history_size` go when they are so many publications. Guess.
_SLACK = 64
# The WAL is brought into the file after so many bytes of publications; each page costs as much
# again, so it is several times as large then.
_CHECKPOINT_BYTES = 2 * MIB
# Under load a step has its turn after so many commits.
_COMMITS_BETWEEN = 8
# Pages that hold nothing are given back where they are this share of the file, and this much.
_FREE_SHARE = 1 / 4
_FREE_BYTES = 4 * MIB


class Tending:
    """One per broker."""

    def __init__(self, total_bytes: int, logs: StoredLogs) -> None:
        self._total_bytes = total_bytes
        self._logs = logs
        self.used_bytes = 0
        self._free_bytes = 0
        self._unlooked_bytes = 0
        self._unchecked_bytes = 0
        self._look = True
        self._over = False
        self._expired = self._keys = self._moved = False
        self._checkpoint = self._checkpointing = self._finish = False
        self._commits = 0
        """Since the last step."""
        self._crowded: dict[int, None] = {}
        self._dead: dict[int, None] = {}

    def begin(self, logs: StoredLogs) -> None:
        """Other channels from now on."""
        self._logs = logs
        self._crowded.clear()
        self._dead.clear()

    def opened(self) -> None:
        """The file was just opened."""
        self._look = self._expired = self._keys = self._checkpoint = True

    def a_second_passed(self) -> None:
        self._look = self._expired = self._keys = self._moved = True

    def written(self, size: int, went_to: Sequence[StoredLog]) -> None:
        """So many bytes were committed, to these channels."""
        self._commits += 1
        self._unlooked_bytes += size
        self._unchecked_bytes += size
        if self._unlooked_bytes > _LOOK_BYTES:
            self._unlooked_bytes, self._look = 0, True
        if self._unchecked_bytes > _CHECKPOINT_BYTES:
            self._unchecked_bytes, self._checkpoint = 0, True
        for stored in went_to:
            if stored.oldest + _SLACK < stored.first:
                self._crowded[stored.id] = None

    def forgotten(self, channel: int) -> None:
        """Nobody will read what the file has of it."""
        self._crowded.pop(channel, None)
        self._dead[channel] = None

    def checkpoint_due(self) -> bool:
        """Whether a checkpoint is to be begun, beside what writes; `checkpointed` ends it."""
        if not self._checkpoint or self._checkpointing:
            return False
        self._checkpoint, self._checkpointing = False, True
        return True

    def checkpointed(self, *, whole: bool) -> None:
        """One has ended; `whole` where nothing was written meanwhile."""
        self._checkpointing, self._finish = False, not whole

    def urgent(self, file: HistoryFile, now_ms: int) -> Step | None:
        """What has to be done before anything else is written."""
        if self._look:
            return self._looking(file)
        if self._finish:
            self._finish = False
            return self._quiet(file.checkpoint)
        if self._over:
            return self._trimming(file.trim_oldest, self._trimmed_oldest)
        if self._commits >= _COMMITS_BETWEEN:
            self._commits = 0
            return self.next(file, now_ms)
        return None

    def next(self, file: HistoryFile, now_ms: int) -> Step | None:
        """What is to be done when there is nothing to write."""
        if self._moved:
            self._moved = False
            return self._quiet(file.check_identity)
        if self._crowded:
            id_ = next(iter(self._crowded))
            return self._trimming_channel(file, id_)
        if self._dead:
            id_ = next(iter(self._dead))
            return self._trimming_dead(file, id_)
        if self._expired:
            return self._trimming(lambda: file.trim_expired(now_ms), self._trimmed_expired)
        if self._keys:
            return self._forgetting_keys(file, now_ms)
        if self._free_bytes > max(_FREE_BYTES, self.used_bytes * _FREE_SHARE):
            return self._vacuuming(file)
        return None

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
        self._look = False
        self.used_bytes, self._free_bytes = used, free
        self._over = used > self._total_bytes * (1 - _MARGIN)

    def _trimming(
        self,
        work: Callable[[], Sequence[tuple[int, int]]],
        then: Callable[[Sequence[tuple[int, int]]], None],
    ) -> Step:
        def step() -> Callable[[], object]:
            victims = work()
            return lambda: then(victims)

        return step

    def _trimmed_oldest(self, victims: Sequence[tuple[int, int]]) -> None:
        self._gone(victims)
        # Where nothing is left to go, the bound is smaller than what a file needs in any case.
        self._over, self._look = False, bool(victims)

    def _trimmed_expired(self, victims: Sequence[tuple[int, int]]) -> None:
        self._gone(victims)
        self._expired = bool(victims)

    def _trimming_channel(self, file: HistoryFile, id_: int) -> Step:
        stored = self._logs.by_id(id_)
        before = 0 if stored is None else stored.first

        def then(victims: Sequence[tuple[int, int]]) -> None:
            self._gone(victims)
            if not victims:
                self._crowded.pop(id_, None)

        return self._trimming(lambda: file.trim_channel(id_, before), then)

    def _trimming_dead(self, file: HistoryFile, id_: int) -> Step:
        def then(victims: Sequence[tuple[int, int]]) -> None:
            if not victims:
                self._dead.pop(id_, None)

        return self._trimming(lambda: file.trim_channel(id_, 1 << 62), then)

    def _forgetting_keys(self, file: HistoryFile, now_ms: int) -> Step:
        def step() -> Callable[[], object]:
            more = file.trim_keys(now_ms)

            def then() -> None:
                self._keys = more

            return then

        return step

    def _vacuuming(self, file: HistoryFile) -> Step:
        def step() -> Callable[[], object]:
            file.vacuum()
            size = file.size()
            return lambda: self._looked(size.used, size.free)

        return step

    def _gone(self, victims: Sequence[tuple[int, int]]) -> None:
        """Blocks that ended at these offsets are held no longer."""
        for id_, last in victims:
            if (stored := self._logs.by_id(id_)) is not None:
                stored.oldest = max(stored.oldest, last + 1)
                stored.log.stored = stored.oldest <= stored.log.offset
