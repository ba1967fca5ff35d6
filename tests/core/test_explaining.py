"""Why somebody did not get a publication: the answer names the cause, or says `unknown`."""

from hub.core.forensics.answers import Fate
from hub.core.forensics.journal import REACH_SECONDS
from hub.core.forensics.noted import CLOSED_BYTES, EVENT_BYTES
from hub.core.identity import Identity
from hub.core.options import ChannelOptions, Namespaces, Overflow
from tests.core.explained import why
from tests.core.small_node import Shape, SmallNode, limits
from tests.core.subscribers import Subscriber

KEYED = Namespaces(
    ChannelOptions(history_size=10),
    {"key": ChannelOptions(history_size=10, overflow=Overflow.LATEST_PER_KEY)},
)


def small(journal_bytes: int = 1 << 20) -> SmallNode:
    shape = Shape(KEYED, limits=limits(outbox_max_messages=3), journal_bytes=journal_bytes)
    return SmallNode(shape)


def test_a_publication_that_went_straight_out_was_written_and_the_time_is_known() -> None:
    """The time is known to within the quarter of a second of the channel's timeline."""
    node = small()
    reader = Subscriber(node, "a")
    node.clock.advance(50)
    reader.publish("a", 1)
    published = node.clock()
    node.clock.advance(50)
    reader.publish("a", 1)
    told = why(reader, "a", 1)
    assert told.answer is Fate.WRITTEN
    assert told.at_seconds is not None
    assert told.until_seconds is not None
    assert published - 0.25 <= told.at_seconds <= told.until_seconds == published


def test_a_publication_that_was_dropped_names_the_policy_and_the_time() -> None:
    """The policy is known also before the peer could be told, and a publication that
    came late was not dropped."""
    node = small()
    reader = Subscriber(node, "a")
    reader.block()
    node.clock.advance(5)
    reader.publish("a", 10)
    dropped = why(reader, "a", 3)
    assert (dropped.answer, dropped.at_seconds) == (Fate.DROPPED, node.clock())
    assert "drop_oldest" in dropped.detail
    assert why(reader, "a", 9).answer is Fate.QUEUED
    node.clock.advance(7)
    reader.drain()
    assert why(reader, "a", 9).at_seconds == node.clock()
    assert why(reader, "a", 9).answer is Fate.WRITTEN
    assert why(reader, "a", 3).answer is Fate.DROPPED


def test_a_publication_that_was_conflated_names_the_one_that_replaced_it() -> None:
    """The newer publication is the next one with the same key."""
    node = small()
    reader = Subscriber(node, "key:a")
    reader.block()
    reader.publish("key:a", 1, "eur")
    reader.publish("key:a", 1, "eur")
    reader.publish("key:a", 1, "usd")
    reader.publish("key:a", 1, "eur")
    told = why(reader, "key:a", 2)
    assert (told.answer, told.by) == (Fate.CONFLATED, 4)


def test_a_connection_that_was_not_subscribed_then_is_told_since_when_it_is() -> None:
    """The answer is the same before it joined, after it left, and for a channel to
    which it never subscribed."""
    node = small()
    reader = Subscriber(node)
    reader.publish("a", 2)
    assert why(reader, "a", 1).answer is Fate.NOT_SUBSCRIBED
    reader.subscribe("a")
    reader.publish("a", 1)
    reader.unsubscribe("a")
    reader.publish("a", 1)
    assert [why(reader, "a", offset).answer for offset in (2, 3, 4)] == [
        Fate.NOT_SUBSCRIBED,
        Fate.WRITTEN,
        Fate.NOT_SUBSCRIBED,
    ]
    assert "after 3" in why(reader, "a", 4).detail


def test_a_connection_that_may_not_subscribe_is_told_so() -> None:
    """A refused subscription is noted."""
    node = small()
    reader = Subscriber(node, identity=Identity(subscribe=("b",), publish=()))
    reader.subscribe("a")
    reader.publish("a", 1)
    assert why(reader, "a", 1).answer is Fate.FORBIDDEN


