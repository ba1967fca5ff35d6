"""Redis dies, freezes and cuts connections under real nodes: sessions stay,
and publishers are told."""

import asyncio
import signal
from functools import partial
from typing import Any

import httpx2 as httpx
import pytest

from tests.brokers.redis.proxy import proxy
from tests.multi_node.checker import Truth, faults
from tests.multi_node.fleet import Seat, hubs, is_ready, kept, publish, seats, status
from tests.support.hub_process import HubProcess
from tests.support.redis_server import RedisServer
from tests.support.stream import Place, View
from tests.support.waiting import eventually

# The hub promises 10 s; the rest is for a busy machine.
NOT_READY_SECONDS = 13.0
READY_SECONDS = 20.0


def refused(answer: httpx.Response) -> str:
    """Why; fails unless it is a refusal that says when to try again."""
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["Retry-After"]) >= 1
    code: str = answer.json()["code"]
    return code


async def is_published(
    hub: HubProcess, channel: str, data: object, into: dict[Place, object]
) -> bool:
    """One attempt, with a key of its own data; notes where it stands."""
    answer = await publish(hub, channel, data, key=str(data)[:20])
    if answer.status_code == 200:
        into[answer.json()["epoch"], answer.json()["offset"]] = data
        return True
    assert refused(answer) in {"not_published", "outcome_unknown"}
    return False


async def all_is_well(
    hub: HubProcess, taken: list[Seat], said: dict[Place, object], *, may_lose: bool, epochs: int
) -> list[View]:
    """One more publication, and then everybody is at the head with nothing wrong."""
    channel = taken[0].channel
    await eventually(lambda: is_published(hub, channel, "the last", said), what="a publication")
    head, held = await kept(hub, channel)
    views = [seat.view for seat in taken]
    await eventually(lambda: all(view.position == head for view in views), what="the head")
    assert faults(views, Truth(said, held, head, may_lose=may_lose, epochs=epochs)) == []
    assert all(seat.connects == 1 and seat.seated for seat in taken)
    return views


async def test_a_node_starts_without_redis_and_serves_when_it_comes(channel: str) -> None:
    """Until then it is alive, not ready, and refuses what it cannot do."""
    redis = RedisServer()
    async with asyncio.TaskGroup() as group:
        hub = HubProcess(HUB_BROKER=redis.url)
        try:
            starting = group.create_task(asyncio.to_thread(hub.start))
            await eventually(lambda: hub.url, what="the listener")
            assert await status(hub, "/healthz") == 200
            assert await status(hub, "/readyz") == 503
            assert refused(await publish(hub, channel, 1)) == "not_published"
            with redis:
                await starting
                async with seats(channel, hub) as taken:
                    await all_is_well(hub, taken, {}, may_lose=False, epochs=1)
        finally:
            await asyncio.to_thread(hub.__exit__, None, None, None)


async def test_redis_that_dies_and_comes_back_empty_is_a_reset(
    redis: RedisServer, channel: str
) -> None:
    """Sessions of both nodes stay; the epoch is a new one, so that no offset comes again."""
    said: dict[Place, object] = {}
    async with hubs(redis.url, 2) as nodes, seats(channel, *nodes) as taken:
        for number in range(5):
            assert await is_published(nodes[0], channel, number, said)
        await eventually(lambda: all(len(seat.data) == 5 for seat in taken))
        redis.kill()
        codes = {refused(await publish(hub, channel, "x")) for hub in nodes for _ in range(3)}
        assert codes <= {"not_published", "outcome_unknown"}
        for hub in nodes:
            await eventually(partial(_unready, hub), seconds=NOT_READY_SECONDS)
        redis.restart(empty=True)
        for hub in nodes:
            await eventually(partial(is_ready, hub), seconds=READY_SECONDS)
        views = await all_is_well(nodes[1], taken, said, may_lose=True, epochs=2)
        assert all(len(view.left) == 1 for view in views)


async def _unready(hub: HubProcess) -> bool:
    return await status(hub, "/readyz") == 503


async def test_each_node_answers_for_itself_while_redis_is_away(
    redis: RedisServer, channel: str
) -> None:
    """Operators see since when it is away and the others as they were; then what was reset."""
    async with hubs(redis.url, 2) as nodes, seats(channel, *nodes):
        assert len((await asked(nodes[0], "nodes"))["nodes"]) == 2
        redis.kill()

        async def is_told() -> bool:
            return bool(own(await asked(nodes[0], "nodes"))["broker_away"])

        await eventually(is_told, seconds=NOT_READY_SECONDS, what="Redis is away")
        told = await asked(nodes[0], "nodes")
        assert (len(told["nodes"]), told["complete"]) == (2, False)
        assert "not known now" in told["unknown"]
        assert own(told)["broker_away_since_ms"] > 0
        other = next(each for each in told["nodes"] if each is not own(told))
        assert other["at_ms"] < own(told)["at_ms"]
        for name in ("closed", "connections", "channels"):
            assert (await asked(nodes[0], name))["complete"] is False
        redis.restart(empty=True)

        async def is_over() -> bool:
            told = await asked(nodes[0], "nodes")
            mine = own(told)
            return bool(
                told["complete"] and mine["broker_reset_channels"] and not mine["broker_away"]
            )

        await eventually(is_over, seconds=READY_SECONDS, what="Redis is back")
        ended = own(await asked(nodes[0], "nodes"))
        assert (ended["broker_away"], ended["broker_away_since_ms"]) == ([], 0)
        assert ended["broker_back_ms"] > other["at_ms"]
        for event in ("broker_away", "broker_back"):
            assert nodes[0].stderr.count(event) == 1


