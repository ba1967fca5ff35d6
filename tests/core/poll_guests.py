"""Peers that poll, for the node's models: all they keep is the `positions` of their last answer.

One follows the protocol to the letter and begins each poll anew; one says all it knows, also the
name of its session; one keeps to its session. Answers get lost, and peers go away while they wait.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hub.core.commands import PollRequest
from hub.core.identity import Identity
from hub.core.publication import Position
from hub.errors import NotFoundError
from hub.transports.poll_sessions import Polling, PollSessions
from tests.core.small_node import SmallNode
from tests.core.streams import StreamChecker, Truth, read_lines
from tests.support.stream import Push

ANYBODY = Identity(subscribe=("*",))
POLLERS = 3
SOME_POLLER = st.integers(0, POLLERS - 1)
# A small answer, so that channels have to take turns.
MAX_BYTES = 400


def poll_sessions(node: SmallNode, **more: Any) -> PollSessions:
    """Return the polling sessions of `node`; `more` are further arguments of theirs."""
    return PollSessions(
        registry=node.registry,
        deadlines=node.deadlines,
        clock=node.clock,
        outbox_budget=node.outbox_budget,
        **more,
    )


class PollChecker(StreamChecker):
    """Follows what a peer was answered: pushes, and positions exactly as far as they go."""

    def __init__(self, truth: Truth, channels: Sequence[str]) -> None:
        super().__init__(truth, read_lines)
        self._channels = channels
        self.positions: dict[str, str] = {}

    def answered(
        self, pushes: Sequence[Push], positions: dict[str, str], starts: Mapping[str, Position]
    ) -> None:
        """An answer has come. `starts` is where a channel started of which nothing was known."""
        for name, start in starts.items():
            self.followed.setdefault(name, self.follow(name, f"{start.epoch}:{start.offset}"))
        for push in pushes:
            self._take(push)
        expected = {n: f"{place.epoch}:{place.cursor}" for n, place in self.followed.items()}
        assert positions == expected, "positions go exactly as far as the pushes"
        if positions:
            assert positions.keys() == set(self._channels)
            self.positions = positions

    def _take(self, push: Push) -> None:
        if push["op"] in {"goodbye", "join", "leave", "presence_reset"}:
            return
        name = str(push["channel"])
        place = self.followed[name]
        if push["op"] != "subscribed":
            self._ordered(name, place, push, was_short=True)
        elif push["recovered"]:
            assert push["position"] == f"{place.epoch}:{place.cursor}", push


@dataclass
class Poller:
    """The state of a polling peer, and the poll that it waits for."""

    channels: Sequence[str]
    says_connection: bool
    keeps_session: bool
    checker: PollChecker
    welcome: dict[str, str] = field(default_factory=dict)
    waits: Polling | None = None


class PollerRules(RuleBasedStateMachine):
    """The steps that a model can take with polling peers."""

    node: SmallNode
    truth: Truth
    pollers: list[Poller]
    strays: list[Polling]
    """Polls whose peer has sent them again: nobody reads their answers."""

    def expect_polls(self, names: Sequence[str]) -> None:
        self.polls = poll_sessions(self.node, choose=lambda count: count - 1)
        self.strays = []
        channels = tuple(dict.fromkeys(names))
        self.pollers = [
            Poller(channels, connection, session, PollChecker(self.truth, channels))
            for connection, session in ((False, False), (True, False), (True, True))
        ]

    def ask(self, poller: Poller) -> None:
        """Begin a poll from nothing but what was answered last."""
        known = poller.checker.positions
        request = PollRequest(
            channels=tuple(poller.channels),
            since={name: Position.parse(text) for name, text in known.items()},
            last=None,
            wait_seconds=0,
            fill=True,
            connection=poller.welcome.get("connection"),
            secret=poller.welcome.get("secret"),
            session=poller.keeps_session,
            identity=ANYBODY,
            address="192.0.2.2",
            user_agent="poller",
            max_bytes=MAX_BYTES,
        )
        before, poller.waits = poller.waits, None
        if before is not None:
            self.strays.append(before)
        try:
            poller.waits = self.polls.begin(request)
        except NotFoundError:
            poller.welcome = {}

    def serve(self, poller: Poller, *, arrives: bool) -> None:
        """Answer it as soon as it can be, whether or not the answer gets there."""
        polling = poller.waits
        if polling is None or (polling.session.places.unstarted and not polling.link.ended):
            return
        poller.waits = None
        raw = json.loads(self.polls.answer(polling))
        if not arrives:
            return
        poller.welcome = raw["welcome"] if poller.says_connection else {}
        places = polling.session.places.items()
        starts = {name: place for name, place in places if isinstance(place, Position)}
        poller.checker.answered(raw["pushes"], raw["positions"], starts)

    def take(self, poller: Poller) -> None:
        """Takes what the channels have, as a waiting poll does once they have started."""
        polling = poller.waits
        if polling is not None and not polling.session.places.unstarted and not polling.link.taking:
            polling.link.begin(MAX_BYTES)

    # -- what may happen -----------------------------------------------------------------------

    @rule(poller=SOME_POLLER)
    def poller_asks(self, poller: int) -> None:
        """A peer asks, also once more while its poll waits: a browser sends it again, and the
        first is never answered."""
        self.ask(self.pollers[poller])

    @rule(poller=SOME_POLLER)
    def poller_takes(self, poller: int) -> None:
        self.take(self.pollers[poller])

    @rule(poller=SOME_POLLER, arrives=st.booleans())
    def poller_is_answered(self, poller: int, arrives: bool) -> None:
        self.serve(self.pollers[poller], arrives=arrives)

    @rule(poller=SOME_POLLER)
    def poller_goes_away(self, poller: int) -> None:
        away = self.pollers[poller]
        if away.waits is not None:
            self.polls.abandon(away.waits)
            away.waits = None

    @rule()
    def strays_go_away(self) -> None:
        while self.strays:
            self.polls.abandon(self.strays.pop())

    @rule(poller=SOME_POLLER)
    def poller_is_sent_away(self, poller: int) -> None:
        away = self.pollers[poller]
        if away.waits is not None:
            away.waits.session.close(1012, "draining", 1000)

    @rule(poller=SOME_POLLER)
    def poller_polls(self, poller: int) -> None:
        """The common case: it asks, and gets its answer."""
        self.round(self.pollers[poller])

    # -- what has to hold ----------------------------------------------------------------------

    @invariant()
    def bytes_that_polls_hold_are_counted(self) -> None:
        """No poll that was answered or went away leaves anything behind in the budget."""
        waiting = [poller.waits for poller in self.pollers if poller.waits is not None]
        known = {*self.polls._polling.values(), *self.strays, *waiting}
        held = sum(polling.link._polled_bytes for polling in known)
        budget = self.node.outbox_budget
        assert budget.polled_bytes == held <= budget.max_bytes

    def round(self, poller: Poller) -> None:
        self.ask(poller)
        self.node.loop.settle()
        self.take(poller)
        self.node.loop.settle()
        self.serve(poller, arrives=True)

    def pollers_come_through(self) -> None:
        """At the end each peer reaches the head, in as many polls as it takes answers."""
        for poller in self.pollers:
            for _ in range(60):
                self.round(poller)
                self.node.loop.settle()
                if self._is_through(poller):
                    break
            for name in poller.channels:
                poller.checker.finished(name, self._head(name).offset)
            assert self._is_through(poller), poller.checker.positions
        self.strays_go_away()
        self.node.wait(1000)
        assert self.polls.resting == 0

    def _is_through(self, poller: Poller) -> bool:
        heads = {name: str(self._head(name)) for name in poller.channels}
        return poller.checker.positions == heads

    def _head(self, name: str) -> Position:
        held = self.node.memory.held(name)
        assert held is not None
        return held[0]
