"""The channels that have sessions on this node: their heads, members and batches.

A channel's members stand in groups that are no larger than a slice of a broadcast. The groups take
turns, and each takes in its turn whatever came since its last one. So a publication waits for one
round over all members at most. What came is sealed as a batch, which stays until all groups have
it; all of them share its encoded frames.

Example: groups A and B take turns while publications 1, 2, 3 come between these turns. A takes 1;
B takes 1 and 2 as one batch; A takes 2 and 3 as one; B takes 3.
"""

from collections.abc import Iterator, Sequence

from hub.core.fanout.batch import Act, Batch, Spoken, until_act
from hub.core.fanout.group import Group
from hub.core.fanout.open_changes import OpenChanges
from hub.core.options import ChannelOptions
from hub.core.publication import ENDS, Position, Publication
from hub.core.session.encoded import Item
from hub.core.session.subscription import Subscription

_NO_ROUND: Iterator[Group] = iter(())


class Channel:
    """One channel on this node. Owned by the event loop.

    Args:
        group_members: the largest number of members of a group.
    """

    __slots__ = (
        "_by_spoken", "_group_members", "_groups", "_joined", "_read_ahead", "_round",
        "_shrunk", "asking", "cancels_from_seconds", "changes", "end_known", "ended_offset",
        "epoch", "name", "offset", "open", "open_at_seconds", "open_seen",
        "options", "sealed", "sealed_offset", "under_way",
    )  # fmt: skip

    def __init__(
        self, name: str, head: Position, options: ChannelOptions, *, group_members: int
    ) -> None:
        self._group_members = group_members
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
        self.open_seen: int | None = 0
        """Items that were open when the fan-out last asked whether the batch grows fast; None where
        it does not ask, because another batch was under way when this one began."""
        self.changes: OpenChanges | None = None
        """Net presence changes in `open`; None without any, or where an answer has them."""
        self.asking = 0
        """The number of answers with the members that are being made."""
        self.cancels_from_seconds = 0.0
        """From this time on a join and a leave may cancel out: no answer had the state between."""
        self.under_way: tuple[Batch, ...] = ()
        """The sealed batches that not all groups have taken and written, oldest first."""
        self.sealed = 0
        """The number of batches that were ever sealed."""
        self.sealed_offset = head.offset
        """The last offset of the newest sealed batch."""
        self._read_ahead: tuple[int, float] | None = None
        """Offset up to which history was read to a member before it came here, and since when."""
        self._by_spoken: dict[Spoken, Group] = {}
        """Of the groups with one dialect and filter the one that new members come into."""
        self._groups: tuple[Group, ...] = ()
        self._round = _NO_ROUND
        """The groups that still have a turn in this round."""
        self._shrunk: Group | None = None
        """A group that may fit into another one, because members left it."""
        self._joined: tuple[int, int, Batch] | None = None
        """The last batch that was joined of several, after and through which of all batches."""

    @property
    def head(self) -> Position:
        return Position(self.epoch, self.offset)

    @property
    def has_more(self) -> bool:
        """Whether items are still to be written to its members."""
        return bool(self.under_way or self.open)

    @property
    def unwritten(self) -> Iterator[Item]:
        """The items of this epoch that not all members have, in their order."""
        for batch in self.under_way:
            if batch.epoch == self.epoch:
                yield from batch.items
        yield from self.open

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

    def add(
        self, subscription: Subscription, has: int | None = None, epoch: str | None = None
    ) -> None:
        """Take a member in. Batches sealed from now on go to it too.

        `has` is the number of batches of which it is owed nothing, where it was a member before,
        and `epoch` the epoch that it was in then.
        """
        has = self.sealed if has is None else has
        epoch = self.epoch if epoch is None else epoch
        spoken = subscription.session.dialect, subscription.filter
        group = self._by_spoken.get(spoken)
        fits = group is not None and group.taken <= has and group.epoch == epoch
        if group is None or not fits or len(group) >= self._group_members:
            group = self._by_spoken[spoken] = self._group_for(spoken, has, epoch)
        group.add(subscription, has)

    def _group_for(self, spoken: Spoken, has: int, epoch: str) -> Group:
        """Return a group with room that will take all batches after the first `has`."""
        if spoken in self._by_spoken:
            for group in self._groups:
                fits = group.spoken == spoken and group.taken <= has and group.epoch == epoch
                if fits and len(group) < self._group_members:
                    return group
        group = Group(*spoken, epoch=epoch, taken=has)
        for batch in self._after(has):
            batch.groups_left += 1
        self._groups = (*self._groups, group)
        return group

    def remove(self, subscription: Subscription) -> None:
        """Let a member go. A batch under way skips it because it is closed."""
        if (group := subscription.group) is None:
            return
        group.remove(subscription)
        if not len(group):
            self._drop(group)
        elif len(group) <= self._group_members // 2 and self._has_several:
            self._shrunk = group

    def _drop(self, group: Group) -> None:
        """Forget a group that has no members any more, and so takes nothing any more."""
        for batch in self._after(group.taken):
            batch.groups_left -= 1
        alike = self._has_several
        self._groups = tuple(each for each in self._groups if each is not group)
        if self._by_spoken.get(group.spoken) is group:
            del self._by_spoken[group.spoken]
            for other in self._groups if alike else ():
                if other.spoken == group.spoken:
                    self._by_spoken[group.spoken] = other

    @property
    def _has_several(self) -> bool:
        """Whether there are several groups with one dialect and filter."""
        return len(self._groups) > len(self._by_spoken)

    def regroup(self, subscription: Subscription) -> None:
        """Move a member to a group of its session's present dialect. It is owed what it was."""
        if (group := subscription.group) is not None:
            subscription.stand_apart()
            has = group.has(subscription)
            self.remove(subscription)
            self.add(subscription, has, group.epoch)

    def _merge(self) -> None:
        """Move the members of a group that has shrunk into another one, or those of that one.

        Members that leave would otherwise leave many small groups, and each costs a turn.
        """
        group, self._shrunk = self._shrunk, None
        if group is None or not len(group):
            return
        for other in self._groups:
            fits = len(group) + len(other) <= self._group_members
            alike = other.spoken == group.spoken and other.epoch == group.epoch
            if other is group or not alike or not fits:
                continue
            # The group that has taken less brings the others what they still lack.
            into, emptied = sorted((group, other), key=lambda each: (each.taken, -len(each)))
            self._by_spoken[into.spoken] = into
            for subscription in emptied:
                self.regroup(subscription)
            self._shrunk = into
            return

    def groups(self) -> tuple[Group, ...]:
        """Return the members by dialect and filter."""
        return self._groups

    def lone(self) -> tuple[Publication, Group] | None:
        """Return the open publication and the group, where there is one of each, and no more.

        All members are in step, and each wants the publication. So it needs no batch: `sent_lone`
        follows the write. None where anything is different.
        """
        if len(self.open) != 1 or len(self._groups) != 1 or self.under_way or self._read_ahead:
            return None
        item, group = self.open[0], self._groups[0]
        if (
            not isinstance(item, Publication)
            or item.skip_connection is not None
            or item.marks >= ENDS
            or group.apart
            or group.filter is not None
        ):
            return None
        return item, group

    def sent_lone(self, group: Group) -> None:
        """Go on behind the open publication, which was written to all members."""
        self.open.clear()
        self.changes = None
        self.sealed_offset = self.offset
        group.pass_one(self.offset)

    # -- batches ---------------------------------------------------------------------------

    def next_turn(self) -> Group | None:
        """Return the group that has the next turn; None at the end of a round, once."""
        for group in self._round:
            if len(group):
                return group
        self._round = _NO_ROUND
        return None

    def begin_round(self) -> None:
        """Let each group have a turn."""
        if self._shrunk is not None:
            self._merge()
        self._round = iter(self._groups)

    def take(self, group: Group) -> Batch | None:
        """Begin the group's turn; return what came since its last one, None for nothing."""
        self.seal()
        if (batch := self.since(group.taken)) is not None:
            taken = group.taken + len(batch.parts)
            if batch.act is not None:
                group.begin_act(batch.last, taken)
            else:
                group.begin(batch.base, batch.last, taken)
        return batch

    def seal(self) -> None:
        """Make a batch of the open items, where there are any."""
        if not self.open:
            return
        self._put_under_way(self.open_batch())
        self.sealed_offset = self.offset
        self.open = []
        self.changes = None

    def _put_under_way(self, batch: Batch) -> None:
        batch.groups_left = len(self._groups)
        self.open_seen = None
        self.under_way = (*self.under_way, batch)
        self.sealed += 1

    def each_member(self, act: Act, head: Position | None = None) -> None:
        """Have `act` act on each member behind all that came before, and before all that comes.

        With `head` the channel goes on behind it from now on, in another epoch. Each group stays in
        its epoch until it has the act.
        """
        self.seal()
        if head is not None:
            self._begin_epoch(head)
        at, last = self.open_at_seconds, self.sealed_offset
        self._put_under_way(
            Batch((), epoch=self.epoch, base=last, last=last, at_seconds=at, act=act)
        )

    def since(self, has: int, upto: int | None = None) -> Batch | None:
        """Return the sealed batches after the first `has` as one; None where there are none.

        They end with the first `upto`, and before an act, which comes alone.
        """
        if (count := (self.sealed if upto is None else upto) - has) <= 0:
            return None
        parts: Sequence[Batch] = self._after(has)[:count]
        if len(parts) > 1:
            parts = until_act(parts)
        if len(parts) == 1:
            return parts[0]
        place = has, has + len(parts)
        if self._joined is not None and self._joined[:2] == place:
            return self._joined[2]
        batch = Batch.joined(parts)
        self._joined = *place, batch
        return batch

    def _after(self, has: int) -> tuple[Batch, ...]:
        return self.under_way[len(self.under_way) - (self.sealed - has) :]

    def end_turn(self, group: Group, batch: Batch) -> None:
        """End the group's turn, in which the batch was written to its members."""
        group.end()
        for part in batch.parts:
            part.groups_left -= 1
            part.sent += len(group)

    def pop_sent(self) -> Batch | None:
        """Return the oldest batch under way where all groups have it; it is under way no longer."""
        if not self._groups:
            self.seal()
        if not self.under_way or self.under_way[0].groups_left:
            return None
        batch, *rest = self.under_way
        self.under_way = tuple(rest)
        if not rest:
            self._joined = None
        return batch

    def _begin_epoch(self, head: Position) -> None:
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
        """Return the items since the last seal as a batch."""
        return Batch(
            self.open,
            epoch=self.epoch,
            base=self.sealed_offset,
            last=self.offset,
            at_seconds=self.open_at_seconds,
        )
