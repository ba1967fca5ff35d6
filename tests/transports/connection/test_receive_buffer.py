"""Bytes between a transport and its reader, on parts that only note."""

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hub.core.time.deadlines import Deadlines
from hub.transports.connection.application import ApplicationCall
from hub.transports.connection.arrivals import Arrivals
from hub.transports.connection.context import ConnectionContext
from hub.transports.connection.outgoing import AnswerWriter
from hub.transports.connection.phase import Phase
from hub.transports.connection.reader import RequestReader
from hub.transports.connection.receive_buffer import ReceiveBuffer
from hub.transports.connection.requests import Requests
from hub.transports.connection.states import PIECE_BYTES, HttpState
from hub.transports.http.bodies import BodyBudget
from hub.transports.http.dispatch import Call
from hub.transports.request import Request
from hub.transports.turns import PIECE_SECONDS
from tests.core.fakes import FakeClock


@dataclass
class Sides:
    """The requests and the reader of a connection: `waits_after` bytes a request waits."""

    waits_after: int | None = None
    seconds_for_a_piece: float = 0
    clock: FakeClock = field(default_factory=FakeClock)
    fed: list[bytes] = field(default_factory=list)
    queue: list[Call] = field(default_factory=list)
    rest: bytes | None = None
    closing: bool = False
    reading: Call | None = None
    answering: Call | None = None
    hurried: int = 0

    def feed(self, data: bytes) -> None:
        self.fed.append(data)
        self.clock.advance(self.seconds_for_a_piece)
        if self.waits_after is not None and sum(map(len, self.fed)) >= self.waits_after:
            self.answering = Call(Request())

    def hurry(self) -> None:
        self.hurried += 1


class NotingTransport:
    """Says whether it reads, and hands bytes to a stream."""

    def __init__(self) -> None:
        self.paused = self.closing = False
        self.to_stream = b""

    def pause_reading(self) -> None:
        assert not self.paused
        self.paused = True

    def resume_reading(self) -> None:
        assert self.paused
        self.paused = False

    def is_closing(self) -> bool:
        return self.closing

    def get_protocol(self) -> Any:
        return self

    def data_received(self, data: bytes) -> None:
        self.to_stream += data


class Rig:
    """A buffer and its connection's parts."""

    def __init__(self, **sides: Any) -> None:
        self.sides = Sides(**sides)
        clock = self.sides.clock
        deadlines = Deadlines(clock())
        self.transport = NotingTransport()
        self.outgoing = SimpleNamespace(blocked=False, aborted=False)
        self.outgoing.abort = lambda: setattr(self.outgoing, "aborted", True)
        self.budget = BodyBudget(100_000)
        self.phase = Phase(Arrivals(deadlines, clock, 10), deadlines, clock, lambda: None)
        turns = SimpleNamespace(clock=clock)
        self.buffer = ReceiveBuffer(
            cast("ConnectionContext", SimpleNamespace(turns=turns, budget=self.budget)),
            cast("asyncio.Transport", self.transport),
            cast("RequestReader", self.sides),
            cast("Requests", self.sides),
            cast("AnswerWriter", self.outgoing),
            self.phase,
        )

    def be(self, state: HttpState) -> None:
        self.phase.enter(state, (), None)


def test_bytes_that_nothing_waits_for_are_parsed_in_pieces() -> None:
    rig = Rig()
    rig.buffer.parse(b"x" * (2 * PIECE_BYTES + 1))
    assert [len(piece) for piece in rig.sides.fed] == [PIECE_BYTES, PIECE_BYTES, 1]
    assert (rig.buffer.held, rig.buffer.awaits_turn) == (b"", False)


def test_bytes_behind_a_request_that_waits_are_held_and_counted() -> None:
    rig = Rig(waits_after=PIECE_BYTES)
    rig.buffer.parse(b"x" * (3 * PIECE_BYTES))
    assert len(rig.sides.fed) == 1
    assert (len(rig.buffer.held), rig.buffer.awaits_turn) == (2 * PIECE_BYTES, False)
    assert rig.budget.unparsed_bytes == 2 * PIECE_BYTES
    assert len(rig.buffer.take()) == 2 * PIECE_BYTES
    assert (rig.buffer.held, rig.budget.unparsed_bytes) == (b"", 0)


