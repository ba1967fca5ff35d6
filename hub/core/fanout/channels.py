"""The channels that have sessions on this node: their heads, members and batches."""

from collections.abc import Iterator, Mapping, Sequence

from hub.core.counters import Counts
from hub.core.fanout.group import Group
from hub.core.fanout.open_changes import OpenChanges
from hub.core.options import ChannelOptions, Namespaces
from hub.core.ports import Broker, Dialect
from hub.core.publication import ENDS, Filter, Position, Publication
from hub.core.pushes import Change, Gap, PresenceReset
from hub.core.session.encoded import Encoded, Item, as_wanted, entry, skipped
from hub.core.session.ring import Entry
from hub.core.session.subscription import Subscription
from hub.core.values import replace
from hub.errors import UnavailableError

Spoken = tuple[Dialect, Filter | None]
"""Subscriptions with the same dialect and filter get the same bytes."""


class Batch:
    """A sealed range of a channel. Its items never change; each dialect encodes it once.

    `groups` are those of the channel at the seal. They know the members that it has not reached.
    """

    __slots__ = (
        "_encoded", "at", "at_seconds", "base", "epoch", "groups", "items", "last", "sent",
        "skips",
    )  # fmt: skip

    def __init__(
        self,
        items: Sequence[Item],
        groups: Sequence[Group],
        *,
        epoch: str,
        base: int,
        last: int,
        at_seconds: float,
    ) -> None:
        self.items = items
        self.groups = groups
        self.epoch = epoch
        self.base = base
        """The channel's offset before the batch. Its members are there or ahead."""
        self.last = last
        self.at_seconds = at_seconds
        """Monotonic time at which the first item came."""
        self.sent = 0
        """The number of members to which it was written."""
        self.skips = _skips(items)
        self._encoded: dict[Spoken, Encoded] = {}
        self.at = 0
        """Index of the group that is being written to."""

    def take(self, subscription: Subscription) -> bool:
        """Return whether a member apart was still owed the batch, and mark it as written to it."""
        return any(group.owed.pop(subscription, 0) is None for group in self.groups)

    @property
    def has_presence(self) -> bool:
        return any(isinstance(item, Change | PresenceReset) for item in self.items)

    def encoded(self, dialect: Dialect, wanted: Filter | None = None) -> Encoded:
        """Return the batch in `dialect` as `wanted` filters it; encoded on first use."""
        if (encoded := self._encoded.get((dialect, wanted))) is None:
            entries = self._entries(dialect, wanted)
            whole = None if wanted is None else self.encoded(dialect)
            shares = whole is not None and entries == whole.entries
            encoded = whole if whole is not None and shares else Encoded(entries)
            self._encoded[dialect, wanted] = encoded
        return encoded

    def forget(self, group: Group) -> None:
        """Drop the bytes of a group with a filter, once they are written to all its members.

        There may be as many filters as members, and each has bytes of its own.
        """
        self._encoded.pop((group.dialect, group.filter), None)

    def _entries(self, dialect: Dialect, wanted: Filter | None) -> list[Entry]:
        if wanted is None:
            return [entry(item, dialect, self.epoch, self.at_seconds) for item in self.items]
        found: list[Entry] = []
        for item, made in zip(self.items, self.encoded(dialect).entries, strict=True):
            if (left := as_wanted(item, wanted)) is item:
                found.append(made)
            elif left is None:
                found.append(skipped(made.offset, self.at_seconds, made.unkept))
            else:
                found.append(entry(left, dialect, self.epoch, self.at_seconds))
        return found

    def after(
        self,
        offset: int,
        dialect: Dialect,
        wanted: Filter | None = None,
        *,
        skip: frozenset[int],
    ) -> Encoded:
        """Return the part that a member at `offset` has not got, without the offsets in `skip`.

        Items without an offset are included, because nothing else brings them.
        """
        pairs = zip(self.items, self.encoded(dialect, wanted).entries, strict=True)
        missing = [self._missing(item, made, offset, dialect) for item, made in pairs
                   if not made.offset or made.offset > offset]  # fmt: skip
        # A skipped offset is no hole. It moves the position without a frame.
        return Encoded(
            [skipped(e.offset, e.at_seconds, e.unkept) if e.offset in skip else e for e in missing]
        )

    def _missing(self, item: Item, made: Entry, offset: int, dialect: Dialect) -> Entry:
        """Return `made`; for a gap, without the part of its range that the member has."""
        if isinstance(item, Gap) and 0 < item.first <= offset:
            return entry(replace(item, first=offset + 1), dialect, self.epoch, self.at_seconds)
        return made


