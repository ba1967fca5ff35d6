"""Publisher and operator keys: long-lived secrets that backends and operators send as they are.

Keys are kept and compared as SHA-256 digests, so that neither the length of a key nor the place of
the first wrong character shows in the time that an answer takes.

A publisher's key is written as

- `KEY`: it may publish and read everywhere;
- `KEY=orders:*|stock`: it may do so only on these channels, each a name or a prefix ending in `*`.
  The text behind the last `=` has the channels. If that text is empty, the `=` belongs to the key:
  keys in base64 may end in `=`;
- `sha256:DIGEST` or `NAME:sha256:DIGEST` in the place of `KEY`: its digest in hexadecimal
  (`printf %s "$KEY" | sha256sum`), so that the key itself stands nowhere. Logs show the name.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Self

from hub.auth.grants import check_pattern
from hub.errors import BadRequestError, SettingsError

# Enough to tell a handful of keys apart in logs; 32 bits reveal nothing usable of a random key.
NAME_HEX_DIGITS = 8
KEY_PREFIX = "key:"
EVERYWHERE: tuple[str, ...] = ("*",)
NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_HASHED = re.compile(
    r"(?:(?P<name>[A-Za-z0-9_.-]{1,64}):)?sha256:(?P<digest>[0-9a-fA-F]{64})", re.ASCII
)


# A text that nobody writes by chance: as a key it would be one that no publisher has.
_MEANT_HASHED = re.compile(r"(?:[A-Za-z0-9_.-]{1,64}:)?sha256:", re.ASCII)


def digest(key: str) -> bytes:
    # A header may have been decoded to lone surrogates: those must not raise here, only not match.
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


@dataclass(frozen=True, slots=True)
class HeldKey:
    """A key as the hub keeps it."""

    digest: bytes
    name: str
    """`key:` and its name, or the first digits of the digest."""
    channels: tuple[str, ...] = EVERYWHERE
    """The patterns of the channels that its holder may publish on and read."""

    @classmethod
    def of(cls, key: str) -> Self:
        return cls.of_digest(digest(key))

    @classmethod
    def of_digest(
        cls, hashed: bytes, name: str | None = None, channels: tuple[str, ...] = EVERYWHERE
    ) -> Self:
        return cls(hashed, f"{KEY_PREFIX}{name or hashed.hex()[:NAME_HEX_DIGITS]}", channels)


def read_publish_key(entry: str) -> HeldKey:
    """Read an entry of `HUB_PUBLISH_KEYS`; raise `ValueError` where its channels are malformed.

    The message holds no part of the key.
    """
    text, equals, patterns = entry.rpartition("=")
    if not (equals and patterns and text.strip("=")):
        text, channels = entry, EVERYWHERE
    else:
        channels = tuple(_channel(pattern.strip()) for pattern in patterns.split("|"))
    hashed = _HASHED.fullmatch(text)
    if hashed is None and _MEANT_HASHED.match(text):
        raise ValueError("what follows sha256: has to be 64 hexadecimal digits")
    if hashed is None:
        return HeldKey.of_digest(digest(text), channels=channels)
    return HeldKey.of_digest(bytes.fromhex(hashed["digest"]), hashed["name"], channels)


def is_hashed(entry: str) -> bool:
    """Return whether an entry names a key by its digest, so that the key's length is unknown."""
    return _HASHED.match(entry) is not None


def plain_length(entry: str) -> int:
    """Return the number of characters of an entry's key."""
    text, _, patterns = entry.rpartition("=")
    return len(text if patterns and text.strip("=") else entry)


def _channel(pattern: str) -> str:
    try:
        return check_pattern(pattern)
    except BadRequestError:
        # Not shown: where somebody's key has a `=` inside, it is a part of the key.
        raise ValueError(
            "what follows the last = of an entry has to be channels with | between, each a name or "
            "a prefix ending in *"
        ) from None


class KeyRing:
    """The keys of one setting; several so that one can be replaced while both are valid."""

    __slots__ = ("_keys",)

    def __init__(self, keys: Iterable[str | HeldKey], *, setting: str) -> None:
        """Take `keys`; raise `SettingsError` naming `setting` when one of them is empty."""
        keys = tuple(keys)
        for place, key in enumerate(keys, 1):
            if isinstance(key, str) and not key.strip():
                raise SettingsError(f"{setting}: key {place} of {len(keys)} is empty")
        self._keys = tuple(HeldKey.of(key) if isinstance(key, str) else key for key in keys)

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[HeldKey]:
        return iter(self._keys)

    def find(self, candidate: str) -> str | None:
        """Return `find_digest` of the candidate's digest."""
        return self.find_digest(digest(candidate))

    def find_digest(self, candidate: bytes) -> str | None:
        """Return the public name (`key:` and a name or 8 hex digits) of `candidate` when it is a
        key."""
        found = self.find_key(candidate)
        return None if found is None else found.name

    def find_key(self, candidate: bytes) -> HeldKey | None:
        """Return the key whose digest is `candidate`.

        The search compares with every key, also after a match, so that the time tells nothing.
        """
        found = None
        for known in self._keys:
            if hmac.compare_digest(known.digest, candidate):
                found = found or known
        return found
