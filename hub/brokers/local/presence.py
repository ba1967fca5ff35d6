"""The members at all workers: implements `hub.core.ports.Roster` over the broker process.

A worker tells of its own members, and tells all of them anew whenever its connection is up again.
What it said holds for a while after the connection has ended (`hub.brokers.local.members`).
"""

from collections.abc import Sequence

from hub.brokers.local import frames
from hub.brokers.local.link import Link, NoAnswerError, NotSentError
from hub.core.pushes import Change, Leave, Member
from hub.errors import UnavailableError


class WorkerRoster:
    """One per worker; made before `link` runs."""

    lag_seconds = 0.0
    """Changes and the answer come on one connection, in order."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._here: dict[str, dict[str, Member]] = {}
        link.on_up(self._tell_all)

    async def start(self) -> None:
        """What is to be told is told whenever the connection is up."""

    def change(self, channel: str, change: Change) -> None:
        members = self._here.setdefault(channel, {})
        if stays := not isinstance(change, Leave):
            members[change.member.id] = change.member
        else:
            members.pop(change.member.id, None)
        if not members:
            del self._here[channel]
        self._link.send((frames.CHANGE, channel, stays, *frames.member_fields(change.member)))

    def refresh(self, channel: str) -> None:
        if channel in self._here:
            self._tell(channel)

    async def members(self, channel: str) -> Sequence[Member]:
        """In the order they came; raise `UnavailableError` without a broker process."""
        try:
            _, _, found = await self._link.ask(frames.MEMBERS, channel)
        except (NotSentError, NoAnswerError) as error:
            raise UnavailableError(f"cannot tell who is in {channel!r}: {error.message}") from None
        return [Member(*who) for who in found]

    def _tell_all(self) -> None:
        for channel in self._here:
            self._tell(channel)
        self._link.send((frames.TOLD_ALL,))

    def _tell(self, channel: str) -> None:
        here = self._here[channel].values()
        members = [frames.member_fields(member) for member in here]
        self._link.send((frames.PRESENT, channel, members), frames.bytes_of(here))
