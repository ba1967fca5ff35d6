"""A publication's trace: from the request at one node, through Redis, to the write at each."""

import json
from collections.abc import Iterator

import httpx2 as httpx
import pytest
from websockets.asyncio.client import connect

from tests.multi_node.fleet import hubs, seats
from tests.multi_node.socket_reader import TRY_SECONDS
from tests.support.hub_process import HubProcess
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

pytest.importorskip("opentelemetry.sdk", reason="the extra `otel` is not installed")

from tests.support.collector import Collector, Taken

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00"
# Next to none that nobody asked for.
FOLLOW = "0.000000001"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


async def post(hub: HubProcess, path: str, data: object, trace: str) -> None:
    async with httpx.AsyncClient(timeout=TRY_SECONDS, headers={"traceparent": trace}) as client:
        (await client.post(f"{hub.url}{path}", json=data)).raise_for_status()


def node(span: Taken) -> object:
    return span.process["service.instance.id"]


async def test_a_trace_leads_from_the_post_to_the_write_at_every_node(
    redis: RedisServer, collector: Collector, channel: str
) -> None:
    """The publish span is a child of the publisher's, every deliver span one of the publish's."""
    settings = collector.environment | {"HUB_TRACE_SAMPLE": FOLLOW}
    async with hubs(redis.url, 2, **settings) as (one, two):
        async with seats(channel, one, two, two) as taken:
            await post(one, f"/api/publish/{channel}", "plain", UNSAMPLED)
            await post(one, f"/api/publish/{channel}", "traced", SAMPLED)
            await eventually(lambda: all(seat.data == ["plain", "traced"] for seat in taken))
            await eventually(lambda: len(collector.spans) == 3, what="three spans")
        (published,), delivered = collector.named("publish"), collector.named("deliver")
        assert {span.trace for span in collector.spans} == {TRACE}
        assert (node(published), published.parent) == ("node-0", SPAN)
        assert {span.parent for span in delivered} == {published.id}
        sessions = {node(span): span.attributes["hub.sessions"] for span in delivered}
        assert sessions == {"node-0": 1, "node-1": 2}
        assert {span.attributes["hub.offset"] for span in collector.spans} == {2}
        assert {span.attributes["hub.epoch"] for span in collector.spans} == {
            taken[0].view.position[0] if taken[0].view.position else ""
        }


async def test_a_batch_and_a_session_are_traced_too(
    redis: RedisServer, collector: Collector, channel: str
) -> None:
    """Each item of a batch is a part of the request's trace; what a session publishes is its own
    trace, in the share that the setting says."""
    settings = collector.environment | {"HUB_TRACE_SAMPLE": "1"}
    async with hubs(redis.url, 2, **settings) as (one, two):
        async with seats(channel, two) as (seat,):
            items = [{"channel": channel, "data": number} for number in range(3)]
            await post(one, "/api/publish", items, SAMPLED)
            async with connect(one.ws_url, open_timeout=TRY_SECONDS) as session:
                command = {"op": "publish", "id": 1, "channel": channel, "data": 3}
                await session.send(json.dumps(command))
                await eventually(lambda: seat.data == [0, 1, 2, 3])
            await eventually(lambda: len(collector.spans) == 8, what="eight spans")
        published = {span.attributes["hub.offset"]: span for span in collector.named("publish")}
        delivered = {span.attributes["hub.offset"]: span for span in collector.named("deliver")}
        assert [published[n].trace == TRACE for n in (1, 2, 3, 4)] == [True, True, True, False]
        assert published[4].parent == ""
        for offset, span in published.items():
            assert (delivered[offset].trace, delivered[offset].parent) == (span.trace, span.id)


async def test_a_node_that_does_not_trace_delivers_what_is_traced(
    redis: RedisServer, collector: Collector, channel: str
) -> None:
    """The trace travels beside the publication, and a node that does not trace ignores it."""
    settings = collector.environment
    async with hubs(redis.url, 1, **settings, HUB_TRACE_SAMPLE="1") as (tracing,):
        async with hubs(redis.url, 1, **settings) as (plain,), seats(channel, plain) as (seat,):
            await post(tracing, f"/api/publish/{channel}", 1, SAMPLED)
            await post(plain, f"/api/publish/{channel}", 2, SAMPLED)
            await eventually(lambda: seat.data == [1, 2])
            await eventually(lambda: collector.spans, what="a span")
        assert [span.name for span in collector.spans] == ["publish"]