async def asked(hub: HubProcess, name: str) -> dict[str, Any]:
    """Returns an operator's answer from the API."""
    async with httpx.AsyncClient(timeout=10) as client:
        answer = await client.get(f"{hub.url}/api/{name}")
    told: dict[str, Any] = answer.raise_for_status().json()
    return told


def own(told: dict[str, Any]) -> dict[str, Any]:
    """The record of the node that answered."""
    record: dict[str, Any] = next(each for each in told["nodes"] if each["node"] == told["node"])
    return record


async def test_a_frozen_redis_is_noticed_and_what_was_lost_meanwhile_comes(
    redis: RedisServer, channel: str
) -> None:
    """A frozen Redis answers nothing and closes nothing; afterwards all
    publications come in order."""
    said: dict[Place, object] = {}
    async with hubs(redis.url, 2) as nodes, seats(channel, *nodes) as taken:
        assert await is_published(nodes[0], channel, "before", said)
        redis.freeze()
        try:
            assert refused(await publish(nodes[0], channel, "unknown")) == "outcome_unknown"
            for hub in nodes:
                await eventually(partial(_unready, hub), seconds=NOT_READY_SECONDS)
            assert refused(await publish(nodes[0], channel, "refused")) == "not_published"
        finally:
            redis.thaw()
        for hub in nodes:
            await eventually(partial(is_ready, hub), seconds=READY_SECONDS)
        await all_is_well(nodes[1], taken, said, may_lose=False, epochs=1)


async def test_a_slow_redis_delays_and_loses_nothing(redis: RedisServer, channel: str) -> None:
    """Slower than usual and within the time-out: nobody is told anything."""
    said: dict[Place, object] = {}
    async with hubs(redis.url, 2) as nodes, seats(channel, *nodes) as taken:
        redis.ask("CLIENT", "PAUSE", "1000", "ALL")
        done = await asyncio.gather(
            *(is_published(nodes[n % 2], channel, n, said) for n in range(20))
        )
        assert all(done)
        await all_is_well(nodes[1], taken, said, may_lose=False, epochs=1)


async def test_a_connection_cut_in_the_middle_of_a_reply_is_an_unknown_outcome(
    redis: RedisServer, channel: str
) -> None:
    """The retry with the same key shows that the publication was made, once."""
    said: dict[Place, object] = {}
    async with (
        proxy(redis.port) as between,
        hubs(between.url, 1) as nodes,
        seats(channel, *nodes) as taken,
    ):
        (hub,) = nodes
        between.cut_at = b"cut here"
        answer = await publish(hub, channel, "cut here", key="cut here")
        assert refused(answer) == "outcome_unknown"
        await eventually(lambda: is_published(hub, channel, "cut here", said))
        views = await all_is_well(hub, taken, said, may_lose=False, epochs=1)
        assert list(views[0].delivered.values()) == ["cut here", "the last"]


@pytest.fixture
def tight() -> RedisServer:
    """A server that closes a subscriber which is owed more than 256 KiB."""
    return RedisServer(client_output_buffer_limit="pubsub 262144 262144 1")


async def test_a_subscriber_that_redis_gives_up_catches_up_from_history(
    tight: RedisServer, channel: str
) -> None:
    """A node that stood still while much was published; its own sessions miss nothing."""
    said: dict[Place, object] = {}
    with tight:
        async with hubs(tight.url, 2, HUB_OUTBOX_MAX_BYTES="64MiB") as nodes:
            async with seats(channel, *nodes) as taken:
                connects = _given_up(tight)
                await _flood_while_stopped(nodes, channel, said, tight)
                assert _given_up(tight) > connects, "Redis kept the subscriber"
                await all_is_well(nodes[0], taken, said, may_lose=False, epochs=1)


def _given_up(redis: RedisServer) -> int:
    return redis.log.count("overcoming of output buffer limits")


async def _flood_while_stopped(
    nodes: list[HubProcess], channel: str, said: dict[Place, object], redis: RedisServer
) -> None:
    stopped, other = nodes
    text = "x" * 60_000
    stopped.signal(signal.SIGSTOP)
    try:
        before = _given_up(redis)
        for number in range(400):
            assert await is_published(other, channel, f"{number} {text}", said)
            if _given_up(redis) > before:
                break
    finally:
        stopped.signal(signal.SIGCONT)
