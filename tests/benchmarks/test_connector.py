"""Connections of the load: how they begin, and how a refusal is told."""

import select
import socket
import time
from collections.abc import Iterator

import pytest

from hub.bench.connector import SubscriberDialer
from hub.bench.greetings import pong_frame
from hub.bench.plan import Contestant, ReadJob, ServerAddress
from hub.bench.tap import Basin, Tap

SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
SUBSCRIBED = b'\x81\x13{"op":"subscribed"}'


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.settimeout(10)
        yield made


class Dialling:
    """A connector that dials once, turned until it is done."""

    def __init__(self, listener: socket.socket) -> None:
        port = listener.getsockname()[1]
        self.connected: list[Tap] = []
        self.failed: list[str] = []
        self._basin = Basin()
        self._epoll = select.epoll()
        self._connector = SubscriberDialer(
            ReadJob(
                ServerAddress("127.0.0.1", port), Contestant.WEBSOCKET, "c", 1, in_flight=1, slot=0
            ),
            self._epoll,
            connected=self.connected.append,
            failed=self.failed.append,
        )
        self._connector.dial()

    def turn_until(self, *, done: bool) -> None:
        """One turn, or as many as it takes."""
        deadline = time.monotonic() + 10
        while not self._connector.done and time.monotonic() < deadline:
            for fileno, events in self._epoll.poll(0.1):
                self._connector.on_event(fileno, events, self._basin)
            if not done:
                return

    def close(self) -> None:
        for tap in self.connected:
            tap.sock.close()
        self._epoll.close()


def greet(listener: socket.socket, answer: bytes) -> tuple[Dialling, socket.socket]:
    """Let a connector dial, answer its request with these bytes at once."""
    dialling = Dialling(listener)
    peer, _ = listener.accept()
    peer.settimeout(10)
    dialling.turn_until(done=False)
    assert peer.recv(4096).startswith(b"GET /ws?channel=c HTTP/1.1\r\n")
    peer.sendall(answer)
    dialling.turn_until(done=True)
    return dialling, peer


def test_a_ping_that_comes_with_the_greeting_is_answered(listener: socket.socket) -> None:
    """A hub that spreads its pings may send the first one at once."""
    dialling, peer = greet(listener, SWITCHED + SUBSCRIBED + b"\x89\x04abcd")
    with peer:
        assert len(dialling.connected) == 1
        assert peer.recv(100) == pong_frame(b"abcd")
        assert dialling.connected[0].check.quiet == 0
    dialling.close()


def test_a_refusal_is_told_with_its_status_line(listener: socket.socket) -> None:
    """The first line of the answer is the reason."""
    dialling, peer = greet(listener, b"HTTP/1.1 403 Forbidden\r\n\r\n")
    peer.close()

    assert dialling.connected == []
    assert dialling.failed == ["refused: HTTP/1.1 403 Forbidden"]
    dialling.close()
