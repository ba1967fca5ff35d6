"""Tables of rows, gaps and resets in every order, where a turn serves a few members of many.

Some members of the keyed channel have state, some an interval, some are slow. A checker reads only
the bytes that each peer got: order, exact gaps, and rows that are true at their position.
`tests.core.test_state` follows one reader; here a member may be ahead of its group or behind it.
"""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.core.commands import Subscribe, Unsubscribe
from hub.core.options import SessionLimits
from hub.core.ports import PublishRequest
from hub.core.publication import REMOVES, Position
from hub.core.recovery import replay
from hub.core.session.session import Session
from tests.core.examples import DIALECTS
from tests.core.fakes import FakeLink
from tests.core.node_truth import NodeTruth
from tests.core.small_node import Shape, SmallNode
from tests.core.streams import Followed, Read, StreamChecker
from tests.core.test_state import NAMESPACES
from tests.support.stream import Place, Push, place

EVERY_MS = 50
KEYS = "abcde"


@dataclass(frozen=True)
class Wish:
    """What a peer subscribes with, and how its bytes come."""

    state: bool
    every_ms: int | None
    fill: bool
    dialect: int
    plain: bool


class TableChecker(StreamChecker):
    """Asserts the promise at each push, also of rows and of an interval."""

    def __init__(self, truth: NodeTruth, read: Read, wish: Wish) -> None:
        super().__init__(truth, read)
        self._wish = wish
        self.rows: dict[str, object] = {}
        self.whole = False
        """Whether the last page of the rows has come, where rows come."""
        self._rows_due = False
        """Whether the subscription begins with rows, which may be as of its start."""
        self._page_of: str | None = None
        self.last: Position | None = None
        """Where the peer resumes."""

    def _own(self, place: Followed, offset: int) -> bool:
        """Nobody here publishes without an echo; what an interval leaves out may be in a gap."""
        return False

    def follow(self, name: str, start: str) -> Followed:
        def replaced(at: Place) -> bool:
            key, later = self._truth.at(name, *at).key, self._truth.later(name, *at)
            return self._wish.every_ms is not None and any(each.key == key for each in later)

        followed = Followed(name, may_skip=replaced)
        followed.feed({"op": "subscribed", "position": start})
        return followed

    def _started(self, name: str, said: Push, since: str | None) -> Followed:
        self._page_of = None
        self._rows_due = "state" in said
        self.whole = not self._rows_due
        if self._rows_due:
            assert self._wish.state, said
            return self.follow(name, str(said["position"]))
        return super()._started(name, said, since)

    def _ordered(self, name: str, place: Followed, push: Push, *, was_short: bool) -> None:
        if push["op"] == "state":
            self._page(place, push)
        else:
            assert self.whole, f"before the last page: {push}"
            assert push["op"] == "message" or not self._wish.state, f"rows replace it: {push}"
            super()._ordered(name, place, push, was_short=was_short)
            if push.get("remove"):
                self.rows.pop(push["key"], None)
            elif push["op"] == "message":
                self.rows[push["key"]] = push["data"]
        if self.whole:
            self.last = Position(place.epoch, place.cursor)
            if self._wish.state:
                self._rows_are_true(name, place)

    def _page(self, seen: Followed, push: Push) -> None:
        assert self._wish.state, push
        if push["position"] != self._page_of:
            self.rows, self._page_of, self.whole = {}, push["position"], False
        for row in push["rows"]:
            assert row["key"] not in self.rows, push
            self.rows[row["key"]] = row["data"]
        if push["more"]:
            return
        epoch, offset = place(push["position"])
        if epoch != seen.epoch:
            seen.feed({"op": "gap", "reason": "reset", "position": push["position"]})
            seen.check()
        else:
            assert offset >= seen.cursor, f"rows from before {seen.cursor}: {push}"
            seen.position = epoch, offset
        self.whole, self._rows_due, self._page_of = True, False, None

    def _rows_are_true(self, name: str, place: Followed) -> None:
        """As of the peer's position; what changes behind it may be missing or newer already."""
        truth, (epoch, offset) = self._truth, (place.epoch, place.cursor)
        later = {each.key for each in truth.later(name, epoch, offset)}
        true: dict[str, object] = {}
        for at in range(1, offset + 1):
            request = truth.at(name, epoch, at)
            assert request.key is not None
            true.pop(request.key, None)
            if not request.marks & REMOVES:
                true[request.key] = int(request.data)
        for key in true.keys() | self.rows.keys() - later:
            assert key in later or self.rows.get(key) == true.get(key), (key, self.rows, true)


@dataclass
class Peer:
    """One subscriber: its session, its end of the wire, and who reads along."""

    wish: Wish
    session: Session
    link: FakeLink
    checker: TableChecker

    def read(self) -> None:
        self.checker.feed(self.link.received, was_short=self.link.was_short)


