"""A connection that has come of age, asked by a real hub to connect again."""

import json

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.support.hub_process import HubProcess
from tests.support.waiting import eventually


async def test_a_connection_of_its_age_is_told_to_come_back_soon() -> None:
    """With a code after which clients resume, and a reason that operators see."""
    with HubProcess(HUB_MAX_CONNECTION_AGE_SECONDS="1") as hub:
        pushes = []
        async with connect(f"ws://127.0.0.1:{hub.port}/ws?channel=news") as peer:

            async def ended() -> bool:
                try:
                    pushes.append(json.loads(await peer.recv()))
                except ConnectionClosed:
                    return True
                return False

            await eventually(ended)
        assert peer.close_code == 1012
        goodbye = pushes[-1]
        assert (goodbye["op"], goodbye["reason"]) == ("goodbye", "max_age")
        assert goodbye["reconnect_within_ms"] > 0
