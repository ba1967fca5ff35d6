"""Each bound of the core: what comes up to it is whole, and the next one is beyond it."""

import sys
from collections.abc import Callable, Sequence
from typing import cast

import pytest
from msgspec import structs

from hub.core.commands import Ping, Subscribe, SubscribePattern, UnsubscribePattern
from hub.core.counters import Counters
from hub.core.fanout.fanout import Fanout
from hub.core.fanout.open_changes import OpenChanges, _size
from hub.core.fanout.presence import _bytes, check_member, page_of
from hub.core.forensics.noted import thinned_detail
from hub.core.forensics.timeline import BRIEF_BYTES, LOSS_BYTES, Timeline
from hub.core.limits import Limiter, PeerLimits, Rate, party
from hub.core.options import ChannelOptions, Namespaces
from hub.core.patterns import check_pattern
from hub.core.ports import Broker, OnPublished, PublishRequest, PublishResult
from hub.core.publication import Position, check_channel
from hub.core.publishing import Publishing
from hub.core.pushes import Join, Member, PresenceReset
from hub.core.reading import ChannelReading
from hub.core.refused import RefusedTable
from hub.core.session.encoded import Item
from hub.core.session.places import Places, SessionPatterns
from hub.errors import BadRequestError, HubError, RateLimitedError, UnavailableError
from hub.wire.sse import SeveralSseDialect
from tests.core.fakes import FakeClock
from tests.core.small_node import Shape, SmallNode, limits
from tests.core.subscribers import Subscriber
from tests.support.stream import Push

KIB = 1024
KEYED = Namespaces(
    ChannelOptions(history_size=1000),
    {
        "none": ChannelOptions(history_size=0, keyed=True),
        "bare": ChannelOptions(history_size=0),
    },
)


def ops(pushes: list[Push]) -> list[object]:
    return [push["op"] for push in pushes]


def offsets(pushes: list[Push]) -> list[object]:
    return [push["offset"] for push in pushes if push["op"] == "message"]


def ends_with(reader: Subscriber, code: int) -> bool:
    last = reader.drain()[-1]
    return (last["op"], last.get("code")) == ("goodbye", code)


# -- names and numbers -----------------------------------------------------------------------


@pytest.mark.parametrize(("length", "taken"), [(0, False), (1, True), (200, True), (201, False)])
def test_a_channels_name_has_1_to_200_characters(length: int, taken: bool) -> None:
    if taken:
        assert check_channel("c" * length) == "c" * length
        return
    with pytest.raises(BadRequestError, match="1 to 200 characters"):
        check_channel("c" * length)


def test_a_name_that_is_too_long_for_a_channel_is_not_remembered() -> None:
    """A peer may send thousands of them, each as large as a command may be."""
    name = "too-long" * 26
    before = sys.getrefcount(name)
    with pytest.raises(BadRequestError):
        check_channel(name)
    assert sys.getrefcount(name) == before


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("e:9007199254740991", True),
        ("e:9007199254740992", False),
        ("e:10000000000000000", False),
        ("e:0", True),
        ("e:", False),
        ("e" * 64 + ":1", True),
        ("e" * 65 + ":1", False),
        (":1", False),
    ],
)
def test_an_offset_is_exact_in_every_language_and_an_epoch_has_1_to_64_characters(
    text: str, taken: bool
) -> None:
    if taken:
        assert str(Position.parse(text)) == text
        return
    with pytest.raises(BadRequestError):
        Position.parse(text)


def test_a_members_id_has_up_to_255_characters() -> None:
    assert check_member("é" * 255, "after") == "é" * 255
    with pytest.raises(BadRequestError, match=r"after is 256 characters, .* at most 255"):
        check_member("é" * 256, "after")


