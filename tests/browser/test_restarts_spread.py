"""A node that stops sends its sessions away in a spread, not as one wave.

Measured with a hundred clients: when each is connected again, at the other node. The hub
closes them one after another over the drain, and each draws a moment of the goodbye's window,
so the whole takes two windows and is densest in the middle.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from hub_client import ClientOptions, ConnectionState, HubClient
from tests.support.hub_process import HubProcess
from tests.support.proxies import haproxy
from tests.support.proxies.haproxy import HaProxy
from tests.support.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
CLIENTS = 100
# Long enough that a machine which stops for a second moves few of them into one bucket.
WINDOW_SECONDS = 5.0
_BUCKET_SECONDS = 0.1
# Of two windows. Even would be 17 % in each; two uniform draws added put 28 % into the middle
# ones, and chance another 9 % (two standard deviations of 100 draws). A storm is all in one
# bucket; a busy machine that stops for a moment is not yet one.
_SIXTHS = 6
_MOST_IN_A_SIXTH = 0.45
_MOST_IN_A_BUCKET = 0.3


class Arrivals:
    """When each client was connected; monotonic seconds."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def note(self, state: ConnectionState) -> None:
        if state.name == "connected":
            self.at.append(time.monotonic())

    def histogram(self, width: float, buckets: int) -> list[int]:
        """How many came in each stretch of `width` seconds, from the first on."""
        counts = [0] * buckets
        for moment in self.at:
            counts[min(buckets - 1, int((moment - min(self.at)) / width))] += 1
        return counts


async def test_a_stopping_node_moves_a_hundred_clients_over_its_window_not_at_once() -> None:
    """Everybody comes back, spread: no sixth of the time holds half of them."""
    arrivals = Arrivals()
    settings = {"HUB_DRAIN_SECONDS": str(WINDOW_SECONDS)}
    with HubProcess(allow_tracebacks=False, **settings) as old, HubProcess() as new:
        with HaProxy(haproxy.one(old.port)) as proxy:
            async with crowd(proxy.url, arrivals):
                await eventually(lambda: len(arrivals.at) == CLIENTS, seconds=40)
                await asyncio.to_thread(proxy.change, haproxy.one(new.port))
                arrivals.at.clear()
                await asyncio.to_thread(old.stop)
                await eventually(lambda: len(arrivals.at) == CLIENTS, seconds=40)
    tell(arrivals)
    sixths = arrivals.histogram(2 * WINDOW_SECONDS / _SIXTHS, _SIXTHS)
    tenths = arrivals.histogram(_BUCKET_SECONDS, int(2 * WINDOW_SECONDS / _BUCKET_SECONDS))
    assert max(sixths) <= CLIENTS * _MOST_IN_A_SIXTH
    assert max(tenths) <= CLIENTS * _MOST_IN_A_BUCKET
    assert sum(1 for count in sixths if count) >= _SIXTHS - 1


@asynccontextmanager
async def crowd(url: str, arrivals: Arrivals) -> AsyncIterator[None]:
    """Idle clients, each with a connection of its own."""
    options = ClientOptions(on_state=arrivals.note)
    async with contextlib.AsyncExitStack() as stack:
        clients = [HubClient(url, options=options) for _ in range(CLIENTS)]
        for client in clients:
            await stack.enter_async_context(client)
        yield


def tell(arrivals: Arrivals) -> None:
    """The measured spread, for whoever runs this with `-s`."""
    spread = max(arrivals.at) - min(arrivals.at)
    tenths = arrivals.histogram(_BUCKET_SECONDS, int(spread / _BUCKET_SECONDS) + 1)
    even = CLIENTS * _BUCKET_SECONDS / spread
    print(f"\n{CLIENTS} reconnects in {spread:.1f} s, window {WINDOW_SECONDS:g} s")
    print(f"per 100 ms: {tenths}")
    print(f"most {max(tenths)}, even {even:.1f}, ratio {max(tenths) / even:.1f}")
