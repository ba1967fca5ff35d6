"""Publications over Redis: the answer that the publisher gets, and what Redis holds afterwards."""

import asyncio
from dataclasses import replace

import pytest
from msgspec import structs
from redis import Redis
from redis.exceptions import ResponseError

from hub.brokers.redis.options import RedisOptions
from hub.core.options import ChannelOptions
from hub.core.ports import PublishRequest
from hub.core.publication import Publication
from hub.core.pushes import GapReason
from hub.errors import ConflictError, NotPublishedError, OutcomeUnknownError, UnavailableError
from tests.brokers.redis.nodes import FAST, TestNode, node
from tests.brokers.redis.proxy import proxy
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

SCRIPTS = replace(FAST, use_functions=False)


@pytest.mark.parametrize("options", [FAST, SCRIPTS], ids=["functions", "scripts"])
async def test_publication_arrives_as_it_was_published(
    redis: RedisServer, channel: str, options: RedisOptions
) -> None:
    """All its fields arrive, also if the server knows no functions."""
    request = PublishRequest(
        channel, b'{"a": "\xc3\xa4", "n": 12345678901234567890123}', "p", "k", "s", "c"
    )
    async with node(redis.url, options=options) as one:
        stream = await one.subscribe(channel)
        result = await one.broker.publish(request)
        await eventually(lambda: stream.items)
        (item,) = stream.items
        assert isinstance(item, Publication)
        assert item == Publication(channel, 1, request.data, item.time_ms, "k", "s", "c")
        page = await one.broker.history(channel, 0, 10)
        assert page.publications == (item,)
        assert (page.head, page.oldest) == (result.position, 1)


async def test_nodes_with_functions_and_with_scripts_share_a_channel(
    redis: RedisServer, channel: str
) -> None:
    async with node(redis.url) as one, node(redis.url, options=SCRIPTS) as two:
        stream = await one.subscribe(channel)
        for number in range(10):
            await (one, two)[number % 2].publish(channel, number)
        await eventually(lambda: len(stream.data) == 10)
        assert not stream.resets
        assert not stream.gaps


@pytest.mark.parametrize("options", [FAST, SCRIPTS], ids=["functions", "scripts"])
async def test_idempotency_key_publishes_once_at_whichever_node(
    redis: RedisServer, channel: str, options: RedisOptions
) -> None:
    async with node(redis.url, options=options) as one, node(redis.url, options=options) as two:
        stream = await two.subscribe(channel)
        first = await one.publish(channel, 1, idempotency_key="x")
        again = await two.publish(channel, 1, idempotency_key="x")
        assert not first.duplicate
        assert again == structs.replace(first, duplicate=True)
        with pytest.raises(ConflictError, match="'x'"):
            await two.publish(channel, 2, idempotency_key="x")
        with pytest.raises(ConflictError):
            await two.publish(channel, 1, key="k", idempotency_key="x")
        other = PublishRequest(channel, b"2", "somebody else", idempotency_key="x")
        assert not (await two.broker.publish(other)).duplicate
        await eventually(lambda: len(stream.data) == 2)
        assert stream.data == [b"1", b"2"]


async def test_redis_that_is_down_refuses_at_once(redis: RedisServer, channel: str) -> None:
    """No publisher waits for a server that is known to be away, and it is safe to try again."""
    slow = replace(FAST, command_timeout_seconds=60, connect_timeout_seconds=60)
    async with node(redis.url, options=slow) as one:
        await one.is_ready()
        redis.kill()
        with pytest.raises((NotPublishedError, OutcomeUnknownError)):
            await asyncio.wait_for(_publish_until_error(one, channel), 30)
        with pytest.raises(NotPublishedError) as refused:
            await one.publish(channel, 1)
        assert refused.value.retry_after_seconds
        with pytest.raises(UnavailableError):
            await one.subscribe(channel)
        with pytest.raises(UnavailableError):
            await one.broker.history(channel, 0, 1)


