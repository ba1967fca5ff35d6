"""Channels of the memory broker by name alone: the epoch of each, and which there are.

An epoch follows from the channel's name, so a question about a channel that nobody has used makes
nothing (`Epochs`). Names are kept by their segments from the first pattern on, and for good
(`MemoryDirectory`): a hub that has patterns has them again and again. A hub without patterns pays
nothing for them.
"""

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from zlib import crc32

from hub.brokers.memory_history import ChannelLog
from hub.brokers.name_tree import NameTree
from hub.core.ports import Appearances

# Names share so many generations: the epoch told of an unused channel then stays true for
# hours where a channel is forgotten every second; they take 2 MB at most.
_GENERATIONS = 16_384


class Epochs:
    """The epoch of each channel that is not kept; the channel keeps it when it is used.

    It follows from the name, so that an answer for a channel makes nothing. Names share
    generations; a channel that is forgotten ends its own, so its next epoch is another.

    Args:
        secret: 16 bytes; random ones when left out, so that no two runs share an epoch.
        generations: those of an earlier run, whose epochs go on.
    """

    def __init__(
        self, secret: bytes | None = None, generations: Mapping[int, int] | None = None
    ) -> None:
        self._secret = secrets.token_bytes(16) if secret is None else secret
        self._generations = dict(generations or {})

    def next(self, name: str) -> str:
        """Return the epoch, never one that `end` has ended: 48 bits of a keyed digest."""
        raw = name.encode()
        generation = self._generations.get(crc32(raw) % _GENERATIONS, 0)
        return blake2b(b"%d:%b" % (generation, raw), key=self._secret, digest_size=6).hexdigest()

    def end(self, name: str) -> tuple[int, int]:
        """End the epoch: offsets of it were given out and are forgotten.

        Returns the generation that begins, by its place.
        """
        place = crc32(name.encode()) % _GENERATIONS
        generation = self._generations[place] = self._generations.get(place, 0) + 1
        return place, generation


# Between two turns of the loop: about 2 ms. A guess.
_SLICE_CHANNELS = 1000


class MemoryDirectory:
    """Knows the channels of a broker by name; one per broker.

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
        """Note a channel that is about to have its first publication."""
        if self._names is not None:
            self._names.add(name)
        if self._appearances is not None:
            self._appearances.appeared(name)

    def ended(self, name: str) -> None:
        """Note that a channel is forgotten."""
        if self._names is not None:
            self._names.remove(name)

    async def matching(self, pattern: str, most: int) -> Sequence[str]:
        names = self._names
        if names is None or not self._whole:
            async with self._gathering:
                names = await self._gather()
        return await names.find(pattern, most)

    async def _gather(self) -> NameTree:
        """Gather all names; `began` and `ended` keep them current meanwhile."""
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
