"""Tests of the operators' commands share a hub with an operator key, and
helpers that run commands."""

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2 as httpx
import jwt
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.cli.commands import Ended
from tests.support.forked_process import PipedProcess, piped
from tests.support.hub_process import HubProcess
from tests.support.programs import outside

KEY = "operator-key"
TOKEN_KEY = "a-token-key-of-at-least-32-bytes"
# Python's start included, on a machine that others keep busy.
DEADLINE_SECONDS = 40.0


class OperatedHub(HubProcess):
    """A hub that asks operators for `KEY` and nobody else for anything."""

    def __init__(self, **settings: str) -> None:
        super().__init__(allow_tracebacks=False, HUB_OPERATOR_KEYS=KEY, **settings)


def environment(hub: str, key: str | None = KEY) -> dict[str, str]:
    """Returns the environment of the commands: the hub's address and the operator's key."""
    return {"HUB_URL": hub} | ({} if key is None else {"HUB_OPERATOR_KEY": key})


@asynccontextmanager
async def started(*arguments: str, **variables: str) -> AsyncIterator[PipedProcess]:
    """`hub` with these arguments, without a terminal; ended at the latest with the block."""
    async with piped(("-m", "hub", *arguments), outside() | variables) as process:
        yield process


async def run(*arguments: str, **variables: str) -> Ended:
    """`hub` with these arguments, to its end."""
    async with started(*arguments, **variables) as process:
        async with asyncio.timeout(DEADLINE_SECONDS):
            out, err = await process.communicate()
        assert process.returncode is not None
        return Ended(process.returncode, out.decode(), err.decode())


async def interrupted(process: PipedProcess) -> Ended:
    """Sends Ctrl-C to the command and returns how it ended."""
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(DEADLINE_SECONDS):
        out, err = await process.communicate()
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


async def line_of(process: PipedProcess) -> str:
    """The next line on stdout."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        return (await process.stdout.readline()).decode()


class Peer:
    """A connection of a subscriber that reads all it gets."""

    def __init__(self, connection: ClientConnection, name: str) -> None:
        self.connection = connection
        self.id = name

    async def read(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for _ in self.connection:
                pass


@asynccontextmanager
async def subscribed(
    hub: HubProcess, *channels: str, agent: str = "peer", subject: str | None = None
) -> AsyncIterator[Peer]:
    """A peer that is subscribed to `channels` and called `agent`, with a token of `subject`."""
    query = httpx.QueryParams([("channel", channel) for channel in channels])
    if subject is not None:
        claims = {"sub": subject, "hub": {"subscribe": ["*"]}}
        query = query.set("token", jwt.encode(claims, TOKEN_KEY, algorithm="HS256"))
    async with connect(f"{hub.ws_url}?{query}", user_agent_header=agent) as connection:
        peer = Peer(connection, json.loads(await connection.recv())["connection"])
        for _ in channels:
            assert json.loads(await connection.recv())["op"] == "subscribed"
        reading = asyncio.create_task(peer.read())
        try:
            yield peer
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


async def publish(hub: HubProcess, channel: str, *data: object) -> None:
    """One publication after another."""
    headers = {"Authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(headers=headers, timeout=30) as client:
        for each in data:
            answer = await client.post(f"{hub.url}/api/publish/{channel}", json=each)
            answer.raise_for_status()


@asynccontextmanager
async def traffic(hub: HubProcess, channel: str) -> AsyncIterator[None]:
    """Publications one after another until the end of the block."""

    async def publish_on() -> None:
        number = 0
        while True:
            number += 1
            await publish(hub, channel, number)

    publishing = asyncio.create_task(publish_on())
    try:
        yield
    finally:
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)