async def _publish_until_error(one: TestNode, channel: str) -> None:
    while True:
        await one.publish(channel, 1)


async def test_call_without_an_answer_has_an_unknown_outcome(
    redis: RedisServer, channel: str
) -> None:
    async with node(redis.url) as one:
        await one.publish(channel, 1)
        redis.freeze()
        with pytest.raises(OutcomeUnknownError):
            await one.publish(channel, 2)
        with pytest.raises(NotPublishedError):
            await one.publish(channel, 3)
        redis.thaw()


async def test_connection_cut_in_mid_reply_is_settled_by_the_same_key(
    redis: RedisServer, channel: str
) -> None:
    async with proxy(redis.port) as between, node(between.url) as one:
        await one.publish(channel, 1)
        between.cut_at = b"precious"
        with pytest.raises(OutcomeUnknownError):
            await one.publish(channel, b'"precious"', idempotency_key="x")
        await eventually(one.broker.shard(channel).calls.up.is_set)
        again = await one.publish(channel, b'"precious"', idempotency_key="x")
        assert again.duplicate
        assert again.position.offset == 2


async def test_publishers_over_the_bound_are_refused_and_no_others(
    redis: RedisServer, channel: str
) -> None:
    options = replace(FAST, max_pending_calls=50)
    async with node(redis.url, options=options) as one:
        await one.is_ready()
        results = await asyncio.gather(
            *(one.publish(channel, number) for number in range(100)), return_exceptions=True
        )
        refused = [result for result in results if isinstance(result, NotPublishedError)]
        assert 50 <= len(refused) < 60, "calls of the canary and others count too"
        assert (await one.publish(channel, 1)).position.offset == 100 - len(refused) + 1


async def test_everything_the_hub_keeps_expires(redis: RedisServer, channel: str) -> None:
    async with node(redis.url) as one:
        await one.subscribe(f"only-{channel}")
        await one.publish(channel, 1, idempotency_key="x")
        with Redis(port=redis.port, protocol=2) as client:
            keys = client.keys()
            assert len(keys) == 5, "one of them for all channels: the line"
            for key in keys:
                assert key.startswith(b"hub:{")
                assert client.pttl(key) > 0, key
            assert 6 * 24 * 3600 < client.ttl(f"hub:{{{channel}}}:meta") <= 7 * 24 * 3600
            assert client.ttl(f"hub:{{{channel}}}:log") <= 300
            assert client.ttl(f"hub:{{only-{channel}}}:meta") <= 2 * 3600, "nobody published"


@pytest.mark.parametrize("options", [FAST, SCRIPTS], ids=["functions", "scripts"])
async def test_reading_what_nobody_used_makes_nothing(
    redis: RedisServer, channel: str, options: RedisOptions
) -> None:
    """Neither a key nor an epoch that somebody could rely on; publishing begins as ever."""
    async with node(redis.url, options=options) as one:
        pages = [await one.broker.history(f"{channel}-{n}", 0, 1) for n in range(50)]
        with Redis(port=redis.port, protocol=2) as client:
            assert client.keys(f"hub:*{channel}*") == []
        assert {(str(page.head), page.oldest) for page in pages} == {("none:0", 1)}
        first = await one.publish(f"{channel}-1", 1)
        assert (await one.broker.history(f"{channel}-1", 0, 9)).head == first.position


@pytest.mark.parametrize("options", [FAST, SCRIPTS], ids=["functions", "scripts"])
async def test_page_of_history_is_bounded_in_bytes_by_the_server(
    redis: RedisServer, channel: str, options: RedisOptions
) -> None:
    """Redis sends no more than the page: 12 MB lie there, a page is 128 KiB."""
    async with node(redis.url, options=options) as one:
        for _ in range(200):
            await one.publish(channel, b'"' + b"1" * 60_000 + b'"')
        with Redis(port=redis.port, protocol=2) as client:
            before = client.info("stats")["total_net_output_bytes"]
            page = await one.broker.history(channel, 0, 1000, max_bytes=1 << 20)
            sent = client.info("stats")["total_net_output_bytes"] - before
        assert [publication.offset for publication in page.publications] == [101, 102]
        assert sent < 200_000