def test_of_a_pattern_that_is_refused_60_characters_are_told() -> None:
    for length, told in ((60, "?" * 60), (61, f"{'?' * 60}... (61 characters)")):
        with pytest.raises(BadRequestError) as refused:
            check_pattern("?" * length)
        assert f"pattern {told!r} is not allowed" in refused.value.message


# -- presence --------------------------------------------------------------------------------


def members(count: int, data_bytes: int = 0) -> list[Member]:
    return [Member(f"{n:04}", "c", None, b"x" * data_bytes) for n in range(count)]


@pytest.mark.parametrize("limit", [1, 1000])
def test_a_page_has_as_many_members_as_were_asked_for(limit: int) -> None:
    all_as_they_came = members(limit)[::-1]
    assert page_of(all_as_they_came, limit, None) == (all_as_they_came, None)
    page, after = page_of(members(limit + 1), limit, None)
    assert (len(page), after) == (limit, page[-1].id)
    assert len(page_of(members(limit + 1), limit, after)[0]) == 1


@pytest.mark.parametrize("limit", [0, 1001])
def test_a_page_of_no_members_or_of_more_than_1000_is_refused(limit: int) -> None:
    with pytest.raises(BadRequestError, match=f"limit is {limit}, allowed is 1 to 1000"):
        page_of([], limit, None)


