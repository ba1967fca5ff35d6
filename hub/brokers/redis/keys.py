"""The names of everything a hub has in Redis.

All of them begin with the hub's prefix and a colon, which no prefix holds, so that hubs with
different prefixes on one Redis never meet. All of one channel's keys share its hash tag, so that
they lie in one slot of a cluster, the same whatever the prefix.
"""

from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b

DEFAULT_PREFIX = "hub"
# No channel has a slash in its name, so none can meet the keys of this name.
NODES = "/nodes"
TAG_LENGTH = 8
"""Hexadecimal digits of a node's tag, which names one run of it."""


# Bounded: as many channels as a node talks about at a time; about 400 bytes each.
@lru_cache(maxsize=16_384)
def _stem(prefix: str, channel: str) -> str:
    return f"{prefix}:{{{channel}}}"


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys of the hub with this prefix: 1 to 32 of `A-Z a-z 0-9 _ . -`, as in library.lua."""

    prefix: str = DEFAULT_PREFIX

    def stem(self, channel: str) -> str:
        """Return the name of the pub/sub channel, which also begins all keys of the channel."""
        return _stem(self.prefix, channel)

    def meta(self, channel: str) -> str:
        """A hash: epoch, offset, the replication history that counted, settings."""
        return f"{self.stem(channel)}:meta"

    def log(self, channel: str) -> str:
        """A stream: the history, IDs are `<offset>-0`."""
        return f"{self.stem(channel)}:log"

    def table(self, channel: str) -> tuple[str, str, str]:
        """Keys of a table: a hash of rows, a sorted set of their keys, another of their ages."""
        stem = self.stem(channel)
        return f"{stem}:rows", f"{stem}:keys", f"{stem}:ages"

    def once(self, channel: str, publisher: str, idempotency_key: str) -> str:
        """A hash: the answer that an idempotency key got."""
        scope = blake2b(f"{publisher}\0{idempotency_key}".encode(), digest_size=16)
        return f"{self.stem(channel)}:once:{scope.hexdigest()}"

    def here(self, channel: str) -> str:
        """A hash: the members, and the nodes where they are."""
        return f"{self.stem(channel)}:here"

    def leases(self, channel: str) -> str:
        """A sorted set: the nodes with members, by the end of their lease."""
        return f"{self.stem(channel)}:leases"

    def raw(self, channel: str) -> str:
        """The pub/sub channel for unsequenced publications by plain PUBLISH."""
        return f"{self.prefix}:raw:{channel}"

    def channel(self, meta: str) -> str:
        """Return the channel of a `meta` key; for other keys a text that is no channel."""
        return meta.removeprefix(f"{self.prefix}:{{").removesuffix("}:meta")

    def born(self) -> str:
        """The pub/sub channel for names of channels that have their first publication."""
        return f"{self.prefix}:born"

    def line(self) -> str:
        """A hash: the line of replication history of the server (see lines.lua)."""
        return f"{self.stem(NODES)}:line"

    def nodes(self) -> str:
        """A set: the tags of nodes that live, or lived until lately."""
        return f"{self.stem(NODES)}:tags"

    def node(self, tag: str) -> str:
        """A string: one node's record, as long as it lives."""
        return f"{self.stem(NODES)}:node:{tag}"

    def asked(self, tag: str) -> str:
        """The pub/sub channel on which the other nodes ask one node, and answer it."""
        return f"{self.stem(NODES)}:ask:{tag}"

    def canary(self, token: str) -> str:
        """The pub/sub channel on which one node hears itself."""
        return f"{self.prefix}:canary:{token}"
