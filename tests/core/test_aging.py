"""Connections that get old are told to connect again, each at an age of its own."""

from tests.core.small_node import Shape, SmallNode
from tests.core.subscribers import Subscriber


def lifetimes(node: SmallNode, readers: list[Subscriber], seconds: int) -> list[int]:
    """After how many seconds each ended."""
    ended: dict[str, int] = {}
    for second in range(seconds):
        node.clock.advance(1)
        node.deadlines.tick(node.clock())
        for reader in readers:
            if reader.session.closing:
                ended.setdefault(reader.session.id, second + 1)
    return sorted(ended.values())


def test_connections_that_came_together_do_not_leave_together() -> None:
    """Between four and six fifths of the age, spread over all of it, and told why."""
    node = SmallNode(Shape(max_age_seconds=100))
    readers = [Subscriber(node, "a") for _ in range(200)]
    ages = lifetimes(node, readers, 130)
    assert len(ages) == 200
    assert 80 <= ages[0] < 90
    assert 110 < ages[-1] <= 121
    assert max(ages.count(age) for age in ages) < 25
    goodbye = readers[0].read()[-1]
    assert (goodbye["op"], goodbye["code"], goodbye["reason"]) == ("goodbye", 1012, "max_age")
    assert goodbye["reconnect_within_ms"] == 1000


def test_without_an_age_they_stay() -> None:
    """And no deadline is kept for any of them."""
    node = SmallNode()
    readers = [Subscriber(node, "a") for _ in range(20)]
    assert len(node.deadlines) == 0
    assert lifetimes(node, readers, 500) == []


def test_one_that_has_gone_leaves_nothing_behind() -> None:
    """Its deadline lets go of it."""
    node = SmallNode(Shape(max_age_seconds=100))
    reader = Subscriber(node, "a")
    reader.session.lost(1006, "cut")
    assert node.registry._aging._due == {}
