"""The epochs of channels that the memory broker numbers.

An epoch follows from the channel's name, so a question about a channel that nobody has used makes
nothing. Channels share generations, so what is remembered of forgotten ones is bounded.
"""

import secrets
from collections.abc import Mapping
from hashlib import blake2b
from zlib import crc32

# How many generations names share: with so many, what is told of an unused channel stays true for
# hours where a channel is forgotten every second; they take 2 MB at most.
_GENERATIONS = 16_384


class Epochs:
    """The epoch that a channel which is not kept has, and keeps when it is used.

    It follows from the name, so that answering for a channel makes nothing. Names share
    generations; a channel that is forgotten ends its own, so its next epoch is another.

    Args:
        secret: 16 bytes; random ones when left out, so that no two runs share an epoch.
        generations: of those whose epochs go on after a restart.
    """

    def __init__(
        self, secret: bytes | None = None, generations: Mapping[int, int] | None = None
    ) -> None:
        self._secret = secrets.token_bytes(16) if secret is None else secret
        self._generations = dict(generations or {})

    def next(self, name: str) -> str:
        """Never one that `end` was called for: 48 bits of a keyed digest."""
        raw = name.encode()
        generation = self._generations.get(crc32(raw) % _GENERATIONS, 0)
        return blake2b(b"%d:%b" % (generation, raw), key=self._secret, digest_size=6).hexdigest()

    def end(self, name: str) -> tuple[int, int]:
        """Offsets of this epoch were given out and are forgotten.

        Returns the generation that begins, by its place.
        """
        place = crc32(name.encode()) % _GENERATIONS
        generation = self._generations[place] = self._generations.get(place, 0) + 1
        return place, generation
