"""One node, tried in every order: slow peers, seams, overflow, trimming, lost publications.

Hypothesis chooses what happens next; a checker reads only the bytes that each peer got and
proves the promise of clients/PROTOCOL.md from them (`tests.core.streams`).
"""

from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from hub.core.commands import Ping, Publish, Subscribe, Unsubscribe
from hub.core.forensics.answers import Fate
from hub.core.forensics.question import Question
from hub.core.identity import Identity
from hub.core.ports import PublishRequest
from hub.core.publication import Position
from hub.core.recovery import replay
from hub.core.session import outbox
from hub.core.session.session import Session
from tests.core.examples import ALL, DIALECTS, NAMES, PEERS, SHAPES, names, peers
from tests.core.fakes import ENDLESS, FakeLink
from tests.core.guests import GuestRules
from tests.core.node_truth import NAMESPACES, NodeTruth, entries
from tests.core.poll_guests import PollerRules
from tests.core.small_node import Shape, SmallNode
from tests.core.streams import StreamChecker

ANSWERS = {
    "message": {Fate.WRITTEN},
    # One gap spans what was conflated before something later was dropped.
    "slow": {Fate.DROPPED, Fate.CONFLATED},
    "conflated": {Fate.CONFLATED},
    "broker": {Fate.LOST},
    "expired": {Fate.EXPIRED},
    "reset": {Fate.LOST},
}
NOTHING = {Fate.NOT_SUBSCRIBED, Fate.CLOSED, Fate.DROPPED}
"""The possible fates of a publication of which the peer saw nothing."""
UNTOLD = {Fate.EXPIRED, Fate.LOST, Fate.CONFLATED}
"""The connection ended before it could be told."""


@dataclass
class Peer:
    """One subscriber: its session, its end of the wire, and the checker that reads along."""

    session: Session
    link: FakeLink
    checker: StreamChecker


