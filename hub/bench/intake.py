"""The number of publications and connections that one node takes in per second: `hub bench
--intake`.

The node has the first core to itself; its Redis, where it has one, and the load share the others.
Every publication is acknowledged, and each connection waits for its answers before it sends more
(`hub.bench.senders`). There is no subscriber. The floor is a bare httptools loop under the same
load. All ways take turns, and the table shows medians of the rounds.
"""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import TypeVar

import uvloop

from hub.bench import disk
from hub.bench.connects import AT_A_TIME, CONNECTS, Connecting, connect
from hub.bench.cores import Cores, started
from hub.bench.meter import ProcessMeter, Usage
from hub.bench.peers import Peer
from hub.bench.plan import BenchError, Contestant, ServerAddress
from hub.bench.senders import (
    KEY,
    OK,
    Sender,
    array,
    history,
    keyed,
    page_of_the_loop,
    pipelined,
    refused,
    single,
    subscribing,
    to_nchan,
    websocket,
)
from hub.bench.server import (
    NO_SETTINGS,
    SERVE_COMMAND,
    BenchServer,
    CertificateFiles,
    free_port,
    made_certificate,
    own_server,
    redis,
    unverified_context,
)

Make = Callable[[ServerAddress, int], Sender]


@dataclass(frozen=True, slots=True)
class IntakeWay:
    """A way of publishing."""

    name: str
    make: Make
    connections: int
    broker: str = "memory"
    """`memory`, `sqlite` or `redis`; `floor` or `disk` where there is no hub at all, only a bare
    loop on a socket, or on a file; `peer` where it is another server."""
    settings: Mapping[str, str] = field(default_factory=lambda: NO_SETTINGS)
    """Settings of the node, beside the defaults."""
    connecting: Connecting | None = None
    """Whether connections are taken in, not publications."""
    starting: bool = False
    """Whether the process is started, and nothing is sent."""
    tls: bool = False
    """Whether connections speak TLS 1.3. Where no connections are counted, their handshakes come
    before."""


def connects(
    name: str,
    how: Connecting,
    broker: str = "memory",
    settings: Mapping[str, str] = NO_SETTINGS,
    *,
    tls: bool = False,
) -> IntakeWay:
    return IntakeWay(f"connects: {name}", single, AT_A_TIME, broker, settings, how, tls=tls)


_KEYS = {"HUB_PUBLISH_KEYS": KEY}
_TOKENS = {"HUB_TOKEN_KEYS": KEY}
# One, and then none for an hour.
_NO_PUBLISHES = {"HUB_RATE_PUBLISHES": "1/3600"}
_NO_HANDSHAKES = {"HUB_RATE_HANDSHAKES": "1/3600"}
_ELSEWHERE = "Origin: https://elsewhere.example\r\n"
_FORGED = "Authorization: Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbm4ifQ." + "A" * 43 + "\r\n"
_ANY = b"HTTP/1.1 "
WAYS: Sequence[IntakeWay] = (
    IntakeWay("bare httptools loop, 16 at a time", single, 16, broker="floor"),
    IntakeWay("single POSTs, 16 at a time", single, 16),
    IntakeWay("with a key and an Idempotency-Key", keyed, 16, settings=_KEYS),
    IntakeWay("refused POSTs, no key (401), 16 at a time", refused(401), 16, settings=_KEYS),
    IntakeWay(
        "refused POSTs, a wrong key (401), 16 at a time", refused(401, _FORGED), 16, settings=_KEYS
    ),
    IntakeWay("refused POSTs, another origin (403), 16 at a time", refused(403, _ELSEWHERE), 16),
    IntakeWay(
        "refused POSTs, over the rate (429), 16 at a time", refused(429), 16, settings=_NO_PUBLISHES
    ),
    IntakeWay("pipelined on one connection", pipelined, 1),
    IntakeWay("arrays of 100, 4 at a time", array, 4),
    IntakeWay("WebSockets, 32 at a time", websocket, 32),
    IntakeWay("one WebSocket, 16 under way", websocket, 1),
    IntakeWay("WebSockets: subscribe and unsubscribe, 32 at a time", subscribing, 32),
    IntakeWay("TLS: bare httptools loop, 16 at a time", single, 16, broker="floor", tls=True),
    IntakeWay("TLS: single POSTs, 16 at a time", single, 16, tls=True),
    IntakeWay("bare SQLite loop, 64 a commit", single, 64, broker="disk"),
    IntakeWay("sqlite: single POSTs, 64 at a time", single, 64, broker="sqlite"),
    IntakeWay(
        "sqlite: with a key and an Idempotency-Key, 64 at a time", keyed, 64, "sqlite", _KEYS
    ),
    IntakeWay("bare SQLite loop, 400 a commit", array, 400, broker="disk"),
    IntakeWay("sqlite: arrays of 100, 4 at a time", array, 4, broker="sqlite"),
    IntakeWay("sqlite: arrays of 100, 16 at a time", array, 16, broker="sqlite"),
    IntakeWay("sqlite: one WebSocket, 16 under way", websocket, 1, broker="sqlite"),
    IntakeWay("Redis: single POSTs, 16 at a time", single, 16, broker="redis"),
    IntakeWay("Redis: single POSTs, 64 at a time", single, 64, broker="redis"),
    IntakeWay("Redis: arrays of 100, 4 at a time", array, 4, broker="redis"),
    IntakeWay("Redis: WebSockets, 32 at a time", websocket, 32, broker="redis"),
    IntakeWay("Redis: one WebSocket, 16 under way", websocket, 1, broker="redis"),
    connects("bare httptools loop", Connecting(Contestant.SSE, needle=OK), broker="floor"),
    connects("WebSocket with one subscription", Connecting(Contestant.WEBSOCKET)),
    connects("SSE with one subscription", Connecting(Contestant.SSE)),
    connects(
        "bare loop, refused without a look", Connecting(Contestant.WEBSOCKET, _ANY), broker="floor"
    ),
    connects("refused, another origin (403)", Connecting(Contestant.WEBSOCKET, _ANY, _ELSEWHERE)),
    connects(
        "refused, over the rate (429)",
        Connecting(Contestant.WEBSOCKET, _ANY),
        settings=_NO_HANDSHAKES,
    ),
    connects(
        "refused, a forged token (401)",
        Connecting(Contestant.SSE, _ANY, _FORGED),
        settings=_TOKENS,
    ),
    connects(
        "bare httptools loop, TLS",
        Connecting(Contestant.SSE, needle=OK),
        broker="floor",
        tls=True,
    ),
    connects("WebSocket with one subscription, TLS", Connecting(Contestant.WEBSOCKET), tls=True),
    IntakeWay("history: bare httptools loop, as many bytes", page_of_the_loop, 4, broker="floor"),
    IntakeWay("history: pages of 100, 4 at a time", history, 4),
    IntakeWay("start: bare httptools loop", single, 0, broker="floor", starting=True),
    IntakeWay("start: until ready", single, 0, starting=True),
)
NCHAN_WAYS: Sequence[IntakeWay] = (
    IntakeWay("nchan: single POSTs, 16 at a time", to_nchan, 16, broker="peer"),
    connects(
        "nchan: WebSocket with one subscription",
        Connecting(Contestant.NCHAN, b"HTTP/1.1 101"),
        broker="peer",
    ),
)
"""The same work done by nginx with nchan (`--against nchan`)."""


