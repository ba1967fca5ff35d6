"""Which channels a memory broker holds, for patterns: `hub.core.ports.Directory` over its logs.

Names are kept by their segments from the first pattern on, and for good: a hub that has patterns
has them again and again. A hub without patterns pays nothing for it.
"""

import asyncio
from collections.abc import Mapping, Sequence

from hub.brokers.memory_history import ChannelLog
from hub.brokers.name_tree import NameTree
from hub.core.ports import Appearances

# Between two turns of the loop: about 2 ms. A guess.
_SLICE_CHANNELS = 1000


class MemoryDirectory:
    """One per broker.

    Args:
        logs: all channels, as they are.
    """

    def __init__(self, logs: Mapping[str, ChannelLog]) -> None:
        self._logs = logs
        self._appearances: Appearances | None = None
        self._names: NameTree | None = None
        self._whole = False
        self._gathering = asyncio.Lock()

    def follow(self, appearances: Appearances) -> None:
        self._appearances = appearances

    def unfollow(self) -> None:
        self._appearances = None

    def began(self, name: str) -> None:
        """A channel is about to have its first publication."""
        if self._names is not None:
            self._names.add(name)
        if self._appearances is not None:
            self._appearances.appeared(name)

    def ended(self, name: str) -> None:
        """The channel is forgotten."""
        if self._names is not None:
            self._names.remove(name)

    async def matching(self, pattern: str, most: int) -> Sequence[str]:
        names = self._names
        if names is None or not self._whole:
            async with self._gathering:
                names = await self._gather()
        return await names.find(pattern, most)

    async def _gather(self) -> NameTree:
        """All names there are; what begins and ends meanwhile is told."""
        if self._names is not None and self._whole:
            return self._names
        names = self._names = NameTree()
        before = tuple(self._logs)
        for start in range(0, len(before), _SLICE_CHANNELS):
            if start:
                await asyncio.sleep(0)
            for name in before[start : start + _SLICE_CHANNELS]:
                if (log := self._logs.get(name)) is not None and log.offset:
                    names.add(name)
        self._whole = True
        return names
