"""Beside each attack a well-behaved subscriber loses nothing and waits hardly longer than without.

Two hubs stand side by side, and one of them is attacked: so at each moment both have as much of the
machine, and what differs is what the attack does to the hub. A hub that works all the time waits
for a core more often where others want one too, so that waiting does not count: Linux tells how
long it was. Most of several rounds decide. A busy machine may spoil a try, not every one; work
without a bound spoils each.
"""

import asyncio
import json
import os
import statistics
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.chaos import attackers
from tests.support.fork_server import fork_server
from tests.support.hub_process import HubProcess
from tests.support.identity_provider import make_key, public_jwk
from tests.support.programs import outside
from tests.support.waiting import eventually

KEY = "the-key-of-the-publisher-that-behaves"
SIGNING = "a-signing-key-of-more-than-32-bytes!"
ROUNDS, TRIES = 3, 5
SAMPLES = 120
BETWEEN_SECONDS = 0.004
TIMES_CALM = 2
CHANNELS = "channel=news&channel=seen:news"
# An edge as it is to be run: who goes beyond these is refused.
SETTINGS = {
    "HUB_NAMESPACES": '{"seen":{"presence":true}}',
    "HUB_PUBLISH_KEYS": f"{KEY},{attackers.KEY}",
    "HUB_TOKEN_KEYS": SIGNING,
    "HUB_ANONYMOUS": "subscribe",
    "HUB_RATE_HANDSHAKES": "50/1",
    "HUB_RATE_COMMANDS": "500/1",
    "HUB_RATE_PUBLISHES": "500/1",
    "HUB_RATE_INBOUND_BYTES": "256KiB/1:1MiB",
    "HUB_HANDSHAKE_TIMEOUT_SECONDS": "2",
    "HUB_BODY_TIMEOUT_SECONDS": "2",
}


@contextmanager
def key_set() -> Iterator[str]:
    """The address of an identity provider's keys."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            keys = json.dumps({"keys": [public_jwk(make_key("ES256"), kid="one")]}).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(keys)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as it is there
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def settings() -> Iterator[dict[str, str]]:
    with key_set() as address:
        yield {**SETTINGS, "HUB_TOKEN_JWKS_URL": address}


@contextmanager
def attacked(hub: HubProcess, name: str) -> Iterator[None]:
    program = ["-m", "tests.chaos.attackers", name, str(hub.port)]
    attacker = fork_server().start(program, outside())
    try:
        yield
        assert attacker.poll() is None, "the attacker has ended"
    finally:
        attacker.kill()
        attacker.wait(10)


class WithACore:
    """A clock that stands still while this process or the hub's waits for a core."""

    def __init__(self, hub: HubProcess) -> None:
        # In nanoseconds: time on a core, time without one though there was work, number of turns.
        # Documentation/scheduler/sched-stats.rst of Linux, "/proc/<pid>/schedstat".
        self._told = [Path(f"/proc/{who}/schedstat") for who in (os.getpid(), hub.pid)]

    def __call__(self) -> float:
        without = sum(int(each.read_text().split()[1]) for each in self._told)
        return time.perf_counter() - without / 1e9


class Bystander:
    """Publishes and subscribes, and notes how long each publication was on its way."""

    def __init__(
        self, peer: ClientConnection, publisher: asyncio.StreamWriter, clock: WithACore
    ) -> None:
        self._peer = peer
        self._publisher = publisher
        self._clock = clock
        self._sent: list[float] = []
        self.waited: list[float] = []
        """Of each publication, in seconds; they came whole and in order."""

    async def read(self) -> None:
        async for text in self._peer:
            push = json.loads(text)
            assert push["op"] not in {"gap", "goodbye"}, push
            if push["op"] == "message":
                assert push["data"] == len(self.waited), push
                self.waited.append(max(0.0, self._clock() - self._sent[push["data"]]))

    def publish(self) -> None:
        body = f"{len(self._sent)}"
        self._sent.append(self._clock())
        fields = f"Host: localhost\r\nAuthorization: Bearer {KEY}\r\nContent-Length: {len(body)}"
        self._publisher.write(f"POST /api/publish/news HTTP/1.1\r\n{fields}\r\n\r\n{body}".encode())

    async def p99(self) -> float:
        """Of the next publications."""
        begin = len(self._sent)
        for _ in range(SAMPLES):
            self.publish()
            await asyncio.sleep(BETWEEN_SECONDS)
        end = len(self._sent)
        await eventually(lambda: len(self.waited) == end, what="what was published")
        return statistics.quantiles(self.waited[begin:end], n=100)[98]


@asynccontextmanager
async def bystander(hub: HubProcess) -> AsyncIterator[Bystander]:
    answers, publisher = await asyncio.open_connection("127.0.0.1", hub.port)
    async with connect(f"{hub.ws_url}?{CHANNELS}", compression=None, max_queue=None) as peer:
        made = Bystander(peer, publisher, WithACore(hub))
        reading = asyncio.create_task(made.read())
        taking = asyncio.create_task(_take(answers))
        try:
            yield made
            assert not reading.done(), reading.exception()
        finally:
            for task in (reading, taking):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            publisher.transport.abort()


async def _take(answers: asyncio.StreamReader) -> None:
    while await answers.read(1 << 16):
        pass


def hub_with(settings: dict[str, str]) -> HubProcess:
    return HubProcess(allow_tracebacks=False, **settings)


async def one_round(settings: dict[str, str], name: str) -> tuple[float, float]:
    """The 99th percentiles at a hub that is left alone, and at one that is attacked meanwhile."""
    with hub_with(settings) as calm, hub_with(settings) as trouble:
        async with bystander(calm) as one, bystander(trouble) as other:
            with attacked(trouble, name):
                await asyncio.sleep(0.5)
                waited = await asyncio.gather(one.p99(), other.p99())
        # What an attack has left behind in its buffers need not be worked off.
        trouble.kill()
        calm.kill()
    return waited[0], waited[1]


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", [each.__name__ for each in attackers.ATTACKS])
async def test_a_bystander_waits_hardly_longer_and_loses_nothing(
    settings: dict[str, str], name: str
) -> None:
    times = []
    for _ in range(TRIES):
        spoiled = held = 0
        while max(spoiled, held) <= ROUNDS // 2:
            calm, trouble = await one_round(settings, name)
            times.append(trouble / calm)
            if times[-1] <= TIMES_CALM:
                held += 1
            else:
                spoiled += 1
        if held > spoiled:
            return
    pytest.fail(f"a bystander waits {min(times):.1f} times as long: {times}")
