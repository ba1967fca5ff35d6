"""One write for each descriptor, on real sockets: full ones, lost ones, and holes."""

import socket
from array import array
from collections.abc import Iterator

import pytest

from hub.core.ports import NO_DESCRIPTOR
from hub.transports.stream import write_each

DATA = b"x" * 200


@pytest.fixture
def pairs() -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    made = [socket.socketpair() for _ in range(4)]
    for ours, _ in made:
        ours.setblocking(False)
    yield made
    for ours, theirs in made:
        ours.close()
        theirs.close()


Pairs = list[tuple[socket.socket, socket.socket]]


def descriptors(pairs: Pairs) -> "array[int]":
    return array("i", [ours.fileno() for ours, _ in pairs])


def fill(ours: socket.socket) -> None:
    """Until the kernel takes nothing more."""
    try:
        while ours.send(bytes(1000)):
            pass
    except BlockingIOError:
        return


def test_each_descriptor_from_the_start_on_gets_it_once(pairs: Pairs) -> None:
    assert write_each(descriptors(pairs), 1, DATA) is None
    for index, (_, theirs) in enumerate(pairs):
        theirs.setblocking(False)
        if index >= 1:
            assert theirs.recv(1000) == DATA
        else:
            with pytest.raises(BlockingIOError):
                theirs.recv(1000)


def test_writing_stops_at_a_descriptor_without_room_and_goes_on_behind_it(pairs: Pairs) -> None:
    found = descriptors(pairs)
    fill(pairs[1][0])
    assert write_each(found, 0, DATA) == (found[1], 0)
    assert write_each(found, 2, DATA) is None
    assert [pairs[n][1].recv(1000) for n in (0, 2, 3)] == [DATA] * 3


def test_writing_stops_at_a_descriptor_that_takes_a_part(pairs: Pairs) -> None:
    found = descriptors(pairs)
    large = bytes(1 << 24)
    short = write_each(found[:1], 0, large)
    assert short is not None
    assert short[0] == found[0]
    assert 0 < short[1] < len(large)


def test_lost_peers_and_holes_swallow_everything(pairs: Pairs) -> None:
    """The others behind them get it."""
    found = descriptors(pairs)
    pairs[0][1].close()
    found[1] = NO_DESCRIPTOR
    assert write_each(found, 0, DATA) is None
    assert [pairs[n][1].recv(1000) for n in (2, 3)] == [DATA] * 2
