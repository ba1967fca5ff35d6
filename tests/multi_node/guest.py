"""A member of a channel who knows who else is there, as an application would.

Asks after `subscribed` and after every `presence_reset`, and keeps the answer up to date by
joins and leaves.
"""

import asyncio
import json

import httpx2 as httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from tests.multi_node.socket_reader import TRY_SECONDS, SocketReader
from tests.multi_node.watcher import token
from tests.support.hub_process import HubProcess
from tests.support.stream import Push

# Before a refused question is asked again.
AGAIN_SECONDS = 0.2


class Guest(SocketReader):
    """`join` and `leave` as often as one likes."""

    def __init__(self, channel: str, subject: str) -> None:
        super().__init__()
        self.channel = channel
        self.subject = subject
        self.others: set[str] = set()
        """Ids of who is there, as far as the guest knows."""
        self.log: list[Push] = []
        self._asked = 0
        self._answered = 0
        self._since: list[Push] = []
        """Joins and leaves that came since the last question."""

    async def _try(self, hub: HubProcess) -> bool:
        query = httpx.QueryParams({"channel": self.channel, "token": token(self.subject)})
        try:
            connection = await connect(f"{hub.ws_url}?{query}", open_timeout=TRY_SECONDS)
            while (push := json.loads(await connection.recv()))["op"] != "subscribed":
                pass
            await self._take(connection, push)
        except (OSError, TimeoutError, WebSocketException):
            return False
        self._read_on(connection)
        return True

    async def _take(self, connection: ClientConnection, push: Push) -> None:
        self.log.append(push)
        match push["op"]:
            case "subscribed" | "presence_reset":
                await self._ask(connection)
            case "reply" if push["id"] == self._asked and "ok" in push:
                self._answered = self._asked
                self.others = {member["id"] for member in push["ok"]["members"]}
                for change in self._since:
                    self._apply(change)
            case "reply" if push["id"] == self._asked:
                await asyncio.sleep(AGAIN_SECONDS)
                await self._ask(connection)
            case "join" | "leave":
                self._since.append(push)
                if self._answered == self._asked:
                    self._apply(push)

    async def _ask(self, connection: ClientConnection) -> None:
        self._asked += 1
        self._since = []
        question = {"op": "presence", "id": self._asked, "channel": self.channel}
        await connection.send(json.dumps(question))

    def _apply(self, change: Push) -> None:
        member = change["member"]["id"]
        if change["op"] == "join":
            self.others.add(member)
        else:
            self.others.discard(member)
