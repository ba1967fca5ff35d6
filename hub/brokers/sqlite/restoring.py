"""The state in memory that each opened history file begins with.

The memory broker, the stored logs and the idempotency keys are made anew from each file that is
opened. Publications stay in the file. The file is read in parts, so that a file with very many
channels never holds the loop for long.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from hub.brokers.idempotency import IdempotencyKeys, lasting_content
from hub.brokers.memory import MemoryBroker
from hub.brokers.memory_history import ChannelLog
from hub.brokers.memory_names import Epochs
from hub.brokers.sqlite.context import SqliteContext
from hub.brokers.sqlite.intake import StoredLogs
from hub.brokers.sqlite.key_upkeep import ROWS_AT_ONCE, most_keys
from hub.brokers.sqlite.layout import Stored, StoredKey, StoredRow, records
from hub.brokers.sqlite.tending import is_crowded
from hub.core.options import MIB
from hub.core.publication import Position, Publication

# Bytes in memory of the newest publications of all channels, for sessions that return after a short
# absence.
MEMORY_BYTES = 32 * MIB
# Bytes of rows of state, all of which are in memory too. A guess. They take half of the
# file's bound at most, so that history has room.
ROWS_BYTES = 256 * MIB
# Each part takes some milliseconds, as `ROWS_AT_ONCE` of keys do.
_ROWS_AT_A_TIME = 2000
_CHANNELS_AT_A_TIME = 2000
# Rows of tables that a disk has changed. Where there are more, all of the file is in doubt.
_DAMAGED_ROWS_AT_MOST = 256

LoadKeys = Callable[[int, int], Awaitable[Sequence[StoredKey]]]
"""Return the keys of at most so many rows that follow the row of this id, the oldest first."""

LoadRows = Callable[[tuple[int, str], int], Awaitable[Sequence[StoredRow]]]
"""Return at most so many rows that follow this channel and key."""


@dataclass(frozen=True, slots=True)
class StoredState:
    """The state of one file in memory."""

    memory: MemoryBroker
    keys: IdempotencyKeys
    keys_stored: int
    """Keys in the file, which may have more than memory."""
    logs: StoredLogs
    gone: Sequence[int]
    """Ids of channels above `max_channels`."""
    crowded: Sequence[int]
    """Ids of channels with more publications in the file than history has room for now."""


class Restoring:
    """Makes the memory broker as it would be, had the process never ended; one per broker."""

    def __init__(
        self,
        context: SqliteContext,
        *,
        on_forgotten: Callable[[ChannelLog, tuple[int, int]], None],
    ) -> None:
        self._context = context
        self._on_forgotten = on_forgotten
        self.max_keys = most_keys(
            context.options.idempotency_max_keys, context.options.history_total_bytes
        )

    async def known(
        self, stored: Stored, now_ms: int, load_keys: LoadKeys, load_rows: LoadRows
    ) -> StoredState:
        """Return the state of a file whose clock says `now_ms`."""
        keys, logs = self.no_keys(), StoredLogs(stored.next_id)
        crowded: list[int] = []
        memory = self._memory(keys, Epochs(stored.secret, stored.ended))
        # The channels above the bound are those that were used longest ago.
        excess = max(0, len(stored.channels) - self._context.options.max_channels)
        now = self._context.clock()
        for number, channel in enumerate(stored.channels[excess:], 1):
            used_at = now - max(0, now_ms - channel.used_ms) / 1000
            head = Position(channel.epoch, channel.offset)
            log = memory.restore(head, channel.name, used_at)
            if is_crowded(logs.add(log, id_=channel.id, oldest=channel.oldest)):
                crowded.append(channel.id)
            memory.place(log)
            if number % _CHANNELS_AT_A_TIME == 0:
                await asyncio.sleep(0)
        after = keys_stored = 0
        while found := await load_keys(after, ROWS_AT_ONCE):
            after = found[-1].id
            keys_stored += len(found)
            for each in found:
                keys.restore(
                    each.publisher,
                    bytes.fromhex(each.scope),
                    each.content,
                    (each.expires_ms - now_ms) / 1000,
                    Position(each.epoch, each.offset),
                )
        await self._restore_rows(logs, now_ms, load_rows)
        gone = [channel.id for channel in stored.channels[:excess]]
        return StoredState(memory, keys, keys_stored, logs, gone, crowded)

    async def _restore_rows(self, logs: StoredLogs, now_ms: int, load_rows: LoadRows) -> None:
        """Restore rows in the order of their changes, so that each channel knows its oldest."""
        rows: list[tuple[ChannelLog, Publication, int]] = []
        damaged: dict[ChannelLog, list[str]] = {}
        after = (0, "")
        while found := await load_rows(after, _ROWS_AT_A_TIME):
            after = (found[-1].channel, found[-1].key)
            for each in found:
                if (stored := logs.by_id(each.channel)) is not None:
                    try:
                        (row,) = records(stored.log.name, each.data)
                        rows.append((stored.log, row, each.taken_ms))
                    except ValueError:
                        damaged.setdefault(stored.log, []).append(each.key)
        self._leave_out(damaged)
        rows.sort(key=lambda each: each[1].offset)
        now = self._context.clock()
        for number, (log, row, taken_ms) in enumerate(rows, 1):
            log.restore_row(row, now - max(0, now_ms - taken_ms) / 1000)
            if number % _ROWS_AT_A_TIME == 0:
                await asyncio.sleep(0)

    def _leave_out(self, damaged: Mapping[ChannelLog, Sequence[str]]) -> None:
        """Count rows that are not as they were written as dropped, and name them in the log."""
        if (count := sum(map(len, damaged.values()))) > _DAMAGED_ROWS_AT_MOST:
            raise ValueError(f"{count} rows of tables are not as they were written")
        path = self._context.options.path
        for log, keys in damaged.items():
            self._context.log.error("history_damaged", path=path, channel=log.name, keys=keys)
            if log.rows is not None:
                log.rows.leave_out(keys)

    def no_keys(self) -> IdempotencyKeys:
        return IdempotencyKeys(
            ttl_seconds=self._context.options.idempotency_ttl_seconds,
            clock=self._context.clock,
            max_keys=self.max_keys,
            content=lasting_content,
        )

    def _memory(self, keys: IdempotencyKeys, epochs: Epochs) -> MemoryBroker:
        context, options = self._context, self._context.options
        return MemoryBroker(
            downstream=context.downstream,
            namespaces=context.namespaces,
            clock=context.clock,
            wall_clock=context.wall_clock,
            idempotency=keys,
            position_ttl_seconds=options.position_ttl_seconds,
            max_channels=options.max_channels,
            history_total_bytes=min(MEMORY_BYTES, options.history_total_bytes),
            rows_total_bytes=min(ROWS_BYTES, options.history_total_bytes // 2),
            epochs=epochs,
            on_forgotten=self._on_forgotten,
        )
