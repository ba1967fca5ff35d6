"""Consistent hashing: which of several servers a channel lives on.

Each server owns many points of a circle, a channel belongs to the owner of the next point. So
a server that joins n others takes about 1/(n + 1) of the channels and moves no other. All nodes
and versions must agree: the points depend on the servers' names alone, not on their order.
"""

from bisect import bisect
from collections.abc import Sequence
from hashlib import blake2b

# The fullest of 2 to 10 servers gets at most 1.2 times its share (simulated, 5,000 channels).
POINTS_PER_SERVER = 256


class Ring:
    """`names` are different from each other, and at least one."""

    def __init__(self, names: Sequence[str]) -> None:
        points = sorted(
            (_point(f"{name}#{number}"), name, index)
            for index, name in enumerate(names)
            for number in range(POINTS_PER_SERVER)
        )
        self._points = [point for point, _, _ in points]
        self._owners = [index for _, _, index in points]

    def owner(self, channel: str) -> int:
        """The place in `names` of the channel's server."""
        return self._owners[bisect(self._points, _point(channel)) % len(self._owners)]


def _point(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest())
