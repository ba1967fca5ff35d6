"""Which channels there are, over Redis: no channel falls between what is told and what is read."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
from redis import Redis

from hub.brokers.redis import directory
from hub.brokers.redis.keys import DEFAULT_PREFIX, Keys
from hub.errors import HubError, UnavailableError
from tests.brokers.redis.acl import NODE_RULES, PASSWORD
from tests.brokers.redis.nodes import FAST, TestNode, node
from tests.brokers.redis.proxy import proxy
from tests.support.redis_cluster import RedisCluster
from tests.support.redis_sentinel import SentinelSet
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

KEYS = Keys(DEFAULT_PREFIX)


@dataclass
class Told:
    """Notes the names of channels that appear, and how often some were missed."""

    names: list[str] = field(default_factory=list)
    misses: int = 0
    """How often it was told to look for what follows ends."""

    def appeared(self, name: str) -> None:
        self.names.append(name)

    def missed(self) -> None:
        self.misses += 1


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "_LOOK_SECONDS", 0.02)


async def matching(one: TestNode, pattern: str = "**") -> list[str]:
    return sorted(await one.broker.matching(pattern, 1000))


async def test_channels_that_began_while_a_node_was_cut_off_are_told_behind(
    redis: RedisServer,
) -> None:
    """A channel that was empty before is told once it has a publication, and channels that
    are still empty are not."""
    async with proxy(redis.port) as way, node(redis.url) as other, node(way.url) as one:
        await one.is_ready()
        await other.publish("a", 1)
        for empty in ("empty", "later"):
            await other.subscribe(empty)
        told = Told()
        one.broker.follow(told)
        assert await matching(one) == ["a"]
        way.refused = b"CLIENT"
        way.close()
        await eventually(lambda: bool(one.broker.away()))
        for name in ("b", "later", "a"):
            await other.publish(name, 1)
        await other.subscribe("empty-too")
        assert told.names == []
        way.refused = None
        await eventually(lambda: sorted(told.names) == ["b", "later"])
        # That something follows an end shows in no name.
        await eventually(lambda: told.misses == 1)
        assert await matching(one) == ["a", "b", "later"]
        await other.publish("empty", 1)
        await eventually(lambda: "empty" in told.names)


async def test_channels_that_a_deaf_connection_did_not_bring_are_found_afterwards(
    redis: RedisServer,
) -> None:
    """No error shows that Redis sends nothing any more."""
    async with proxy(redis.port) as way, node(redis.url) as other, node(way.url) as one:
        await one.is_ready()
        told = Told()
        one.broker.follow(told)
        assert await matching(one) == []
        way.make_subscribers_deaf()
        await other.publish("a", 1)
        await eventually(lambda: told.names == ["a"])


async def test_a_channel_that_nobody_told_of_comes_with_the_next_round(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that a node of a version before has begun; names that Redis forgot go."""
    monkeypatch.setattr(directory, "_ROUND_SECONDS", 0.2)
    async with node(redis.url) as one:
        await one.is_ready()
        await one.publish("gone", 1)
        told = Told()
        one.broker.follow(told)
        assert await matching(one) == ["gone"]
        redis.ask("DEL", KEYS.meta("gone"))
        redis.ask(
            "HSET", KEYS.meta("untold"), "epoch", "e", "offset", "3", "history", "h", "run", "r"
        )
        await eventually(lambda: told.names == ["untold"])
        known = one.broker._directory._known
        assert known is not None
        await eventually(lambda: "gone" not in known.names)
        assert await matching(one) == ["untold"]


