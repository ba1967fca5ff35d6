"""Peers that come back from nothing but what the hub told them last, for the node's models.

A plain `EventSource` is one: it repeats its URL with the last event id. `GuestRules` are what
may happen to them; a model adds them to its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hub.core.commands import Subscribe
from hub.core.identity import Identity
from hub.core.ports import Dialect
from hub.core.publication import Position
from hub.core.session.session import Session
from hub.wire.sse import SseDialect
from tests.core.examples import SEVERAL
from tests.core.fakes import ENDLESS, FakeLink
from tests.core.small_node import SmallNode
from tests.core.streams import ResumingChecker, Truth, read_sse

ANYBODY = Identity(subscribe=("*",))
GUESTS = 2
SOME_GUEST = st.integers(0, GUESTS - 1)


@dataclass
class Guest:
    """An `EventSource`: its URL, and the connection of the moment."""

    channels: Sequence[str]
    last: int | None
    fill: bool
    checker: ResumingChecker
    session: Session
    link: FakeLink
    was_short: bool = False

    def read(self) -> None:
        self.was_short |= self.link.was_short
        self.checker.feed(self.link.received, was_short=self.was_short)


class GuestRules(RuleBasedStateMachine):
    """One guest in all channels of an example, and one in the first alone."""

    node: SmallNode
    truth: Truth
    guests: list[Guest]

    def invite(self, names: Sequence[str]) -> None:
        everything = tuple(dict.fromkeys(names))
        self.guests = [
            self._invited(everything, last=None, fill=False),
            self._invited(everything[:1], last=3, fill=True),
        ]

    def _invited(self, channels: Sequence[str], *, last: int | None, fill: bool) -> Guest:
        checker = ResumingChecker(self.truth, read_sse)
        session, link = self._opened(channels, last, checker, fill=fill)
        return Guest(channels, last, fill, checker, session, link)

    def _opened(
        self, channels: Sequence[str], last: int | None, checker: ResumingChecker, *, fill: bool
    ) -> tuple[Session, FakeLink]:
        """Opens a session by the URL of the first connection and the last event id."""
        checker.connects(channels)
        asked: list[Subscribe] = []
        for name in channels:
            known = checker.places.get(name)
            since = None if known is None else Position.parse(known)
            asked.append(Subscribe(None, name, since, last, fill, in_url=True))
        dialect: Dialect = SEVERAL if len(channels) > 1 else SseDialect(SEVERAL)
        return self.node.open(
            dialect=dialect, identity=ANYBODY, transport="sse", subscriptions=asked
        )

    def come_back(self, guest: Guest) -> None:
        guest.read()
        guest.session.lost(1006, "cut")
        guest.link.abort()
        guest.session, guest.link = self._opened(
            guest.channels, guest.last, guest.checker, fill=guest.fill
        )

    # -- what may happen -----------------------------------------------------------------------

    @rule(guest=SOME_GUEST)
    def guest_is_cut(self, guest: int) -> None:
        """The guest's connection is cut, perhaps in the middle of a frame, and it comes back."""
        self.come_back(self.guests[guest])

    @rule(guest=SOME_GUEST, takes=st.sampled_from((0, 60, ENDLESS)))
    def guest_is_sent_away(self, guest: int, takes: int) -> None:
        """The guest gets `takes` more bytes, of a goodbye among them, and comes back."""
        away = self.guests[guest]
        away.session.close(1012, "draining", 1000)
        away.link.drain(takes)
        self.come_back(away)

    @rule(guest=SOME_GUEST, room=st.sampled_from((0, 1, 60, 400)))
    def guest_gets_slow(self, guest: int, room: int) -> None:
        self.guests[guest].link.room = room

    @rule(guest=SOME_GUEST, size=st.sampled_from((1, 50, 150, 500, ENDLESS)))
    def guest_takes_more(self, guest: int, size: int) -> None:
        self.guests[guest].link.drain(size)

    # -- what has to hold ----------------------------------------------------------------------

    @invariant()
    def guests_are_told_no_place_ahead_of_what_they_got(self) -> None:
        for guest in getattr(self, "guests", ()):
            guest.read()

    def guests_come_through(self) -> None:
        """At the end each guest reaches the head, and has got everything or
        been told what is missing."""
        for _ in range(4):
            for guest in self.guests:
                guest.link.drain()
                if guest.session.closing:
                    # Also of late: who came back before it may have been more than memory bears.
                    self.come_back(guest)
                    guest.link.room = ENDLESS
            self.node.loop.settle()
        self.node.loop.settle()
        for guest in self.guests:
            guest.read()
            assert not guest.checker.cut
            assert guest.checker.followed.keys() == guest.session.subscriptions.keys()
            for name, subscription in guest.session.subscriptions.items():
                guest.checker.finished(name, subscription.channel.offset)
            assert guest.checker.places.keys() == set(guest.channels)
            told = {name: str(at) for name, at in guest.session.resume_from().items()}
            assert guest.checker.places == told, "what it was told last is not all it has got"