class OneNode(GuestRules, PollerRules):
    """The steps that the model can take on one node."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.commands = 0

    @initialize(
        shape=SHAPES,
        names=st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)),
        chunk=st.sampled_from((1, 300, 16_384)),
        page=st.sampled_from((2, 64)),
    )
    def begin(self, shape: Shape, names: tuple[str, str], chunk: int, page: int) -> None:
        self.names = names
        self.left: dict[str, list[str]] = {name: [] for name in names}
        """The epochs that have ended."""
        self.patch.setattr(outbox, "CHUNK_BYTES", chunk)
        self.patch.setattr(replay, "PAGE_PUBLICATIONS", page)
        self.node = SmallNode(shape)
        self.truth = NodeTruth(self.node)
        self.peers = [self.connect(kind) for kind in range(PEERS)]
        for peer in range(PEERS):
            self.subscribe(peer, 0)
        self.invite(names)
        self.expect_polls(names)
        self.node.loop.settle()

    def connect(self, kind: int, *, plain: bool = True) -> Peer:
        dialect, read = DIALECTS[kind]
        identity = Identity(subscribe=("*",), publish=("*",), subject=f"user-{kind}")
        session, link = self.node.open(dialect=dialect, identity=identity, plain=plain)
        return Peer(session, link, StreamChecker(self.truth, read))

    def next_id(self, peer: int, op: str, channel: str) -> str:
        self.commands += 1
        self.peers[peer].checker.wanted[id_ := str(self.commands)] = (op, channel)
        return id_

    def subscribe(
        self,
        peer: int,
        name: int,
        *,
        since: Position | None = None,
        last: int | None = None,
        fill: bool = False,
    ) -> None:
        channel = self.names[name]
        command = Subscribe(self.next_id(peer, "subscribe", channel), channel, since, last, fill)
        if since is not None:
            self.peers[peer].checker.asked[str(command.id)] = str(since)
        self.node.commands.submit(self.peers[peer].session, command)

    # -- what peers do -------------------------------------------------------------------------

    @rule(peer=peers, name=names, fill=st.booleans())
    def subscribe_now(self, peer: int, name: int, fill: bool) -> None:
        self.subscribe(peer, name, fill=fill)

    @rule(peer=peers, name=names, last=st.integers(0, 8), fill=st.booleans())
    def subscribe_last(self, peer: int, name: int, last: int, fill: bool) -> None:
        self.subscribe(peer, name, last=last, fill=fill)

    @rule(
        peer=peers, name=names, back=st.integers(-1, 8), same=st.integers(0, 5), fill=st.booleans()
    )
    def subscribe_since(self, peer: int, name: int, back: int, same: int, fill: bool) -> None:
        held = self.node.memory.held(self.names[name])
        head = Position("elsewhere", 3) if held is None or not same else held[0]
        self.subscribe(
            peer, name, since=Position(head.epoch, max(0, head.offset - back)), fill=fill
        )

    @rule(peer=peers, name=names, which=st.integers(0, 3), offset=st.integers(0, 8))
    def come_back_with_an_epoch_that_was_left(
        self, peer: int, name: int, which: int, offset: int
    ) -> None:
        """The offsets of an old epoch mean nothing, also if they look like
        those of the present one."""
        if left := self.left[self.names[name]]:
            self.subscribe(peer, name, since=Position(left[which % len(left)], offset))

    @rule(peer=peers, name=names)
    def unsubscribe(self, peer: int, name: int) -> None:
        channel = self.names[name]
        if channel in self.peers[peer].session.subscriptions:
            command = Unsubscribe(self.next_id(peer, "unsubscribe", channel), channel)
            self.node.commands.submit(self.peers[peer].session, command)

    @rule(peer=peers, name=names, echo=st.booleans(), key=st.sampled_from((None, "a")))
    def publish_from_peer(self, peer: int, name: int, echo: bool, key: str | None) -> None:
        channel = self.names[name]
        id_ = self.next_id(peer, "publish", channel)
        command = Publish(id_, channel, self.payload(1), key, echo)
        self.node.commands.submit(self.peers[peer].session, command)

    @rule(peer=peers)
    def ping(self, peer: int) -> None:
        self.node.commands.submit(self.peers[peer].session, Ping(self.next_id(peer, "ping", "")))

    @rule(peer=peers, plain=st.booleans())
    def reconnect(self, peer: int, plain: bool = True) -> None:
        """The connection is cut; another one takes its place, and its descriptor's number."""
        self.read(self.peers[peer])
        self.peers[peer].session.lost(1006, "cut")
        self.peers[peer].link.abort()
        self.peers[peer] = self.connect(peer, plain=plain)

    @rule(peer=peers, other=peers)
    def descriptors_are_reused_crosswise(self, peer: int, other: int) -> None:
        """Two connections end at once, and each new one gets the descriptor of the other peer."""
        for each in {peer: None, other: None}:
            self.read(self.peers[each])
            self.peers[each].session.lost(1006, "cut")
            self.peers[each].link.abort()
        for each in {other: None, peer: None}:
            self.peers[each] = self.connect(each)
            self.subscribe(each, 0)

    # -- how fast they read --------------------------------------------------------------------

    @rule(peer=peers, room=st.sampled_from((0, 1, 60, 400)))
    def get_slow(self, peer: int, room: int) -> None:
        self.peers[peer].link.room = room

    @rule(peer=peers, size=st.sampled_from((1, 50, 150, 500, ENDLESS)))
    def drain(self, peer: int, size: int) -> None:
        self.peers[peer].link.drain(size)

    # -- what backends, the broker and time do -------------------------------------------------

    def payload(self, size: int) -> bytes:
        return b'"%d%b"' % (self.commands, b"." * size)

    @rule(
        name=names,
        keys=st.lists(st.sampled_from((None, "a", "b")), min_size=1, max_size=6),
        size=st.sampled_from((1, 1, 60, 300)),
    )
    def publish(self, name: int, keys: list[str | None], size: int) -> None:
        for key in keys:
            self.commands += 1
            self.node.publish(self.names[name], self.payload(size), key)

    @rule(name=names, size=st.sampled_from((1, 60, 300)), key=st.sampled_from((None, "a")))
    def publish_what_history_does_not_hold(self, name: int, size: int, key: str | None) -> None:
        self.commands += 1
        channel, data = self.names[name], self.payload(size)
        self.node.request(PublishRequest(channel, data, "backend", key=key, keep_ms=0))

    @rule(name=names)
    def lose(self, name: int) -> None:
        """A publication that the broker numbered does not come through to this node."""
        self.node.losing = self.names[name] in self.node.channels
        self.node.publish(self.names[name])
        self.node.losing = False

    @rule(name=names)
    def begin_epoch(self, name: int) -> None:
        if (held := self.node.memory.held(self.names[name])) is not None:
            self.left[self.names[name]].append(held[0].epoch)
            self.node.begin_epoch(self.names[name])

    @rule(name=names, ends=st.booleans())
    def retry(self, name: int, ends: bool) -> None:
        """A publication is made once in each epoch."""
        self.commands += 1
        key = f"key-{self.commands}"
        request = PublishRequest(self.names[name], self.payload(1), "b", idempotency_key=key)
        first = self.node.request(request)
        if ends:
            self.begin_epoch(name)
        again = self.node.request(request)
        assert again.duplicate == (not ends)
        assert (again.position == first.position) == (not ends)

    @rule(seconds=st.sampled_from((1, 20, 200)))
    def wait(self, seconds: float) -> None:
        self.node.clock.advance(seconds)

    @rule()
    def turn(self) -> None:
        self.node.loop.turn()

    @rule(steps=st.integers(1, 6))
    def step(self, steps: int) -> None:
        for _ in range(steps):
            self.node.loop.step()

    @rule()
    def settle(self) -> None:
        self.node.loop.settle()

    # -- what has to hold ----------------------------------------------------------------------

    def read(self, peer: Peer) -> None:
        peer.checker.feed(peer.link.received, was_short=peer.link.was_short)

    @invariant()
    def every_stream_is_right(self) -> None:
        for peer in self.peers:
            self.read(peer)

    @invariant()
    def members_in_step_can_be_written_to(self) -> None:
        """Past its session and its link, so both must allow it, at every moment."""
        channels = self.node.channels.values() if hasattr(self, "node") else ()
        for group in [group for channel in channels for group in channel.groups()]:
            for place, member in enumerate(group.members):
                if member is not None:
                    assert (member.group, member.place) == (group, place)
                    assert member.session.writable
                    assert member.session.link.descriptor == group.descriptors[place]

    @invariant()
    def no_epoch_that_was_left_comes_back(self) -> None:
        for name, left in self.left.items():
            held = self.node.memory.held(name)
            assert held is None or held[0].epoch not in left

    @invariant()
    def nothing_is_over_its_limit(self) -> None:
        limits, held = self.node.shape.limits, 0
        for session in self.node.registry.sessions.values():
            if (box := session.outbox) is None:
                continue
            assert not session.writable
            held += box.bytes
            owed = sum(ring.bytes for ring in box.rings.values())
            kept = sum(ring.kept_bytes for ring in box.rings.values())
            assert box.bytes - owed + kept <= limits.control_max_bytes
            assert owed <= limits.outbox_max_bytes
            for ring in box.rings.values():
                assert ring.droppable <= limits.outbox_max_messages
                assert ring.bytes == sum(len(entry.frame) for entry in entries(ring))
        budget = self.node.outbox_budget
        assert budget.unkept_bytes == sum(budget.unkept.values()) <= budget.max_bytes
        assert all(its <= limits.outbox_max_bytes for its in budget.unkept.values())
        assert self.node.outbox_budget.bytes == held <= self.node.outbox_budget.max_bytes
        assert not self.node.faults

    def teardown(self) -> None:
        try:
            if hasattr(self, "peers"):
                self.everything_arrives_or_was_announced()
        finally:
            self.patch.undo()

    def everything_arrives_or_was_announced(self) -> None:
        for _ in range(3):
            self.node.loop.settle()
            for peer in self.peers:
                peer.link.drain()
        self.node.loop.settle()
        self.every_stream_is_right()
        for peer in self.peers:
            self.is_through(peer)
            self.fates_are_known(peer)
        self.guests_come_through()
        self.pollers_come_through()
        assert self.node.outbox_budget.bytes == self.node.outbox_budget.unkept_bytes == 0
        assert self.node.fanout.backlog_bytes == 0

    def fates_are_known(self, peer: Peer) -> None:
        """Checks the node's answer about every publication against the peer's own bytes."""
        for name in set(self.names):
            held = self.node.memory.held(name)
            for offset in range(1, held[0].offset + 1 if held else 0):
                assert held is not None
                question = Question(name, held[0].epoch, offset, held[0].offset)
                explained = self.node.explain(peer.session, question)
                forgets = self.node.shape.journal_bytes < ALL or peer.session.closing
                if explained.answer is Fate.UNKNOWN and forgets:
                    continue
                seen = peer.checker.outcomes.get((name, held[0].epoch, offset), set())
                own = self.truth.at(name, held[0].epoch, offset).skip_connection
                if own == peer.session.id:
                    assert explained.answer is not Fate.WRITTEN
                else:
                    untold = UNTOLD if peer.session.closing else set()
                    told = {answer for what in seen for answer in ANSWERS[what]}
                    allowed = told or NOTHING | untold
                    assert explained.answer in allowed, (question, explained)

    def is_through(self, peer: Peer) -> None:
        session, checker = peer.session, peer.checker
        assert not checker.cut
        assert session.closing == (checker.goodbye is not None)
        if session.closing:
            assert checker.goodbye == 4508
            return
        assert session.outbox is None
        assert checker.followed.keys() == session.subscriptions.keys()
        for name, subscription in session.subscriptions.items():
            assert subscription.live
            held = self.node.memory.held(name)
            assert held is not None
            assert subscription.channel.head == held[0]
            checker.finished(name, subscription.channel.offset)
            place = checker.followed[name]
            assert place.was_reset or place.missing == subscription.dropped
            self.presence_is_right(name, checker)

    def presence_is_right(self, name: str, checker: StreamChecker) -> None:
        """A view built from joins and leaves is right, unless its peer was told to ask again."""
        place = checker.followed[name]
        if NAMESPACES.options(name).presence:
            present = {member.id for member in self.node.members(name)}
            for member, op in place.heard.items():
                assert (op == "join") == (member in present), (member, op)


PROFILE = settings(
    max_examples=2 * settings().max_examples,
    stateful_step_count=40,
    suppress_health_check=list(HealthCheck),
    report_multiple_bugs=False,
    print_blob=False,
)


# Four seconds of CPU; a busy machine has taken two minutes for them.
@pytest.mark.timeout(300)
def test_whatever_happens_every_message_arrives_or_its_loss_is_announced() -> None:
    """The promise, on one node, for every order hypothesis can find."""
    run_state_machine_as_test(OneNode, settings=PROFILE)
