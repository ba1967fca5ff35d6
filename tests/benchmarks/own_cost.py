"""The instructions of the hub's own code, where the kernel takes most of the time.

    uv run python -m tests.benchmarks.own_cost
    uv run python -m tests.benchmarks.own_cost CHECKOUT

The second form measures another checkout. Three figures, each without the kernel's part:

- a publication to 10 members of one of 200 channels, alone in a read: command, reply, ten writes;
- a publication of a busy publisher to 10 members of one channel, of 18 in a read;
- a heartbeat of an idle WebSocket, with its pong.

Clock and loop are fakes, and writes go to a null device. So the figures are the same on a busy
machine. `tests.benchmarks.record_cost` says how they are counted. It takes some 40 s of CPU.
"""

import asyncio
import itertools
import os
import sys
from collections.abc import Sequence
from typing import cast

from hub.bench.greetings import payload, publish_frame
from hub.core.commands import Subscribe
from hub.transports.stream import write_each
from hub.transports.turns import Turns
from hub.transports.websocket import WebSocketConnection
from hub.transports.websocket_options import WebSocketOptions
from hub.wire.websocket import WebSocketDialect
from tests.benchmarks.entry_cost import TakingTransport
from tests.benchmarks.record_cost import TakingLink, instructions
from tests.core.small_node import ANYTHING, Shape, SmallNode

MEMBERS, CHANNELS, READ = 10, 200, 18
READS_PER_SECOND = 5000
IDLE, HEARTBEAT_SECONDS, SLOTS = 1000, 25.0, 125
_MODULE = "tests.benchmarks.own_cost"
PONG = b"\x8a\x88" + bytes(12)
ROUNDS = {"channels": 1000, "busy": 100, "heartbeat": 2}
"""The rounds of a shorter run, by mode; a longer one has three times as many."""
PIECES = {"channels": 1, "busy": READ, "heartbeat": IDLE}
"""The publications or heartbeats in a round."""


class PlainTransport(TakingTransport):
    """A transport whose socket may be written to, which is the null device."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor

    def get_extra_info(self, name: str) -> object:
        return self if name == "socket" else None

    def fileno(self) -> int:
        return self._descriptor


class Own:
    """One node with its peers."""

    def __init__(self) -> None:
        node = self.node = SmallNode(Shape(max_connections=10_000), write_each)
        self._null = os.open(os.devnull, os.O_WRONLY)
        self._dialect = WebSocketDialect()
        self._options = WebSocketOptions(
            registry=node.registry,
            heartbeats=node.heartbeats,
            deadlines=node.deadlines,
            turns=Turns(node.clock),
            max_message_bytes=65536,
            message_timeout_seconds=30,
        )

    def connect(self) -> WebSocketConnection:
        transport = cast("asyncio.Transport", PlainTransport(self._null))
        connection = WebSocketConnection(
            transport, self._options, deflate=False, address="192.0.2.1", user_agent=""
        )
        self.node.registry.open(connection, self._dialect, ANYTHING)
        return connection

    def publish(self, rounds: int, *, channels: int, of_a_read: int) -> None:
        """Send reads with so many publications, whose channels take turns."""
        node = self.node
        for number in range(channels):
            session, link = node.open(dialect=self._dialect)
            session.link, link.session = TakingLink(node.loop.defer, self._null), None
            for place in range(MEMBERS):
                channel = f"c-{(number + place) % channels}"
                if channel not in session.subscriptions:
                    node.commands.submit(session, Subscribe(place, channel))
        publisher, numbers = self.connect(), itertools.count()
        node.loop.settle()
        for _ in range(rounds):
            frames = [
                publish_frame(number, f"c-{number % channels}", payload(number, 200))
                for number in itertools.islice(numbers, of_a_read)
            ]
            node.clock.advance(1 / READS_PER_SECOND)
            publisher.data_received(b"".join(frames))
            node.loop.turn()

    def beat(self, rounds: int) -> None:
        """Let idle connections live for so many heartbeats, and answer each ping at once."""
        clock, heartbeats = self.node.clock, self.node.heartbeats
        by_slot: dict[int, list[WebSocketConnection]] = {}
        for _ in range(IDLE):
            peer = self.connect()
            assert peer.session is not None
            by_slot.setdefault(peer.session.beat_slot, []).append(peer)
        seconds = HEARTBEAT_SECONDS / SLOTS
        turned = int(clock() / seconds)
        for _ in range(2 * rounds * SLOTS):
            # Ticks come twice as often as slots.
            clock.advance(seconds / 2)
            heartbeats.tick()
            before, turned = turned, int(clock() / seconds)
            for turn in range(before + 1, turned + 1):
                for peer in by_slot.get(turn % SLOTS, ()):
                    peer.data_received(PONG)


def run(mode: str, rounds: int) -> None:
    own = Own()
    if mode == "heartbeat":
        own.beat(rounds)
    else:
        busy = mode == "busy"
        own.publish(rounds, channels=1 if busy else CHANNELS, of_a_read=PIECES[mode])


def main(arguments: Sequence[str]) -> None:
    checkout = arguments[0] if arguments else "."
    for mode, rounds in ROUNDS.items():
        counted = instructions(_MODULE, checkout, (mode,), (rounds, 3 * rounds))
        each = (counted[mode, 3 * rounds] - counted[mode, rounds]) / (2 * rounds * PIECES[mode])
        print(f"{mode:10} {each:10,.0f} instructions")


if __name__ == "__main__":
    main(sys.argv[1:])
