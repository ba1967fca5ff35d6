"""Each bound of the Python client: what comes up to it is taken, and one beyond is not."""

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from hub_client.breaker import BreakerPolicy
from hub_client.channel import PushSource, SubscribedChannel
from hub_client.collector import Batching, Collector, PendingPublication
from hub_client.errors import forbids_reconnect
from hub_client.feed import OVERFULL, Feed, FeedLimits
from hub_client.frames import Frame
from hub_client.http_session import HttpSession, url_subscriptions
from hub_client.messages import Gap, Message, Position
from hub_client.options import ClientOptions
from hub_client.posting import PublisherOptions
from hub_client.publishing import Outgoing
from hub_client.timing import Backoff, ReconnectTiming
from hub_client.transport import DisconnectedError, Target, refused


class FakeResponse:
    """A body in parts."""

    def __init__(self, *parts: bytes) -> None:
        self._parts = parts

    async def aiter_bytes(self) -> AsyncIterator[bytes]:
        for part in self._parts:
            yield part


@pytest.mark.parametrize("parts", [1, 2, 100])
async def test_an_answer_is_read_up_to_the_size_of_a_frame(parts: int) -> None:
    session = HttpSession(cast("Any", None), Target("http://hub.test", None, 1000))

    def body(size: int) -> Any:
        whole = b"x" * size
        step = -(-size // parts)
        return FakeResponse(*(whole[at : at + step] for at in range(0, size, step)))

    assert len(await session.read(body(1000))) == 1000
    with pytest.raises(DisconnectedError, match="over 1,000 bytes") as ended:
        await session.read(body(1001))
    assert ended.value.code == 1009


def test_a_url_names_32_channels() -> None:
    """The others are subscribed to by command."""
    names = [{"channel": f"c{number}"} for number in range(33)]
    assert len(url_subscriptions(tuple(names[:32]))[0]) == 32
    assert len(url_subscriptions(tuple(names))[0]) == 32


def test_a_url_has_up_to_3000_bytes() -> None:
    for more, named in ((0, 2), (1, 1)):
        wanted = ({"channel": "a" * 2000}, {"channel": "b" * (1000 - 2 * 8 - 1 + more)})
        channels, query = url_subscriptions(wanted)
        assert len(channels) == named
        assert len(query) <= 3000


def channel() -> SubscribedChannel:
    return SubscribedChannel("a", since=None, last=None, fill=False)


def message(size: int) -> Message:
    return Message("a", "e", 1, b"x" * size)


@pytest.mark.parametrize(("items", "full"), [(2, False), (3, True)])
async def test_a_feed_holds_up_its_connection_from_its_bound_on(items: int, full: bool) -> None:
    feed = Feed(channel(), limits=FeedLimits(max_items=3, max_bytes=10_000))
    feed.put(tuple(message(1) for _ in range(items)))
    assert feed.holds(1) is full
    assert not feed.holds(2)


async def test_a_feed_holds_so_many_bytes() -> None:
    probe = Feed(channel(), limits=FeedLimits())
    probe.put((message(100),))
    size = probe._bytes
    for most, full in ((size, True), (size + 1, False)):
        feed = Feed(channel(), limits=FeedLimits(max_items=10, max_bytes=most))
        feed.put((message(100),))
        assert feed.holds(1) is full


@pytest.mark.parametrize(
    ("code", "forbidden"),
    [(4399, False), (4400, True), (4499, True), (4500, False), (1002, True), (1006, False)],
)
def test_every_code_of_44_forbids_to_come_back(code: int, forbidden: bool) -> None:
    assert forbids_reconnect(code) is forbidden


@pytest.mark.parametrize(
    ("status", "comes_back"), [(499, False), (500, True), (408, True), (429, True), (404, False)]
)
def test_a_status_from_500_on_may_be_another_later(status: int, comes_back: bool) -> None:
    assert (refused(status, "").rejected is None) is comes_back


def test_nobody_waits_for_longer_than_five_minutes_because_an_answer_says_so() -> None:
    for asked, waits in (("300", 300), ("301", 300)):
        assert refused(503, "", retry_after=asked).asked_seconds == waits


@pytest.mark.parametrize(("lived", "pause"), [(4.9, 4.0), (5.0, 1.0)])
def test_a_connection_that_lived_for_five_seconds_is_no_failure(lived: float, pause: float) -> None:
    backoff = Backoff(ReconnectTiming(1.0, 30.0), draw=lambda _low, high: high)
    assert [backoff.next_pause() for _ in range(2)] == [1.0, 2.0]
    backoff.lived(lived)
    assert backoff.next_pause() == pause


def test_a_pause_grows_up_to_its_cap() -> None:
    backoff = Backoff(ReconnectTiming(1.0, 30.0), draw=lambda _low, high: high)
    assert [backoff.next_pause() for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    day_ms = 86_400_000
    assert [backoff.within(ms) for ms in (-1, day_ms, day_ms + 1)] == [0, 86_400, 86_400]


def collected(*sizes: int, items: int = 3, most: int = 10_000) -> Collector:
    made = Collector(Batching(max_items=items, max_bytes=most))
    for size in sizes:
        made.add(PendingPublication(Outgoing("a", b"1" * size)))
    return made


def test_a_request_is_full_at_its_items_or_its_bytes_and_takes_no_more() -> None:
    """One publication travels whatever its size."""
    assert [collected(*[1] * count).full for count in (2, 3)] == [False, True]
    assert [len(collected(*[1] * count).take()) for count in (3, 4)] == [3, 3]
    size = Outgoing("a", b"1" * 100).size_bytes
    assert [collected(100, most=most).full for most in (size + 1, size)] == [False, True]
    for most, taken in ((2 * size, 2), (2 * size - 1, 1), (1, 1)):
        assert len(collected(100, 100, most=most).take()) == taken


# -- what holds unless the application says otherwise ------------------------------------------


def test_a_request_has_250_publications_and_a_mib_unless_told_otherwise() -> None:
    def waiting(*sizes: int) -> Collector:
        made = Collector(Batching())
        for size in sizes:
            made.add(PendingPublication(Outgoing("a", b"1" * size)))
        return made

    assert [waiting(*[1] * count).full for count in (249, 250)] == [False, True]
    beside = Outgoing("a", b"1").size_bytes - 1
    assert beside == 121
    mib = 1024 * 1024
    assert [waiting(mib - beside - less).full for less in (1, 0)] == [False, True]
    assert Batching().max_waiting_items == 10_000


@pytest.mark.parametrize(("times", "items"), [(1, 1000), (OVERFULL, 8000)])
async def test_a_loop_holds_its_connection_up_from_1000_messages_on_and_a_command_from_8000(
    times: int, items: int
) -> None:
    for count, full in ((items - 1, False), (items, True)):
        feed = Feed(channel(), limits=FeedLimits())
        feed.put(tuple(message(1) for _ in range(count)))
        assert feed.holds(times) is full


async def test_a_loop_holds_its_connection_up_from_8_mib_on() -> None:
    for less, full in ((1, False), (0, True)):
        feed = Feed(channel(), limits=FeedLimits())
        feed.put((Message("a", "e", 1, b"1", frame=b"x" * (8 * 1024 * 1024 - less)),))
        assert feed.holds(1) is full


def test_a_frame_has_16_mib_and_a_publisher_10_connections_unless_told_otherwise() -> None:
    assert ClientOptions().max_frame_bytes == 16 * 1024 * 1024
    assert PublisherOptions().max_connections == 10
    assert BreakerPolicy() == BreakerPolicy(failures=5, over_seconds=5.0, open_seconds=5.0)


@pytest.mark.parametrize("more", [0, 1])
def test_8_mib_of_a_newer_connection_wait_for_the_older_one(more: int) -> None:
    """Beyond them the gap is told."""
    place = SubscribedChannel("a", since=Position("e", 1), last=None, fill=False)
    newer = PushSource({place.key: "e"}, newer=True)
    half = 4 * 1024 * 1024
    gap = Frame("gap", channel="a", epoch="e", origin=2, to=4, reason="expired")
    then = Frame("message", channel="a", offset=5, time=1)
    assert place.push(gap, b"x" * half, newer) == ()
    items = place.push(then, b"x" * (half + more), newer)
    assert [type(item) for item in items] == ([Gap, Message] if more else [])
