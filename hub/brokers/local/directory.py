"""Which channels there are at the broker process, as far as a worker has asked.

For patterns it asks each time, and is told of each channel that appears; for operators' lists it
asks when they look.
"""

from collections.abc import Mapping, Sequence

from hub.brokers.local import frames
from hub.brokers.local.link import Link, NoAnswerError, NotSentError
from hub.core.ports import Appearances, Monotonic
from hub.core.publication import Position
from hub.errors import HubError, UnavailableError

# For operators, who look at several pages of a list.
_LISTED_SECONDS = 4.0


class ChannelDirectory:
    """One per worker."""

    def __init__(self, link: Link, *, clock: Monotonic) -> None:
        self._link = link
        self._clock = clock
        self.listed: Mapping[str, tuple[Position, int | None]] = {}
        """By channel, its head and how much of it is held, as `look` has learned them."""
        self.rows: Mapping[str, tuple[int, int]] = {}
        """Of keyed ones, how many rows there are and their bytes, as `look` has learned them."""
        self._listed_at = 0.0
        self._appearances: Appearances | None = None
        link.on(frames.APPEARED, self._on_appeared)
        link.on(frames.MISSED, self._on_missed)
        link.on_up(self._on_up)

    def sweep(self) -> None:
        if self.listed and self._clock() - self._listed_at > _LISTED_SECONDS:
            self.listed, self.rows = {}, {}

    def follow(self, appearances: Appearances) -> None:
        """What appears is told beside a first publication, which is in history then."""
        if self._appearances is None:
            self._link.send((frames.FOLLOW,))
        self._appearances = appearances

    def unfollow(self) -> None:
        self._appearances = None
        self._link.send((frames.UNFOLLOW,))

    async def matching(self, pattern: str, most: int) -> Sequence[str]:
        """Raise `UnavailableError` without a broker process."""
        try:
            _, _, found = await self._link.ask(frames.MATCH, pattern, most)
        except (NotSentError, NoAnswerError) as error:
            raise UnavailableError(f"no list of channels: {error.message}") from None
        return tuple(found)

    def _on_up(self) -> None:
        if self._appearances is not None:
            self._link.send((frames.FOLLOW,))
            self._appearances.missed()

    def _on_appeared(self, message: frames.Message) -> None:
        if self._appearances is not None:
            self._appearances.appeared(message[1])

    def _on_missed(self, _message: frames.Message) -> None:
        if self._appearances is not None:
            self._appearances.missed()

    async def look(self) -> None:
        """Learn of all channels, so that `listed` tells of those nobody here follows.

        What was learned is forgotten a few seconds later; there is nothing of it where the broker
        process does not answer.
        """
        listed: dict[str, tuple[Position, int | None]] = {}
        rows: dict[str, tuple[int, int]] = {}
        following = 0
        while True:
            try:
                _, _, found, following = await self._link.ask(frames.NAMES, following)
            except HubError:
                break
            listed |= {name: (Position(*head), held) for name, *head, held, _ in found}
            rows |= {name: tuple(told) for name, *_, told in found if told is not None}
            if not following:
                break
        self.listed, self.rows, self._listed_at = listed, rows, self._clock()
