"""Publisher and operator keys: long-lived secrets that backends and operators send as they are.

Keys are kept and compared as SHA-256 digests, so that neither the length of a key nor the
place of the first wrong character shows in the time an answer takes.
"""

import hashlib
import hmac
from collections.abc import Iterable

from hub.errors import SettingsError

# Enough to tell a handful of keys apart in logs; 32 bits reveal nothing usable of a random key.
NAME_HEX_DIGITS = 8


def digest(key: str) -> bytes:
    # A header may have been decoded to lone surrogates: those must not raise here, only not match.
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


class KeyRing:
    """The keys of one setting; several so that one can be replaced while both are valid."""

    __slots__ = ("_digests",)

    def __init__(self, keys: Iterable[str], *, setting: str) -> None:
        """Take `keys`; raise `SettingsError` naming `setting` when one of them is empty."""
        keys = tuple(keys)
        if not all(key.strip() for key in keys):
            raise SettingsError(f"{setting}: key {_first_empty(keys)} of {len(keys)} is empty")
        self._digests = tuple(digest(key) for key in keys)

    def __len__(self) -> int:
        return len(self._digests)

    def find(self, candidate: str) -> str | None:
        """`find_digest` of the candidate's digest."""
        return self.find_digest(digest(candidate))

    def find_digest(self, candidate: bytes) -> str | None:
        """The public name (`key:` and 8 hex digits) of `candidate` when it is one of the keys.

        Compares with every key, also after a match, so that the time tells nothing.
        """
        found = False
        for known in self._digests:
            found |= hmac.compare_digest(known, candidate)
        return f"key:{candidate.hex()[:NAME_HEX_DIGITS]}" if found else None


def _first_empty(keys: tuple[str, ...]) -> int:
    return next(place for place, key in enumerate(keys, 1) if not key.strip())
