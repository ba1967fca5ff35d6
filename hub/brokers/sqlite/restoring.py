"""What the broker knows at the start: all channels and idempotency keys that the file holds.

History itself stays where it is. In parts, so that a file with very many holds the loop never long.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from hub.brokers.idempotency import IdempotencyKeys, lasting_content
from hub.brokers.memory import MemoryBroker
from hub.brokers.memory_epochs import Epochs
from hub.brokers.memory_history import ChannelLog
from hub.brokers.sqlite.blocks import records
from hub.brokers.sqlite.context import SqliteContext
from hub.brokers.sqlite.intake import StoredLogs
from hub.brokers.sqlite.layout import Stored, StoredKey, StoredRow
from hub.core.options import MIB
from hub.core.publication import Position, Publication

# The newest of all channels, for whoever comes back after a short absence.
MEMORY_BYTES = 32 * MIB
# Of rows of state, all of which are in memory too. A guess.
ROWS_BYTES = 256 * MIB
# Some milliseconds each.
_KEYS_AT_A_TIME = 2000
_CHANNELS_AT_A_TIME = 2000

LoadKeys = Callable[[int, int], Awaitable[Sequence[StoredKey]]]
"""At most so many that were made after one of this id, the oldest first."""

LoadRows = Callable[[tuple[int, str], int], Awaitable[Sequence[StoredRow]]]
"""At most so many rows that follow this channel and key."""


@dataclass(frozen=True, slots=True)
class Known:
    """Of a file."""

    memory: MemoryBroker
    keys: IdempotencyKeys
    logs: StoredLogs
    gone: Sequence[int]
    """Channels that are more than may be kept, by id."""


class Restoring:
    """One per broker: makes what the memory broker would be, had it never ended."""

    def __init__(
        self,
        context: SqliteContext,
        *,
        on_forgotten: Callable[[ChannelLog, tuple[int, int]], None],
    ) -> None:
        self._downstream = context.downstream
        self._namespaces = context.namespaces
        self._clock = context.clock
        self._wall_clock = context.wall_clock
        self._options = context.options
        self._on_forgotten = on_forgotten

    async def known(
        self, stored: Stored, now_ms: int, load_keys: LoadKeys, load_rows: LoadRows
    ) -> Known:
        """Everything of a file, whose clock says `now_ms`."""
        keys, logs = self.no_keys(), StoredLogs(stored.next_id)
        memory = self._memory(keys, Epochs(stored.secret, stored.ended))
        # What is more than may be kept was used longest ago.
        excess = max(0, len(stored.channels) - self._options.max_channels)
        now = self._clock()
        for number, channel in enumerate(stored.channels[excess:], 1):
            used_at = now - max(0, now_ms - channel.used_ms) / 1000
            head = Position(channel.epoch, channel.offset)
            log = memory.restore(head, channel.name, used_at)
            logs.add(log, id_=channel.id, oldest=channel.oldest)
            memory.place(log)
            if number % _CHANNELS_AT_A_TIME == 0:
                await asyncio.sleep(0)
        after = 0
        while found := await load_keys(after, _KEYS_AT_A_TIME):
            after = found[-1].id
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
        return Known(memory, keys, logs, gone)

    async def _restore_rows(self, logs: StoredLogs, now_ms: int, load_rows: LoadRows) -> None:
        """Those that changed first come first, in each channel."""
        rows: list[tuple[ChannelLog, Publication, int]] = []
        after = (0, "")
        while found := await load_rows(after, _KEYS_AT_A_TIME):
            after = (found[-1].channel, found[-1].key)
            for each in found:
                if (stored := logs.by_id(each.channel)) is not None:
                    found_here = records(stored.log.name, each.data)
                    rows += [(stored.log, row, each.taken_ms) for row in found_here]
        rows.sort(key=lambda each: each[1].offset)
        now = self._clock()
        for number, (log, row, taken_ms) in enumerate(rows, 1):
            log.restore_row(row, now - max(0, now_ms - taken_ms) / 1000)
            if number % _KEYS_AT_A_TIME == 0:
                await asyncio.sleep(0)

    def no_keys(self) -> IdempotencyKeys:
        return IdempotencyKeys(
            ttl_seconds=self._options.idempotency_ttl_seconds,
            clock=self._clock,
            max_keys=self._options.idempotency_max_keys,
            content=lasting_content,
        )

    def _memory(self, keys: IdempotencyKeys, epochs: Epochs) -> MemoryBroker:
        options = self._options
        return MemoryBroker(
            downstream=self._downstream,
            namespaces=self._namespaces,
            clock=self._clock,
            wall_clock=self._wall_clock,
            idempotency=keys,
            position_ttl_seconds=options.position_ttl_seconds,
            max_channels=options.max_channels,
            history_total_bytes=min(MEMORY_BYTES, options.history_total_bytes),
            rows_total_bytes=min(ROWS_BYTES, options.history_total_bytes),
            epochs=epochs,
            on_forgotten=self._on_forgotten,
        )
