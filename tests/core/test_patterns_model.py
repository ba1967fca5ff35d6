"""Patterns are tried in every order: a publication that matches comes in order,
or is announced as lost."""

import contextlib
import json
import os
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from hub.core.commands import Subscribe, SubscribePattern, Unsubscribe
from hub.core.options import ChannelOptions, Namespaces
from hub.core.patterns import matches
from hub.core.ports import PublishRequest
from hub.core.publication import ENDS, Position
from tests.core.fakes import ENDLESS
from tests.core.small_node import Shape, SmallNode

CHANNELS = ("a:x", "a:y", "a:x:z", "a.x", "b:x", "a:w")
PATTERNS = ("a:*", "a:**", "*:x", "**", "a.*")
KINDS = {"end": (ENDS, None), "brief": (0, 1000), "not kept": (0, 0)}
"""Publications that say something of themselves: marks, and how long history may hold them."""
EXAMPLES = max(120, int(os.environ.get("TESTS_EXAMPLES", "120")))
STEPS = {"a few steps": 2, "many steps": 7}
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.sampled_from(CHANNELS)),
        st.tuples(
            st.sampled_from(["cut", "turn", "name", "leave", "epoch", "clear", "wait"]),
            st.sampled_from(CHANNELS),
        ),
        st.tuples(st.sampled_from(sorted(KINDS)), st.sampled_from(CHANNELS)),
        st.tuples(st.sampled_from(["a few steps", "many steps"]), st.just("")),
    ),
    max_size=60,
)


class Reader:
    """A client that keeps what it was told, and resumes from it."""

    def __init__(self, node: SmallNode, pattern: str, room: int) -> None:
        self.node, self.pattern, self.room = node, pattern, room
        self.places: dict[str, Position] | None = None
        self.resets_due: dict[str, Position] = {}
        """By channel, where a resume said that it begins in place of what was asked for."""
        self.missing: set[tuple[str, str, int]] = set()
        """The publications that a gap announced as missing."""
        self.ended: set[str] = set()
        """Channels of which the last message was an end."""
        self.connect()

    def connect(self) -> None:
        self.session, self.link = self.node.open(room=self.room)
        self.read_bytes = 0
        since = None if self.places is None else dict(self.places)
        self.node.commands.submit(self.session, SubscribePattern(0, self.pattern, since))

    def cut(self) -> None:
        self.read()
        self.session.lost(1006, "cut")
        self.connect()

    def read(self) -> None:
        whole = bytes(self.link.received[self.read_bytes :])
        end = whole.rfind(b"\n") + 1
        self.read_bytes += end
        for line in whole[:end].splitlines():
            self.take(json.loads(line))

    def take(self, push: dict[str, Any]) -> None:
        op, channel = push["op"], push.get("channel", "")
        if op == "reply" and push["id"] == 0:
            before = self.places or {}
            begun = {name: Position.parse(at) for name, at in push["ok"]["positions"].items()}
            self.resets_due = {
                name: begun[name] for name, at in before.items() if begun[name] != at
            }
            if self.places is not None:
                # What was not known has come since.
                assert all(at.offset == 0 for name, at in begun.items() if name not in before)
            self.places = begun | before
        elif op == "reply" and "position" in push.get("ok", {}):
            self.named(push["ok"]["channel"], Position.parse(push["ok"]["position"]))
        elif op == "subscribed":
            at = Position.parse(push["position"])
            assert self.places is not None
            if self.places.setdefault(channel, at) != at:
                # It goes on behind an end, and another epoch has begun since.
                self.resets_due[channel] = at
        elif push.get("reason") == "reset":
            self.reset(channel, Position.parse(push["position"]))
        elif op in {"message", "gap"}:
            assert channel not in self.resets_due, push
            assert self.places is not None
            assert matches(self.pattern, channel)
            place = self.places[channel]
            first, last = (push["offset"],) * 2 if op == "message" else (push["from"], push["to"])
            assert first == place.offset + 1, push
            (self.ended.add if push.get("end") else self.ended.discard)(channel)
            if op == "gap":
                self.missing |= {(channel, place.epoch, n) for n in range(first, last + 1)}
            self.places[channel] = Position(place.epoch, last)

    def named(self, channel: str, at: Position) -> None:
        """Notes that the reader subscribed by name, before or after the
        pattern brought the channel."""
        assert self.places is not None
        known = self.places.setdefault(channel, at)
        # Whoever names a channel that has ended gets all there is, also of a new epoch.
        if known.offset > at.offset if known.epoch == at.epoch else channel in self.ended:
            self.places[channel] = at

    def reset(self, channel: str, at: Position) -> None:
        """Checks that the reset was owed: only a reader in another epoch gets one."""
        assert self.places is not None
        assert self.resets_due.pop(channel, at) == at
        assert self.places[channel].epoch != at.epoch
        self.places[channel] = at

    def check(self, begun_at: dict[str, int]) -> None:
        """Checks that the reader is at the head of every channel that matches."""
        self.read()
        assert self.places is not None
        for name in self.node.memory.names():
            held = self.node.memory.held(name)
            assert held is not None
            if matches(self.pattern, name) and held[0].offset > begun_at.get(name, 0):
                assert self.places[name] == held[0]
            log = self.node.memory._logs[name]
            page, _ = log.page(0, 1000, now_seconds=self.node.clock())
            kept = {(name, log.epoch, each.offset) for each in page.publications}
            assert not kept & self.missing


