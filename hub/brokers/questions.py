"""The bounds on questions between nodes, the same whichever broker carries them.

Questions that last, such as a poll that waits at another node, have a bound of their own, and take
no room from the others.
"""

from hub.errors import UnavailableError

# More than a broker's call may take, less than an operator waits.
ANSWER_SECONDS = 2.0
# Questions without an answer yet, and answers being made; each is a few KB. Guess, not measured.
MAX_PENDING = 1000
# Questions that last wait at, or for, another node; each is a task of a few KB.
MAX_LASTING = 5000


class UnderWay:
    """Counts the questions that a node has asked, or those that it answers."""

    def __init__(self) -> None:
        self._count = {True: 0, False: 0}
        """By whether they last."""

    def enter(self, *, lasts: bool) -> bool:
        """Count a question and return True, if there is room."""
        if self._count[lasts] >= (MAX_LASTING if lasts else MAX_PENDING):
            return False
        self._count[lasts] += 1
        return True

    def check(self, *, lasts: bool) -> None:
        """Count a question; raise `UnavailableError` where there is no room."""
        if not self.enter(lasts=lasts):
            most = self._count[lasts]
            raise UnavailableError(f"{most:,} questions to other nodes wait already")

    def leave(self, *, lasts: bool) -> None:
        self._count[lasts] -= 1
