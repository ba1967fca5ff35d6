"""A subscriber that is further than its node: it came from another one, or history was quicker.

Pub/sub brings a publication to one node sooner than to another, and history has it before both.
"""

import pytest

from hub.core.forensics.answers import Fate
from hub.core.options import ChannelOptions, Namespaces
from hub.core.publication import Publication
from hub.core.pushes import Gap, GapReason, Join, Member
from tests.core.explained import why
from tests.core.small_node import Shape, SmallNode
from tests.core.subscribers import Subscriber
from tests.support.stream import Push

CHANNEL = "here:a"
NAMESPACES = Namespaces(by_name={"here": ChannelOptions(presence=True)})


class Behind:
    """A node at 1 of a channel that Redis has 4 of, and a subscriber there who is at 4."""

    def __init__(self) -> None:
        self.node = SmallNode(Shape(NAMESPACES))
        self.level = Subscriber(self.node, CHANNEL)
        self.level.publish(CHANNEL, 1)
        self.epoch = self.node.channels[CHANNEL].epoch
        # From here on nothing of it reaches the node before a test brings it.
        self.node.memory.unsubscribe(CHANNEL)
        places = [self.node.publish(CHANNEL).position for _ in range(3)]
        self.ahead = Subscriber(self.node)
        self.ahead.subscribe(CHANNEL, since=places[1])
        assert 4 in [push.get("offset") for push in self.ahead.read()]
        self.level.read()

    def arrives(self, *offsets: int) -> None:
        for offset in offsets:
            self.node.deliver(Publication(CHANNEL, offset, b"1", 0))

    def read(self, *, of: Subscriber, congested: bool = False) -> list[Push]:
        self.node.loop.settle()
        return of.drain() if congested else of.read()


@pytest.mark.parametrize("congested", [False, True])
def test_a_gap_names_nothing_that_the_subscriber_has(congested: bool) -> None:
    """The subscriber got 2 to 4 of the gap 2 to 6 from elsewhere; one that is level with
    the node has none of it."""
    behind = Behind()
    if congested:
        behind.ahead.block()
    behind.node.lost(Gap(CHANNEL, behind.epoch, 2, 6, GapReason.BROKER))
    behind.arrives(7)
    level, ahead = behind.read(of=behind.level), behind.read(of=behind.ahead, congested=congested)
    assert [(push.get("from"), push.get("to")) for push in level] == [(2, 6), (None, None)]
    assert [(push.get("from"), push.get("to")) for push in ahead] == [(5, 6), (None, None)]
    assert ahead[-1]["offset"] == 7


def test_a_gap_for_all_that_the_subscriber_has_is_not_told() -> None:
    behind = Behind()
    behind.node.lost(Gap(CHANNEL, behind.epoch, 2, 4, GapReason.BROKER))
    behind.arrives(5)
    assert [push.get("offset") for push in behind.read(of=behind.ahead)] == [5]


def test_a_join_among_what_the_subscriber_has_is_not_lost() -> None:
    """A join has no offset, so the node cannot know that the subscriber
    was told of it elsewhere."""
    behind = Behind()
    behind.arrives(2)
    behind.node.announce(CHANNEL, Join(CHANNEL, Member("cat", "c", "cat")))
    behind.arrives(3, 4, 5)
    pushes = behind.read(of=behind.ahead)
    assert [push["op"] for push in pushes] == ["join", "message"]
    assert pushes[-1]["offset"] == 5


def test_a_publication_that_was_got_and_is_forgotten_is_not_taken_for_never_sent() -> None:
    """The subscriber left and its notes were dropped before its publications reached this node."""
    behind = Behind()
    assert why(behind.ahead, CHANNEL, 4).answer is Fate.WRITTEN
    behind.ahead.unsubscribe(CHANNEL)
    behind.node.clock.advance(1)
    notes = behind.ahead.session.notes
    assert notes is not None
    while notes.events:
        notes.forget_oldest()
    behind.node.clock.advance(1)
    behind.arrives(2, 3, 4)
    behind.node.loop.settle()
    assert why(behind.ahead, CHANNEL, 4).answer is Fate.UNKNOWN
    behind.node.publish(CHANNEL)
    behind.arrives(5)
    behind.node.loop.settle()
    assert why(behind.ahead, CHANNEL, 5).answer is Fate.NOT_SUBSCRIBED