@dataclass
class Story:
    """What can happen in one channel; each takes the peer and the key that it may be about."""

    node: SmallNode
    channel: str
    peers: list[Peer] = field(default_factory=list)
    commands: int = 0
    published: int = 0

    def connect(self, wish: Wish) -> Peer:
        dialect, read = DIALECTS[wish.dialect]
        session, link = self.node.open(dialect=dialect, plain=wish.plain)
        peer = Peer(wish, session, link, TableChecker(NodeTruth(self.node), read, wish))
        self.join(peer)
        return peer

    def next_id(self, peer: Peer, op: str) -> str:
        self.commands += 1
        peer.checker.wanted[id_ := str(self.commands)] = (op, self.channel)
        return id_

    def join(self, peer: Peer, since: Position | None = None) -> None:
        wish, id_ = peer.wish, self.next_id(peer, "subscribe")
        if since is not None:
            peer.checker.asked[id_] = str(since)
        command = Subscribe(
            id_, self.channel, since, fill=wish.fill, state=wish.state, every_ms=wish.every_ms
        )
        self.node.commands.submit(peer.session, command)

    def leave(self, peer: Peer, _: str, since: Position | None = None) -> None:
        """It comes back at once."""
        command = Unsubscribe(self.next_id(peer, "unsubscribe"), self.channel)
        self.node.commands.submit(peer.session, command)
        self.join(peer, since)

    def resume(self, peer: Peer, key: str) -> None:
        self.leave(peer, key, peer.checker.last)

    def cut(self, peer: Peer, _: str) -> None:
        peer.session.lost(1006, "cut")
        peer.link.abort()
        self.peers[self.peers.index(peer)] = self.connect(peer.wish)

    def get_slow(self, peer: Peer, _: str) -> None:
        peer.link.room = 60

    def get_stuck(self, peer: Peer, _: str) -> None:
        peer.link.room = 0

    def take_some(self, peer: Peer, _: str) -> None:
        peer.link.drain(300)

    def take_all(self, peer: Peer, _: str) -> None:
        peer.link.drain()

    def catch_up(self, peer: Peer, _: str) -> None:
        """Something makes the member be ahead of its group."""
        if (subscription := peer.session.subscriptions.get(self.channel)) is not None:
            self.node.fanout.catch_up(subscription)

    def put(self, _: Peer, key: str, marks: int = 0) -> None:
        self.published += 1
        data = b"%d" % self.published
        self.node.request(PublishRequest(self.channel, data, "backend", key=key, marks=marks))

    def remove(self, peer: Peer, key: str) -> None:
        self.put(peer, key, REMOVES)

    def lose(self, peer: Peer, key: str) -> None:
        self.node.losing = self.channel in self.node.channels
        self.put(peer, key)
        self.node.losing = False

    def reset(self, _: Peer, __: str) -> None:
        if self.node.memory.held(self.channel) is not None:
            self.node.begin_epoch(self.channel)

    def step(self, _: Peer, __: str) -> None:
        self.node.loop.step()

    def turn(self, _: Peer, __: str) -> None:
        self.node.loop.turn()

    def settle(self, _: Peer, __: str) -> None:
        self.node.loop.settle()

    def interval(self, _: Peer, __: str) -> None:
        self.node.clock.advance(EVERY_MS / 1000)
        self.node.deadlines.tick(self.node.clock())

    def finish(self) -> None:
        """Everything arrives or was announced, and each table is the true one."""
        for _ in range(4):
            self.node.wait(2 * EVERY_MS / 1000)
            for peer in self.peers:
                peer.link.drain()
        self.node.loop.settle()
        assert self.node.faults == []
        assert self.node.fanout.backlog_bytes == self.node.outbox_budget.bytes == 0
        held = self.node.memory.held(self.channel)
        assert held is not None
        for peer in self.peers:
            peer.read()
            assert not peer.session.closing
            assert peer.checker.whole
            assert peer.checker.followed[self.channel].epoch == held[0].epoch
            peer.checker.finished(self.channel, held[0].offset)


OFTEN = ("put", "put", "put", "lose", "reset", "step", "turn", "turn", "take_some")
SELDOM = (
    "remove", "leave", "resume", "cut", "get_slow", "get_stuck", "take_all", "catch_up", "settle",
    "interval",
)  # fmt: skip
WISHES = st.builds(
    Wish,
    state=st.booleans(),
    every_ms=st.sampled_from((None, EVERY_MS)),
    fill=st.booleans(),
    dialect=st.integers(0, 1),
    plain=st.booleans(),
)
STEPS = st.tuples(st.sampled_from(OFTEN + SELDOM), st.integers(0, 5), st.sampled_from(KEYS))


@settings(max_examples=4 * settings().max_examples, report_multiple_bugs=False)
@given(
    channel=st.sampled_from(("table:a", "short:a")),
    wishes=st.lists(WISHES, min_size=3, max_size=6),
    steps=st.lists(STEPS, min_size=20, max_size=60),
    page=st.sampled_from((2, 1000)),
    slice_sessions=st.integers(1, 3),
    outbox=st.sampled_from((2, 4, 1000)),
    latent=st.booleans(),
)
def test_each_member_gets_true_rows_and_exact_gaps_in_whichever_turn(
    channel: str,
    wishes: list[Wish],
    steps: list[tuple[str, int, str]],
    page: int,
    slice_sessions: int,
    outbox: int,
    latent: bool,
) -> None:
    """Also across resets and losses, ahead of its group or behind it, slow or throttled."""
    limits = SessionLimits(outbox_max_messages=outbox)
    shape = Shape(NAMESPACES, limits, slice_sessions=slice_sessions, latent=latent)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replay, "PAGE_ROWS", page)
        story = Story(SmallNode(shape), channel)
        story.peers += [story.connect(wish) for wish in wishes]
        for action, which, key in steps:
            getattr(story, action)(story.peers[which % len(wishes)], key)
            for peer in story.peers:
                peer.read()
        story.finish()
