"""Measures what it costs a sleeping process to be woken for one message, at several rates.

    uv run python -m tests.benchmarks.paced_wake

The floor under the broker process of workers, and under any process that does little at a time.
Each message is of 300 bytes, and comes long after the one before it was handled. *reads* is a
blocking `recv` and nothing else; *passes on* also sends the message to two sockets; *uvloop* does
that by an event loop. The sender runs on another core. Linux only.
"""

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import uvloop

RATES = (100, 1000, 10_000)
SECONDS = 3.0
MESSAGE = b"x" * 300
RECEIVERS = 2
_START_SECONDS = 0.5


def _reads(source: socket.socket, receivers: list[socket.socket]) -> None:
    while source.recv(4096):
        pass


def _passes_on(source: socket.socket, receivers: list[socket.socket]) -> None:
    while data := source.recv(4096):
        for receiver in receivers:
            receiver.send(data)


class _Relay(asyncio.Protocol):
    """Passes on what it reads."""

    def __init__(self, receivers: list[asyncio.Transport]) -> None:
        self._receivers = receivers

    def data_received(self, data: bytes) -> None:
        for receiver in self._receivers:
            receiver.write(data)


def _by_uvloop(source: socket.socket, receivers: list[socket.socket]) -> None:
    async def run() -> None:
        loop, to = asyncio.get_running_loop(), list[asyncio.Transport]()
        for receiver in receivers:
            made, _ = await loop.create_connection(asyncio.Protocol, sock=receiver)
            to.append(made)
        await loop.create_connection(lambda: _Relay(to), sock=source)
        await loop.create_future()

    uvloop.run(run())


WAYS: Mapping[str, Callable[[socket.socket, list[socket.socket]], None]] = {
    "reads": _reads,
    "passes on": _passes_on,
    "uvloop": _by_uvloop,
}


def _cpu_ns(pid: int) -> int:
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])


def _send(source: socket.socket, receivers: list[socket.socket], rate: int) -> int:
    """Send for `SECONDS`; return how many messages that were."""
    began, count = time.perf_counter(), 0
    while count < rate * SECONDS:
        source.send(MESSAGE)
        count += 1
        if (left := began + count / rate - time.perf_counter()) > 0:
            time.sleep(left)
        for receiver in receivers:
            with contextlib.suppress(BlockingIOError):
                receiver.recv(1 << 16)
    return count


def measure(way: str, rate: int) -> float:
    """Return microseconds of CPU for each message."""
    pairs = [socket.socketpair() for _ in range(1 + RECEIVERS)]
    cores = sorted(os.sched_getaffinity(0))
    if (pid := os.fork()) == 0:
        os.sched_setaffinity(0, cores[:1])
        source, *receivers = [theirs for _, theirs in pairs]
        WAYS[way](source, receivers)
        os._exit(0)
    try:
        source, *receivers = [mine for mine, _ in pairs]
        for receiver in receivers:
            receiver.setblocking(False)
        os.sched_setaffinity(0, cores[1:] or cores)
        time.sleep(_START_SECONDS)
        before = _cpu_ns(pid)
        count = _send(source, receivers, rate)
        return (_cpu_ns(pid) - before) / count / 1000
    finally:
        os.sched_setaffinity(0, cores)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        for pair in pairs:
            for end in pair:
                end.close()


def main() -> None:
    print("messages/s  " + "".join(f"{way:>12}" for way in WAYS) + "   us of CPU each")
    for rate in RATES:
        costs = [measure(way, rate) for way in WAYS]
        print(f"{rate:10}  " + "".join(f"{cost:12.1f}" for cost in costs))


if __name__ == "__main__":
    main()
