"""The answer about a publication is easily wrong where something is
forgotten, lost, or done again."""

from hub.core.forensics.answers import Fate
from hub.core.forensics.journal import REACH_SECONDS
from hub.core.forensics.noted import CLOSED_BYTES
from hub.core.forensics.question import Question
from hub.core.forensics.timeline import TIMELINE_BYTES
from hub.core.options import ChannelOptions, Namespaces
from hub.core.publication import Position
from tests.core.explained import head, why
from tests.core.small_node import Shape, SmallNode, limits
from tests.core.subscribers import Subscriber

NAMES = Namespaces(
    ChannelOptions(history_size=10),
    {"short": ChannelOptions(history_size=2), "none": ChannelOptions(history_size=0)},
)


def small(journal_bytes: int = 1 << 20) -> SmallNode:
    shape = Shape(NAMES, limits=limits(outbox_max_messages=3), journal_bytes=journal_bytes)
    return SmallNode(shape)


def test_a_loss_told_late_was_never_written_also_when_the_loss_is_forgotten() -> None:
    """The channel's timeline forgets before the note of the late write does."""
    node = small()
    quick, slow = Subscriber(node, "a"), Subscriber(node, "a")
    slow.block()
    quick.publish("a", 1)
    with node.losing_all():
        quick.publish("a", 1)
    quick.publish("a", 1)
    node.clock.advance(20)
    slow.drain()
    assert why(slow, "a", 2).answer is Fate.LOST
    node.clock.advance(REACH_SECONDS - 10)
    for _ in range(10):
        node.journal.sweep()
    assert slow.session.notes
    assert why(slow, "a", 2).answer is Fate.UNKNOWN


def test_a_publication_that_was_dropped_and_read_again_on_the_connection_was_written() -> None:
    """The peer left the channel and came back from before the gap."""
    node = small()
    reader = Subscriber(node, "a")
    reader.block()
    reader.publish("a", 6)
    reader.drain()
    assert why(reader, "a", 2).answer is Fate.DROPPED
    reader.unsubscribe("a")
    node.clock.advance(5)
    reader.subscribe("a", since=Position(head(reader, "a").epoch, 1))
    again = why(reader, "a", 2)
    assert (again.answer, again.at_seconds) == (Fate.WRITTEN, node.clock())


def test_a_publication_that_was_written_and_has_expired_since_was_written() -> None:
    """A second subscription asked for it when history no longer held it."""
    node = small()
    reader = Subscriber(node, "short:a")
    reader.publish("short:a", 1)
    written = node.clock()
    node.clock.advance(5)
    reader.publish("short:a", 5)
    reader.unsubscribe("short:a")
    reader.subscribe("short:a", since=Position(head(reader, "short:a").epoch, 0))
    told = why(reader, "short:a", 1)
    assert (told.answer, told.until_seconds) == (Fate.WRITTEN, written)


def test_a_connection_that_left_long_ago_is_not_told_that_it_never_subscribed() -> None:
    """If all notes are forgotten, the journal still knows that there were some."""
    node = small()
    reader, other = Subscriber(node, "a"), Subscriber(node, "a")
    reader.publish("a", 1)
    reader.unsubscribe("a")
    assert why(reader, "a", 1).answer is Fate.WRITTEN
    node.clock.advance(REACH_SECONDS + 1)
    node.journal.sweep()
    other.publish("a", 1)
    assert why(reader, "a", 1).answer is Fate.UNKNOWN
    assert why(reader, "a", 2).answer is Fate.NOT_SUBSCRIBED


def test_publications_that_a_new_epoch_had_already_were_passed_over_by_its_reset() -> None:
    """The subscriber was subscribed all the time."""
    node = small()
    reader = Subscriber(node, "a")
    reader.publish("a", 2)
    node.downstream.reset("a", Position("new", 3))
    node.loop.settle()
    question = Question("a", "new", 2, 3)
    told = node.explain(reader.session, question)
    assert told.answer is Fate.LOST
    assert "reset" in told.detail


def test_an_epoch_that_the_node_has_not_heard_of_yet_is_still_to_come() -> None:
    """The answer is `queued`, and does not say that the connection was not subscribed."""
    node = small()
    reader = Subscriber(node, "a")
    reader.publish("a", 2)
    told = node.explain(reader.session, Question("a", "newer", 1, 1))
    assert told.answer is Fate.QUEUED


def test_an_epoch_that_nobody_knows_is_unknown() -> None:
    """Misspelled, or over for long: its head cannot be told."""
    node = small()
    reader = Subscriber(node, "a")
    reader.publish("a", 2)
    misspelled = Question("a", "nonsense", 1, 1, current=False)
    assert node.explain(reader.session, misspelled).answer is Fate.UNKNOWN


