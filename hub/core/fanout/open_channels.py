"""The channels that have a session at this node, by name; the broker delivers no others."""

from collections.abc import Iterator, Mapping

from hub.core.counters import Counts
from hub.core.fanout.channels import Channel
from hub.core.options import ChannelOptions, Namespaces
from hub.core.ports import Broker
from hub.core.publication import Position
from hub.errors import UnavailableError


class OpenChannels(Mapping[str, Channel]):
    """Channels that have a session here, or are about to; the broker delivers no others.

    Args:
        group_members: the largest number of members of a group.
    """

    def __init__(self, broker: Broker, namespaces: Namespaces, *, group_members: int) -> None:
        self._group_members = group_members
        self._broker = broker
        self._namespaces = namespaces
        self._channels: dict[str, Channel] = {}
        self.find = self._channels.get
        """Returns the channel of that name where it is open; faster than `Mapping.get`."""
        self._joining = Counts()
        """The number of sessions that are about to become members, by channel."""

    def __getitem__(self, name: str) -> Channel:
        return self._channels[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._channels)

    def __len__(self) -> int:
        return len(self._channels)

    def options(self, name: str) -> ChannelOptions:
        """Return the options of any channel, open or not."""
        return self._namespaces.options(name)

    def joining(self, name: str) -> None:
        """Keep the channel open until `joined`, even when its last member leaves meanwhile."""
        self._joining[name] += 1

    def joined(self, name: str) -> None:
        """Release the channel after a session became a member, or failed to."""
        self._joining[name] -= 1
        if not self._joining[name]:
            del self._joining[name]
            if (channel := self._channels.get(name)) is not None:
                self.close_if_empty(channel)

    async def open(self, name: str) -> Channel:
        """Return the channel for a session that is joining; raise what the broker raises."""
        if name not in self._channels:

            def on_open(head: Position) -> None:
                # Another session may have opened it meanwhile, and it may have members already.
                channel = Channel(name, head, self.options(name), group_members=self._group_members)
                self._channels.setdefault(name, channel)

            await self._broker.subscribe(name, on_open)
        if (channel := self._channels.get(name)) is None:
            raise UnavailableError(f"channel {name!r} was closed while it was being opened")
        return channel

    def close_if_empty(self, channel: Channel) -> None:
        unused = not channel.groups() and not self._joining.get(channel.name)
        if unused and self._channels.get(channel.name) is channel:
            del self._channels[channel.name]
            self._broker.unsubscribe(channel.name)
