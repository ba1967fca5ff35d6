"""The client in a program that runs uvloop, as uvicorn does where uvloop is installed."""

import uvloop

from hub_client import HubClient, Publisher
from tests.support.hub_process import HubProcess


def test_a_publisher_and_a_subscriber_work_under_uvloop() -> None:
    """Its `create_connection` takes fewer arguments than asyncio's."""

    async def published_and_read(url: str) -> tuple[object, ...]:
        async with Publisher(url) as publisher, HubClient(url) as hub:
            published = await publisher.publish("prices", 1)
            read = [await anext(hub.subscribe("prices", last=1))]
            for transport in ("websocket", "sse", "poll"):
                async with HubClient(url, transports=(transport,)) as other:
                    read.append(await anext(other.subscribe("prices", last=1)))
            return (published.position.offset, *(message.data for message in read))

    with HubProcess() as hub:
        assert uvloop.run(published_and_read(hub.url)) == (1, 1, 1, 1, 1)
