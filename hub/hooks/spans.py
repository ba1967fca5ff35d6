"""The time spans in which this node has sessions in a channel, or a member.

They decide which node reports an event that happens once in the hub. A channel that gets its first
session here was occupied before if any other node had one at that moment, and a channel that loses
its last one here is vacated unless any other node had one then. A node without one at that moment
answers so from its spans.
"""

from collections import deque
from collections.abc import Callable

# As long as another node may ask about a moment. Guess: a question takes milliseconds.
KEPT_SECONDS = 60.0
# Ends that are remembered, of all names. Guess.
_MAX_ENDED = 100_000


class Spans:
    """The spans of one node; `clock` is seconds since 1970 UTC, which nodes have in common.

    A name is a channel's, or that of a member in a channel (`hub.hooks.watching`).
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.now = clock
        self.changed_at = float("-inf")
        """The time at which any span last began or ended."""
        self._since: dict[str, float] = {}
        self._ended: dict[str, list[tuple[float, float]]] = {}
        self._order: deque[tuple[str, float]] = deque()

    def begin(self, name: str) -> float | None:
        """Note the first session of `name` here; return its time in seconds since 1970 UTC. It
        returns None, and changes nothing, where `name` had one already."""
        if name in self._since:
            return None
        now = self._since[name] = self.changed_at = self.now()
        return now

    def end(self, name: str) -> float | None:
        """Note the end of the last session here; return its time. It returns None where there was
        none."""
        if (since := self._since.pop(name, None)) is None:
            return None
        now = self.changed_at = self.now()
        self._ended.setdefault(name, []).append((since, now))
        self._order.append((name, now))
        while self._order and (
            self._order[0][1] < now - KEPT_SECONDS or len(self._order) > _MAX_ENDED
        ):
            oldest, _ = self._order.popleft()
            spans = self._ended[oldest]
            spans.pop(0)
            if not spans:
                del self._ended[oldest]
        return now

    def held(self, name: str, at_seconds: float) -> bool:
        """Return whether there was a session at that moment; an ended span is known for
        `KEPT_SECONDS`."""
        since = self._since.get(name)
        if since is not None and since < at_seconds:
            return True
        return any(since < at_seconds < end for since, end in self._ended.get(name, ()))
