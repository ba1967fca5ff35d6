"""A member of a channel who notes who comes and goes, at any node."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncGenerator
from typing import Any

import httpx2 as httpx
import jwt
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.support.hub_process import HubProcess
from tests.support.waiting import eventually

SIGNING = "a-signing-key-of-more-than-32-bytes!"
OPERATOR = "operator-key"
SETTINGS = {
    "HUB_TOKEN_KEYS": SIGNING,
    "HUB_OPERATOR_KEYS": OPERATOR,
    "HUB_NAMESPACES": '{"room":{"presence":true}}',
}


def token(subject: str) -> str:
    grants = {"subscribe": ["*"], "publish": ["*"]}
    claims = {"sub": subject, "exp": time.time() + 3600, "hub": grants}
    return jwt.encode(claims, SIGNING, algorithm="HS256")


class Watcher:
    """Everything one connection was pushed."""

    def __init__(self, connection: ClientConnection, welcome: dict[str, Any]) -> None:
        self.connection = connection
        self.id: str = welcome["connection"]
        self.secret: str = welcome["secret"]
        self.node: str = welcome["node"]
        self.pushes: list[dict[str, Any]] = []

    @property
    def subscribed(self) -> bool:
        return any(push["op"] == "subscribed" for push in self.pushes)

    @property
    def changes(self) -> list[tuple[str, str]]:
        """Joins and leaves, and resets of presence, in the order they came."""
        return [
            (push["op"], push.get("member", {}).get("id", ""))
            for push in self.pushes
            if push["op"] in {"join", "leave", "presence_reset"}
        ]

    def saw(self, op: str, member: str = "") -> bool:
        return (op, member) in self.changes

    async def read(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for text in self.connection:
                self.pushes.append(json.loads(text))


@contextlib.asynccontextmanager
async def watching(hub: HubProcess, channel: str, subject: str) -> AsyncGenerator[Watcher]:
    """`subject` in `channel` at `hub`, until the end of `with` or of the hub."""
    url = f"{hub.ws_url}?{httpx.QueryParams({'channel': channel, 'token': token(subject)})}"
    async with connect(url) as connection:
        watcher = Watcher(connection, json.loads(await connection.recv()))
        reading = asyncio.create_task(watcher.read())
        try:
            # Who came before that is in the list, and no join of theirs is owed to anybody.
            await eventually(lambda: watcher.subscribed, what=f"{subject}'s subscription")
            yield watcher
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


@contextlib.asynccontextmanager
async def operator(hub: HubProcess) -> AsyncGenerator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {OPERATOR}"}
    async with httpx.AsyncClient(base_url=hub.url, headers=headers, timeout=10) as client:
        yield client


async def present(hub: HubProcess, channel: str) -> list[str]:
    """Ids of the members, as a node lists them."""
    headers = {"Authorization": f"Bearer {token('asker')}"}
    async with httpx.AsyncClient(timeout=10) as client:
        answer = await client.get(f"{hub.url}/api/channels/{channel}/presence", headers=headers)
        return [member["id"] for member in answer.raise_for_status().json()["members"]]
