"""A peer may be owed a gap and publications behind it from history: the
tests show where it resumes."""

from hub.core.options import ChannelOptions, Namespaces
from tests.core.small_node import Shape, SmallNode
from tests.core.subscribers import Subscriber


def test_a_gap_that_waits_is_not_passed_over_by_what_history_brings() -> None:
    """The place to resume must not be behind a gap that still waits, or a peer that is cut
    there never hears of it."""
    node = SmallNode(Shape(Namespaces(ChannelOptions(history_size=100))))
    reader = Subscriber(node)
    reader.subscribe("a", fill=True)
    reader.publish("a", 1)
    reader.read()
    reader.block()
    with node.losing_all():
        reader.publish("a", 3)
    # The frame in which the link stopped taking is its own to finish.
    place = reader.session.subscriptions["a"]
    assert place.position.offset == 2
    # It goes back to history, which begins behind what is lost.
    reader.publish("a", 1)
    assert not place.live
    assert place.position.offset == place.resume_from.offset == 2
    pushes = reader.drain()
    assert [push["from"] for push in pushes if push["op"] == "gap"] == [2, 3, 4]
    assert [push["offset"] for push in pushes if push["op"] == "message"] == [5]
    assert place.position.offset == 5