class Story:
    """One node, one reader, and all that can happen."""

    def __init__(self, node: SmallNode, reader: Reader, room: int, before: list[str]) -> None:
        self.node, self.reader, self.room = node, reader, room
        self.begun_at = {name: before.count(name) for name in before}
        self.commands = 0

    def publish(self, channel: str) -> None:
        self.node.publish(channel)

    def publish_of_a_kind(self, kind: str, channel: str) -> None:
        marks, keep_ms = KINDS[kind]
        request = PublishRequest(channel, b"1", "backend", marks=marks, keep_ms=keep_ms)
        self.node.request(request)

    def clear(self, channel: str) -> None:
        """An operator deletes what history holds."""
        clearing = self.node.memory.clear(channel)
        with contextlib.suppress(StopIteration):
            clearing.send(None)

    def wait(self, _channel: str) -> None:
        self.node.wait(2)

    def cut(self, _channel: str) -> None:
        self.reader.cut()

    def steps(self, count: int) -> None:
        for _ in range(count):
            self.node.loop.turn()
            self.node.loop.step()

    def epoch(self, channel: str) -> None:
        """Begins a new epoch in a channel that exists."""
        if self.node.memory.held(channel) is not None:
            self.node.begin_epoch(channel)
            self.begun_at.pop(channel, None)

    def turn(self, _channel: str) -> None:
        self.node.loop.settle()
        self.reader.link.drain(self.room)
        self.reader.read()

    def name(self, channel: str) -> None:
        self.command(Subscribe, channel)

    def leave(self, channel: str) -> None:
        self.command(Unsubscribe, channel)

    def command(self, kind: type[Subscribe | Unsubscribe], channel: str) -> None:
        self.commands += 1
        if matches(self.reader.pattern, channel):
            self.node.commands.submit(self.reader.session, kind(self.commands, channel))

    def go_on(self, action: str, channel: str) -> None:
        if action in KINDS:
            self.publish_of_a_kind(action, channel)
        elif action in STEPS:
            self.steps(STEPS[action])
        else:
            getattr(self, action)(channel)


@settings(deadline=None, max_examples=EXAMPLES)
@given(
    before=st.lists(st.sampled_from(CHANNELS), max_size=6),
    pattern=st.sampled_from(PATTERNS),
    actions=ACTIONS,
    latent=st.booleans(),
    kept=st.sampled_from([0, 2, 100]),
    room=st.sampled_from([ENDLESS, 300]),
)
@example(
    before=[],
    pattern="a:*",
    actions=[(each, "a:x") for each in ("end", "turn", "epoch", "name", "publish")],
    latent=False,
    kept=0,
    room=ENDLESS,
)
def test_everything_that_matches_arrives_in_order_or_is_announced(
    before: list[str],
    pattern: str,
    actions: list[tuple[str, str]],
    latent: bool,
    kept: int,
    room: int,
) -> None:
    """Nothing is lost across cuts, ends, epochs and deleted history, also
    beside subscriptions by name."""
    node = SmallNode(Shape(latent=latent, namespaces=Namespaces(ChannelOptions(history_size=kept))))
    for channel in before:
        node.publish(channel)
    story = Story(node, Reader(node, pattern, room), room, before)
    for action, channel in actions:
        story.go_on(action, channel)
    for _ in range(4):
        node.loop.settle()
        story.reader.link.drain(ENDLESS)
    assert node.faults == []
    story.reader.check(story.begun_at)
