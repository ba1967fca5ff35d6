"""Measures what connection records and an open dashboard cost in a broadcast, in instructions.

    uv run python -m tests.benchmarks.record_cost
    uv run python -m tests.benchmarks.record_cost CHECKOUT

The second form measures another checkout, as of an earlier commit.

Runs the core's fan-out (1,000 WebSocket sessions that take everything, 200-byte payloads, 100
publications in what stands for a second) under cachegrind: without records, with them, and with
a dashboard open on top: the node's own figures once a second to one subscriber, and a page of
connections every three. A write goes to a file descriptor as the hub's own does, but the
kernel's part of it, most of what a delivery costs, is not counted: so the share is larger here
than it is in a hub. Instructions, because they are the same on a busy machine.

One process loads all modules, which takes most instructions of a run, and forks one child for each
count. So the whole takes some 30 s of CPU.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence

import orjson

from hub.admin.connections import CONNECTIONS
from hub.admin.listing import Query, Selection
from hub.core.commands import Subscribe
from hub.core.node_records import NodeRecord
from hub.core.records import RowSource, plain, session_record
from hub.transports.stream import write_each
from hub.wire.websocket import WebSocketDialect
from tests.core.fakes import FakeLink
from tests.core.small_node import Shape, SmallNode

SESSIONS = 1000
RATE = 100
# As hub/dashboard/table.js asks for them.
PAGE_SECONDS, PAGE_ROWS = 3, 50
START_SECONDS, MEASURED_SECONDS = 1, 3
PAYLOAD = b'"' + b"x" * 198 + b'"'
JOURNAL_BYTES = 64 * 1024 * 1024
MODES = ("nothing", "records", "dashboard")
_TIMEOUT_SECONDS = 600


class TakingLink(FakeLink):
    """Takes everything and keeps nothing, by the call that the hub's own link makes."""

    def __init__(self, defer: Callable[[Callable[[], None]], object], fd: int) -> None:
        super().__init__(defer)
        self._fd = fd

    @property
    def descriptor(self) -> int:
        return self._fd

    def send(self, data: bytes) -> int:
        try:
            return os.write(self._fd, data)
        except BlockingIOError:
            return 0


class Fan:
    """One node and its subscribers."""

    def __init__(self, *, records: bool) -> None:
        self.node = SmallNode(Shape(journal_bytes=JOURNAL_BYTES if records else 0), write_each)
        dialect = WebSocketDialect()
        self._fd = os.open(os.devnull, os.O_WRONLY)
        for _ in range(SESSIONS):
            self._subscribe(dialect, "feed")
        self._subscribe(dialect, "stats")
        self.node.loop.settle()

    def _subscribe(self, dialect: WebSocketDialect, channel: str) -> None:
        node = self.node
        session, link = node.open(dialect=dialect)
        session.link = TakingLink(node.loop.defer, self._fd)
        link.session = None
        node.commands.submit(session, Subscribe(1, channel))

    def second(self, number: int, *, dashboard: bool) -> None:
        for _ in range(RATE):
            self.node.clock.advance(1 / RATE)
            self.node.publish("feed", PAYLOAD)
            self.node.loop.settle()
        if dashboard:
            self._figures(number)
            if number % PAGE_SECONDS == 0:
                self._page()

    def _figures(self, number: int) -> None:
        record = NodeRecord("node", "0", 1, float(number), SESSIONS, 1, 1, 1, 1, draining=False)
        self.node.publish("stats", orjson.dumps(record))
        self.node.loop.settle()

    def _page(self) -> None:
        origin = RowSource("node", self.node.clock, 0.0)
        query = Query(limit=PAGE_ROWS, sort="sent", descending=True)
        selection = Selection(CONNECTIONS, query, origin, count=PAGE_ROWS)
        selection.look_at(self.node.registry.sessions.values())
        part = selection.part(lambda session: session_record(session, origin))
        orjson.dumps([plain(row.record) for row in part.rows])


def run(mode: str, seconds: int) -> None:
    fan = Fan(records=mode != "nothing")
    for number in range(seconds):
        fan.second(number, dashboard=mode == "dashboard")


# For the interpreter that is counted: prints a line for each child, whose number it has there.
_CHILDREN = """
import os
from {module} import run
for mode in {modes}:
    for length in {lengths}:
        if not (child := os.fork()):
            run(mode, length)
            os._exit(0)
        os.waitpid(child, 0)
        print(child, mode, length, flush=True)
"""


def instructions(
    module: str, checkout: str, modes: Sequence[str], lengths: Sequence[int]
) -> dict[tuple[str, int], int]:
    """Return the instructions that `run` of a module takes in that checkout, for each of both."""
    children = _CHILDREN.format(module=module, modes=tuple(modes), lengths=tuple(lengths))
    command = [
        "valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null",
        sys.executable, "-c", children,
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=checkout, capture_output=True, text=True, check=True,
        timeout=_TIMEOUT_SECONDS, env={"PYTHONHASHSEED": "0", "PYTHONPATH": "."},
    )  # fmt: skip
    counted = {
        child: int(count.replace(",", ""))
        for child, count in re.findall(r"==(\d+)== I +refs: +([\d,]+)", done.stderr)
    }
    return {
        (mode, int(length)): counted[child]
        for child, mode, length in map(str.split, done.stdout.splitlines())
    }


def costs(checkout: str, modes: Sequence[str] = MODES) -> dict[str, float]:
    """Return, by mode, the instructions for a delivery in the checkout of that path.

    They are those that a longer run has more than a shorter one: the start is in both.
    """
    short, long = START_SECONDS, START_SECONDS + MEASURED_SECONDS
    found = instructions("tests.benchmarks.record_cost", checkout, modes, (short, long))
    deliveries = MEASURED_SECONDS * RATE * SESSIONS
    return {mode: (found[mode, long] - found[mode, short]) / deliveries for mode in modes}


def main(arguments: Sequence[str]) -> None:
    found = costs(arguments[0] if arguments else ".")
    for mode, each in found.items():
        share = each / found["nothing"] - 1
        print(f"{mode:10} {each:8.1f} instructions/delivery {share:+.2%}")


if __name__ == "__main__":
    main(sys.argv[1:])
