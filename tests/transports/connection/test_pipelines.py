"""Requests that are sent behind each other: in order, and never more of them than a turn takes."""

import asyncio
from collections.abc import Callable

import pytest

from hub.transports.connection.states import HELD_BYTES, PIECE_BYTES
from hub.transports.turns import PIECE_SECONDS
from tests.support.frames import UPGRADE
from tests.transports.connection.rig import Rig, get, post


@pytest.fixture
async def slow(make_rig: Callable[..., Rig]) -> Rig:
    """Each look at the clock finds the time of a piece over."""
    rig = make_rig(body_total_bytes=1_000_000)

    def clock() -> float:
        rig.now += PIECE_SECONDS
        return rig.now

    rig.turns.clock = clock
    return rig


def posts(size: int) -> tuple[bytes, list[bytes]]:
    """Publications of `size` bytes together, and what they publish."""
    data = b""
    bodies: list[bytes] = []
    while len(data) < size:
        bodies.append(b"%d" % len(bodies))
        data += post("a", bodies[-1])
    return data, bodies


async def turns(rig: Rig) -> None:
    """Let all that waits have its turns."""
    for _ in range(200):
        await asyncio.sleep(0)
        rig.end_turn()


async def test_a_pipeline_is_worked_off_in_turns_and_in_order(slow: Rig) -> None:
    """The loop does other work between them."""
    data, bodies = posts(5 * PIECE_BYTES)
    slow.receive(data)
    first = len(slow.published)
    assert 0 < first <= len(bodies) // 4
    await asyncio.sleep(0)
    assert first < len(slow.published) < len(bodies)
    await turns(slow)
    assert slow.published == bodies
    assert slow.answers == [200] * len(bodies)
    assert slow.budget.unparsed_bytes == 0
    assert not slow.transport.ended


async def test_a_request_that_comes_meanwhile_is_behind_it(slow: Rig) -> None:
    data, bodies = posts(3 * PIECE_BYTES)
    slow.receive(data)
    slow.receive(post("a", b'"last"'))
    await turns(slow)
    assert slow.published == [*bodies, b'"last"']


async def test_requests_that_wait_for_their_turn_stop_the_reading(slow: Rig) -> None:
    """As soon as it is much; and the reading goes on behind it."""
    data, bodies = posts(HELD_BYTES + 3 * PIECE_BYTES)
    slow.receive(data)
    assert slow.transport.paused
    await turns(slow)
    assert not slow.transport.paused
    assert slow.published == bodies


async def test_a_lost_connection_has_no_more_turns(slow: Rig) -> None:
    slow.receive(posts(5 * PIECE_BYTES)[0])
    published = len(slow.published)
    slow.transport.abort()
    await turns(slow)
    assert len(slow.published) == published
    assert slow.budget.unparsed_bytes == 0


@pytest.mark.parametrize(("rest", "last"), [(b"", 200), (b"GET / HT", 400)])
async def test_a_peer_that_ends_meanwhile_is_answered_whole(
    slow: Rig, rest: bytes, last: int
) -> None:
    data, bodies = posts(5 * PIECE_BYTES)
    slow.receive(data + rest)
    assert slow.connection.eof_received()
    assert not slow.transport.ended
    await turns(slow)
    assert slow.published == bodies
    assert len(slow.answers) == len(bodies) + bool(rest)
    assert slow.answers[-1] == last
    assert slow.transport.ended


async def test_a_peer_that_takes_nothing_has_no_turns_until_it_does(slow: Rig) -> None:
    data, bodies = posts(5 * PIECE_BYTES)
    slow.transport.room = 10
    slow.receive(data)
    published = len(slow.published)
    await turns(slow)
    assert len(slow.published) == published
    slow.transport.drain()
    await turns(slow)
    assert slow.published == bodies
    assert slow.answers == [200] * len(bodies)


async def test_a_refused_body_that_a_turn_cuts_is_no_unread_body(slow: Rig) -> None:
    """The rest of it is here: the connection goes on behind it."""
    one = post("a", b"1" * 150).replace(b"/api/publish/a", b"/nothing")
    slow.receive(one * 200)
    await turns(slow)
    assert slow.answers == [404] * 200
    assert not slow.transport.ended


async def test_a_stop_ends_a_pipeline_with_an_answer(slow: Rig) -> None:
    """The stop does not cut a request in two: the next answer says that it is the last."""
    slow.receive(posts(5 * PIECE_BYTES)[0])
    before = len(slow.answers)
    slow.connection.shut_down()
    await turns(slow)
    assert len(slow.answers) == before + 1
    assert b"connection: close" in slow.transport.written.lower()


async def test_a_stream_behind_a_pipeline_gets_what_is_behind_it(slow: Rig) -> None:
    data, bodies = posts(3 * PIECE_BYTES)
    slow.receive(data + get("/ws", UPGRADE) + b"frames")
    await turns(slow)
    assert slow.published == bodies
    ((_, target, rest),) = slow.streams.opened
    assert (target, rest + slow.transport.to_stream) == (b"/ws", b"frames")


async def test_pipelines_take_turns(slow: Rig) -> None:
    """Another connection's is not behind all of the first one's."""
    data, _ = posts(20 * PIECE_BYTES)
    slow.receive(data)
    slow.connect()
    other = slow.transport
    slow.receive(posts(2 * PIECE_BYTES)[0])
    for _ in range(6):
        await asyncio.sleep(0)
        slow.end_turn()
    assert len(slow.turns) == 1
    assert not other.paused
    assert slow.budget.unparsed_bytes > 10 * PIECE_BYTES
    await turns(slow)
    assert slow.budget.unparsed_bytes == 0