async def test_readers_do_not_stand_in_line_before_publishers(
    redis: RedisServer, channel: str
) -> None:
    """However many read, a MiB at most is on its way before what is asked next."""
    async with node(redis.url) as one:
        for _ in range(40):
            await one.publish(channel, b'"' + b"1" * 60_000 + b'"')
        reads = [
            asyncio.ensure_future(one.broker.history(channel, 0, 1000, max_bytes=1 << 20))
            for _ in range(200)
        ]
        pending = []
        while not all(read.done() for read in reads):
            pending.append(one.broker.shard(channel).calls.pending)
            await asyncio.sleep(0)
        assert max(pending) < 20, "8 reads, and what the node asks by itself"
        assert all([(await read).publications for read in reads])


async def test_any_client_publishes_by_the_public_function(
    redis: RedisServer, channel: str
) -> None:
    stem = f"hub:{{{channel}}}"
    keys = (f"{stem}:meta", f"{stem}:log")
    namespaces = {"small": ChannelOptions(history_size=2)}
    async with node(redis.url, namespaces=namespaces) as one:
        stream = await one.subscribe(channel)
        with Redis(port=redis.port, protocol=2) as client:
            epoch, offset, duplicate = client.fcall("hub_publish", 2, *keys, '{"n":1}')
            held = one.broker.held(channel)
            assert held is not None
            assert (epoch.decode(), offset, duplicate) == (held[0].epoch, 1, 0)
            client.fcall("hub_publish", 2, *keys, "[\n2]", "my key")
            for expected in ([epoch, 3, 0], [epoch, 3, 1]):
                answer = client.fcall("hub_publish", 3, *keys, f"{stem}:once:a", "3")
                assert answer == expected
            assert client.fcall("hub_publish", 3, *keys, f"{stem}:once:a", "4") == [b"conflict"]
        await eventually(lambda: len(stream.items) == 3)
        assert stream.data == [b'{"n":1}', b"[ 2]", b"3"]
        second = stream.items[1]
        assert isinstance(second, Publication)
        assert second.key == "my key"


@pytest.mark.parametrize(
    "keys",
    [
        (),
        ("hub:{b}:meta",),
        ("hub:{b}:log", "hub:{b}:meta"),
        ("hub:{b}:meta", "hub:{CHANNEL}:log"),
        ("hub:{b}:meta", "hub:{b}:log", "hub:{CHANNEL}:once:1"),
        ("hub:{b}:meta", "hub:{b}:log", "hub:{b}:once:"),
        ("hub:{b}:meta", "hub:{b}:log", "hub:{b}:meta"),
        ("hub:{no name}:meta", "hub:{no name}:log"),
        (f"hub:{{{'b' * 201}}}:meta", f"hub:{{{'b' * 201}}}:log"),
        # No hub can have such a prefix.
        (":{b}:meta", ":{b}:log"),
        ("a:b:{b}:meta", "a:b:{b}:log"),
        (f"{'p' * 33}:{{b}}:meta", f"{'p' * 33}:{{b}}:log"),
    ],
)
async def test_public_function_refuses_keys_that_are_not_those_of_one_channel(
    redis: RedisServer, channel: str, keys: tuple[str, ...]
) -> None:
    """The history of the other channel is unchanged, and nothing is written."""
    async with node(redis.url) as one:
        await one.publish(channel, 1)
        names = [key.replace("CHANNEL", channel) for key in keys]
        with Redis(port=redis.port, protocol=2) as client:
            before = client.dbsize()
            with pytest.raises(ResponseError, match="use: FCALL hub_publish 2"):
                client.fcall("hub_publish", len(names), *names, "2")
            assert client.dbsize() == before
        page = await one.broker.history(channel, 0, 10)
        assert [publication.data for publication in page.publications] == [b"1"]