def _skips(items: Sequence[Item]) -> dict[str, frozenset[int]]:
    """Return the offsets by connection that published them and asked not to get them back."""
    found: dict[str, frozenset[int]] = {}
    for item in items:
        if isinstance(item, Publication) and (connection := item.skip_connection):
            found[connection] = found.get(connection, frozenset()) | {item.offset}
    return found


class Channel:
    """One channel on this node. Owned by the event loop."""

    __slots__ = (
        "_by_spoken", "_groups", "_read_ahead", "asking", "cancels_from_seconds", "changes",
        "end_known", "ended_offset", "epoch", "name", "offset", "open", "open_at_seconds",
        "options", "sealed_offset", "under_way",
    )  # fmt: skip

    def __init__(self, name: str, head: Position, options: ChannelOptions) -> None:
        self.name = name
        self.epoch = head.epoch
        self.offset = head.offset
        """The newest offset this node has seen."""
        self.options = options
        self.ended_offset = 0
        """The newest offset seen that was marked as the channel's last; 0 without any."""
        self.end_known = head.offset == 0 or not options.keeps_history
        """Whether it is known if the publication at `offset` is the last one."""
        self.open: list[Item] = []
        """Items since the last seal."""
        self.open_at_seconds = 0.0
        self.changes: OpenChanges | None = None
        """Net presence changes in `open`; None without any, or where an answer has them."""
        self.asking = 0
        """The number of answers with the members that are being made."""
        self.cancels_from_seconds = 0.0
        """From this time on a join and a leave may cancel out: no answer had the state between."""
        self.under_way: Batch | None = None
        """The sealed batch that is being written to members."""
        self.sealed_offset = head.offset
        """The last offset of the newest sealed batch."""
        self._read_ahead: tuple[int, float] | None = None
        """Offset up to which history was read to a member before it came here, and since when."""
        self._by_spoken: dict[Spoken, Group] = {}
        self._groups: tuple[Group, ...] = ()

    @property
    def head(self) -> Position:
        return Position(self.epoch, self.offset)

    @property
    def has_more(self) -> bool:
        """Whether items are still to be written to its members."""
        return self.under_way is not None or bool(self.open)

    @property
    def ended(self) -> bool:
        """Whether the newest publication is marked as the channel's last."""
        return 0 < self.ended_offset == self.offset

    def goes_on(self) -> None:
        """Forget the end, because publications may follow it. History knows whether any do."""
        if self.ended:
            self.ended_offset, self.end_known = 0, False

    def __len__(self) -> int:
        """Return how many sessions subscribe here."""
        return sum(map(len, self._groups))

    def __iter__(self) -> Iterator[Subscription]:
        for group in self._groups:
            yield from group

    def add(self, subscription: Subscription) -> None:
        """Take a member in. Batches sealed from now on go to it too."""
        spoken = subscription.session.dialect, subscription.filter
        if (group := self._by_spoken.get(spoken)) is None:
            group = self._by_spoken[spoken] = Group(*spoken)
            self._groups = (*self._groups, group)
        group.add(subscription)

    def remove(self, subscription: Subscription) -> None:
        """Let a member go. A batch under way skips it because it is closed."""
        if (group := subscription.group) is not None:
            group.remove(subscription)
            spoken = group.dialect, group.filter
            if not len(group) and self._by_spoken.get(spoken) is group:
                del self._by_spoken[spoken]
                self._groups = tuple(self._by_spoken.values())

    def groups(self) -> tuple[Group, ...]:
        """Return the members by dialect and filter."""
        return self._groups

    def lone(self, most: int) -> tuple[Publication, Group] | None:
        """Return the open publication and the group, where there is one of each, and no more.

        All members, at most `most`, are in step, and each wants the publication. So it needs no
        batch: `sent_lone` follows the write. None where anything is different.
        """
        if len(self.open) != 1 or len(self._groups) != 1 or self.under_way is not None:
            return None
        (item,), (group,) = self.open, self._groups
        if (
            not isinstance(item, Publication)
            or item.skip_connection is not None
            or item.marks >= ENDS
            or group.apart
            or group.filter is not None
            or len(group.descriptors) > most
        ):
            return None
        return item, group

    def sent_lone(self, group: Group) -> None:
        """Go on behind the open publication, which was written to all members."""
        self.open.clear()
        self.changes = None
        self.sealed_offset = self.offset
        group.pass_one(self.offset)

    def seal(self) -> Batch:
        """Seal the open batch for the present members; it is under way from now on."""
        self.under_way = batch = self.open_batch()
        for group in batch.groups:
            group.begin(batch.base, batch.last)
        self.sealed_offset = self.offset
        self.open = []
        self.changes = None
        return batch

    def sent(self) -> None:
        """End the batch under way, which was written to all its members."""
        if (batch := self.under_way) is not None:
            self.under_way = None
            for group in batch.groups:
                group.end()

    def break_step(self) -> None:
        """Let all members stand apart until the next seal."""
        for group in self._groups:
            group.break_step()

    def begin_epoch(self, head: Position) -> None:
        """Go on after `head`; nothing may be open or under way."""
        self.epoch = head.epoch
        self.offset = self.sealed_offset = head.offset
        self.ended_offset, self.end_known = 0, head.offset == 0
        self._read_ahead = None

    def read_ahead(self, through: int, now_seconds: float) -> None:
        """Record that a member was sent history up to `through`, which has not all come here."""
        furthest, since_seconds = self._read_ahead or (through, now_seconds)
        self._read_ahead = (max(through, furthest), since_seconds)

    def sent_since(self, last: int, at_seconds: float) -> float:
        """Return the monotonic time before which no member was sent any part of a batch.

        The batch ends with the offset `last`, and its first item came at `at_seconds`.
        """
        if self._read_ahead is None:
            return at_seconds
        furthest, since_seconds = self._read_ahead
        if last >= furthest:
            self._read_ahead = None
        return min(at_seconds, since_seconds)

    def open_batch(self) -> Batch:
        """Return the items since the last seal as a batch for the present members."""
        return Batch(
            self.open,
            self._groups,
            epoch=self.epoch,
            base=self.sealed_offset,
            last=self.offset,
            at_seconds=self.open_at_seconds,
        )


class OpenChannels(Mapping[str, Channel]):
    """Channels that have a session here, or are about to; the broker delivers no others."""

    def __init__(self, broker: Broker, namespaces: Namespaces) -> None:
        self._broker = broker
        self._namespaces = namespaces
        self._channels: dict[str, Channel] = {}
        self._joining = Counts()
        """The number of sessions that are about to become members, by channel."""

    def __getitem__(self, name: str) -> Channel:
        return self._channels[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._channels)

    def __len__(self) -> int:
        return len(self._channels)

    def find(self, name: str) -> Channel | None:
        """Return the channel where it is open; faster than `Mapping.get`."""
        return self._channels.get(name)

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
                self._channels.setdefault(name, Channel(name, head, self.options(name)))

            await self._broker.subscribe(name, on_open)
        if (channel := self._channels.get(name)) is None:
            raise UnavailableError(f"channel {name!r} was closed while it was being opened")
        return channel

    def close_if_empty(self, channel: Channel) -> None:
        unused = not channel.groups() and not self._joining.get(channel.name)
        if unused and self._channels.get(channel.name) is channel:
            del self._channels[channel.name]
            self._broker.unsubscribe(channel.name)
