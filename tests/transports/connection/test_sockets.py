"""How many sockets a node holds, and what answers that nobody takes may cost together."""

from types import SimpleNamespace
from typing import Any

from hub.auth.proxies import TrustedProxies
from hub.core.counters import Counters, Counts
from hub.core.limits import Limiter, PeerLimits
from hub.transports.connection.sockets import Sockets

PEER, PROXY = "203.0.113.9", "10.0.0.7"


class FakeConnection:
    """One that is given up, or not."""

    def __init__(self, sockets: Sockets) -> None:
        self._sockets = sockets
        self.aborted = False

    def abort(self) -> None:
        """As a connection does: it lets go of what was counted for it."""
        self.aborted = True
        self._sockets.release(self)  # type: ignore[arg-type] # stands for a connection


def make(
    *, sessions: int = 0, polls: int = 0, leaving: int = 0, of_one: int = 0, per_address: int = 0
) -> Sockets:
    limits = PeerLimits(address_connections=per_address)
    registry: Any = SimpleNamespace(
        sessions=range(sessions),
        by_transport={"poll": polls},
        leaving=range(leaving),
        by_address=Counts({PEER: of_one}),
        limiter=Limiter(limits, lambda: 0.0, Counters()),
    )
    proxies = TrustedProxies([PROXY])
    return Sockets(registry, max_connections=10, max_unsent_bytes=100, proxies=proxies)


def arrive(sockets: Sockets, address: str, count: int) -> list[str | None]:
    """Opens `count` connections of one address, and returns the code with which
    each is refused, or None."""
    codes = []
    for each in held(sockets, *[0] * count):
        sockets.enter(each, address)
        error = sockets.refusal(address)
        codes.append(None if error is None else error.code)
    return codes


def held(sockets: Sockets, *unsent: int) -> list[Any]:
    """Connections whose peers do not take so many bytes."""
    connections: list[Any] = [FakeConnection(sockets) for _ in unsent]
    for connection, count in zip(connections, unsent, strict=True):
        sockets.hold(connection, count)
    return connections


def test_every_kind_of_socket_counts_and_a_polling_session_has_none() -> None:
    sockets = make(sessions=5, polls=2, leaving=1)
    sockets.enter(held(sockets, 0)[0], PEER)
    assert sockets.count() == 1 + (5 - 2) + 1


def test_the_bound_holds_exactly_and_a_reserve_is_there_to_say_so() -> None:
    assert make(sessions=10).refusal(PEER) is None
    assert make(sessions=11).refusal(PEER) is not None
    assert not make(sessions=10 + 128).is_overrun(PEER)
    assert make(sessions=11 + 128).is_overrun(PEER)


def test_an_address_may_have_so_many_connections_and_its_sessions_count() -> None:
    sockets = make(of_one=2, per_address=4)
    assert arrive(sockets, PEER, 3) == [None, None, "rate_limited"]
    assert arrive(sockets, "198.51.100.1", 1) == [None]
    sockets.leave(next(iter(sockets.http)))
    sockets.leave(next(iter(sockets.http)))
    assert arrive(sockets, PEER, 1) == [None]


def test_an_address_far_above_its_bound_is_not_even_answered() -> None:
    sockets = make(per_address=1)
    arrive(sockets, PEER, 18)
    assert not sockets.is_overrun(PEER)
    arrive(sockets, PEER, 1)
    assert sockets.is_overrun(PEER)
    assert not sockets.is_overrun("198.51.100.1")


def test_a_trusted_proxy_is_no_client_with_too_many() -> None:
    assert arrive(make(per_address=1), PROXY, 8) == [None] * 8


def test_answers_up_to_the_bound_are_held() -> None:
    sockets = make()
    connections = held(sockets, 60, 40)
    assert sockets.unsent_bytes == 100
    assert [each.aborted for each in connections] == [False, False]


def test_above_it_those_that_wait_longest_are_given_up() -> None:
    """As many as have to be, and none more."""
    sockets = make()
    connections = held(sockets, 30, 30, 30, 50)
    assert [each.aborted for each in connections] == [True, True, False, False]
    assert sockets.unsent_bytes == 80


def test_a_single_answer_may_be_above_the_bound() -> None:
    """A single answer has a bound of its own."""
    sockets = make()
    (connection,) = held(sockets, 500)
    assert not connection.aborted
    assert sockets.unsent_bytes == 500


def test_an_answer_that_is_held_again_counts_once_and_waits_from_now_on() -> None:
    sockets = make()
    first, second = held(sockets, 40, 40)
    sockets.hold(first, 20)
    assert sockets.unsent_bytes == 60
    held(sockets, 50)
    assert (first.aborted, second.aborted) == (False, True)


def test_bytes_that_were_taken_count_no_more_however_often_that_is_said() -> None:
    sockets = make()
    first, _ = held(sockets, 40, 40)
    sockets.release(first)
    sockets.release(first)
    assert sockets.unsent_bytes == 40
