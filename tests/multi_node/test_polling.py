"""Polling behind a balancer: each poll may come to another node than the one before."""

import asyncio
from collections.abc import Mapping
from functools import partial
from itertools import cycle
from typing import Any

import httpx2 as httpx

from tests.multi_node.fleet import hubs
from tests.multi_node.watcher import SETTINGS, operator, present, token, watching
from tests.support.hub_process import HubProcess
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

COUNT = 60


async def publish(hub: HubProcess, channel: str, data: object) -> None:
    headers = {"Authorization": f"Bearer {token('bob')}"}
    async with httpx.AsyncClient(timeout=60, headers=headers) as client:
        answer = await client.post(f"{hub.url}/api/publish/{channel}", json=data)
        answer.raise_for_status()


class Poller:
    """Keeps positions and the newest welcome, as clients do."""

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.positions: dict[str, str] = {}
        self.welcome: dict[str, str] = {}
        self.pushes: list[dict[str, Any]] = []
        self.restarts = 0
        self.sent = asyncio.Event()
        """Set when a poll has gone out whole."""

    async def _note(self, event: str, _info: Mapping[str, Any]) -> None:
        if event == "http11.send_request_body.complete":
            self.sent.set()

    async def poll(self, hub: HubProcess, *, wait: float = 5, subject: str = "ann") -> int:
        """One poll; the status of its answer."""
        query: dict[str, Any] = {"channel": self.channel, "wait": wait}
        query["since"] = [f"{name}={position}" for name, position in self.positions.items()]
        bearer = token(subject)
        if self.welcome:
            query["connection"], bearer = self.welcome["connection"], self.welcome["secret"]
        headers = {"Authorization": f"Bearer {bearer}"}
        async with httpx.AsyncClient(timeout=60, headers=headers) as client:
            trace = {"trace": self._note}
            answer = await client.get(f"{hub.url}/poll", params=query, extensions=trace)
        if answer.status_code in {401, 404}:
            self.welcome, self.restarts = {}, self.restarts + 1
        elif answer.status_code == 200:
            found = answer.json()
            self.pushes += found["pushes"]
            self.positions, self.welcome = found["positions"], found["welcome"]
        return answer.status_code

    @property
    def data(self) -> list[int]:
        return [push["data"] for push in self.pushes if push["op"] == "message"]


async def test_polls_at_alternating_nodes_get_a_whole_stream(
    redis: RedisServer, channel: str
) -> None:
    """In order, nothing twice, and with no poll in vain: the other node asks the session's."""
    async with hubs(redis.url, 2, **SETTINGS) as both:
        poller = Poller(channel)
        await poller.poll(both[0], wait=1)

        async def send() -> None:
            for number in range(COUNT):
                await publish(both[number % 2], channel, number)

        sending = asyncio.create_task(send())
        for hub in cycle(both):
            assert await poller.poll(hub) == 200
            if len(poller.data) >= COUNT:
                break
        await sending
        assert poller.data == list(range(COUNT))
        assert {push["op"] for push in poller.pushes} == {"message"}
        assert poller.restarts == 0


async def test_a_session_without_history_loses_nothing_between_polls(
    redis: RedisServer, channel: str
) -> None:
    """Publications between two polls wait in the session, whichever node gets the next poll."""
    settings = SETTINGS | {"HUB_HISTORY_SIZE": "0"}
    async with hubs(redis.url, 2, **settings) as (one, two):
        poller = Poller(channel)
        await poller.poll(one, wait=1)
        for number in range(10):
            await publish(one, channel, number)
            if number % 3 == 0:
                await poller.poll(two if number % 2 else one)
        await eventually(partial(_drained, poller, two, 10))
        assert poller.data == list(range(10))
        assert {push["op"] for push in poller.pushes} == {"message"}


async def _drained(poller: Poller, hub: HubProcess, count: int) -> bool:
    await poller.poll(hub, wait=0.2)
    return len(poller.data) >= count


