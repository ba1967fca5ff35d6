"""The loop is shared by address, and by time."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hub.transports.turns import TASK_SECONDS, TURN_SECONDS, Turns
from tests.core.fakes import FakeClock
from tests.transports.connection.rig import Rig, get, post

FLOOD, MODEST = "192.0.2.7", "198.51.100.9"


async def worked_off(turns: Turns, rig: Rig) -> None:
    while turns:
        await rig.turn()


async def test_an_address_with_one_connection_waits_for_one_of_each_busy_address(rig: Rig) -> None:
    """The modest address does not wait for each connection of an address that has hundreds."""
    turns, done = Turns(FakeClock(100.0)), list[str]()

    def note(name: str) -> Callable[[], None]:
        return lambda: done.append(name)

    for _ in range(200):
        turns.wait(note("flood"), FLOOD)
    turns.wait(note("modest"), MODEST)
    await worked_off(turns, rig)
    assert done.index("modest") == 1
    assert done.count("flood") == 200


async def test_addresses_of_one_network_of_ipv6_share_their_turns(rig: Rig) -> None:
    turns, done = Turns(FakeClock(100.0)), list[str]()
    for host in range(1, 50):
        turns.wait(lambda: done.append("flood"), f"2001:db8::{host:x}")
    turns.wait(lambda: done.append("modest"), "2001:db8:0:1::1")
    await worked_off(turns, rig)
    assert done.index("modest") == 1


def seconds_of_each(addresses: int) -> float:
    """Return the least time that one of so many addresses took to have its turn."""
    turns, took = Turns(FakeClock(100.0)), list[float]()
    for number in range(addresses):
        turns.wait(lambda: None, f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    for _ in range(addresses // 1000):
        began = time.perf_counter()
        for _ in range(1000):
            turns._next()()
        took.append(time.perf_counter() - began)
    return min(took[-3:]) / 1000


async def test_a_turn_costs_the_same_among_few_addresses_and_among_many() -> None:
    """Of 40,000 that ended at once, each looked at all that had had their turns before it."""
    assert seconds_of_each(32_000) < 10 * seconds_of_each(1000)


async def test_reads_of_a_turn_are_bounded_in_time() -> None:
    clock = FakeClock(100.0)
    turns = Turns(clock)
    reads = 0
    while not turns.has_read_enough():
        reads += 1
        clock.advance(TURN_SECONDS / 9.5)
    assert reads == 10
    turns.end_reads()
    assert not turns.has_read_enough()


async def test_a_request_that_goes_on_in_a_task_counts_before_it_has_run() -> None:
    turns = Turns(FakeClock(100.0))
    assert not turns.has_read_enough()
    tasks = 0
    while not turns.has_read_enough():
        tasks += 1
        turns.charge(TASK_SECONDS)
    assert tasks * TASK_SECONDS < TURN_SECONDS + TASK_SECONDS


def read_enough(rig: Rig) -> None:
    """Others have had this turn of the loop."""
    assert not rig.turns.has_read_enough()
    rig.turns.charge(2 * TURN_SECONDS)
    rig.connect()


async def test_a_request_that_comes_in_a_full_turn_is_answered_in_the_next(rig: Rig) -> None:
    read_enough(rig)
    rig.connection.data_received(get("/healthz"))
    rig.connection.data_received(post("a", b"1"))
    assert rig.answers == []
    await rig.settle()
    assert rig.answers == [200, 200]


async def test_a_peer_that_says_no_more_before_its_turn_is_answered(rig: Rig) -> None:
    read_enough(rig)
    rig.connection.data_received(get("/healthz"))
    assert rig.connection.eof_received()
    await rig.settle()
    assert rig.answers == [200]
    assert rig.transport.ended


async def test_a_peer_that_says_no_more_before_its_turn_opens_no_stream(rig: Rig) -> None:
    """As its end would have ended it."""
    read_enough(rig)
    rig.connection.data_received(get("/sse?channel=a"))
    assert rig.connection.eof_received()
    await rig.settle()
    assert not rig.streams.opened
    assert rig.transport.ended
    assert rig.connection not in rig.sockets.http


async def test_a_peer_that_waits_for_its_turn_is_not_told_that_it_is_late(rig: Rig) -> None:
    read_enough(rig)
    rig.connection.data_received(get("/healthz"))
    rig.wait(1000)
    assert not rig.transport.ended
    await rig.settle()
    assert rig.answers == [200]


async def test_a_peer_that_has_gone_before_its_turn_costs_nothing_more(rig: Rig) -> None:
    read_enough(rig)
    rig.connection.data_received(post("a", b"1"))
    rig.connection.connection_lost(None)
    await rig.settle()
    assert rig.published == []
    assert rig.connection not in rig.sockets.http
    assert rig.budget.unparsed_bytes == 0


PROXY = "192.0.2.7"


@pytest.mark.parametrize("known", [True, False], ids=["clients known", "none known"])
async def test_clients_of_one_proxy_do_not_share_one_place(files: Path, known: bool) -> None:
    """A client behind it waits for one read of each other client, or of each connection where
    none is known, and not for all reads of a busy one."""
    rig = Rig(files, proxies=PROXY)
    rig.sockets.many = {PROXY}
    busy, other = "198.51.100.9", "203.0.113.9"
    peers = []
    for client in [busy] * 20 + [other]:
        rig.connect()
        if known:
            # The proxy has named the client on this connection before.
            rig.receive(get("/healthz", f"X-Forwarded-For: {client}\r\n"))
        peers.append(rig.connection)
    rig.turns.end_reads()
    rig.turns.charge(2 * TURN_SECONDS)
    assert not rig.turns.has_read_enough()
    rig.turns.charge(2 * TURN_SECONDS)
    for peer, client in zip(peers, [busy] * 20 + [other], strict=True):
        peer.data_received(get("/healthz", f"X-Forwarded-For: {client}\r\n"))
    assert len(rig.turns) == len(peers)
    assert len(rig.turns._queues) == (2 if known else len(peers))
    turns = [rig.turns._next() for _ in range(len(peers))]
    assert turns.index(peers[-1]._take_turn) == (1 if known else 20)
