"""The names of everything the hub has in Redis.

All of one channel's keys share its hash tag, so that they lie in one slot of a cluster.
`hub:raw:<channel>` is for what plain PUBLISH sends, unsequenced.
"""

from functools import lru_cache
from hashlib import blake2b

PREFIX = "hub:"


# Bounded: as many channels as a node talks about at a time; about 400 bytes each.
@lru_cache(maxsize=16_384)
def stem(channel: str) -> str:
    """The pub/sub channel, and what the channel's keys begin with."""
    return f"{PREFIX}{{{channel}}}"


def meta(channel: str) -> str:
    """A hash: epoch, offset, the replication history that counted, settings."""
    return f"{stem(channel)}:meta"


def log(channel: str) -> str:
    """A stream: the history, IDs are `<offset>-0`."""
    return f"{stem(channel)}:log"


def once(channel: str, publisher: str, idempotency_key: str) -> str:
    """A hash: the answer that an idempotency key got."""
    scope = blake2b(f"{publisher}\0{idempotency_key}".encode(), digest_size=16)
    return f"{stem(channel)}:once:{scope.hexdigest()}"


def here(channel: str) -> str:
    """A hash: who is present, and on which nodes."""
    return f"{stem(channel)}:here"


def leases(channel: str) -> str:
    """A sorted set: the nodes with somebody present, by when their word ends."""
    return f"{stem(channel)}:leases"


def raw(channel: str) -> str:
    """The pub/sub channel for what anybody may send by plain PUBLISH."""
    return f"{PREFIX}raw:{channel}"


# No channel has a slash in its name, so none can meet these.
NODES = "/nodes"


def nodes() -> str:
    """A set: the tags of nodes that live, or lived until lately."""
    return f"{stem(NODES)}:tags"


def node(tag: str) -> str:
    """A string: one node's record, as long as it lives."""
    return f"{stem(NODES)}:node:{tag}"


def asked(tag: str) -> str:
    """The pub/sub channel on which the other nodes ask one node, and answer it."""
    return f"{stem(NODES)}:ask:{tag}"


def canary(token: str) -> str:
    """The pub/sub channel on which one node hears itself."""
    return f"{PREFIX}canary:{token}"
