"""Both publishers against a real hub with a real Redis, while one or the other fails.

What was acknowledged is in the channel's history exactly once; nothing is in it twice.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import httpx2 as httpx
import pytest

from hub_client import (
    CommandError,
    HubClient,
    NotPublishedError,
    Outgoing,
    Published,
    Publisher,
    PublisherOptions,
    PublishRefusedError,
    PublishRetry,
    Retrying,
    SyncPublisher,
)
from tests.support.hub_process import HubProcess
from tests.support.redis_server import RedisServer, is_installed
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.skipif(not is_installed(), reason="no redis-server here"),
    # Starts and restarts of a hub, on a machine that others use too.
    pytest.mark.timeout(180),
]

Publish = Callable[[int], Coroutine[None, None, Published]]
OpenPublisher = Callable[[str, PublisherOptions], AbstractAsyncContextManager[Publish]]
PATIENT = PublishRetry(for_seconds=45, base_seconds=0.02, cap_seconds=0.2)
WORKERS, KILLS = 4, 2


@asynccontextmanager
async def with_publisher(url: str, options: PublisherOptions) -> AsyncIterator[Publish]:
    async with Publisher(url, options=options) as publisher:
        yield lambda number: publisher.publish("a", number)


@asynccontextmanager
async def with_threads(url: str, options: PublisherOptions) -> AsyncIterator[Publish]:
    with SyncPublisher(url, options=options) as publisher:
        yield lambda number: asyncio.to_thread(publisher.publish, "a", number)


both = pytest.mark.parametrize(
    "open_publisher", [with_publisher, with_threads], ids=["asynchronous", "threads"]
)


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


async def history(url: str) -> list[object]:
    async with httpx.AsyncClient(timeout=30) as http:
        answer = await http.get(f"{url}/api/channels/a/history", params={"limit": 1000})
    return [item["data"] for item in answer.json()["publications"]]


async def more_of(told: dict[int, int]) -> None:
    """Wait until some more publications were acknowledged."""
    enough = len(told) + 10
    await eventually(lambda: len(told) >= enough, seconds=30, what="ten more publications")


@both
async def test_a_hub_killed_in_mid_publish_loses_and_doubles_nothing(
    redis: RedisServer, open_publisher: OpenPublisher
) -> None:
    """Four publish without a pause while the hub is killed and started again twice."""
    told: dict[int, int] = {}
    numbers = iter(range(1000))
    enough = asyncio.Event()

    async def work(publish: Publish) -> None:
        while not enough.is_set():
            number = next(numbers)
            told[number] = (await publish(number)).position.offset
            await asyncio.sleep(random.uniform(0, 0.01))

    options = PublisherOptions(retry=PATIENT, breaker=None)
    with HubProcess(HUB_BROKER=redis.url, HUB_HISTORY_SIZE="1000") as hub:
        async with open_publisher(hub.url, options) as publish, asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(work(publish))
            for _ in range(KILLS):
                await more_of(told)
                hub.kill()
                await asyncio.to_thread(hub.restart)
            await more_of(told)
            enough.set()
        kept = await history(hub.url)
    assert {number: kept.index(number) + 1 for number in told} == told
    assert len(kept) == len(told)


@both
async def test_a_frozen_redis_is_waited_for_and_what_it_had_taken_is_not_doubled(
    redis: RedisServer, open_publisher: OpenPublisher
) -> None:
    """The hub answers `outcome_unknown`; the retry carries the same key and finds the first."""
    notices: list[Retrying] = []
    options = PublisherOptions(retry=PATIENT, breaker=None, on_retry=notices.append)
    with HubProcess(HUB_BROKER=redis.url) as hub:
        async with open_publisher(hub.url, options) as publish:
            await publish(1)
            redis.freeze()
            call = asyncio.create_task(publish(2))
            try:
                await eventually(lambda: notices, seconds=30, what="a retry")
            finally:
                redis.thaw()
            assert (await call).duplicate
            await publish(3)
        assert "outcome_unknown" in notices[0].why
        assert await history(hub.url) == [1, 2, 3]


@pytest.mark.parametrize("close", ["kill", "stop"])
async def test_a_hub_that_stays_away_means_that_it_surely_did_not_happen(close: str) -> None:
    """Every item of a list says so; nothing was connected to."""
    options = PublisherOptions(PublishRetry(for_seconds=0.2, base_seconds=0.01))
    with HubProcess() as hub:
        async with Publisher(hub.url, options=options) as publisher:
            getattr(hub, close)()
            outcomes = await publisher.publish_many(Outgoing.of("a", n) for n in range(3))
    assert [type(outcome) for outcome in outcomes] == [NotPublishedError] * 3


async def test_each_item_has_its_own_fate_in_a_real_hub() -> None:
    """A channel that is no channel and a payload that is too large; the others arrive."""
    items = [
        Outgoing.of("a", 1),
        Outgoing.of("no channel", 2),
        Outgoing.of("a", "x" * 100_000),
        Outgoing.of("a", 4, idempotency_key="k" * 1000),
        Outgoing.of("a", 5),
    ]
    with HubProcess() as hub:
        async with Publisher(hub.url) as publisher:
            outcomes = await publisher.publish_many(items)
        assert await history(hub.url) == [1, 5]
    codes = [
        outcome.code if isinstance(outcome, PublishRefusedError) else "" for outcome in outcomes
    ]
    assert codes == ["", "bad_request", "too_large", "bad_request", ""]


async def test_json_that_only_the_hub_finds_wrong_does_not_take_its_neighbours_with_it() -> None:
    """Bytes that are no UTF-8 spoil the whole request; it is asked again in halves."""
    items = [Outgoing.of("a", 1), Outgoing("a", b'"\xff"'), Outgoing.of("a", 3)]
    with HubProcess() as hub:
        async with Publisher(hub.url) as publisher:
            outcomes = await publisher.publish_many(items)
        assert await history(hub.url) == [1, 3]
    assert [type(outcome) for outcome in outcomes] == [Published, PublishRefusedError, Published]


async def test_a_payload_goes_to_several_channels_and_each_has_its_result() -> None:
    """From both publishers and from a session; the channel without a grant is refused alone."""
    channels = ["a:1", "b", "a:2"]
    with HubProcess(HUB_PUBLISH_KEYS="k=a:*", HUB_ANONYMOUS="subscribe") as hub:
        async with Publisher(hub.url, key="k") as publisher:
            told = await publisher.publish(channels, {"n": 1}, tags={"of": "all"}, key="row")
        with SyncPublisher(hub.url, key="k") as blocking:
            by_thread = await asyncio.to_thread(blocking.publish, channels, {"n": 2})
        async with httpx.AsyncClient(timeout=30) as http:
            answer = await http.get(f"{hub.url}/api/channels/a:2/history")
    for number, outcomes in enumerate((told, by_thread), 1):
        first, refused, last = outcomes
        assert isinstance(first, Published)
        assert isinstance(last, Published)
        assert (first.channel, last.channel) == ("a:1", "a:2")
        assert (first.position.offset, last.position.offset) == (number, number)
        assert isinstance(refused, PublishRefusedError)
        assert refused.code == "forbidden"
    kept = answer.json()["publications"]
    assert [row["data"] for row in kept] == [{"n": 1}, {"n": 2}]
    assert (kept[0]["key"], kept[0]["tags"]) == ("row", {"of": "all"})


async def test_a_session_publishes_in_several_channels() -> None:
    """One result for each, an error where it was refused."""
    with HubProcess() as hub:
        async with HubClient(hub.url) as client:
            told = await client.publish(["a", "not allowed", "b"], 1, idempotency_key="once")
            again = await client.publish(["a", "b"], 1, idempotency_key="once")
    first, refused, last = told
    assert isinstance(first, Published)
    assert isinstance(last, Published)
    assert isinstance(refused, CommandError)
    assert refused.code == "bad_request"
    assert all(isinstance(each, Published) and each.duplicate for each in again)