async def test_public_function_keeps_as_much_as_the_hub_would(
    redis: RedisServer, channel: str
) -> None:
    channel = f"small:{channel}"
    stem = f"hub:{{{channel}}}"
    async with node(redis.url, namespaces={"small": ChannelOptions(history_size=2)}) as one:
        await one.subscribe(channel)
        with Redis(port=redis.port, protocol=2) as client:
            for number in range(5):
                client.fcall("hub_publish", 2, f"{stem}:meta", f"{stem}:log", str(number))
        page = await one.broker.history(channel, 0, 10)
        assert [publication.data for publication in page.publications] == [b"3", b"4"]


@pytest.mark.parametrize("bad", ["{", "", "x" * 100_000, "\udcff"])
async def test_data_that_is_no_json_becomes_a_gap_in_its_place(
    redis: RedisServer, channel: str, bad: str
) -> None:
    stem = f"hub:{{{channel}}}"
    raw = bad.encode(errors="surrogateescape")
    async with node(redis.url) as one:
        stream = await one.subscribe(channel)
        with Redis(port=redis.port, protocol=2) as client:
            for data in (b"1", raw, b"3"):
                client.fcall("hub_publish", 2, f"{stem}:meta", f"{stem}:log", data)
        await eventually(lambda: len(stream.items) == 3)
        assert stream.data == [b"1", b"3"]
        (gap,) = stream.gaps
        assert (gap.first, gap.last, gap.reason) == (2, 2, GapReason.INVALID)
        page = await one.broker.history(channel, 1, 1)
        assert [publication.offset for publication in page.publications] == [3]


async def test_noise_on_a_channel_is_counted_and_moves_nothing(
    redis: RedisServer, channel: str
) -> None:
    async with node(redis.url) as one:
        stream = await one.subscribe(channel)
        for noise in (b"", b"hello", b"e\nx\n1\n\n1", b"e\n0\n1\n\n1", b"\xff\n1\n1\n\n1"):
            redis.ask("PUBLISH", f"hub:{{{channel}}}", noise)
        await one.publish(channel, 1)
        await eventually(lambda: stream.data == [b"1"])
        assert one.counters.broker_undecodable == 5
        assert not stream.gaps


async def test_history_ends_at_its_size(redis: RedisServer, channel: str) -> None:
    channel = f"short:{channel}"
    async with node(redis.url, namespaces={"short": ChannelOptions(history_size=3)}) as one:
        for number in range(5):
            last = await one.publish(channel, number)
        page = await one.broker.history(channel, 0, 2)
        assert page.head == last.position
        assert (page.oldest, [p.offset for p in page.publications]) == (3, [3, 4])
        assert [p.offset for p in (await one.broker.history(channel, 4, 9)).publications] == [5]


async def test_history_ends_at_its_age(redis: RedisServer, channel: str) -> None:
    """Each publication renews the whole stream's life, so entries expire by their own age."""
    channel = f"short:{channel}"
    namespaces = {"short": ChannelOptions(history_size=10_000, history_ttl_seconds=0.3)}
    async with node(redis.url, namespaces=namespaces) as one:
        first = (await one.publish(channel, 0)).position

        async def first_is_gone() -> bool:
            newest = (await one.publish(channel, 1)).position.offset
            page = await one.broker.history(channel, 0, 1)
            assert first.offset < page.oldest <= newest or page.oldest == first.offset
            assert page.publications[0].offset == page.oldest
            return page.oldest > first.offset

        await eventually(first_is_gone)
        with Redis(port=redis.port, protocol=2) as client:
            oldest = client.xrange(f"hub:{{{channel}}}:log", count=1)[0][0]
            assert oldest != b"1-0", "what is too old is not only hidden"
