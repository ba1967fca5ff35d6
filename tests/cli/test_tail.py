"""`hub tail` as a process, against a real hub."""

import asyncio
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cli.operating import (
    OperatedHub,
    environment,
    interrupted,
    line_of,
    publish,
    run,
    started,
    subscribed,
)
from tests.support.hub_process import HubProcess

pytestmark = pytest.mark.timeout(240)
QUICK = ("--every", "0.2")


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    with OperatedHub() as made:
        yield made


async def test_channels_are_followed_until_ctrl_c(hub: HubProcess, channel: str) -> None:
    """One line per message: time, channel, offset, data; control characters of the data are not
    passed on; the end is quiet."""
    await publish(hub, channel, {"n": "\x9b2J"})
    async with started("tail", channel, "--last", "1", **environment(hub.url)) as process:
        line = await line_of(process)
        await publish(hub, channel, [2])
        second = await line_of(process)
        ended = await interrupted(process)
    assert line.split(" ", 1)[1] == f'{channel} 1 {{"n":"\ufffd2J"}}\n'
    assert second.split(" ", 1)[1] == f"{channel} 2 [2]\n"
    assert (ended.code, ended.out, ended.err) == (130, "", "")


async def test_with_json_pushes_come_as_they_are(hub: HubProcess, channel: str) -> None:
    """Byte for byte, one line each."""
    await publish(hub, channel, 1)
    arguments = ("tail", channel, "--last", "1", "--json")
    async with started(*arguments, **environment(hub.url)) as process:
        push = json.loads(await line_of(process))
    assert (push["op"], push["channel"], push["offset"], push["data"]) == ("message", channel, 1, 1)


async def test_a_closed_pipe_ends_it(hub: HubProcess, channel: str) -> None:
    """`hub tail a | head -1` leaves nothing behind."""
    await publish(hub, channel, 1)
    async with started("tail", channel, "--last", "1", **environment(hub.url)) as process:
        await line_of(process)
        process.close_stdout()
        await publish(hub, channel, 2)
        assert await process.wait() == 0


async def test_a_connections_channels_are_followed_and_its_end_told(
    hub: HubProcess, channel: str
) -> None:
    """The command lists the connection's channels, prints their publications, and
    ends with the connection."""
    variables = environment(hub.url)
    async with subscribed(hub, channel, "left-soon") as peer:
        arguments = ("tail", "--connection", peer.id, "--last", "1", "--json", *QUICK)
        await publish(hub, channel, "before")
        async with started(*arguments, **variables) as process:
            first = [json.loads(await line_of(process)) for _ in range(3)]
            await publish(hub, channel, "now")
            message = json.loads(await line_of(process))
            await run("unsubscribe", peer.id, "left-soon", **variables)
            left = json.loads(await line_of(process))
            await run("disconnect", peer.id, **variables)
            ended = json.loads(await line_of(process))
            assert await process.wait() == 0
            said = (await process.stderr.read()).decode()
    seen = [push for push in first if push["op"] == "observed"]
    assert {push["channel"]: push["state"] for push in seen} == {
        channel: "live",
        "left-soon": "live",
    }
    assert [push["data"] for push in first if push["op"] == "message"] == ["before"]
    assert (message["op"], message["data"]) == ("message", "now")
    assert (left["what"], left["channel"]) == ("unsubscribed", "left-soon")
    assert (ended["what"], ended["code"], ended["reason"]) == (
        "ended",
        4403,
        "disconnected by operator",
    )
    assert said.startswith(f"hub: what the channels of {peer.id} carry, on a connection of this")


async def test_losses_of_a_slow_connection_are_told(channel: str) -> None:
    """The peer reads nothing, so its connection is congested and its outbox drops messages."""
    from websockets.asyncio.client import connect

    with OperatedHub(HUB_OUTBOX_MAX_MESSAGES="5", HUB_HISTORY_SIZE="5") as own:
        url = f"{own.ws_url}?channel={channel}"
        peer = socket.socket()
        # Set before it connects, it bounds what the kernel takes for a peer that does not read.
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.connect(("127.0.0.1", own.port))
        peer.setblocking(False)
        async with connect(
            url, sock=peer, max_queue=1, ping_interval=None, close_timeout=0.1
        ) as connection:
            name = json.loads(await connection.recv())["connection"]
            arguments = ("tail", "--connection", name, "--json", *QUICK)
            async with started(*arguments, **environment(own.url)) as process:
                assert json.loads(await line_of(process))["state"] == "live"
                seen: dict[str, Any] = {}

                async def publish_on() -> None:
                    while True:
                        await publish(own, channel, *(["x" * 60_000] * 20))

                # What the command reads too slowly itself is told as gaps: lines are not counted.
                publishing = asyncio.create_task(publish_on())
                try:
                    while "dropped" not in seen:
                        push = json.loads(await line_of(process))
                        if push["op"] == "observed":
                            seen[push["what"]] = push
                finally:
                    publishing.cancel()
                    await asyncio.gather(publishing, return_exceptions=True)
        dropped = seen["dropped"]
        assert (dropped["channel"], dropped["connection"]) == (channel, name)
        assert dropped["count"] > 0
