"""Writes to the members in step: the same bytes to many descriptors, counted for all at once.

The hot loop is `write_each`, and looks at no member. Only a member whose socket took less than the
whole is looked at: it stands apart from then on, and is owed the rest.
"""

from hub.core.counters import Counters
from hub.core.fanout.batch import Batch
from hub.core.fanout.group import Group
from hub.core.fanout.slow_path import SlowPath
from hub.core.ports import NO_DESCRIPTOR, WriteEach
from hub.core.session.encoded import Encoded

Short = tuple[int, int]
"""A descriptor that did not take the whole, and the bytes that it took."""


class InStep:
    """The writes of a node's fan-out past all sessions; without state of its own."""

    def __init__(self, write_each: WriteEach, counters: Counters, slow_path: SlowPath) -> None:
        self._write_each = write_each
        self._counters = counters
        self._slow_path = slow_path

    def write(self, batch: Batch, group: Group, short: Short | None = None) -> None:
        """Write a batch to the members in step, or go on behind the first that took less."""
        encoded, descriptors = batch.encoded(group.dialect, group.filter), group.descriptors
        group.publications = encoded.publications
        stop = len(descriptors)
        if encoded.size and short is None:
            short = self._write_each(descriptors, 0, encoded.data)
        while short is not None:
            descriptor, taken = short
            place = descriptors.index(descriptor, group.reached)
            self._count(group, place, encoded)
            group.reached = self._part_with(group, place, encoded, taken, batch.last)
            short = self._write_each(descriptors, group.reached, encoded.data)
        self._count(group, stop, encoded)

    def _count(self, group: Group, stop: int, encoded: Encoded) -> None:
        """Count the whole batch for all members in step up to `stop`."""
        left = group.descriptors[group.reached : stop].count(NO_DESCRIPTOR) if group.holed else 0
        delivered = stop - group.reached - left
        group.reached = stop
        self._counters.deliveries += delivered * encoded.publications
        self._counters.bytes_sent += delivered * encoded.size

    def _part_with(self, group: Group, place: int, encoded: Encoded, taken: int, last: int) -> int:
        """Take out of step the member at `place`, which took only `taken` bytes.

        Return the next place.
        """
        if (subscription := group.members[place]) is not None:
            subscription.stand_apart()
            subscription.own_offset = last
            self._slow_path.owe_rest(subscription, encoded, taken)
            group.owed.pop(subscription, None)
        return place + 1
