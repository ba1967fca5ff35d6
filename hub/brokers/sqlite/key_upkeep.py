"""Idempotency keys that memory has forgotten go from the file too, before their time is over.

The file gets each key when it is made, and memory alone decides which go first
(`hub.brokers.idempotency`). When as many keys were written as memory may have, a round over all
rows of the file begins: keys that memory has no more are taken out. So the file has twice as many
keys as memory at most, and some thousand that come during a round. It belongs to the event loop.
"""

from collections.abc import Mapping, Sequence

import msgspec
import orjson

from hub.brokers.idempotency import IdempotencyKeys
from hub.brokers.sqlite.layout import Made, StoredKey
from hub.core.publication import Position

# Rows looked at in one step, each of some 2,000 keys: 1 us each in the loop. A commit makes one
# row at most, so a round gets to its end also while each commit brings more.
ROWS_AT_ONCE = 2
# Bytes of a key in the file: some 110, and free room in its pages.
KEY_BYTES = 128
# The file has twice as many keys as memory, so they take a quarter of it at most.
_SHARE = 8
# As many keys are remembered however small the file has to be.
_MIN_KEYS = 1000


_KEYS = msgspec.json.Decoder(list[Made])


def keys_of(id_: int, raw: bytes) -> Sequence[StoredKey]:
    """Return the keys of a row of `remembered`; none where a disk has made other bytes of them.

    A publication under a key that is forgotten is published again if it is repeated, and everything
    else in the file is as it was.
    """
    try:
        keys = [StoredKey(id_, *key) for key in _KEYS.decode(raw)]
        for key in keys:
            bytes.fromhex(key.scope)
    except ValueError:
        return ()
    return keys


def row_of(keys: Sequence[StoredKey]) -> bytes:
    """Return the bytes of a row of `remembered`."""
    return orjson.dumps(
        [(k.publisher, k.scope, k.content, k.expires_ms, k.epoch, k.offset) for k in keys]
    )


def most_keys(max_keys: int, total_bytes: int) -> int:
    """Return how many keys to remember with a file of so many bytes."""
    return min(max_keys, max(_MIN_KEYS, total_bytes // _SHARE // KEY_BYTES))


class KeyUpkeep:
    """Knows whether a round is due, and where the one under way is; one per broker."""

    def __init__(self, max_keys: int) -> None:
        self._max_keys = max_keys
        self._keys: IdempotencyKeys | None = None
        self._written = 0
        """Keys written since the last round began."""
        self._running = False
        self.after = 0
        """The row that was looked at last; 0 between two rounds."""
        self.changed: Mapping[int, Sequence[StoredKey]] = {}
        """The keys that stay in each row that the next step writes."""

    def begin(self, keys: IdempotencyKeys, count: int) -> None:
        """Go on with another file, which has so many keys."""
        self._keys, self._written = keys, count
        self._running, self.after, self.changed = False, 0, {}

    def written(self, count: int) -> None:
        self._written += count

    @property
    def due(self) -> bool:
        """Whether a step is to be made."""
        return self._running or self._written > self._max_keys

    def looked(self, rows: Mapping[int, Sequence[StoredKey]]) -> None:
        """Take the rows that follow `after`, once `changed` is written."""
        if not self._running:
            self._running, self._written = True, 0
        if not rows:
            self._running, self.after, self.changed = False, 0, {}
            return
        self.after = max(rows)
        self.changed = {
            id_: kept
            for id_, keys in rows.items()
            if len(kept := [key for key in keys if self._is_known(key)]) < len(keys)
        }

    def _is_known(self, key: StoredKey) -> bool:
        position = Position(key.epoch, key.offset)
        return self._keys is not None and self._keys.has(
            key.publisher, bytes.fromhex(key.scope), position
        )