def test_an_epoch_that_is_over_is_known_as_far_as_it_came_here() -> None:
    """About publications of the old epoch that did not come here the answer is `unknown`."""
    node = small()
    reader = Subscriber(node, "a")
    reader.publish("a", 2)
    old = head(reader, "a").epoch
    node.begin_epoch("a")
    answers = [
        node.explain(reader.session, Question("a", old, offset, offset, current=False)).answer
        for offset in (1, 2, 3)
    ]
    assert answers == [Fate.WRITTEN, Fate.WRITTEN, Fate.UNKNOWN]


def test_a_connection_that_was_refused_at_the_door_is_told_how_it_ended() -> None:
    """The connection never subscribed, so the answer repeats its close code and reason."""
    node = small()
    reader, refused = Subscriber(node), Subscriber(node)
    refused.session.close(4403, "no grant for 'a'")
    reader.publish("a", 1)
    told = why(refused, "a", 1)
    assert told.answer is Fate.NOT_SUBSCRIBED
    assert "4403 no grant for 'a'" in told.detail


def test_a_journal_of_no_bytes_does_not_take_what_it_did_not_note_for_not_subscribed() -> None:
    """The connection was subscribed and has left."""
    node = small(0)
    reader = Subscriber(node, "a")
    reader.publish("a", 1)
    reader.unsubscribe("a")
    assert why(reader, "a", 1).answer is Fate.UNKNOWN


def test_a_publication_while_nobody_subscribed_here_was_not_sent_when_somebody_came_back() -> None:
    """A session whose notes are gone may have read the publication from history, so
    the answer is `unknown`."""
    node = small()
    reader, other = Subscriber(node, "a"), Subscriber(node)
    reader.publish("a", 1)
    reader.unsubscribe("a")
    reader.publish("a", 3)
    node.clock.advance(5)
    reader.subscribe("a", since=Position(head(reader, "a").epoch, 1))
    reader.unsubscribe("a")
    node.clock.advance(5)
    other.subscribe("a")
    other.publish("a", 1)
    assert why(reader, "a", 3).answer is Fate.WRITTEN
    assert reader.session.notes is not None
    while reader.session.notes.events:
        reader.session.notes.forget_oldest()
    assert why(reader, "a", 3).answer is Fate.UNKNOWN
    assert why(reader, "a", 5).answer is Fate.NOT_SUBSCRIBED


def test_a_loss_outlives_the_mark_before_it() -> None:
    """A publication that was noted as lost is not taken for sent, although the
    gap is still to be sent."""
    node = small()
    reader = Subscriber(node, "a")
    reader.publish("a", 1)
    with node.losing_all():
        node.publish("a")
    node.clock.advance(REACH_SECONDS + 1)
    node.journal.sweep()
    node.loop.settle()
    assert why(reader, "a", 2).answer is Fate.LOST


def test_channels_of_one_publication_each_count_with_all_they_take() -> None:
    """Many short-lived channels would fill the journal otherwise."""
    budget = 100 * (TIMELINE_BYTES + 50)
    node = small(budget)
    for number in range(1000):
        node.journal.sent(f"channel-{number}", "e", 0, 1, 0.0, node.clock())
        assert node.journal.bytes <= budget
    kept = [number for number in range(1000) if node.journal.timeline(f"channel-{number}", "e")]
    assert 90 <= len(kept) <= 105
    assert kept[-1] == 999
    node.clock.advance(REACH_SECONDS + 1)
    node.journal.sweep()
    assert node.journal.bytes == 0


def test_texts_that_peers_make_long_count_as_long() -> None:
    """A close reason counts with its length in the journal's bytes."""
    node = small()
    for reason in ("", "x" * 100):
        before = node.journal.bytes
        Subscriber(node).session.lost(1006, reason)
        assert node.journal.bytes - before > CLOSED_BYTES + len(reason)


def test_losses_count_in_the_bytes_of_the_journal() -> None:
    """Each loss of a channel takes room until its publications are forgotten."""
    node = small()
    reader = Subscriber(node, "a")
    before = node.journal.bytes
    for _ in range(10):
        with node.losing_all():
            reader.publish("a", 1)
        reader.publish("a", 1)
    assert node.journal.bytes - before > 10 * 100
    node.clock.advance(REACH_SECONDS + 1)
    node.journal.sweep()
    assert node.journal.bytes == 0


def test_a_publication_that_history_is_not_to_keep_outlives_the_mark_before_it() -> None:
    """The note is made before the batch is sent, and takes room until the batch is forgotten."""
    node = small()

    def send(base: int) -> None:
        node.journal.sent("a", "e", base, base + 1, 0.0, node.clock())

    send(0)
    node.journal.not_kept("a", "e", 2, 0)
    node.clock.advance(REACH_SECONDS + 1)
    node.journal.sweep()
    send(1)
    timeline = node.journal.timeline("a", "e")
    assert timeline is not None
    assert timeline.kept_ms(2) == 0
    node.clock.advance(REACH_SECONDS + 1)
    node.journal.sweep()
    assert node.journal.bytes == 0
