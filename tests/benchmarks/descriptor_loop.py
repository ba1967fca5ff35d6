"""The floor under any server in Python that sends each message singly: one write per descriptor.

usage: python descriptor_loop.py SUBSCRIBERS TICKS RATE FRAME_BYTES [PROCESSES]

The same as `send_loop.c`, word for word in what it reads, sends and prints, with an array of
descriptors and `os.write` instead of `send`. What the hub costs beyond it is the hub's own doing,
and what it costs beyond the loop in C is the interpreter's. With PROCESSES the connections are
divided evenly among so many loops, which wake at the same moment, and the CPU seconds are those of
the busiest. Linux.
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


def _run(
    descriptors: "array[int]", ticks: int, rate: float, frame: bytearray, start_ns: int
) -> float:
    """Send all ticks to these connections; return the CPU seconds."""
    cpu = _cpu_seconds()
    for tick in range(ticks):
        if rate:
            due_ns = start_ns + int(tick * 1e9 / rate)
            time.sleep(max(0, due_ns - time.monotonic_ns()) / 1e9)
        _put_digits(frame, _OFFSET, _OFFSET_DIGITS, tick + 1)
        _put_digits(frame, _AT, _AT_DIGITS, time.monotonic_ns())
        _send(descriptors, bytes(frame))
    return _cpu_seconds() - cpu


def main(subscribers: int, ticks: int, rate: float, size: int, processes: int) -> None:
    frame = bytearray(sys.stdin.buffer.read(size))
    peers = _accept(subscribers)
    descriptors = array("i", [peer.fileno() for peer in peers])
    if not sys.stdin.buffer.read(1):
        sys.exit(3)
    start_ns = time.monotonic_ns()
    reading, writing = os.pipe()
    last = processes - 1
    for number in range(last):
        if os.fork() == 0:
            own_share = descriptors[number::processes]
            os.write(writing, b"%.6f\n" % _run(own_share, ticks, rate, frame, start_ns))
            os._exit(0)
    os.close(writing)
    spent = [_run(descriptors[last::processes], ticks, rate, frame, start_ns)]
    with os.fdopen(reading) as told:
        spent += map(float, told)
    print(f"{ticks * subscribers} {max(spent):.6f} {start_ns}", flush=True)
    # Stay until the reader has read everything and closes our input.
    sys.stdin.buffer.read(1)


if __name__ == "__main__":
    count, number_of_ticks, per_second, frame_bytes, *loops = sys.argv[1:]
    all_loops = int(loops[0]) if loops else 1
    main(int(count), int(number_of_ticks), float(per_second), int(frame_bytes), all_loops)