async def test_a_session_stays_the_same_wherever_it_is_asked_for(redis: RedisServer) -> None:
    """Its connection, its grants and its presence; commands reach it while a poll waits."""
    async with hubs(redis.url, 2, **SETTINGS) as (one, two):
        async with watching(one, "room:1", "watcher") as watcher:
            poller = Poller("room:1")
            await poller.poll(one, wait=0.5)
            await eventually(lambda: watcher.saw("join", "ann"))
            first = poller.welcome
            waiting = asyncio.create_task(poller.poll(two, wait=20))
            async with httpx.AsyncClient(timeout=60) as client:
                answer = await client.post(
                    f"{two.url}/command?connection={first['connection']}",
                    json={"op": "publish", "id": 1, "channel": "room:1", "data": 7},
                    headers={"Authorization": f"Bearer {first['secret']}"},
                )
            assert answer.json()["ok"]["offset"] == 1
            assert await waiting == 200
            while not poller.data:
                await poller.poll(two)
            assert poller.data == [7]
            assert poller.welcome == first
            assert "ann" in await present(two, "room:1")
            async with operator(two) as client:
                rows = (await client.get("/api/connections?transport=poll")).json()["connections"]
            assert [(row["subject"], row["node"]) for row in rows] == [("ann", "node-0")]
            assert not watcher.saw("leave", "ann")


async def test_a_poller_that_subscribes_by_command_may_ask_any_node(
    redis: RedisServer, channel: str
) -> None:
    """The poller keeps one session, and its subscription is told in it at
    whichever node it polls."""
    async with hubs(redis.url, 2, **SETTINGS) as (one, two):
        headers = {"Authorization": f"Bearer {token('ann')}"}
        async with httpx.AsyncClient(timeout=60) as client:
            begun = await client.get(f"{one.url}/poll?session=true&wait=0", headers=headers)
            welcome = begun.json()["welcome"]
            headers = {"Authorization": f"Bearer {welcome['secret']}"}
            where = f"connection={welcome['connection']}"
            waiting = asyncio.create_task(
                client.get(f"{two.url}/poll?session=true&{where}&wait=20", headers=headers)
            )
            replied = await client.post(
                f"{two.url}/command?{where}",
                json={"op": "subscribe", "id": 1, "channel": channel},
                headers=headers,
            )
            assert replied.json()["ok"]["channel"] == channel
            pushes = (await waiting).json()["pushes"]
            assert [(push["op"], push["channel"]) for push in pushes] == [("subscribed", channel)]


async def test_a_session_is_not_there_for_a_stranger(redis: RedisServer, channel: str) -> None:
    """A wrong secret is told so at any node; what is no session of any node is not found."""
    async with hubs(redis.url, 2, **SETTINGS) as (one, two):
        poller, thief = Poller(channel), Poller(channel)
        await poller.poll(one, wait=0)
        thief.welcome = poller.welcome | {"secret": "wrong"}
        assert await thief.poll(two, wait=0) == 401
        thief.welcome = {"connection": "0" * 24, "secret": "wrong"}
        assert await thief.poll(two, wait=0) == 404
        async with watching(one, channel, "ann") as watcher:
            thief.welcome = {"connection": watcher.id, "secret": watcher.secret}
            assert await thief.poll(two, wait=0) == 400
        assert await poller.poll(one, wait=0) == 200


async def test_a_peer_that_polled_a_node_that_died_begins_anew_elsewhere(
    redis: RedisServer, channel: str
) -> None:
    """Its positions are all that counts: nothing is lost and nothing comes twice."""
    async with hubs(redis.url, 2, **SETTINGS) as (one, two):
        poller = Poller(channel)
        await poller.poll(one, wait=0.5)
        await publish(one, channel, 0)
        await poller.poll(one)
        one.kill()
        await publish(two, channel, 1)

        async def goes_on() -> bool:
            # 503 until the other nodes know, 404 then, and 200 without `connection`.
            return await poller.poll(two) == 200

        await eventually(goes_on, seconds=60)
        assert (poller.data, poller.restarts) == ([0, 1], 1)
