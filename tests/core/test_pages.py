"""A page of history is made into frames once for all who resume at one place."""

import pytest

from hub.core.commands import Subscribe
from hub.core.options import ChannelOptions, Namespaces
from hub.core.ports import HistoryPage, PublishRequest
from hub.core.publication import ENDS, Publication
from hub.core.pushes import Push
from hub.core.recovery.pages import SharedPages
from hub.core.session.subscription import Subscription
from hub.wire.filters import read_filter
from hub.wire.websocket import TextDialect
from tests.core.small_node import TEXT, Shape, SmallNode, limits
from tests.core.subscribers import Subscriber
from tests.core.test_replay import beginning, stream

LONG = Namespaces(ChannelOptions(history_size=1000), {"short": ChannelOptions(history_size=3)})
MISSED = 20
ALL = list(range(1, MISSED + 1))


class CountingDialect(TextDialect):
    """Counts the publications that it makes frames of."""

    def __init__(self) -> None:
        super().__init__()
        self.made = 0

    def encode(self, push: Push, epoch: str) -> bytes:
        self.made += isinstance(push, Publication)
        return super().encode(push, epoch)


@pytest.fixture
def node() -> SmallNode:
    node = SmallNode(Shape(LONG, limits=limits()))
    for _ in range(MISSED):
        node.publish("a")
    return node


def resumed(node: SmallNode, dialect: TextDialect = TEXT, channel: str = "a") -> Subscriber:
    reader = Subscriber(node, dialect=dialect)
    reader.subscribe(channel, since=beginning(node, channel))
    return reader


def test_all_who_resume_at_one_place_share_its_frames(node: SmallNode) -> None:
    """Each gets all of it, once, and is counted for itself."""
    dialect = CountingDialect()
    readers = [resumed(node, dialect) for _ in range(3)]
    assert dialect.made == MISSED
    for reader in readers:
        assert stream(reader.read()) == ALL
        assert reader.session.subscriptions["a"].state == "live"
        assert reader.session.sent == MISSED
    assert node.counters.replayed == 3 * MISSED


def test_a_reader_of_another_dialect_gets_frames_of_its_own(node: SmallNode) -> None:
    dialects = CountingDialect(), CountingDialect()
    for dialect in dialects:
        assert stream(resumed(node, dialect).read()) == ALL
    assert [dialect.made for dialect in dialects] == [MISSED, MISSED]


def test_an_epoch_that_begins_has_pages_of_its_own(node: SmallNode) -> None:
    """The pages are separate although the offsets are the same."""
    before = resumed(node)
    before.session.close(1000, "")
    node.memory.begin_epoch("a")
    for number in range(MISSED):
        node.publish("a", b"%d" % number)
    texts = [push["data"] for push in resumed(node).read() if push["op"] == "message"]
    assert texts == list(range(MISSED))


def test_a_peer_that_takes_a_part_is_sent_the_rest_later(node: SmallNode) -> None:
    resumed(node)
    reader = Subscriber(node)
    reader.link.room = 400
    reader.subscribe("a", since=beginning(node))
    seen = reader.read()
    assert 0 < len(stream(seen)) < MISSED
    assert stream(seen + reader.drain()) == ALL


def test_frames_that_are_not_the_same_for_all_are_made_for_each(node: SmallNode) -> None:
    """Such frames are a peer's own publications, those that its filter leaves out, and gaps."""
    resumed(node)
    own = Subscriber(node)
    node.request(PublishRequest("a", b"1", "p", skip_connection=own.session.id))
    own.subscribe("a", since=beginning(node))
    assert stream(own.read()) == ALL
    assert stream(resumed(node).read()) == [*ALL, MISSED + 1]
    wanted = Subscriber(node)
    command = Subscribe(1, "a", beginning(node), filter=read_filter(b'{"x":"1"}'))
    node.do(wanted.session, command)
    assert stream(wanted.read()) == []
    for _ in range(5):
        node.publish("short:a")
    assert stream(resumed(node, channel="short:a").read()) == [(1, 2, "expired"), 3, 4, 5]


def test_the_end_of_a_channel_is_learned_from_a_shared_page(node: SmallNode) -> None:
    """The second peer that reads the page learns of the end as the first did."""
    node.request(PublishRequest("a", b"1", "backend", marks=ENDS))
    for _ in range(2):
        reader = resumed(node)
        assert [push["op"] for push in reader.read()][-1] == "unsubscribed"
        assert not reader.session.subscriptions


def subscription_at(node: SmallNode, cursor: int, channel: str = "a") -> Subscription:
    reader = Subscriber(node, channel)
    subscription = reader.session.subscriptions[channel]
    subscription.go_back_to_history(cursor)
    return subscription


def page_of(node: SmallNode, first: int, last: int, data: bytes = b"1") -> HistoryPage:
    held = node.memory.held("a")
    assert held is not None
    items = [Publication("a", offset, data, 0) for offset in range(first, last + 1)]
    return HistoryPage(held[0], 1, tuple(items))


def test_pages_are_bounded_together_and_the_one_longest_unasked_goes(node: SmallNode) -> None:
    pages = SharedPages(max_bytes=20_000)
    for cursor in (0, 1, 2):
        pages.find(subscription_at(node, cursor), page_of(node, cursor + 1, 20, b"1" * 50))
        assert pages.bytes <= 20_000
    assert len(pages) < 3
    kept = pages.find(subscription_at(node, 2), page_of(node, 3, 20, b"1" * 50))
    pages.find(subscription_at(node, 3), page_of(node, 4, 20, b"1" * 50))
    assert pages.find(subscription_at(node, 2), page_of(node, 3, 20, b"1" * 50)) is kept


def test_a_page_with_a_hole_or_another_beginning_is_not_shared(node: SmallNode) -> None:
    pages, whole = SharedPages(), page_of(node, 1, 20)
    holed = HistoryPage(whole.head, 1, whole.publications[:4] + whole.publications[5:])
    assert pages.find(subscription_at(node, 0), holed) is None
    assert pages.find(subscription_at(node, 2), whole) is None
    assert pages.find(subscription_at(node, 0), HistoryPage(whole.head, 1, ())) is None
    assert not len(pages)
