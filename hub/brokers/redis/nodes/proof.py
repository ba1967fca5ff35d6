"""What nodes say to each other, proved by a key that Redis does not know.

Any program that may publish in Redis could ask a node to close connections or to drain. So each
message carries a keyed digest of its text, of whom it is for and of when it was sent. The key is
made from the operators' keys, which all nodes of a hub share. Without any, nothing is proved: then
everybody may operate anyway.

    digest (32 bytes) | milliseconds since 1970 UTC (8 bytes) | message

During a change of keys nodes have different first keys: what any of one's own keys proves counts.
"""

import hmac
from collections.abc import Callable, Sequence
from hashlib import blake2b, sha256

_DIGEST_BYTES = sha256().digest_size
_TIME_BYTES = 8
# How far apart clocks of nodes may be, and how long what somebody recorded could be sent again: a
# run of a node has a name of its own, so to the same run only.
MAX_APART_SECONDS = 300.0


class Proof:
    """One per node.

    Args:
        operator_keys: the first one proves what this node says, each of them what it hears.
        wall_clock: seconds since 1970 UTC.
    """

    def __init__(self, operator_keys: Sequence[str], wall_clock: Callable[[], float]) -> None:
        self._keys = tuple(
            blake2b(key.encode(), person=b"hub nodes", digest_size=32).digest()
            for key in operator_keys
        )
        self._wall_clock = wall_clock

    def seal(self, tag: str, message: bytes) -> bytes:
        """`message` as it is sent to the node of this tag."""
        if not self._keys:
            return message
        said = int(self._wall_clock() * 1000).to_bytes(_TIME_BYTES) + message
        return _digest(self._keys[0], tag, said) + said

    def open(self, tag: str, sealed: bytes) -> bytes | None:
        """What was said to the node of this tag; None where nobody with a key has said it."""
        if not self._keys:
            return sealed
        digest, said = sealed[:_DIGEST_BYTES], sealed[_DIGEST_BYTES:]
        if not any(hmac.compare_digest(digest, _digest(key, tag, said)) for key in self._keys):
            return None
        at_seconds = int.from_bytes(said[:_TIME_BYTES]) / 1000
        if abs(self._wall_clock() - at_seconds) > MAX_APART_SECONDS:
            return None
        return said[_TIME_BYTES:]


def _digest(key: bytes, tag: str, said: bytes) -> bytes:
    return hmac.digest(key, tag.encode() + b"\n" + said, "sha256")
