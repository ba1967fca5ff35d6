"""Figures of a node on `hub:stats`, and the outages of its broker's servers, logged once each."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2 as httpx
import jwt
import pytest_asyncio
import structlog
from structlog.testing import CapturingLogger
from structlog.typing import FilteringBoundLogger
from websockets.asyncio.client import connect

from hub.app import Hub
from hub.core.counters import Counters
from hub.core.ports import PublishRequest
from hub.errors import NotPublishedError
from hub.node.stats import HOLD_SECONDS, SETTLED_SECONDS, Outage, publish_stats, say_farewell
from hub.settings import Settings
from tests.support.waiting import eventually

OPERATOR_KEY, PUBLISH_KEY = "operator-key", "publish-key"
TOKEN_KEY = "a-token-key-of-at-least-32-bytes"
EVERYTHING = jwt.encode(
    {"sub": "ann", "hub": {"subscribe": ["*"], "publish": ["*"]}}, TOKEN_KEY, algorithm="HS256"
)


@pytest_asyncio.fixture
async def hub() -> AsyncIterator[Hub]:
    settings = Settings(
        port=0,
        node="n1",
        drain_seconds=0,
        stats_seconds=0.05,
        operator_keys=[OPERATOR_KEY],
        publish_keys=[PUBLISH_KEY],
        token_keys=[TOKEN_KEY],
    )
    async with Hub(settings) as hub:
        yield hub


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def ticket(hub: Hub) -> str:
    async with httpx.AsyncClient(base_url=hub.url, headers=bearer(OPERATOR_KEY)) as client:
        return str((await client.post("/api/ticket")).raise_for_status().json()["ticket"])


async def pushes(
    hub: Hub, token: str, count: int, *, last: int | None = None
) -> list[dict[str, Any]]:
    """Returns the first `count` pushes of a session that subscribes to the
    figures, without its welcome."""
    found: list[dict[str, Any]] = []
    url = f"ws{hub.url.removeprefix('http')}/ws?channel=hub:stats&token={token}"
    url += "" if last is None else f"&last={last}"
    async with asyncio.timeout(30), connect(url) as connection:
        while len(found) < count:
            push = json.loads(await connection.recv())
            if push["op"] not in {"welcome", "heartbeat"}:
                found.append(push)
    return found


async def test_an_operator_gets_a_nodes_figures_again_and_again(hub: Hub) -> None:
    """As `GET /api/nodes` has them; the publication's key is the node's name."""
    await hub.publish("prices", 1)
    _, first, second = await pushes(hub, await ticket(hub), 3)
    assert first["key"] == "n1"
    assert second["offset"] == first["offset"] + 1
    assert second["data"]["at_ms"] >= first["data"]["at_ms"]
    figures = first["data"]
    assert (figures["node"], figures["connections"]) == ("n1", 1)
    assert figures["transports"]["websocket"] == 1
    async with httpx.AsyncClient(base_url=hub.url, headers=bearer(OPERATOR_KEY)) as client:
        (listed,) = (await client.get("/api/nodes")).json()["nodes"]
    assert listed.keys() == figures.keys()


async def test_figures_do_not_count_as_publications(hub: Hub) -> None:
    """Else a hub at rest would seem to be at work."""
    await hub.publish("prices", 1)
    *_, last = await pushes(hub, await ticket(hub), 4)
    assert last["data"]["publications"] == 1


async def test_a_token_for_everything_does_not_get_the_figures(hub: Hub) -> None:
    refused = (await pushes(hub, EVERYTHING, 1))[0]
    assert refused["op"] != "subscribed"
    async with httpx.AsyncClient(base_url=hub.url, headers=bearer(EVERYTHING)) as client:
        assert (await client.get("/api/channels/hub:stats/history")).status_code == 403


async def test_nobody_publishes_figures_through_the_api(hub: Hub) -> None:
    """Not even an operator: the dashboard believes what stands there."""
    for key in (PUBLISH_KEY, OPERATOR_KEY, EVERYTHING):
        async with httpx.AsyncClient(base_url=hub.url, headers=bearer(key)) as client:
            answer = await client.post("/api/publish/hub:stats", content="{}")
        assert answer.status_code == 403, key


async def test_figures_are_remembered_while_nobody_reads(hub: Hub) -> None:
    """A dashboard that is opened begins with them."""

    async def some() -> bool:
        page = await hub.node.broker.history("hub:stats", 0, 100)
        return page.head.offset > 3

    await eventually(some, what="figures")
    told = await pushes(hub, await ticket(hub), 4, last=3)
    offsets = [push["offset"] for push in told if push["op"] == "message"]
    assert offsets == list(range(offsets[0], offsets[0] + 3))
    assert offsets[0] < offsets[-1] <= told[-1]["offset"]


async def test_a_node_that_stops_says_so_and_one_whose_broker_is_away_stops_all_the_same(
    hub: Hub,
) -> None:
    """Its last figures tell when."""
    said: list[dict[str, Any]] = []

    async def publish(request: PublishRequest) -> None:
        said.append(json.loads(request.data))

    record = hub.node.api.node()
    await say_farewell(publish, record)
    assert [(each["node"], each["ended_ms"]) for each in said] == [("n1", record.at_ms)]
    assert record.ended_ms == 0

    async def refuse(_request: PublishRequest) -> None:
        raise NotPublishedError("Redis is away")

    await say_farewell(refuse, record)


async def test_a_broker_that_is_away_does_not_end_the_figures(hub: Hub) -> None:
    """The next second says it all again."""
    tried = 0

    async def publish(_request: PublishRequest) -> None:
        nonlocal tried
        tried += 1
        raise NotPublishedError("Redis is away")

    work = publish_stats(publish, hub.node.api.node, interval_seconds=0)
    publishing = asyncio.create_task(work)
    await eventually(lambda: tried > 10, what="several attempts")
    assert not publishing.done()
    publishing.cancel()
    await asyncio.gather(publishing, return_exceptions=True)


async def test_the_list_of_channels_shows_the_hubs_own_only_to_who_asks_for_them(hub: Hub) -> None:
    await hub.publish("prices", 1)
    await pushes(hub, await ticket(hub), 1)
    async with httpx.AsyncClient(base_url=hub.url, headers=bearer(OPERATOR_KEY)) as client:
        everything = (await client.get("/api/channels")).json()
        own = (await client.get("/api/channels?prefix=hub:")).json()
    assert [row["channel"] for row in everything["channels"]] == ["prices"]
    assert [row["channel"] for row in own["channels"]] == ["hub:stats"]


WALL_SECONDS = 1_800_000_000.0
DEAD = ("redis://127.0.0.1:6379 (Connection refused)",)


class Watched:
    """An outage with a clock, servers and counters that the test sets."""

    def __init__(self) -> None:
        self.now = 0.0
        self.away: tuple[str, ...] = ()
        self.counters = Counters()
        self.log = CapturingLogger()
        bound: FilteringBoundLogger = structlog.wrap_logger(self.log, processors=[])
        self.outage = Outage(
            lambda: self.away,
            counters=self.counters,
            clock=lambda: self.now,
            wall_clock=lambda: WALL_SECONDS + self.now,
            log=bound,
        )

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += 0.05
            self.outage.tick()

    @property
    def events(self) -> list[object]:
        return [call.kwargs["event"] for call in self.log.calls]


def test_a_server_that_is_away_is_told_with_since_when() -> None:
    """As of when it was seen first; once in the log, however long it lasts."""
    watched = Watched()
    watched.pass_time(5)
    assert (watched.outage.servers, watched.outage.since_ms) == ((), 0)
    watched.away = DEAD
    watched.pass_time(HOLD_SECONDS + 60)
    since = watched.outage.since_ms / 1000 - WALL_SECONDS
    assert watched.outage.servers == DEAD
    assert 5 <= since <= 5.5
    assert watched.events == ["broker_away"]


def test_a_connection_that_is_made_anew_at_once_is_no_outage() -> None:
    watched = Watched()
    for _ in range(5):
        watched.away = DEAD
        watched.pass_time(HOLD_SECONDS / 2)
        watched.away = ()
        watched.pass_time(1)
    assert (watched.outage.since_ms, watched.outage.back_ms, watched.events) == (0, 0, [])


def test_after_the_return_it_is_known_how_long_it_was_and_what_was_reset() -> None:
    """Resets from before do not count, and those of the next outage count anew."""
    watched = Watched()
    watched.counters.broker_resets = 7
    for resets in (3, 0):
        watched.away = DEAD
        watched.pass_time(HOLD_SECONDS + 10)
        watched.away = ()
        watched.pass_time(1)
        watched.counters.broker_resets += resets
        assert (watched.outage.servers, watched.outage.since_ms) == ((), 0)
        assert watched.outage.back_ms > 0
        watched.pass_time(SETTLED_SECONDS + 1)
        assert watched.outage.reset_channels == resets
    assert watched.events == [
        *("broker_away", "broker_back", "broker_reset_channels"),
        *("broker_away", "broker_back"),
    ]
    back = watched.log.calls[1].kwargs["away_seconds"]
    assert HOLD_SECONDS + 9 < back < HOLD_SECONDS + 12


def test_a_server_that_was_never_away_reset_nothing() -> None:
    """An epoch may also end where somebody emptied Redis."""
    watched = Watched()
    watched.counters.broker_resets = 2
    watched.pass_time(SETTLED_SECONDS)
    assert watched.outage.reset_channels == 0
