"""A publication that history does not hold reaches whoever lives, also where history is read."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.core.commands import Subscribe
from hub.core.options import ChannelOptions, Namespaces
from hub.core.ports import PublishRequest
from hub.core.publication import Filter, Position
from hub.wire.filters import read_filter
from tests.core.fakes import ENDLESS
from tests.core.small_node import Shape, SmallNode, limits
from tests.core.subscribers import Subscriber
from tests.support.stream import Push

LONG = Namespaces(
    ChannelOptions(history_size=1000),
    {
        "short": ChannelOptions(history_size=3),
        "table": ChannelOptions(history_size=1000, keyed=True),
        "brief": ChannelOptions(history_size=3, keyed=True),
    },
)


def small_node(**changes: Any) -> SmallNode:
    return SmallNode(Shape(LONG, limits=limits(**changes)))


def publish(node: SmallNode, kinds: str, channel: str = "a", **changes: Any) -> None:
    """Publishes one batch for each letter: `k` is kept, `n` is not."""
    for kind in kinds:
        keep_ms = 0 if kind == "n" else None
        node.request(PublishRequest(channel, b"1", "backend", keep_ms=keep_ms, **changes))
        node.loop.settle()


def stream(pushes: list[Push]) -> list[object]:
    """Offsets, and the ranges of gaps."""
    return [
        push["offset"] if push["op"] == "message" else (push["from"], push["to"], push["reason"])
        for push in pushes
        if push["op"] in {"message", "gap"}
    ]


def beginning(node: SmallNode) -> Position:
    held = node.memory.held("a")
    assert held is not None
    return Position(held[0].epoch, 0)


def blocked(
    node: SmallNode,
    channel: str = "a",
    *,
    wanted: Filter | None = None,
    every_ms: int | None = None,
) -> Subscriber:
    """Returns a subscriber that reads history again and takes nothing now."""
    reader = Subscriber(node)
    node.do(reader.session, Subscribe(1, channel, fill=True, filter=wanted, every_ms=every_ms))
    reader.read()
    reader.block()
    return reader


@pytest.mark.parametrize("kinds", ["n", "kn", "nk", "knnkkn", "nnn"])
def test_a_publication_that_is_not_kept_comes_to_a_new_reader_where_it_stands(kinds: str) -> None:
    node = small_node()
    reader = blocked(node)
    publish(node, "k" + kinds)
    assert stream(reader.drain()) == list(range(1, len(kinds) + 2))
    assert node.outbox_budget.unkept_bytes == 0
    assert not node.outbox_budget.unkept
    publish(node, "nk")
    assert stream(reader.read()) == [len(kinds) + 2, len(kinds) + 3]


def test_a_publication_that_has_no_room_is_announced_as_expired_and_the_newest_comes() -> None:
    node = small_node(outbox_max_messages=3)
    reader = blocked(node)
    publish(node, "k" + "n" * 5 + "k")
    assert stream(reader.drain()) == [1, (2, 3, "expired"), 4, 5, 6, 7]


def test_room_is_counted_in_bytes_of_the_session_and_of_all() -> None:
    node = small_node(outbox_max_bytes=1_000)
    reader = blocked(node)
    publish(node, "k")
    for _ in range(4):
        node.request(PublishRequest("a", b'"' + b"x" * 398 + b'"', "backend", keep_ms=0))
        node.loop.settle()
    assert node.outbox_budget.unkept_bytes == 800
    assert node.outbox_budget.total_bytes >= 800
    assert stream(reader.drain()) == [1, (2, 3, "expired"), 4, 5]


def test_all_together_have_a_bound() -> None:
    node = small_node()
    first, second = blocked(node), blocked(node)
    node.outbox_budget.max_bytes = 1_000
    publish(node, "k")
    node.request(PublishRequest("a", b'"' + b"x" * 598 + b'"', "backend", keep_ms=0))
    node.loop.settle()
    assert node.outbox_budget.unkept_bytes == 600
    told = sorted([stream(first.drain()), stream(second.drain())], key=str)
    assert told == [[1, (2, 2, "expired")], [1, 2]]


def test_nothing_is_held_for_who_has_left() -> None:
    node = small_node()
    gone, left = blocked(node), blocked(node)
    publish(node, "knn")
    assert node.outbox_budget.unkept_bytes == 4
    gone.session.lost(1006, "cut")
    left.unsubscribe("a")
    assert node.outbox_budget.unkept_bytes == 0


def test_another_epoch_brings_nothing_of_the_old_one() -> None:
    node = small_node()
    reader = blocked(node)
    publish(node, "knn")
    node.begin_epoch("a")
    node.loop.settle()
    assert node.outbox_budget.unkept_bytes == 0
    publish(node, "kn")
    told = [push.get("reason", push.get("offset")) for push in reader.drain()]
    assert told[-2:] == [1, 2]


def test_a_first_reading_gets_what_comes_meanwhile() -> None:
    """The subscription has `since` and no `fill`."""
    node = small_node()
    publish(node, "kkk")
    reader = Subscriber(node)
    reader.link.room = 60
    reader.subscribe("a", since=beginning(node))
    publish(node, "nkn")
    assert stream(reader.drain()) == [1, 2, 3, 4, 5, 6]


def test_trimmed_history_before_it_is_announced_and_it_comes_all_the_same() -> None:
    node = small_node()
    reader = blocked(node, "short:a")
    publish(node, "kkkkk", "short:a")
    publish(node, "n", "short:a")
    assert stream(reader.drain()) == [1, (2, 3, "expired"), 4, 5, 6]


def test_a_publication_that_a_filter_leaves_out_is_no_gap() -> None:
    node = small_node()
    reader = blocked(node, wanted=read_filter(b'{"x":1}'))
    publish(node, "k", tags=b'{"x":1}')
    publish(node, "n", tags=b'{"x":2}')
    publish(node, "n", tags=b'{"x":1}')
    publish(node, "n", tags=b'{"x":2}')
    assert stream(reader.drain()) == [1, 3]
    assert reader.session.subscriptions["a"].position.offset == 4


def test_a_publication_that_gave_way_to_a_newer_one_is_no_gap() -> None:
    """A subscriber with `every_ms` wants the newest, and gets no notice of what that stands for."""
    node = small_node()
    reader = blocked(node, every_ms=500)
    publish(node, "k")
    publish(node, "nnn")
    node.wait(1)
    publish(node, "nnk")
    node.wait(1)
    told = stream(reader.drain())
    assert told[0] == 1
    assert told[-1] == 7
    assert not [each for each in told if isinstance(each, tuple)]


def test_a_publisher_that_does_not_want_its_publication_back_gets_no_gap() -> None:
    node = small_node()
    reader = blocked(node)
    publish(node, "k")
    publish(node, "n", skip_connection=reader.session.id)
    publish(node, "n")
    assert stream(reader.drain()) == [1, 3]


def with_state(node: SmallNode, channel: str) -> Subscriber:
    reader = Subscriber(node)
    node.do(reader.session, Subscribe(1, channel, state=True))
    reader.read()
    reader.block()
    return reader


def test_a_change_of_a_row_that_is_not_kept_comes_without_all_rows_anew() -> None:
    node = small_node()
    reader = with_state(node, "table:a")
    publish(node, "knnkn", "table:a", key="x")
    publish(node, "n", "table:a", key="y")
    pushes = reader.drain()
    assert stream(pushes) == [1, 2, 3, 4, 5, 6]
    assert {push["op"] for push in pushes} == {"message"}


def test_where_history_does_not_reach_back_rows_stand_for_all_of_it() -> None:
    """No gap is told where rows mend it, also for what is behind something that was held."""
    node = small_node()
    reader = with_state(node, "brief:a")
    publish(node, "kn" + "k" * 8, "brief:a", key="x")
    pushes = reader.drain()
    assert "gap" not in {push["op"] for push in pushes}
    assert "state" in {push["op"] for push in pushes}
    assert reader.session.subscriptions["brief:a"].position.offset == 10
    publish(node, "nk", "brief:a", key="x")
    assert stream(reader.read()) == [11, 12]


ACTIONS = st.lists(
    st.one_of(
        st.sampled_from(["k", "n", "n", "turn", "step", "settle"]),
        st.sampled_from([0, 1, 50, 150, 500, ENDLESS]),
    ),
    max_size=60,
)


@settings(deadline=None)
@given(actions=ACTIONS, latent=st.booleans(), fill=st.booleans(), before=st.integers(0, 5))
def test_with_room_everything_comes_to_who_lives(
    actions: list[str | int], latent: bool, fill: bool, before: int
) -> None:
    """Everything comes in order and without a gap, however slowly the peer reads; a number
    is how much it takes next."""
    node = SmallNode(Shape(LONG, latent=latent))
    publish(node, "k" * before)
    reader = Subscriber(node)
    reader.subscribe("a", since=beginning(node) if before else None, fill=fill)
    node.loop.settle()
    for action in actions:
        if isinstance(action, int):
            reader.link.drain(action)
            reader.link.room = min(action, 200)
        elif action in "kn":
            keep_ms = 0 if action == "n" else None
            node.request(PublishRequest("a", b"1", "backend", keep_ms=keep_ms))
        else:
            getattr(node.loop, action)()
    pushes: list[Push] = []
    for _ in range(20):
        pushes += reader.drain()
    published = before + sum(action in ("k", "n") for action in actions)
    assert stream(pushes) == list(range(1, published + 1))
    assert node.outbox_budget.unkept_bytes == 0
