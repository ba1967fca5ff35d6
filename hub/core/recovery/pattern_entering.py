"""Lets a session join the channels of a pattern after the pattern's answer, some in each turn.

The answer has the position of each channel. A channel without history is joined in the same step,
because nothing would bring its new publications later. A channel that the session is in already
is too. The others are joined in later turns, and history brings what came meanwhile.

Example: a pattern matches 990 channels, and `p:7` is at 41. The answer says `p:7` at 41. Three
turns later `p:7` is at 43, and the session joins it and gets 42 and 43.
"""

from collections.abc import Mapping, Sequence

from hub.core.commands import Subscribe, SubscribePattern
from hub.core.eager import NEXT_TURN
from hub.core.fanout.channels import Channel
from hub.core.options import is_reserved
from hub.core.patterns import names_reserved
from hub.core.publication import BEGINNING, Position
from hub.core.recovery.start import Start
from hub.core.recovery.subscribing import Subscribing
from hub.core.session.places import Following
from hub.core.session.subscription import Subscription
from hub.core.values import replace
from hub.errors import HubError

# Joined in one turn: 10 us each, measured on fakes.
SLICE_CHANNELS = 100

Joining = tuple[Channel, Subscribe, Start]
"""A channel, the subscription to it, and its start."""


def goes_back(held: Subscription, at: Start) -> bool:
    """Return whether an existing subscription begins again at the position of a pattern's resume.

    The peer skips publications that it has already. Where the channel keeps no history, or the peer
    is behind, the subscription goes on unchanged: its position in the answer shows what is missing.
    """
    if not held.live or held.ring is not None or not held.channel.options.keeps_history:
        return False
    return at.reset or at.position.offset < held.position.offset


def may_join(following: Following, name: str) -> bool:
    """Return whether a channel may come through the pattern.

    Channels of the hub itself come only to operators, by a pattern that names their namespace.
    """
    if not is_reserved(name):
        return True
    return names_reserved(following.pattern) and following.session.identity.may_subscribe(name)


def ok_of(pattern: str, positions: Mapping[str, Position]) -> dict[str, object]:
    """Return the content of the reply to a pattern."""
    return {
        "pattern": pattern,
        "channels": list(positions),
        "positions": {name: str(position) for name, position in positions.items()},
    }


def resumes_beside(command: SubscribePattern) -> bool:
    """Return whether its positions are apart from those of existing subscriptions.

    A URL has one position for each channel, even where it names both the channel and a pattern.
    """
    return command.since is not None and not command.in_url


def of_channel(command: SubscribePattern, channel: Channel) -> Subscribe:
    """Return the subscription to one channel of a pattern."""
    since = None
    if command.since is not None:
        since = command.since.get(channel.name, BEGINNING)
    return Subscribe(
        None, channel.name, since, command.last, command.fill, command.filter, in_url=False
    )


def _is_over(channel: Channel, asked: Subscribe, at: Start) -> bool:
    """Return whether the peer has had the channel's end, and nothing follows it so far.

    Such a channel is not joined, or each poll that resumes would be answered at once for it.
    """
    had_all = asked.since is not None and at.recovered and not at.replayed
    return had_all and channel.ended and at.position == channel.head


class PatternEntering:
    """Joins channels for patterns; one per node, without state of its own."""

    def __init__(self, subscribing: Subscribing) -> None:
        self._subscribing = subscribing

    async def enter(self, following: Following, entries: Mapping[str, Joining]) -> None:
        """Join these channels at the starts that the pattern's answer had.

        Where the broker cannot tell the present start of a channel, the session is closed with that
        error, and its peer resumes.
        """
        session = following.session
        at_once: list[Joining] = []
        later: list[Joining] = []
        for name, entry in entries.items():
            waits = entry[0].options.keeps_history and name not in session.subscriptions
            (later if waits else at_once).append(entry)
        following.entering = {channel.name for channel, _, _ in later}
        self._some(following, at_once)
        try:
            for first in range(0, len(later), SLICE_CHANNELS):
                if first:
                    await NEXT_TURN
                slice_ = later[first : first + SLICE_CHANNELS]
                self._some(following, [await self._as_of_now(entry) for entry in slice_])
        except HubError as error:
            session.close_error(error)
        finally:
            following.entering = ()

    def _some(self, following: Following, entries: Sequence[Joining]) -> None:
        session = following.session
        for channel, asked, at in entries:
            if session.closing or following.over:
                # An earlier write was too much, and ended the session.
                return
            held = session.subscriptions.get(channel.name)
            if held is None and _is_over(channel, asked, at):
                if session.patterns is not None:
                    session.patterns.left_at_end(channel.name, at.position)
            elif held is None:
                self._subscribing.enter_through_pattern(session, channel, asked, at, announce=False)
            elif goes_back(held, at):
                self._subscribing.go_back(held, asked, at)

    async def _as_of_now(self, entry: Joining) -> Joining:
        """Find the start again where the channel is in another epoch by now.

        The peer resumes from the position that it was sent. Raises `HubError` where the broker
        cannot tell the new start.
        """
        channel, asked, at = entry
        while at.position.epoch != channel.epoch:
            if not at.reset:
                asked = replace(asked, since=at.position)
            [at] = await self._subscribing.starts.of([(channel, asked)])
        return channel, asked, at