@pytest.mark.parametrize("after", [None, ""])
def test_a_page_takes_members_up_to_its_bytes_and_one_whatever_its_size(after: str | None) -> None:
    bare = sum(map(_bytes, members(2)))
    left = 256 * KIB - bare
    first, second = members(2, left // 2)
    fits = [structs.replace(second, data=b"x" * (left - left // 2)), first]
    in_order = fits if after is None else fits[::-1]
    assert page_of(fits, None, after) == (in_order, None)
    more = [structs.replace(second, data=b"x" * (left - left // 2 + 1)), first]
    assert page_of(more, None, after) == ([first], first.id)
    huge = [Member("0", "c", None, b"x" * 512 * KIB), *members(1)]
    assert page_of(huge, None, after)[0] == huge[:1]


def test_changes_of_a_batch_are_kept_up_to_their_bytes_and_then_announced_as_lost() -> None:
    def taken(data_bytes: int) -> tuple[list[Item], OpenChanges]:
        changes = OpenChanges()
        items: list[Item] = []
        for id_, size in (("a", 0), ("b", data_bytes)):
            join = Join("channel", Member(id_, "c", None, b"x" * size))
            items += changes.take(join, items, cancels=True)
        return items, changes

    bare = sum(_size(Join("channel", Member(id_, "c", None, None))) for id_ in ("a", "b"))
    items, changes = taken(32 * KIB - bare)
    assert (len(items), changes.lost, changes.dropped) == (2, False, 0)
    items, changes = taken(32 * KIB - bare + 1)
    assert (items, changes.lost, changes.dropped) == ([PresenceReset("channel")], True, 2)


# -- what one session is owed ----------------------------------------------------------------


def blocked(node: SmallNode, *channels: str) -> Subscriber:
    """Returns a subscriber whose link takes nothing, with one frame already on its way."""
    reader = Subscriber(node, *channels)
    reader.block()
    reader.ping()
    return reader


def owed_by(do: Callable[[Subscriber], None], *channels: str) -> int:
    """The bytes that a session is owed by it where nothing bounds them."""
    reader = blocked(SmallNode(Shape(KEYED)), *channels)
    before = reader.session.owed_bytes
    do(reader)
    return reader.session.owed_bytes - before


def two_messages(reader: Subscriber) -> None:
    reader.publish("bare:a", 2)


@pytest.mark.parametrize("bound", ["outbox_max_bytes", "outbox_max_messages"])
def test_an_outbox_drops_nothing_up_to_its_bound(bound: str) -> None:
    full = owed_by(two_messages, "bare:a") if bound == "outbox_max_bytes" else 2
    for most, kept in ((full, [1, 2]), (full - 1, [2])):
        reader = blocked(SmallNode(Shape(KEYED, limits=limits(**{bound: most}))), "bare:a")
        two_messages(reader)
        assert offsets(reader.drain()) == kept


def test_a_message_may_wait_as_long_as_it_is_said() -> None:
    for seconds, kept in ((30, [1, 2]), (30.001, [2])):
        reader = blocked(SmallNode(Shape(KEYED)), "bare:a")
        reader.publish("bare:a", 1)
        reader.node.clock.advance(seconds)
        reader.publish("bare:a", 1)
        assert offsets(reader.drain()) == kept
        reader.block()
        reader.ping()
        reader.publish("bare:a", 1)
        reader.node.clock.advance(seconds)
        assert offsets(reader.drain()) == ([3] if kept == [1, 2] else [])


def ping(reader: Subscriber) -> None:
    reader.node.do(reader.session, Ping(100))


def subscribe(reader: Subscriber) -> None:
    """Subscribes; the reply keeps its place in the order of the channel, and is never dropped."""
    reader.node.do(reader.session, Subscribe(100, "bare:b"))


@pytest.mark.parametrize("do", [ping, subscribe])
def test_replies_wait_up_to_their_bound_and_one_byte_more_ends_the_session(
    do: Callable[[Subscriber], None],
) -> None:
    size = owed_by(do)
    for most, ended in ((size, False), (size - 1, True)):
        reader = blocked(SmallNode(Shape(KEYED, limits=limits(control_max_bytes=most))))
        do(reader)
        assert reader.session.closing is ended
        if ended:
            assert ends_with(reader, 4508)


def test_all_outboxes_together_hold_up_to_their_bound() -> None:
    node = SmallNode(Shape(KEYED))
    reader = blocked(node, "bare:a")
    two_messages(reader)
    full = node.outbox_budget.bounded_bytes
    for most, ended in ((full, False), (full - 1, True)):
        reader = blocked(SmallNode(Shape(KEYED, outbox_total_bytes=most)), "bare:a")
        two_messages(reader)
        assert reader.session.closing is ended


@pytest.mark.parametrize("more", [0, 1])
def test_a_peer_with_much_on_its_way_is_aborted_when_memory_is_short(more: int) -> None:
    """A peer with no more than the bound on its way is closed and told why."""
    node = SmallNode(Shape(outbox_total_bytes=128 * KIB - 1))
    reader = Subscriber(node)
    reader.block()
    reader.session.write(b"x" * (128 * KIB + more))
    node.outbox_budget.relieve()
    assert reader.session.closing
    assert reader.link.aborted is bool(more)


def _message() -> bytes:
    """The frame that a reader of channel `a` gets of its first publication."""
    node = SmallNode()
    reader = Subscriber(node, "a")
    before = len(reader.link.received)
    reader.publish("a", 1)
    return bytes(reader.link.received[before:])


@pytest.mark.parametrize("bound", ["session", "node"])
def test_publications_that_history_does_not_keep_are_held_for_a_reader_up_to_the_bytes(
    bound: str,
) -> None:
    on_its_way = len(_message()) if bound == "session" else 0
    for most, came in ((500 + on_its_way, [1, 2, 3, 4]), (499 + on_its_way, [1, "gap", 3, 4])):
        session_bytes = most if bound == "session" else 1 << 20
        node = SmallNode(Shape(KEYED, limits=limits(outbox_max_bytes=session_bytes)))
        if bound == "node":
            node.outbox_budget.max_bytes = most
        reader = Subscriber(node)
        node.do(reader.session, Subscribe(1, "a", fill=True))
        reader.read()
        reader.block()
        node.publish("a")
        node.loop.settle()
        for size in (200, 300):
            data = b'"' + b"x" * (size - 2) + b'"'
            node.request(PublishRequest("a", data, "backend", keep_ms=0))
            node.loop.settle()
        node.publish("a")
        node.loop.settle()
        assert [push.get("offset", push["op"]) for push in reader.drain()] == came


def throttled(messages: int = 1000, total: int = 1 << 20) -> Subscriber:
    """Returns a session with two channels at an interval, each of which
    has had its first message."""
    bounds = limits(outbox_max_messages=messages, outbox_max_bytes=total)
    reader = Subscriber(SmallNode(Shape(limits=bounds)))
    for channel in ("a", "b"):
        reader.node.do(reader.session, Subscribe(1, channel, every_ms=500))
        reader.publish(channel, 1)
    reader.read()
    return reader


def test_an_interval_holds_as_many_keys_as_an_outbox_may_messages() -> None:
    reader = throttled(messages=2)
    for key in "xy":
        reader.publish("a", 1, key)
    assert offsets(reader.read()) == []
    reader.publish("a", 1, "z")
    assert offsets(reader.read()) == [2, 3, 4]


def test_intervals_of_a_session_hold_as_many_bytes_as_its_outbox_may() -> None:
    def held(reader: Subscriber) -> int:
        throttles = (each.throttle for each in reader.session.subscriptions.values())
        return sum(each.bytes for each in throttles if each is not None)

    def three_keys(reader: Subscriber) -> None:
        for channel, key in (("a", "x"), ("b", "y"), ("a", "z")):
            reader.publish(channel, 1, key)

    reader = throttled()
    three_keys(reader)
    full = held(reader)
    for most, left in ((full, full), (full - 1, held(reader) // 3)):
        reader = throttled(total=most)
        three_keys(reader)
        assert held(reader) == left


# -- channels and patterns of one session ----------------------------------------------------


def refused(reader: Subscriber) -> object:
    (reply,) = [push for push in reader.read() if push["op"] == "reply"][-1:]
    error = reply.get("error")
    return error and error["code"]


@pytest.mark.parametrize("last", [None, 1])
def test_a_channel_of_a_pattern_counts_as_a_subscription_from_when_it_is_named(
    last: int | None,
) -> None:
    node = SmallNode(Shape(limits=limits(max_subscriptions=2)))
    reader = Subscriber(node, "a")
    node.publish("p:1")
    node.publish("p:2")
    node.do(reader.session, SubscribePattern(1, "p:*"))
    for channel, code in (("p:1", None), ("p:2", "too_many_subscriptions")):
        reader.subscribe(channel, last=last)
        assert refused(reader) == code
    assert len(reader.session.subscriptions) == 3


@pytest.mark.parametrize("others", [0, 2])
def test_a_session_has_as_many_subscriptions_as_it_may(others: int) -> None:
    """Channels that come through patterns have a bound of their own."""
    node = SmallNode(Shape(limits=limits(max_subscriptions=2)))
    reader = Subscriber(node)
    for number in range(others):
        node.publish(f"p:{number}")
    node.do(reader.session, SubscribePattern(1, "p:*"))
    for channel, code in (("a", None), ("b", None), ("c", "too_many_subscriptions")):
        reader.subscribe(channel)
        assert refused(reader) == code
    reader.unsubscribe("a")
    reader.subscribe("c")
    assert refused(reader) is None


def test_a_stream_of_events_has_32_channels_however_they_come() -> None:
    node = SmallNode()
    for number in range(31):
        node.publish(f"p:{number}")
    session, _ = node.open(dialect=SeveralSseDialect())
    node.do(session, SubscribePattern(1, "p:*"))
    assert len(session.subscriptions) == 31
    node.do(session, Subscribe(2, "a"))
    assert len(session.subscriptions) == 32
    node.publish("q:1")
    node.do(session, Subscribe(3, "b"))
    node.do(session, SubscribePattern(4, "q:*"))
    assert len(session.subscriptions) == 32


@pytest.mark.parametrize("most", [0, 1, 2])
def test_a_session_has_as_many_patterns_as_it_may(most: int) -> None:
    node = SmallNode(Shape(limits=limits(max_patterns=most)))
    reader = Subscriber(node)
    for number in range(most):
        node.do(reader.session, SubscribePattern(number, f"p{number}:*"))
        assert refused(reader) is None
    node.do(reader.session, SubscribePattern(9, "q:*"))
    assert refused(reader) == "too_many_subscriptions"
    if most:
        node.do(reader.session, UnsubscribePattern(10, "p0:*"))
        node.do(reader.session, SubscribePattern(11, "q:*"))
        assert refused(reader) is None


@pytest.mark.parametrize("latent", [False, True])
def test_a_pattern_brings_as_many_channels_as_it_may(latent: bool) -> None:
    """The bound holds also for channels that appear while the pattern begins."""
    node = SmallNode(Shape(latent=latent, limits=limits(max_pattern_channels=3)))
    reader = Subscriber(node)
    node.publish("p:0")
    node.commands.submit(reader.session, SubscribePattern(1, "p:*"))
    for number in (1, 2):
        node.loop.step()
        node.publish(f"p:{number}")
    node.loop.settle()
    assert refused(reader) is None
    assert len(reader.session.subscriptions) == 3
    node.publish("p:3")
    node.loop.settle()
    last = reader.read()[-1]
    assert (last["op"], last["reason"]) == ("unsubscribed", "too_many_channels")


@pytest.mark.parametrize("held", [0, 31, 32])
def test_places_of_ended_channels_are_kept_as_far_as_a_url_has_room_for_them(held: int) -> None:
    node = SmallNode()
    reader = Subscriber(node, "a")
    places = Places(32)
    for number in range(held):
        places.start(f"c{number}", Position("e", 1))
    places.keep(reader.session.subscriptions["a"])
    assert len(places) == min(held + 1, 32)


def test_of_ended_channels_a_session_keeps_the_last_thousand() -> None:
    patterns = SessionPatterns()
    for number in range(1000):
        patterns.left_at_end(f"c{number}", Position("e", 1))
    assert "c0" in patterns.ended
    patterns.left_at_end("more", Position("e", 1))
    assert len(patterns.ended) == 1000
    assert "c0" not in patterns.ended


def test_rows_are_sent_anew_three_times_before_a_gap_says_what_is_lost() -> None:
    """A channel without history is published in all the time, and the table never comes to rest."""
    node = SmallNode(Shape(KEYED, latent=True))
    reader = Subscriber(node)
    node.commands.submit(reader.session, Subscribe(1, "none:a", state=True))
    for _ in range(100):
        node.request(PublishRequest("none:a", b"1", "backend", key="k"))
        node.loop.turn()
        node.loop.step()
    told = ops(reader.read())
    assert told[: told.index("gap")].count("state") == 1 + 3


# -- peers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("others", [99_999, 100_000])
def test_100000_parties_have_a_bucket_and_the_one_not_seen_longest_goes(others: int) -> None:
    limits_ = PeerLimits(publishes=Rate(1, 60, 1))
    limiter = Limiter(limits_, FakeClock(), Counters())
    limiter.check_publish("first", 1)
    for number in range(others):
        limiter.check_publish(f"{number}", 1)
    if others == 100_000:
        limiter.check_publish("first", 1)
        return
    with pytest.raises(RateLimitedError):
        limiter.check_publish("first", 1)


def test_addresses_of_ipv6_are_one_party_by_their_first_64_bits() -> None:
    assert party("2001:db8::1") == party("2001:db8:0:0:ffff::")
    assert party("2001:db8::1") != party("2001:db8:0:1::1")


def test_an_address_is_not_even_answered_from_16_above_twice_its_bound() -> None:
    judge = Limiter(PeerLimits(address_connections=3), FakeClock(), Counters())
    assert not judge.overruns_address(2 * 3 + 15)
    assert judge.overruns_address(2 * 3 + 16)
    assert not Limiter(PeerLimits(), FakeClock(), Counters()).overruns_address(10_000)


@pytest.mark.parametrize(
    ("pause", "seconds", "ended"), [(1.0, 10, True), (1.0, 9, False), (1.25, 20, False)]
)
def test_a_peer_is_patient_with_pauses_of_more_than_a_second(
    pause: float, seconds: float, ended: bool
) -> None:
    """A peer with shorter pauses is closed when it has gone on for 10 s."""
    clock = FakeClock()
    judge = Limiter(PeerLimits(commands=Rate(1, 3600, 1)), clock, Counters())
    meter, told = judge.new_meter(), []
    judge.check_command(meter, 1)
    for _ in range(int(seconds / pause) + 1):
        over = judge.check_command(meter, 1)
        assert over is not None
        told.append(over[1])
        clock.advance(pause)
    assert told[-1] is ended
    assert not any(told[:-1])


def test_a_peer_that_is_held_back_again_after_more_than_a_minute_begins_anew() -> None:
    now = [0]
    table = RefusedTable("n1", lambda: now[0])
    for at, count in ((1, 1), (60_001, 2), (120_002, 1)):
        now[0] = at
        table.limited("commands", by="connection", name="c", address="")
        (row,) = table.held_back()
        assert row.count == count


# -- the node --------------------------------------------------------------------------------


class Backlog:
    """Stands for a fan-out in which so much waits to be written."""

    def __init__(self, backlog_bytes: int) -> None:
        self.backlog_bytes = backlog_bytes


class TakingBroker:
    """Takes a publication in every way that there is, and notes the way."""

    answers_at_once = False
    publish_many_now = None

    def __init__(self) -> None:
        self.took: list[str] = []

    def publish_now(self, request: PublishRequest) -> PublishResult:
        self.took.append("now")
        return PublishResult(Position("e", 1))

    def publish_soon(self, request: PublishRequest, on_done: OnPublished) -> None:
        self.took.append("soon")
        on_done(PublishResult(Position("e", 1)))

    async def publish(self, request: PublishRequest) -> PublishResult:
        self.took.append("later")
        return PublishResult(Position("e", 1))

    async def publish_many(self, requests: Sequence[PublishRequest]) -> Sequence[PublishResult]:
        self.took.append("many")
        return [PublishResult(Position("e", 1)) for _ in requests]


@pytest.mark.parametrize("way", ["now", "soon", "later", "many"])
async def test_publications_are_taken_while_no_more_than_the_bound_waits_to_be_written(
    way: str,
) -> None:
    request = PublishRequest("a", b"1", "backend")

    async def published(waiting: int) -> list[object]:
        broker, counters = TakingBroker(), Counters()
        broker.answers_at_once = way == "now"
        publishing = Publishing(
            cast("Broker", broker),
            cast("Fanout", Backlog(waiting)),
            counters,
            max_backlog_bytes=1000,
        )
        refusals: list[HubError] = []
        try:
            match way:
                case "now":
                    publishing.publish(request)
                case "soon":
                    assert publishing.publish_soon is not None
                    publishing.publish_soon(request, lambda _: None)
                case "later":
                    await publishing.publish(request)  # type: ignore[misc]  # it waits here
                case "many":
                    outcomes = await publishing.publish_many([request])
                    refusals += [each for each in outcomes if isinstance(each, HubError)]
        except UnavailableError as error:
            refusals.append(error)
        counted = (counters.publications, counters.publish_errors["unavailable"])
        return [*broker.took, *[each.message for each in refusals], counted]

    assert await published(1000) == [way, (1, 0)]
    why = "1,001 bytes wait to be written, limit is 1,000: publish more slowly"
    assert await published(1001) == [why, (0, 1)]


@pytest.mark.parametrize("size", [3, 4])
def test_several_are_published_at_once_where_all_of_them_fit(size: int) -> None:
    """Else one by one, so that the bound is met between two of them."""
    node = SmallNode(Shape(max_backlog_bytes=6))
    requests = [
        PublishRequest("a", b"1" * 3, "backend"),
        PublishRequest("a", b"1" * size, "backend"),
    ]
    assert (node.publishing.publish_many_now(requests) is not None) is (size == 3)


# -- history ---------------------------------------------------------------------------------


@pytest.mark.parametrize("last", [64 * KIB, 64 * KIB + 1])
async def test_an_answer_of_history_has_publications_of_up_to_a_mib(last: int) -> None:
    keeps = Namespaces(ChannelOptions(history_size=100))
    node = SmallNode(Shape(keeps))
    for size in [64 * KIB] * 15 + [last] + [64 * KIB]:
        data = b'"' + b"x" * (size - 2) + b'"'
        await node.memory.publish(PublishRequest("a", data, "backend"))
    found = await ChannelReading(node.memory, keeps).history("a", None, 1000)
    assert len(found.publications) == (16 if last == 64 * KIB else 15)


# -- notes -----------------------------------------------------------------------------------


def test_written_offsets_up_to_a_bound_are_named_one_by_one() -> None:
    assert thinned_detail(500, range(64)) == "500 " + " ".join(map(str, range(64)))
    assert thinned_detail(500, range(65)) == "500 ?"


def test_a_timeline_remembers_the_last_thousand_losses_and_brief_publications() -> None:
    timeline = Timeline(("c", "e"), 0)
    sizes = [timeline.lost(n, n, "broker") for n in range(1, 1002)]
    assert (sizes[:1000], sizes[1000]) == ([LOSS_BYTES] * 1000, 0)
    assert (timeline.why_lost(1), timeline.why_lost(2)) == (None, "broker")
    assert timeline.began_offset == 1
    sizes = [timeline.brief_one(n, 5) for n in range(1, 1002)]
    assert (sizes[:1000], sizes[1000]) == ([BRIEF_BYTES] * 1000, 0)
    assert (timeline.kept_ms(1), timeline.kept_ms(2)) == (None, 5)


# -- tables of peers ---------------------------------------------------------------------------


def test_a_hundred_addresses_have_a_row_each_and_one_row_counts_the_others() -> None:
    table = RefusedTable("n1", lambda: 1)
    for number in range(101):
        if number == 100:
            assert len(table.refusals()) == 100
        table.refused("key", address=f"a{number}", detail="", origin=None, host=None)
    rows = table.refusals()
    assert len(rows) == 101
    assert [row.count for row in rows if not row.address] == [1]


def test_of_what_a_stranger_wrote_a_row_keeps_the_beginning() -> None:
    table = RefusedTable("n1", lambda: 1)
    for more in (0, 1):
        table.refused(
            "host",
            address="a" * (64 + more),
            detail="d" * (200 + more),
            origin="o" * (100 + more),
            host="h" * (100 + more),
        )
        table.limited("commands", by="connection", name="n" * (255 + more), address="")
    (row,) = table.refusals()
    assert (len(row.address), len(row.detail), row.count) == (64, 200, 2)
    assert (len(row.origin or ""), len(row.host or "")) == (100, 100)
    (held_back,) = table.held_back()
    assert (len(held_back.name), held_back.count) == (255, 2)


def test_a_member_changes_four_times_in_a_second_and_then_at_its_end() -> None:
    node = SmallNode(Shape(Namespaces(ChannelOptions(presence=True))))
    watcher = Subscriber(node, "a")
    member = Subscriber(node, "a")
    watcher.read()
    for number in range(2, 7):
        data = b"%d" % number
        node.presence.update("a", member.session, data)
        node.loop.settle()
        assert len(ops(watcher.read())) == (1 if number <= 4 else 0)
    node.wait(0.9)
    assert watcher.read() == []
    node.wait(0.2)
    (last,) = watcher.read()
    assert last["member"]["data"] == 6
