"""Patterns in every order: what matches after a pattern began comes, in order, or is announced."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from hub.core.commands import Subscribe, SubscribePattern, Unsubscribe
from hub.core.options import ChannelOptions, Namespaces
from hub.core.patterns import matches
from hub.core.publication import Position
from tests.core.fakes import ENDLESS
from tests.core.small_node import Shape, SmallNode

CHANNELS = ("a:x", "a:y", "a:x:z", "a.x", "b:x", "a:w")
PATTERNS = ("a:*", "a:**", "*:x", "**", "a.*")
STEPS = {"a few steps": 2, "many steps": 7}
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.sampled_from(CHANNELS)),
        st.tuples(
            st.sampled_from(["cut", "turn", "name", "leave", "epoch"]), st.sampled_from(CHANNELS)
        ),
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
            # Subscribed by name, before or after the pattern brought it.
            assert self.places is not None
            self.places.setdefault(push["ok"]["channel"], Position.parse(push["ok"]["position"]))
        elif op == "subscribed":
            at = Position.parse(push["position"])
            assert self.places is not None
            assert self.places.setdefault(channel, at) == at
        elif push.get("reason") == "reset":
            self.reset(channel, Position.parse(push["position"]))
        elif op in {"message", "gap"}:
            assert channel not in self.resets_due, push
            assert self.places is not None
            assert matches(self.pattern, channel)
            place = self.places[channel]
            first, last = (push["offset"],) * 2 if op == "message" else (push["from"], push["to"])
            assert first == place.offset + 1, push
            self.places[channel] = Position(place.epoch, last)

    def reset(self, channel: str, at: Position) -> None:
        """It is owed to who was in another epoch, and to nobody else."""
        assert self.places is not None
        assert self.resets_due.pop(channel, at) == at
        assert self.places[channel].epoch != at.epoch
        self.places[channel] = at

    def check(self, begun_at: dict[str, int]) -> None:
        """It has come as far as every channel that matches."""
        self.read()
        assert self.places is not None
        for name in self.node.memory.names():
            held = self.node.memory.held(name)
            assert held is not None
            if matches(self.pattern, name) and held[0].offset > begun_at.get(name, 0):
                assert self.places[name] == held[0]


def go_on(node: SmallNode, steps: int) -> None:
    for _ in range(steps):
        node.loop.turn()
        node.loop.step()


def begin_epoch(node: SmallNode, channel: str) -> None:
    """Of a channel that there is."""
    if node.memory.held(channel) is not None:
        node.begin_epoch(channel)


@settings(deadline=None, max_examples=120)
@given(
    before=st.lists(st.sampled_from(CHANNELS), max_size=6),
    pattern=st.sampled_from(PATTERNS),
    actions=ACTIONS,
    latent=st.booleans(),
    kept=st.sampled_from([0, 2, 100]),
    room=st.sampled_from([ENDLESS, 300]),
)
def test_everything_that_matches_arrives_in_order_or_is_announced(
    before: list[str],
    pattern: str,
    actions: list[tuple[str, str]],
    latent: bool,
    kept: int,
    room: int,
) -> None:
    """Also across cuts, beside subscriptions by name, and where history keeps little."""
    node = SmallNode(Shape(latent=latent, namespaces=Namespaces(ChannelOptions(history_size=kept))))
    for channel in before:
        node.publish(channel)
    begun_at = {name: before.count(name) for name in before}
    reader = Reader(node, pattern, room)
    for number, (action, channel) in enumerate(actions, 1):
        if action == "publish":
            node.publish(channel)
        elif action == "cut":
            reader.cut()
        elif action in STEPS:
            go_on(node, STEPS[action])
        elif action == "epoch":
            begin_epoch(node, channel)
            begun_at.pop(channel, None)
        elif action == "turn":
            node.loop.settle()
            reader.link.drain(room)
            reader.read()
        elif matches(pattern, channel):
            kind = Subscribe if action == "name" else Unsubscribe
            node.commands.submit(reader.session, kind(number, channel))
    for _ in range(4):
        node.loop.settle()
        reader.link.drain(ENDLESS)
    reader.check(begun_at)
