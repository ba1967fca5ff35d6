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
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.sampled_from(CHANNELS)),
        st.tuples(st.sampled_from(["cut", "turn", "name", "leave"]), st.sampled_from(CHANNELS)),
    ),
    max_size=60,
)


class Reader:
    """A client that keeps what it was told, and resumes from it."""

    def __init__(self, node: SmallNode, pattern: str, room: int) -> None:
        self.node, self.pattern, self.room = node, pattern, room
        self.places: dict[str, Position] | None = None
        self.epochs: dict[str, str] = {}
        self.wanted: dict[int, int] = {}
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
            for name, at in before.items():
                assert begun[name] == at
            if self.places is not None:
                # What was not known has come since.
                assert all(at.offset == 0 for name, at in begun.items() if name not in before)
            self.places = begun
        elif op == "reply" and "position" in push.get("ok", {}):
            # Subscribed by name, before or after the pattern brought it.
            assert self.places is not None
            self.places.setdefault(push["ok"]["channel"], Position.parse(push["ok"]["position"]))
        elif op == "subscribed":
            at = Position.parse(push["position"])
            assert self.places is not None
            assert self.places.setdefault(channel, at) == at
        elif op in {"message", "gap"}:
            assert self.places is not None
            assert matches(self.pattern, channel)
            place = self.places[channel]
            first, last = (push["offset"],) * 2 if op == "message" else (push["from"], push["to"])
            assert first == place.offset + 1, push
            self.places[channel] = Position(place.epoch, last)

    def check(self, begun_at: dict[str, int]) -> None:
        """It has come as far as every channel that matches."""
        self.read()
        assert self.places is not None
        for name in self.node.memory.names():
            held = self.node.memory.held(name)
            assert held is not None
            if matches(self.pattern, name) and held[0].offset > begun_at.get(name, 0):
                assert self.places[name] == held[0]


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
    reader = Reader(node, pattern, room)
    for number, (action, channel) in enumerate(actions, 1):
        if action == "publish":
            node.publish(channel)
        elif action == "cut":
            reader.cut()
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
    begun_at = {name: before.count(name) for name in before}
    reader.check(begun_at)
