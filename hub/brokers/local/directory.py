"""Which channels there are at the broker process, as far as a worker has asked.

For patterns it asks once and is told of each channel that appears; for operators' lists it asks
when they look.
"""

from collections.abc import Mapping, Sequence

from hub.brokers.local import frames
from hub.brokers.local.link import Link, NoAnswerError, NotSentError
from hub.core.ports import Appeared, Monotonic, Spawn
from hub.core.publication import Position
from hub.errors import HubError, UnavailableError

# Of channels whose names a worker keeps while it has patterns.
_MAX_NAMES = 1_000_000
# For operators, who look at several pages of a list.
_LISTED_SECONDS = 4.0


class ChannelDirectory:
    """One per worker."""

    def __init__(self, link: Link, *, spawn: Spawn, clock: Monotonic) -> None:
        self._link = link
        self._spawn = spawn
        self._clock = clock
        self.listed: Mapping[str, tuple[Position, int | None]] = {}
        """By channel, its head and how much of it is held, as `look` has learned them."""
        self._listed_at = 0.0
        self._appeared: Appeared | None = None
        self._names: dict[str, None] | None = None
        """Of the channels that were published in; None while the broker process tells of none."""
        link.on(frames.APPEARED, lambda message: self._on_appeared(message[1]))
        link.on_up(self._on_up)

    def sweep(self) -> None:
        if self.listed and self._clock() - self._listed_at > _LISTED_SECONDS:
            self.listed = {}

    def _on_up(self) -> None:
        if self._appeared is not None:
            self._spawn(self._follow_again(self._names or {}))

    async def follow(self, appeared: Appeared) -> Sequence[str]:
        """Asked of the broker process once, and again after each reconnect.

        `appeared` is called beside a first publication, which is in history then.
        """
        self._appeared = appeared
        if (names := self._names) is None:
            try:
                names = await self._ask_names()
            except (NotSentError, NoAnswerError) as error:
                raise UnavailableError(f"no list of channels: {error.message}") from None
        return tuple(names)

    def unfollow(self) -> None:
        self._appeared = self._names = None
        self._link.send((frames.UNFOLLOW,))

    async def _ask_names(self) -> dict[str, None]:
        """What appears from the question on is told behind its answer."""
        _, _, found = await self._link.ask(frames.FOLLOW)
        names = dict.fromkeys(found)
        if self._appeared is not None:
            names |= self._names or {}
            self._names = names
        return names

    def _on_appeared(self, name: str) -> None:
        if self._names is not None:
            self._names[name] = None
            if len(self._names) > _MAX_NAMES:
                # Also those that are forgotten by now: they are asked for anew.
                self._names = None
        if self._appeared is not None:
            self._appeared(name)

    async def _follow_again(self, before: Mapping[str, None]) -> None:
        """Learn of what appeared while there was no connection."""
        try:
            names = await self._ask_names()
        except (NotSentError, NoAnswerError):
            return  # The next connection asks again.
        for name in names:
            if name not in before and self._appeared is not None:
                self._appeared(name)

    async def look(self) -> None:
        """Learn of all channels, so that `listed` tells of those nobody here follows.

        What was learned is forgotten a few seconds later; there is nothing of it where the broker
        process does not answer.
        """
        listed: dict[str, tuple[Position, int | None]] = {}
        following = 0
        while True:
            try:
                _, _, found, following = await self._link.ask(frames.NAMES, following)
            except HubError:
                break
            listed |= {name: (Position(*head), held) for name, *head, held in found}
            if not following:
                break
        self.listed, self._listed_at = listed, self._clock()
