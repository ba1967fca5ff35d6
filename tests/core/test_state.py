"""Subscriptions with state: rows as of one position, then what follows it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.core.commands import Subscribe
from hub.core.options import ChannelOptions, Namespaces
from hub.core.ports import PublishRequest, PublishResult
from hub.core.publication import ENDS, REMOVES, Position
from hub.core.recovery import replay
from hub.wire.filters import TagFilter, read_filter
from tests.core.small_node import Shape, SmallNode
from tests.core.subscribers import Subscriber
from tests.support.stream import Push

NAMESPACES = Namespaces(
    ChannelOptions(history_size=1000),
    {
        "table": ChannelOptions(history_size=1000, keyed=True),
        "short": ChannelOptions(history_size=3, keyed=True),
        "none": ChannelOptions(history_size=0, keyed=True),
    },
)


def small_node(*, latent: bool = False) -> SmallNode:
    return SmallNode(Shape(NAMESPACES, latent=latent))


def put(
    node: SmallNode,
    channel: str,
    key: str,
    data: bytes = b"1",
    *,
    remove: bool = False,
    tags: bytes | None = None,
) -> PublishResult:
    marks = REMOVES if remove else 0
    return node.request(PublishRequest(channel, data, "backend", key=key, marks=marks, tags=tags))


@dataclass
class Table:
    """The table that an application makes of a stream, by the rules of clients/PROTOCOL.md."""

    rows: dict[str, object] = field(default_factory=dict)
    position: str | None = None
    """Where it resumes."""
    gaps: list[Push] = field(default_factory=list)
    states: int = 0
    whole: bool = False
    truth: dict[str, dict[str, object]] | None = None
    """The right rows at each position, if the test knows them."""
    _at: str | None = None
    _epoch: str = ""

    def take(self, pushes: Sequence[Push]) -> None:
        for push in pushes:
            if push["op"] == "state":
                self._state(push)
            elif push["op"] == "message":
                key = str(push["key"])
                if push.get("remove"):
                    self.rows.pop(key, None)
                else:
                    self.rows[key] = push["data"]
                self.position = f"{self._epoch}:{push['offset']}"
            elif push["op"] == "gap":
                self.gaps.append(push)
            elif push["op"] == "reply":
                ok = push["ok"]
                assert isinstance(ok, dict)
                self._epoch = str(ok["position"]).rpartition(":")[0]
                self.whole = "state" not in ok
            if self.truth is not None and self.whole and self.position and not self.gaps:
                assert self.rows == self.truth[self.position], push

    def start(self) -> None:
        """A new connection: what came of rows so far is worth nothing."""
        self._at, self.whole = None, False

    def _state(self, push: Push) -> None:
        if push["position"] != self._at:
            self.rows, self._at = {}, str(push["position"])
            self.whole = False
        rows = push["rows"]
        assert isinstance(rows, list)
        for row in rows:
            assert row["key"] not in self.rows
            self.rows[row["key"]] = row["data"]
        if not push["more"]:
            self.states += 1
            self.whole = True
            self.position, self._at = str(push["position"]), None
            self._epoch = self.position.rpartition(":")[0]


def subscribe(reader: Subscriber, channel: str, since: Position | None = None) -> None:
    command = Subscribe(reader.next_id(), channel, since, state=True)
    reader.node.do(reader.session, command)


def position(table: Table) -> Position:
    return Position.parse(table.position)


def test_rows_come_as_of_one_position_and_then_what_follows() -> None:
    """The last page says that no more rows follow; a removal is a message."""
    node = small_node()
    for key in ("b", "a", "c", "b"):
        put(node, "table:a", key)
    reader = Subscriber(node)
    subscribe(reader, "table:a")
    reply, state = reader.read()
    assert isinstance(reply["ok"], dict)
    assert (reply["ok"]["recovered"], reply["ok"]["replayed"], reply["ok"]["state"]) == (
        True,
        0,
        True,
    )
    assert state["op"] == "state"
    assert state["position"] == reply["ok"]["position"]
    assert [(row["key"], row["offset"]) for row in state["rows"]] == [("a", 2), ("b", 4), ("c", 3)]
    assert state["more"] is False
    put(node, "table:a", "a", b"null", remove=True)
    node.loop.settle()
    [message] = reader.read()
    assert (message["op"], message["offset"], message["key"]) == ("message", 5, "a")
    assert message["remove"] is True


def test_an_empty_table_is_said_to_be_empty() -> None:
    node = small_node()
    reader = Subscriber(node)
    subscribe(reader, "table:a")
    _, state = reader.read()
    assert (state["op"], state["rows"], state["more"]) == ("state", [], False)


def test_a_channel_that_is_not_keyed_refuses_state_plainly() -> None:
    node = small_node()
    reader = Subscriber(node)
    subscribe(reader, "a")
    [reply] = reader.read()
    assert isinstance(reply["error"], dict)
    assert reply["error"]["code"] == "bad_request"
    assert "not keyed" in reply["error"]["message"]


def test_a_resume_that_history_makes_whole_gets_no_rows() -> None:
    node = small_node()
    table = Table()
    put(node, "table:a", "a")
    reader = Subscriber(node)
    subscribe(reader, "table:a")
    table.take(reader.read())
    reader.session.lost(1006, "cut")
    put(node, "table:a", "b")
    again = Subscriber(node)
    subscribe(again, "table:a", position(table))
    pushes = again.read()
    assert [push["op"] for push in pushes] == ["reply", "message"]


@pytest.mark.parametrize("channel", ["short:a", "none:a"])
def test_a_resume_that_history_cannot_make_whole_gets_the_rows_and_no_gap(channel: str) -> None:
    """Rows that were removed meanwhile are not in the state."""
    node = small_node()
    table = Table()
    put(node, channel, "gone")
    reader = Subscriber(node)
    subscribe(reader, channel)
    table.take(reader.read())
    reader.session.lost(1006, "cut")
    put(node, channel, "gone", b"null", remove=True)
    for number in range(5):
        put(node, channel, f"k{number}")
    again = Subscriber(node)
    subscribe(again, channel, position(table))
    pushes = again.read()
    assert [push["op"] for push in pushes] == ["reply", "state"]
    assert isinstance(pushes[0]["ok"], dict)
    assert pushes[0]["ok"]["recovered"] is False
    table.take(pushes)
    assert set(table.rows) == {"k0", "k1", "k2", "k3", "k4"}


def test_a_resume_from_another_epoch_gets_the_rows_and_no_reset() -> None:
    node = small_node()
    put(node, "table:a", "a")
    reader = Subscriber(node)
    subscribe(reader, "table:a", Position("another", 5))
    assert [push["op"] for push in reader.read()] == ["reply", "state"]


@pytest.mark.parametrize("since", [None, "another:5", "none:0", "before", "ahead"])
def test_rows_of_a_channel_that_has_ended_are_followed_by_its_end(since: str | None) -> None:
    """Wherever the peer comes from: rows do not say that nothing will follow them."""
    node = small_node()
    before = put(node, "short:a", "gone").position
    for number in range(4):
        put(node, "short:a", f"k{number}")
    node.request(PublishRequest("short:a", b"1", "backend", key="k", marks=ENDS))
    places = {"before": before, "ahead": Position(before.epoch, 99)}
    reader = Subscriber(node)
    subscribe(
        reader, "short:a", None if since is None else places.get(since) or Position.parse(since)
    )
    assert [push["op"] for push in reader.read()] == ["reply", "state", "unsubscribed"]


def test_a_new_epoch_under_a_subscription_sends_the_rows_anew() -> None:
    """The rows come in place of a `reset`, which would leave the application to fend for itself."""
    node = small_node()
    reader, other = Subscriber(node), Subscriber(node, "table:a")
    subscribe(reader, "table:a")
    put(node, "table:a", "old")
    node.loop.settle()
    table = Table()
    table.take(reader.read())
    node.begin_epoch("table:a")
    node.loop.settle()
    put(node, "table:a", "new")
    node.loop.settle()
    pushes = reader.read()
    assert [push["op"] for push in pushes] == ["state", "message"]
    table.take(pushes)
    assert set(table.rows) == {"new"}
    assert "gap" in [push["op"] for push in other.read()]


def test_a_loss_between_nodes_is_mended_by_the_rows() -> None:
    """Others in the channel get the gap."""
    node = small_node()
    reader, other = Subscriber(node), Subscriber(node, "table:a")
    subscribe(reader, "table:a")
    reader.read()
    with node.losing_all():
        put(node, "table:a", "a")
    node.loop.settle()
    put(node, "table:a", "b")
    node.loop.settle()
    pushes = reader.read()
    assert [push["op"] for push in pushes] == ["state", "message"]
    assert [push["op"] for push in other.read()] == ["gap", "message"]


def test_a_reader_that_is_too_slow_for_history_gets_the_rows_again() -> None:
    """Its rows are never conflated, and no `slow` gap leaves holes in its table."""
    node = small_node()
    reader = Subscriber(node)
    subscribe(reader, "short:a")
    table = Table()
    table.take(reader.read())
    reader.block()
    for number in range(50):
        put(node, "short:a", f"k{number % 7}", b"%d" % number)
        node.loop.settle()
    table.take(reader.drain())
    assert table.gaps == []
    assert table.rows == {f"k{number % 7}": number for number in range(43, 50)}


def test_the_place_to_resume_from_is_none_until_the_last_row_is_sent() -> None:
    """A peer that keeps no positions would resume behind rows that it never got."""
    node = small_node()
    for number in range(40):
        put(node, "table:a", f"k{number:02}", b'"%b"' % (b"x" * 100))
    reader = Subscriber(node)
    reader.link.room = 500
    node.commands.submit(reader.session, Subscribe(1, "table:a", state=True))
    node.loop.settle()
    subscription = reader.session.subscriptions["table:a"]
    if subscription.state_need is not None and subscription.state_need.reading:
        assert subscription.resume_from == Position("none", 0)
    reader.drain()
    assert subscription.resume_from.offset == 40


EVEN = read_filter(b'{"even":true}')
STEP = st.one_of(
    st.tuples(st.just("put"), st.integers(0, 6), st.integers(0, 99)),
    st.tuples(st.just("remove"), st.integers(0, 6), st.just(0)),
    st.tuples(st.just("turn"), st.integers(1, 3), st.just(0)),
    st.tuples(st.just("drain"), st.integers(1, 400), st.just(0)),
    st.tuples(st.just("subscribe"), st.just(0), st.just(0)),
    st.tuples(st.just("cut"), st.just(0), st.just(0)),
    st.tuples(st.just("epoch"), st.just(0), st.just(0)),
    st.tuples(st.just("lose"), st.integers(0, 6), st.integers(0, 99)),
)


WAIT = st.tuples(st.just("wait"), st.integers(1, 8), st.just(0))


@pytest.mark.parametrize("wanted", [None, EVEN], ids=["all", "filtered"])
@pytest.mark.parametrize("latent", [False, True])
@pytest.mark.parametrize("channel", ["table:a", "short:a", "none:a"])
@given(steps=st.lists(STEP, max_size=60), page=st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_rows_and_then_messages_are_the_true_state(
    channel: str,
    latent: bool,
    wanted: TagFilter | None,
    steps: list[tuple[str, int, int]],
    page: int,
) -> None:
    """Changes, cuts, slow readers, losses between nodes and new epochs may come in between.

    With a filter it is the state of the rows that match. Where something could not be made whole, a
    gap has said so.
    """
    before = replay.PAGE_ROWS
    replay.PAGE_ROWS = page
    try:
        _follow(Story(channel, wanted, latent=latent), steps)
    finally:
        replay.PAGE_ROWS = before


@pytest.mark.parametrize("latent", [False, True])
@pytest.mark.parametrize("channel", ["table:a", "short:a", "none:a"])
@given(steps=st.lists(st.one_of(STEP, WAIT), max_size=60), page=st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_rows_and_then_the_newest_of_each_key_come_to_the_true_state(
    channel: str, latent: bool, steps: list[tuple[str, int, int]], page: int
) -> None:
    """With `every_ms` what is between is conflated: the rows are true once nothing is held back."""
    before = replay.PAGE_ROWS
    replay.PAGE_ROWS = page
    try:
        _follow(Story(channel, None, latent=latent, every_ms=500), steps)
    finally:
        replay.PAGE_ROWS = before


class Story:
    """One channel, what is so at each of its positions, and a reader that comes and goes."""

    def __init__(
        self, channel: str, wanted: TagFilter | None, *, latent: bool, every_ms: int | None = None
    ) -> None:
        self.wanted = wanted
        self.every_ms = every_ms
        self.truth: dict[str, dict[str, object]] = {}
        self.node = small_node(latent=latent)
        self.channel = channel
        self.now: dict[str, object] = {}
        self.table = Table(truth=None if every_ms else self.truth)
        self.reader: Subscriber | None = None
        self.put(0, 1)
        self.note()

    def note(self) -> None:
        held = self.node.memory.held(self.channel)
        assert held is not None
        self.truth[str(held[0])] = dict(self.now)

    def put(self, number: int, value: int) -> None:
        if self.wanted is None or value % 2 == 0:
            self.now[f"k{number}"] = value
        else:
            self.now.pop(f"k{number}", None)
        tags = b'{"even":true}' if value % 2 == 0 else b'{"even":false}'
        put(self.node, self.channel, f"k{number}", b"%d" % value, tags=tags)
        self.note()

    def remove(self, number: int, _: int) -> None:
        self.now.pop(f"k{number}", None)
        put(self.node, self.channel, f"k{number}", b"null", remove=True)
        self.note()

    def lose(self, number: int, value: int) -> None:
        """A broker calls lost what its history lacks too."""
        with self.node.losing_all():
            self.put(number, value)
        log = self.node.memory.log(self.channel)
        log.let_go(log.offset)

    def turn(self, times: int, _: int) -> None:
        for _ in range(times):
            self.node.loop.turn()
            self.node.loop.step()

    def epoch(self, _: int, __: int) -> None:
        self.node.begin_epoch(self.channel)
        self.now.clear()
        self.note()

    def wait(self, tenths: int, _: int) -> None:
        self.node.clock.advance(tenths / 10)
        self.node.deadlines.tick(self.node.clock())

    def drain(self, size: int, _: int) -> None:
        if self.reader is not None:
            self.reader.link.drain(size)
            self.table.take(self.reader.read())

    def cut(self, _: int, __: int) -> None:
        if self.reader is not None:
            self.table.take(self.reader.read())
            self.reader.session.lost(1006, "cut")
            self.reader = None

    def subscribe(self, _: int, __: int) -> None:
        if self.reader is None:
            reader = self.reader = Subscriber(self.node)
            reader.link.room = 300
            self.table.start()
            since = None if self.table.position is None else position(self.table)
            command = Subscribe(
                1, self.channel, since, filter=self.wanted, state=True, every_ms=self.every_ms
            )
            self.node.commands.submit(reader.session, command)

    def finish(self) -> None:
        assert self.reader is not None
        for _ in range(40):
            self.reader.link.drain(1 << 20)
            self.node.loop.settle()
            self.wait(1, 0)
        self.table.take(self.reader.read())
        assert self.node.faults == []
        assert not self.reader.session.closing


def _follow(story: Story, steps: list[tuple[str, int, int]]) -> None:
    for what, number, value in steps:
        getattr(story, what)(number, value)
    story.subscribe(0, 0)
    story.finish()
    table = story.table
    if table.gaps:
        assert {gap["reason"] for gap in table.gaps} == {"expired"}
        assert story.channel != "table:a"
    else:
        assert table.whole
        assert table.rows == story.now
