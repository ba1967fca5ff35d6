"""Subscriptions that want the newest only now and then: the rest is conflated, and no gap."""

from hypothesis import given
from hypothesis import strategies as st

from hub.core.commands import Subscribe
from hub.core.publication import Position
from tests.core.small_node import Shape, SmallNode, limits
from tests.core.subscribers import Subscriber
from tests.support.stream import Push

EVERY_MS = 500


def subscribe(reader: Subscriber, since: Position | None = None) -> None:
    command = Subscribe(reader.next_id(), "a", since, every_ms=EVERY_MS)
    reader.node.do(reader.session, command)


def throttled(node: SmallNode) -> Subscriber:
    reader = Subscriber(node)
    subscribe(reader)
    reader.read()
    return reader


def one_by_one(reader: Subscriber, count: int) -> None:
    for _ in range(count):
        reader.publish("a", 1)


def offsets(pushes: list[Push]) -> list[object]:
    assert not [push for push in pushes if push["op"] == "gap"]
    return [push["offset"] for push in pushes if push["op"] == "message"]


def test_the_newest_comes_at_most_once_in_an_interval() -> None:
    """The first one comes at once and the last one always; another
    subscriber gets every message."""
    node = SmallNode()
    reader, everything = throttled(node), Subscriber(node, "a")
    one_by_one(reader, 3)
    assert offsets(reader.read()) == [1]
    node.wait(0.4)
    assert offsets(reader.read()) == []
    node.wait(0.2)
    assert offsets(reader.read()) == [3]
    assert reader.session.subscriptions["a"].position.offset == 3
    node.wait(10)
    reader.publish("a", 1)
    assert offsets(reader.read()) == [4]
    assert offsets(everything.read()) == [1, 2, 3, 4]
    assert node.counters.throttled == 1


def test_of_each_key_the_newest_comes_in_the_order_of_offsets() -> None:
    node = SmallNode()
    reader = throttled(node)
    for key in ("x", "x", "y", "x", "z", "z"):
        reader.publish("a", 1, key)
    node.wait(1)
    assert offsets(reader.read()) == [1, 3, 4, 6]


def test_a_subscription_that_ends_gets_first_what_its_interval_holds() -> None:
    node = SmallNode()
    reader = throttled(node)
    one_by_one(reader, 3)
    reader.unsubscribe("a")
    came = reader.read()
    assert offsets(came) == [1, 3]
    assert came[-1]["op"] == "reply"


def test_a_session_that_is_cut_resumes_before_what_its_interval_held() -> None:
    """A publication that the peer was not handed is not passed over."""
    node = SmallNode()
    reader = throttled(node)
    one_by_one(reader, 3)
    assert offsets(reader.read()) == [1]
    place = reader.session.subscriptions["a"].resume_from
    assert place.offset == 1
    reader.session.lost(1006, "gone")
    node.wait(1)
    again = Subscriber(node)
    subscribe(again, since=place)
    assert offsets(again.read()) == [2, 3]


def test_a_slow_peer_gets_no_gap_for_what_was_conflated() -> None:
    node = SmallNode()
    reader = throttled(node)
    reader.publish("a", 1)
    reader.block()
    for _ in range(3):
        reader.publish("a", 4)
        node.wait(1)
    assert offsets(reader.drain())[-1] == 13
    assert reader.session.subscriptions["a"].position.offset == 13


def keys_of(reader: Subscriber, channel: str, count: int, data: bytes = b"1") -> None:
    for number in range(count):
        reader.node.publish(channel, data, f"k{number}")
        reader.node.loop.settle()


def test_many_keys_come_before_their_time_where_an_outbox_holds_no_more() -> None:
    """The number of messages that a throttle holds is bounded as an outbox is, and none is lost."""
    node = SmallNode(Shape(limits=limits(outbox_max_messages=10)))
    reader = throttled(node)
    keys_of(reader, "a", 25)
    throttle = reader.session.subscriptions["a"].throttle
    assert throttle is not None
    assert throttle.messages <= 10
    node.wait(1)
    assert offsets(reader.read()) == list(range(1, 26))
    assert node.counters.throttled == 0


def test_publications_that_all_intervals_of_a_session_hold_are_bounded_in_bytes() -> None:
    """The one that holds most comes before its time, the others at theirs."""
    node = SmallNode(Shape(limits=limits(outbox_max_bytes=10_000, max_subscriptions=4)))
    reader = throttled(node)
    reader.node.do(reader.session, Subscribe(reader.next_id(), "b", every_ms=EVERY_MS))
    for _ in range(3):
        reader.publish("b", 1)
    reader.read()
    keys_of(reader, "a", 30, b"1" * 1000)
    held = [each.throttle for each in reader.session.subscriptions.values() if each.throttle]
    assert 0 < sum(each.bytes for each in held) <= 10_000
    came = reader.read()
    assert {push["channel"] for push in came} == {"a"}
    node.wait(1)
    came += reader.read()
    assert offsets([push for push in came if push["channel"] == "a"]) == list(range(1, 31))
    assert offsets([push for push in came if push["channel"] == "b"]) == [3]


def test_a_new_epoch_comes_behind_what_is_held() -> None:
    node = SmallNode()
    reader = throttled(node)
    one_by_one(reader, 3)
    node.begin_epoch("a")
    node.loop.settle()
    came = [(push["op"], push.get("offset")) for push in reader.read()]
    assert came[:3] == [("message", 1), ("message", 3), ("gap", None)]
    reader.publish("a", 1)
    node.wait(1)
    assert offsets(reader.read()) == [1]


def test_a_slow_peer_that_reads_history_gets_a_gap_in_its_order() -> None:
    """The messages that its interval held are read from history, and the gap behind
    them comes in its place."""
    node = SmallNode()
    reader = Subscriber(node)
    command = Subscribe(reader.next_id(), "a", fill=True, every_ms=EVERY_MS)
    node.do(reader.session, command)
    reader.read()
    reader.block()
    reader.publish("a", 1)
    node.publish("a")
    with node.losing_all():
        node.publish("a")
    node.publish("a")
    node.loop.settle()
    came = reader.drain()
    node.wait(1)
    came += reader.read()
    places = [push.get("offset") or push["from"] for push in came]
    assert places == sorted(places)
    assert places[-1] == 4


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.sampled_from([None, "x", "y"]), st.integers(1, 4)),
        st.tuples(st.just("wait"), st.none(), st.integers(1, 8)),
        st.tuples(st.sampled_from(["block", "drain"]), st.none(), st.just(0)),
    ),
    max_size=30,
)


@given(STEPS)
def test_the_newest_of_each_key_always_comes_and_offsets_rise_without_a_gap(
    steps: list[tuple[str, str | None, int]],
) -> None:
    """This holds whatever comes when, and however slowly the peer reads."""
    node = SmallNode()
    reader = throttled(node)
    newest: dict[str | None, int] = {}
    head, came = 0, list[object]()
    for what, key, count in steps:
        if what == "publish":
            reader.publish("a", count, key)
            head += count
            newest[key] = head
        elif what == "wait":
            node.wait(count / 10)
        elif what == "block":
            reader.block()
        else:
            came += offsets(reader.drain())
        came += offsets(reader.read())
    node.wait(1)
    came += offsets(reader.drain())
    assert came == sorted(set(came), key=lambda offset: int(str(offset)))
    assert set(newest.values()) <= set(came)
    assert reader.session.subscriptions["a"].position.offset == head
