"""A hub within somebody else's server: what its end says, and for whom it does not wait."""

import asyncio
import io
import json

from hub import Hub
from hub.observe.logs import make_logger
from hub.settings import Settings
from tests.transports.peers import http_client

# Of a drain: longer than any test, so that only who is not waited for ends it in time.
FOR_EVER_SECONDS = 3600.0


async def test_a_hub_under_another_server_logs_its_drain() -> None:
    """As one that has the process to itself does: that server says nothing of sessions."""
    stream = io.StringIO()
    settings = Settings(drain_seconds=0, log_format="json")
    async with Hub(settings, listen=False, log=make_logger(settings, stream)) as hub:
        await hub.publish("a", 1)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    told = {line["event"]: line for line in lines}
    assert told["draining"] | {"connections": 0, "window_seconds": 0} == told["draining"]
    assert told["drained"]["connections_cut"] == 0


async def test_a_stop_does_not_wait_for_sessions_between_two_polls() -> None:
    """Nobody is there to be told, and they may come back for minutes."""
    async with asyncio.timeout(60):
        async with Hub(Settings(port=0, drain_seconds=FOR_EVER_SECONDS)) as hub:
            async with http_client(base_url=hub.url) as http:
                for _ in range(3):
                    assert (await http.get("/poll?channel=a&wait=0")).status_code == 200
            assert len(hub.node.registry.sessions) == 3
        assert not hub.node.registry.sessions