def test_a_parse_that_takes_too_long_has_another_turn() -> None:
    """Nothing is parsed before that turn, whatever comes meanwhile."""
    rig = Rig(seconds_for_a_piece=PIECE_SECONDS)
    rig.buffer.parse(b"x" * (2 * PIECE_BYTES))
    assert (len(rig.sides.fed), len(rig.buffer.held)) == (1, PIECE_BYTES)
    assert rig.buffer.awaits_turn
    assert not rig.buffer.may_parse()
    rig.buffer.awaits_turn = False
    assert rig.buffer.may_parse()


@pytest.mark.parametrize(
    "in_the_way",
    [
        {"queue": [Call(Request())]},
        {"closing": True},
        {"rest": b""},
        {"answering": Call(Request())},
    ],
)
def test_nothing_is_parsed_while_something_is_in_the_way(in_the_way: dict[str, Any]) -> None:
    assert Rig().buffer.may_parse()
    assert not Rig(**in_the_way).buffer.may_parse()
    blocked = Rig()
    blocked.outgoing.blocked = True
    assert not blocked.buffer.may_parse()


class Uploading(ApplicationCall):
    """An application's request whose body is on its way."""

    is_full = False

    def __init__(self, *, is_full: bool) -> None:
        Call.__init__(self, Request())
        self.is_full = is_full


@pytest.mark.parametrize("is_full", [False, True])
def test_an_applications_body_is_parsed_while_it_has_room(*, is_full: bool) -> None:
    upload = Uploading(is_full=is_full)
    rig = Rig(reading=upload, answering=upload)
    assert rig.buffer.may_parse() is not is_full
    rig.be(HttpState.APPLICATION)
    rig.buffer.choose_reading()
    assert rig.transport.paused is is_full
    behind = Rig(reading=Call(Request()), answering=upload)
    assert not behind.buffer.may_parse()


def test_behind_a_stream_bytes_are_its_own() -> None:
    rig = Rig(waits_after=PIECE_BYTES)
    feed = rig.sides.feed

    def takes_over(data: bytes) -> None:
        feed(data)
        rig.phase.leave()

    rig.sides.feed = takes_over  # type: ignore[method-assign]
    rig.buffer.parse(b"x" * PIECE_BYTES + b"frames")
    assert (rig.transport.to_stream, rig.buffer.held) == (b"frames", b"")


@pytest.mark.parametrize(("size", "paused"), [(64 * 1024, False), (64 * 1024 + 1, True)])
def test_held_bytes_are_bounded_and_then_none_is_read(size: int, *, paused: bool) -> None:
    rig = Rig(answering=Call(Request()))
    rig.be(HttpState.ANSWERING)
    rig.buffer.hold(b"x" * size)
    rig.buffer.choose_reading()
    assert (rig.transport.paused, rig.buffer.paused) == (paused, paused)
    # An end of the peer would not be seen: what waits for it alone is answered.
    assert bool(rig.sides.hurried) is paused
    rig.buffer.hold(b"")
    rig.buffer.choose_reading()
    assert not rig.transport.paused


def test_nothing_is_read_while_the_peer_takes_no_answer() -> None:
    rig = Rig()
    rig.be(HttpState.WRITING)
    rig.buffer.choose_reading()
    assert rig.transport.paused
    rig.transport.closing = True
    rig.be(HttpState.BETWEEN)
    rig.buffer.choose_reading()
    assert rig.transport.paused  # a transport that closes is not asked to read
    assert not rig.buffer.paused


def test_bytes_behind_the_last_answer_are_thrown_away_up_to_a_bound() -> None:
    rig = Rig()
    rig.buffer.discard(b"x" * (16 * 1024 * 1024))
    assert not rig.transport.paused
    rig.buffer.discard(b"x")
    assert rig.transport.paused
    rig.buffer.discard(b"x")
    rig.buffer.resume()
    rig.buffer.resume()
    assert not rig.transport.paused


def test_the_connection_that_holds_longest_ends_where_all_hold_too_much() -> None:
    rig = Rig()
    rig.buffer.hold(b"x" * 60_000)
    other = Rig()
    rig.budget.hold_unparsed(other.buffer, 60_000)
    assert (rig.outgoing.aborted, other.outgoing.aborted) == (True, False)