async def test_a_user_who_may_not_say_it_begins_a_channel_all_the_same(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A publisher with rights on one channel alone begins it; the nodes find the
    channel, and are not told of it."""
    monkeypatch.setattr(directory, "_ROUND_SECONDS", 0.2)
    async with node(redis.url) as one:
        await one.is_ready()
        told = Told()
        one.broker.follow(told)
        assert await matching(one) == []
        rules = [rule for rule in NODE_RULES if not rule.startswith(("~", "&"))]
        redis.ask("ACL", "SETUSER", "shop", *rules, "~hub:{a}:*", "&hub:{a}")
        with Redis(port=redis.port, protocol=2, username="shop", password=PASSWORD) as client:
            client.fcall("hub_publish", 2, KEYS.meta("a"), KEYS.log("a"), "1")
        await eventually(lambda: told.names == ["a"])


async def test_a_user_who_may_not_look_is_told_why(redis: RedisServer) -> None:
    redis.ask("ACL", "SETUSER", "blind", *NODE_RULES, "-scan")
    url = f"redis://blind:{PASSWORD}@127.0.0.1:{redis.port}"
    async with node(url) as one:
        await one.is_ready()
        one.broker.follow(Told())
        with pytest.raises(UnavailableError, match="list of channels"):
            await one.broker.matching("**", 9)


async def test_nothing_is_listened_to_once_no_pattern_is_left(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A moment later: a page that is loaded again comes back to what is known."""
    monkeypatch.setattr(directory, "_LINGER_SECONDS", 0.05)

    def listeners() -> bytes:
        return redis.ask("PUBSUB", "NUMSUB", KEYS.born())

    async with node(redis.url) as one:
        await one.is_ready()
        one.broker.follow(Told())
        assert await matching(one) == []
        assert listeners().endswith(b":1\r\n")
        one.broker.unfollow()
        one.broker.follow(Told())
        await asyncio.sleep(0.1)
        assert listeners().endswith(b":1\r\n")
        one.broker.unfollow()
        await eventually(lambda: listeners().endswith(b":0\r\n"))


async def test_while_redis_is_away_nobody_knows() -> None:
    with RedisServer() as redis:
        url = redis.url
    async with node(url) as one:
        one.broker.follow(Told())
        with pytest.raises(UnavailableError):
            await one.broker.matching("**", 9)


async def test_more_channels_than_a_node_keeps_names_of_are_refused(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "MAX_NAMES", 3)
    async with node(redis.url) as one:
        await one.is_ready()
        one.broker.follow(Told())
        for name in ("a", "b"):
            await one.publish(name, 1)

        async def are_both_known() -> bool:
            return await matching(one) == ["a", "b"]

        await eventually(are_both_known)
        for name in ("c", "d"):
            await one.publish(name, 1)
        with pytest.raises(UnavailableError, match="more than 3"):
            await eventually_found(one, 3)


async def eventually_found(one: TestNode, count: int) -> None:
    for _ in range(100):
        assert len(await matching(one)) <= count
        await asyncio.sleep(0.02)


# -- more servers than one ---------------------------------------------------------------------


async def test_names_of_several_servers_are_one_list() -> None:
    with RedisServer() as first, RedisServer() as second, RedisServer() as third:
        url = ",".join(server.url for server in (first, second, third))
        async with node(url) as one, node(url) as other:
            await one.is_ready()
            await other.is_ready()
            await check_names(one, other, first.restart)


async def test_names_of_a_cluster_are_one_list_also_behind_a_failover() -> None:
    """A channel that begins at the replica that took over is announced by
    it or found in its list."""
    options = replace(FAST, cluster_seconds=0.2)
    with RedisCluster() as cluster:
        async with (
            node(cluster.url, options=options) as one,
            node(cluster.url, options=options) as other,
        ):
            await one.is_ready()
            await other.is_ready()
            await check_names(one, other, cluster.masters[0].kill)


async def test_names_behind_sentinels_go_on_at_the_next_master(channel: str) -> None:
    with SentinelSet() as sentinel:
        async with node(sentinel.url) as one, node(sentinel.url) as other:
            await one.is_ready()
            await other.is_ready()
            await check_names(one, other, sentinel.master.kill)


async def check_names(one: TestNode, other: TestNode, fault: Callable[[], object]) -> None:
    before = [f"a:{number}" for number in range(30)]
    for name in before:
        await other.publish(name, 1)
    told = Told()
    one.broker.follow(told)
    assert await matching(one, "a:*") == sorted(before)
    await other.publish("told:1", 1)
    # A cluster tells all of its servers, the others a little later.
    await eventually(lambda: "told:1" in told.names)
    fault()
    after = [f"b:{number}" for number in range(30)]
    for name in after:
        await publish_in_the_end(other, name)
    await eventually(lambda: set(after) <= set(told.names))
    # As publishing, asking may come while the node looks for the server that took over.
    assert await matching_in_the_end(one, "b:*") == sorted(after)


async def matching_in_the_end(one: TestNode, pattern: str) -> list[str]:
    async def found() -> list[str]:
        try:
            return await matching(one, pattern)
        except UnavailableError:
            return []

    return await eventually(found, what=f"an answer to {pattern}")


async def publish_in_the_end(one: TestNode, name: str) -> None:
    async def published() -> bool:
        try:
            await one.publish(name, 1)
        except HubError:
            return False
        return True

    async with asyncio.timeout(30):
        while not await published():
            await asyncio.sleep(0.05)
