"""A hub process that the transports' suites share; each test has channels of its own."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager

import httpx2 as httpx
import orjson
import pytest

from tests.support.foreign_server import ForeignServer
from tests.support.hub_process import HubProcess
from tests.transports.peers import PEERS, Peer, Query, publisher

NAMESPACES = {
    "room": {"presence": True},
    "short": {"history_size": 3},
    "bare": {"history_size": 0},
}


@pytest.fixture(scope="package")
def own_listener() -> Iterator[HubProcess]:
    """The hub itself. A parametrized fixture of its name would have it start for each test."""
    with HubProcess(
        HUB_NAMESPACES=orjson.dumps(NAMESPACES).decode(),
        HUB_HISTORY_SIZE="2000",
        HUB_HEARTBEAT_SECONDS="1",
    ) as hub:
        yield hub


@pytest.fixture(scope="package")
def foreign() -> Iterator[ForeignServer]:
    """The same hub under uvicorn."""
    with ForeignServer(
        "uvicorn",
        namespaces=NAMESPACES,
        history_size=2000,
        heartbeat_seconds=1,
        drain_seconds=0.2,
    ) as server:
        yield server
        assert "Traceback" not in server.log, server.log


@pytest.fixture
def process(own_listener: HubProcess) -> HubProcess:
    """The hub that peers connect to; a module may have others too."""
    return own_listener


@pytest.fixture
async def http(process: HubProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with publisher(process.url) as client:
        yield client


Open = Callable[..., AbstractAsyncContextManager[Peer]]


@pytest.fixture(params=PEERS)
def open_peer(request: pytest.FixtureRequest, process: HubProcess) -> Open:
    """Opens a peer of each transport in turn; its arguments are those of `Query`."""
    kind = PEERS[request.param]

    def open_(*channels: str, headers: dict[str, str] | None = None, **more: object) -> Peer:
        return kind(process.url, Query(*channels, **more), headers or {})  # type: ignore[arg-type] # handed through

    return open_