def test_a_connection_that_was_gone_is_told_how_it_ended() -> None:
    """Code and reason, for what came later and for what was still owed."""
    node = small()
    reader = Subscriber(node, "a")
    reader.publish("a", 1)
    reader.block()
    reader.publish("a", 2)
    reader.session.lost(1006, "cut")
    reader.publish("a", 1)
    answers = [why(reader, "a", offset) for offset in (1, 3, 4)]
    assert [told.answer for told in answers] == [
        Fate.WRITTEN,
        Fate.CLOSED,
        Fate.CLOSED,
    ]
    assert "1006 cut" in answers[2].detail


def test_a_publication_that_never_was_is_no_loss() -> None:
    """The channel has not come so far."""
    node = small()
    reader = Subscriber(node, "a")
    assert why(reader, "a", 1).answer is Fate.NOT_PUBLISHED


def test_a_publication_that_never_came_to_the_node_was_lost() -> None:
    """The loss was announced as a gap `broker`, also to the reader that got the notice late."""
    node = small()
    quick, slow = Subscriber(node, "a"), Subscriber(node, "a")
    slow.block()
    quick.publish("a", 1)
    with node.losing_all():
        quick.publish("a", 1)
    quick.publish("a", 1)
    slow.drain()
    for reader in (quick, slow):
        assert [why(reader, "a", offset).answer for offset in (1, 2, 3)] == [
            Fate.WRITTEN,
            Fate.LOST,
            Fate.WRITTEN,
        ]


def test_after_ten_minutes_the_answer_is_unknown_not_a_guess() -> None:
    """The channel's timeline has forgotten, and so has the list of those that ended."""
    node = small()
    stays, leaves = Subscriber(node, "a"), Subscriber(node, "a")
    stays.publish("a", 1)
    leaves.session.lost(1006, "cut")
    assert node.journal.closed
    node.clock.advance(REACH_SECONDS + 1)
    node.journal.sweep()
    assert why(stays, "a", 1).answer is Fate.UNKNOWN
    assert not node.journal.closed
    assert why(leaves, "a", 1).answer is Fate.UNKNOWN
    assert node.journal.bytes == 0
    stays.publish("a", 1)
    assert why(stays, "a", 2).answer is Fate.WRITTEN


def test_beyond_the_events_of_a_connection_the_answer_is_unknown() -> None:
    """Before the oldest note that is kept, a publication may have been dropped or written."""
    node = small()
    reader = Subscriber(node, "key:a")
    reader.publish("key:a", 1)
    reader.block()
    reader.publish("key:a", 1, "x")
    for _ in range(1000 + 5):
        node.clock.advance(0.3)
        reader.publish("key:a", 1, "x")
    assert reader.session.notes is not None
    assert len(reader.session.notes) == 1000
    reader.drain()
    assert why(reader, "key:a", 1).answer is Fate.UNKNOWN
    assert why(reader, "key:a", 3).answer is Fate.UNKNOWN
    assert why(reader, "key:a", 1000).answer is Fate.CONFLATED


def test_memory_is_bounded_and_the_oldest_goes_first() -> None:
    """The bound holds whatever connections and channels do."""
    budget = 20 * (CLOSED_BYTES + EVENT_BYTES)
    node = small(budget)
    for number in range(100):
        visitor = Subscriber(node, "a", f"channel-{number}")
        node.clock.advance(0.3)
        visitor.publish("a", 1)
        visitor.session.lost(1006, f"visit {number}")
        assert node.journal.bytes <= budget
    assert 5 < len(node.journal.closed) <= 20
    assert list(node.journal.closed.values())[-1].reason == "visit 99"


def test_a_journal_of_no_bytes_keeps_nothing() -> None:
    """The answer is `unknown` for every publication."""
    node = small(0)
    reader = Subscriber(node, "a")
    reader.publish("a", 1)
    assert why(reader, "a", 1).answer is Fate.UNKNOWN
    reader.session.lost(1006, "cut")
    assert not node.journal.closed
    assert node.journal.bytes == 0