SETTLE_SECONDS = 0.5
Value = TypeVar("Value")
FLOOR = Path(__file__).parents[2] / "tests" / "benchmarks" / "http_floor.py"
_LISTENS_SECONDS = 10.0
_ACKNOWLEDGED_SECONDS = 10.0
_STEP_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Intake:
    """The figures of one way of publishing or connecting."""

    way: str
    per_second: float
    """Publications, all acknowledged; or connections, all subscribed; pages; or starts."""
    cpu_microseconds: float
    """The node's CPU for each of them."""
    core_share: float
    """The used share of the node's core, 0 to 1."""
    waited_share: float
    """The share of the time for which its threads waited for the core. A node with a history file
    has two that also wait for each other."""


def run(
    seconds: float,
    *,
    rounds: int = 1,
    named: str = "",
    peer: Peer | None = None,
    command: Sequence[str] = SERVE_COMMAND,
) -> list[Intake]:
    """Measure every way for so long in each round, each at a fresh node.

    Args:
        named: Measure only ways whose name holds this text.
        peer: nginx with nchan, which does the part of the same work that it can.
        command: What starts the hub.

    Raises:
        BenchError: There is no such way, no redis-server, no openssl or no floor, a node does not
            become ready, or it refuses.
    """
    if peer is not None and peer.contestant is not Contestant.NCHAN:
        raise BenchError("--intake is measured against nchan, and against nothing else")
    ways = [way for way in WAYS if named.lower() in way.name.lower()]
    if not ways:
        rows = "".join(f"\n  {way.name}" for way in WAYS)
        raise BenchError(f"--way is {named!r}, which no row's name contains; the rows are:{rows}")
    ways += NCHAN_WAYS if peer is not None else ()
    return uvloop.run(_measure_all(ways, seconds, rounds, peer, command))


async def _measure_all(
    ways: Sequence[IntakeWay],
    seconds: float,
    rounds: int,
    peer: Peer | None,
    command: Sequence[str],
) -> list[Intake]:
    cores = Cores.divide()
    found: dict[str, list[Intake]] = {way.name: [] for way in ways}
    with cores.as_load():
        for _ in range(rounds):
            for way in ways:
                if way.broker == "disk":
                    found[way.name].append(_disk(way, cores, seconds))
                    continue
                if way.starting:
                    found[way.name].append(_second_start(way, cores, peer))
                    continue
                with _serving(way, cores, peer, command) as server:
                    found[way.name].append(await _measure(server, way, seconds))
    return [_median(name, each) for name, each in found.items()]


