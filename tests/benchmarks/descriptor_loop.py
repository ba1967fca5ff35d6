"""The floor under any server in Python that sends each message singly: one write per descriptor.

usage: python descriptor_loop.py SUBSCRIBERS TICKS RATE FRAME_BYTES

The same as `send_loop.c`, word for word in what it reads, sends and prints, with an array of
descriptors and `os.write` instead of `send`. What the hub costs beyond it is the hub's own doing,
and what it costs beyond the loop in C is the interpreter's. Linux.
"""

import os
import resource
import socket
import sys
import time
from array import array

_OFFSET, _OFFSET_DIGITS = b'"offset":', 12
_AT, _AT_DIGITS = b'"at":"', 19


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _put_digits(frame: bytearray, needle: bytes, digits: int, value: int) -> None:
    at = frame.index(needle) + len(needle)
    frame[at : at + digits] = b"%0*d" % (digits, value)


def _accept(count: int) -> list[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        print(listener.getsockname()[1], flush=True)
        peers = [listener.accept()[0] for _ in range(count)]
    for peer in peers:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return peers


def _finish(descriptor: int, rest: bytes) -> None:
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _send(descriptors: "array[int]", frame: bytes) -> None:
    write, size = os.write, len(frame)
    for descriptor in descriptors:
        if (taken := write(descriptor, frame)) != size:
            _finish(descriptor, frame[taken:])


def main(subscribers: int, ticks: int, rate: float, size: int) -> None:
    frame = bytearray(sys.stdin.buffer.read(size))
    peers = _accept(subscribers)
    descriptors = array("i", [peer.fileno() for peer in peers])
    if not sys.stdin.buffer.read(1):
        sys.exit(3)
    cpu, start_ns = _cpu_seconds(), time.monotonic_ns()
    for tick in range(ticks):
        if rate:
            due_ns = start_ns + int(tick * 1e9 / rate)
            time.sleep(max(0, due_ns - time.monotonic_ns()) / 1e9)
        _put_digits(frame, _OFFSET, _OFFSET_DIGITS, tick + 1)
        _put_digits(frame, _AT, _AT_DIGITS, time.monotonic_ns())
        _send(descriptors, bytes(frame))
    print(f"{ticks * subscribers} {_cpu_seconds() - cpu:.6f} {start_ns}", flush=True)
    # Stay until the reader has read everything and closes our input.
    sys.stdin.buffer.read(1)


if __name__ == "__main__":
    count, number_of_ticks, per_second, frame_bytes = sys.argv[1:]
    main(int(count), int(number_of_ticks), float(per_second), int(frame_bytes))
