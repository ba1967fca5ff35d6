"""What sessions and the API ask and say of presence; who is present is `PresenceTable`'s.

The members of a channel are asked for in the order of its stream: `Fanout.asks_members` keeps a
join and a leave apart while somebody is told who is there.
"""

from collections.abc import Sequence

from hub.core.fanout.channels import OpenChannels
from hub.core.fanout.fanout import Fanout
from hub.core.fanout.presence import PresenceTable
from hub.core.identity import Identity
from hub.core.pushes import Member
from hub.core.session.session import Session
from hub.errors import BadRequestError


class PresenceCommands:
    """One per node; keeps nothing of its own."""

    def __init__(self, channels: OpenChannels, fanout: Fanout, presence: PresenceTable) -> None:
        self._channels = channels
        self._fanout = fanout
        self._presence = presence

    async def members(self, channel: str) -> Sequence[Member]:
        """The members of a channel on all nodes.

        Raises `BadRequestError` where the namespace keeps no presence.
        """
        self._channels.options(channel).check_presence(channel)
        if (asked := self._channels.get(channel)) is None:
            return await self._presence.members(channel)
        self._fanout.asks_members(asked)
        try:
            return await self._presence.members(channel)
        finally:
            self._fanout.told_members(asked, lag_seconds=self._presence.lag_seconds)

    def update(self, session: Session, channel: str, data: bytes) -> None:
        """Let the session's member say something else of itself.

        Raises `BadRequestError` where the session is no member of the channel.
        """
        if channel not in session.subscriptions:
            raise BadRequestError(f"not subscribed to {channel!r}")
        self._channels.options(channel).check_presence(channel)
        self._presence.update(channel, session, data)

    def change_identity(self, session: Session, identity: Identity) -> None:
        """Give the session another identity; its members change with its subject."""
        present = [
            s.channel.name
            for s in session.subscriptions.values()
            if s.channel.options.presence and not s.through_pattern
        ]
        if session.identity.subject == identity.subject:
            session.identity = identity
            return
        said = {name: self._presence.data(name, session) for name in present}
        for name in said:
            self._presence.exit(name, session, lost=False)
        session.identity = identity
        for name, data in said.items():
            self._presence.enter(name, session, data)