@contextlib.contextmanager
def _serving(
    way: IntakeWay, cores: Cores, peer: Peer | None, command: Sequence[str] = SERVE_COMMAND
) -> Iterator[BenchServer]:
    settings = dict(way.settings)
    beside = Cores(server=cores.load, load=cores.load)
    with contextlib.ExitStack() as stack:
        files = stack.enter_context(made_certificate()) if way.tls else None
        if way.broker == "floor":
            yield stack.enter_context(_floor(cores, files, settings))
            return
        if way.broker == "peer":
            if peer is None:
                raise BenchError(f"{way.name!r} needs another server")
            yield stack.enter_context(peer.open_server(cores))
            return
        if files is not None:
            settings["HUB_TLS_CERT"] = str(files.certificate)
            settings["HUB_TLS_KEY"] = str(files.key)
        if way.broker == "sqlite":
            inside = stack.enter_context(tempfile.TemporaryDirectory())
            settings["HUB_BROKER"] = f"sqlite://{inside}/hub.db"
        elif way.broker == "redis":
            settings["HUB_BROKER"] = stack.enter_context(redis(beside))
        yield stack.enter_context(own_server(cores, command=command, settings=settings))


def _disk(way: IntakeWay, cores: Cores, seconds: float) -> Intake:
    """Measure the disk with as many rows in a commit as there are connections."""
    with Cores(server=cores.load, load=cores.server).as_load():
        return _intake(way, *disk.measured(way.connections, seconds))


@contextlib.contextmanager
def _floor(
    cores: Cores, files: CertificateFiles | None, settings: Mapping[str, str]
) -> Iterator[BenchServer]:
    """Start the bare loop, whose source is in `tests`; over TLS where there are `files`."""
    if not FLOOR.is_file():
        raise BenchError(f"the floor needs {FLOOR}")
    port = free_port()
    command = [sys.executable, str(FLOOR), str(port)]
    if files is not None:
        command += [str(files.certificate), str(files.key)]
    silent = subprocess.DEVNULL
    with started(
        command,
        cores.server,
        environment={**os.environ, **settings},
        output=silent,
        errors=silent,
    ) as process:
        _wait_listening(port)
        target = ServerAddress(host="127.0.0.1", port=port, tls=files is not None)
        yield BenchServer(target, ProcessMeter(process.pid))


def _wait_listening(port: int) -> None:
    deadline = time.monotonic() + _LISTENS_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise BenchError("the bare loop does not listen") from None
            time.sleep(_STEP_SECONDS)
        else:
            return


def _median(name: str, rounds: Sequence[Intake]) -> Intake:
    return Intake(
        name,
        median(each.per_second for each in rounds),
        median(each.cpu_microseconds for each in rounds),
        median(each.core_share for each in rounds),
        median(each.waited_share for each in rounds),
    )


def _second_start(way: IntakeWay, cores: Cores, peer: Peer | None) -> Intake:
    """Return the time until the process answered, and all of its CPU.

    The first start compiles the sources, which an installed hub has done already.
    """
    with tempfile.TemporaryDirectory(prefix="hub-bench-") as folder:
        compiled = {"PYTHONPYCACHEPREFIX": folder, "PYTHONDONTWRITEBYTECODE": ""}
        again = replace(way, settings={**way.settings, **compiled})
        with _serving(again, cores, peer):
            pass
        began = time.perf_counter()
        with _serving(again, cores, peer) as server:
            elapsed = time.perf_counter() - began
            if server.meter is None:
                raise BenchError("the node's process cannot be metered")
            usage = server.meter.usage()
    return _intake(way, 1, elapsed, usage)


async def _measure(server: BenchServer, way: IntakeWay, seconds: float) -> Intake:
    loop, target, meter = asyncio.get_running_loop(), server.target, server.meter
    if meter is None:
        raise BenchError("the node's process cannot be metered")
    if way.connecting is not None:
        return _intake(way, CONNECTS, *await connect(target, meter, way.connecting))
    senders = [way.make(target, number) for number in range(way.connections)]
    secured = unverified_context() if target.tls else None
    for sender in senders:
        await loop.create_connection(
            partial(_itself, sender), target.host, target.port, ssl=secured
        )
    await asyncio.sleep(min(SETTLE_SECONDS, seconds))
    before, cpu, began = _total(senders), meter.usage(), time.perf_counter()
    made, elapsed = 0, 0.0
    # A short measurement on a busy machine goes on until something is acknowledged.
    while not made and elapsed < seconds + _ACKNOWLEDGED_SECONDS:
        await asyncio.sleep(seconds)
        made, elapsed = _total(senders) - before, time.perf_counter() - began
    usage = meter.usage().since(cpu)
    for sender in senders:
        sender.close()
        if sender.wrong:
            raise BenchError(f"the node refused: {sender.wrong[:200]!r}")
    if not made:
        raise BenchError("the node acknowledged nothing")
    return _intake(way, made, elapsed, usage)


def _intake(way: IntakeWay, made: int, seconds: float, usage: Usage) -> Intake:
    spent, waited = usage.cpu_seconds, usage.waited_seconds or 0.0
    return Intake(way.name, made / seconds, spent / made * 1e6, spent / seconds, waited / seconds)


def _itself(made: Value) -> Value:
    return made


def _total(senders: list[Sender]) -> int:
    return sum(sender.answered for sender in senders)
