"""The channels that have sessions on this node: head, members, and what waits to be sent."""

from collections.abc import Iterator, Mapping

from hub.core.batch import Batch, Group, Item
from hub.core.counters import Counts
from hub.core.open_changes import OpenChanges
from hub.core.options import ChannelOptions, Namespaces
from hub.core.ports import Broker, Dialect
from hub.core.publication import Position
from hub.core.subscription import Subscription
from hub.errors import UnavailableError


class Channel:
    """One channel as this node knows it. Owned by the event loop."""

    __slots__ = (
        "_groups", "_members", "_read_ahead", "asking", "cancels_from_seconds", "changes", "epoch",
        "name", "offset", "open", "open_at_seconds", "options", "sealed_offset", "under_way",
    )  # fmt: skip

    def __init__(self, name: str, head: Position, options: ChannelOptions) -> None:
        self.name = name
        self.epoch = head.epoch
        self.offset = head.offset
        """The newest offset this node has seen."""
        self.options = options
        self.open: list[Item] = []
        """What came since the last seal."""
        self.open_at_seconds = 0.0
        self.changes: OpenChanges | None = None
        """What the joins and leaves in it come to; None where there are none, or where somebody
        has been told of them."""
        self.asking = 0
        """How many ask for the members now."""
        self.cancels_from_seconds = 0.0
        """From when on a join and a leave may cancel out: nobody was told who is there between."""
        self.under_way: Batch | None = None
        """The sealed batch that is being written, member by member."""
        self.sealed_offset = head.offset
        """The last offset of the newest sealed batch."""
        self._read_ahead: tuple[int, float] | None = None
        """Up to where history was read to somebody before it came here, and since when."""
        self._members: dict[Dialect, dict[Subscription, None]] = {}
        self._groups: tuple[Group, ...] | None = ()

    @property
    def head(self) -> Position:
        return Position(self.epoch, self.offset)

    def __len__(self) -> int:
        """How many sessions subscribe here."""
        return sum(len(members) for members in self._members.values())

    def __iter__(self) -> Iterator[Subscription]:
        for members in self._members.values():
            yield from members

    def add(self, subscription: Subscription) -> None:
        """Take a member in: batches sealed from now on go to it too."""
        self._members.setdefault(subscription.session.dialect, {})[subscription] = None
        self._groups = None

    def remove(self, subscription: Subscription, dialect: Dialect) -> None:
        """Let a member go. A batch under way skips it because it is closed."""
        members = self._members.get(dialect, {})
        members.pop(subscription, None)
        if not members:
            self._members.pop(dialect, None)
        self._groups = None

    def groups(self) -> tuple[Group, ...]:
        """An immutable snapshot of the members, made anew only after a change."""
        if self._groups is None:
            self._groups = tuple(
                Group(dialect, tuple(members)) for dialect, members in self._members.items()
            )
        return self._groups

    def seal(self) -> Batch:
        """Close the open batch for the members of this moment; it is under way from now on."""
        self.under_way = batch = self.open_batch()
        self.sealed_offset = self.offset
        self.open = []
        self.changes = None
        return batch

    def unchanged_since(self, batch: Batch) -> bool:
        """Whether its members, and the dialects they speak, are still those of the batch."""
        return self._groups is batch.groups

    def begin_epoch(self, head: Position) -> None:
        """Go on after `head`; nothing may be open or under way."""
        self.epoch = head.epoch
        self.offset = self.sealed_offset = head.offset
        self._read_ahead = None

    def read_ahead(self, through: int, now_seconds: float) -> None:
        """Somebody was written what history has up to `through`, of which not all came here yet."""
        furthest, since_seconds = self._read_ahead or (through, now_seconds)
        self._read_ahead = (max(through, furthest), since_seconds)

    def sent_since(self, batch: Batch) -> float:
        """Before this monotonic time nobody here was sent anything of the batch that goes now."""
        if self._read_ahead is None:
            return batch.at_seconds
        furthest, since_seconds = self._read_ahead
        if batch.last >= furthest:
            self._read_ahead = None
        return min(batch.at_seconds, since_seconds)

    def open_batch(self) -> Batch:
        """What came since the last seal, as a batch for the members of this moment."""
        return Batch(
            self.open,
            self.groups(),
            epoch=self.epoch,
            base=self.sealed_offset,
            last=self.offset,
            at_seconds=self.open_at_seconds,
        )


class OpenChannels(Mapping[str, Channel]):
    """Those that have a session here, or are about to get one; the broker delivers no others."""

    def __init__(self, broker: Broker, namespaces: Namespaces) -> None:
        self._broker = broker
        self._namespaces = namespaces
        self._channels: dict[str, Channel] = {}
        self._joining = Counts()
        """By channel, how many sessions are about to become members."""

    def __getitem__(self, name: str) -> Channel:
        return self._channels[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._channels)

    def __len__(self) -> int:
        return len(self._channels)

    def find(self, name: str) -> Channel | None:
        """The channel, where it is open: `get` without the detour of a mapping's."""
        return self._channels.get(name)

    def options(self, name: str) -> ChannelOptions:
        """Of any channel, open or not."""
        return self._namespaces.options(name)

    def joining(self, name: str) -> None:
        """Keep it open until `joined`, also when its last member leaves meanwhile."""
        self._joining[name] += 1

    def joined(self, name: str) -> None:
        """A session has become a member, or failed to."""
        self._joining[name] -= 1
        if not self._joining[name]:
            del self._joining[name]
            if (channel := self._channels.get(name)) is not None:
                self.close_if_empty(channel)

    async def open(self, name: str) -> Channel:
        """The channel, for a session that is joining; raises what the broker raises."""
        if name not in self._channels:

            def on_open(head: Position) -> None:
                # Somebody else may have opened it meanwhile, and have members in it already.
                self._channels.setdefault(name, Channel(name, head, self.options(name)))

            await self._broker.subscribe(name, on_open)
        if (channel := self._channels.get(name)) is None:
            raise UnavailableError(f"channel {name!r} was closed while it was being opened")
        return channel

    def close_if_empty(self, channel: Channel) -> None:
        unused = not len(channel) and not self._joining[channel.name]
        if unused and self._channels.get(channel.name) is channel:
            del self._channels[channel.name]
            self._broker.unsubscribe(channel.name)
