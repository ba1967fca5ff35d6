"""A trace travels through Redis beside the publication that it is about, and changes nothing."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.brokers.redis.channels.messages import (
    Traced,
    decode_announcement,
    is_announcement,
)
from hub.brokers.redis.keys import Keys
from hub.brokers.tracker import SequencedMessage
from hub.core.ports import PublishRequest
from hub.core.publication import Publication
from tests.brokers.redis.nodes import FAST, Stream, TestNode, node
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
MARK = f"presence\ntrace\ne1\n7\n{TRACE}".encode()
MESSAGE = SequencedMessage("e1", 7, Publication("c", 7, b"1", 0), 1)


def test_a_mark_is_read_and_put_on_its_publication() -> None:
    """A mark names channel, epoch and offset."""
    mark = decode_announcement("c", MARK)
    assert is_announcement(MARK)
    assert mark == Traced("c", "e1", 7, TRACE)
    marked = mark.on(MESSAGE)
    assert marked.publication == Publication("c", 7, b"1", 0, trace=TRACE)


@pytest.mark.parametrize(
    "message",
    [
        replace(MESSAGE, epoch="e2"),
        replace(MESSAGE, offset=8),
        replace(MESSAGE, publication=None),
        replace(MESSAGE, publication=Publication("d", 7, b"1", 0)),
    ],
)
def test_a_mark_leaves_every_other_message_alone(message: SequencedMessage) -> None:
    assert Traced("c", "e1", 7, TRACE).on(message) is message


@given(st.binary(max_size=60))
def test_a_text_that_is_no_mark_is_passed_over(noise: bytes) -> None:
    """As everything that a version does not know."""
    for raw in (b"presence\ntrace\n" + noise, b"presence\ntrace\ne1\n7\n" + noise + b"\n"):
        decoded = decode_announcement("c", raw)
        assert decoded is None or isinstance(decoded, Traced)
    assert decode_announcement("c", b"presence\ntrace\ne1\n" + b"9" * 5000 + b"\nt") is None


async def publish(at: TestNode, channel: str, data: bytes, trace: str | None) -> None:
    await at.broker.publish(PublishRequest(channel, data, "tester", trace=trace))


def traces(stream: Stream) -> list[str | None]:
    return [item.trace for item in stream.items if isinstance(item, Publication)]


@pytest.mark.parametrize("use_functions", [True, False])
async def test_every_node_gets_the_trace_with_its_publication_and_no_other(
    redis: RedisServer, channel: str, use_functions: bool
) -> None:
    """By a function as by a script; what history keeps has none."""
    options = replace(FAST, use_functions=use_functions)
    async with node(redis.url, options=options) as one, node(redis.url, options=options) as two:
        await one.is_ready()
        streams = [await each.subscribe(channel) for each in (one, two)]
        for number, trace in enumerate((None, TRACE, None)):
            await publish(one, channel, b"%d" % number, trace)
        await eventually(lambda: all(len(stream.items) == 3 for stream in streams))
        assert [traces(stream) for stream in streams] == [[None, TRACE, None]] * 2
        page = await one.broker.history(channel, 0, 10)
        assert [publication.trace for publication in page.publications] == [None] * 3


async def test_a_mark_without_its_publication_does_no_harm(
    redis: RedisServer, channel: str
) -> None:
    """Redis sends both at once; should one be lost, the next publication is not traced."""
    async with node(redis.url) as one:
        await one.is_ready()
        stream = await one.subscribe(channel)
        redis.ask("PUBLISH", Keys().stem(channel), MARK)
        await publish(one, channel, b"1", None)
        await publish(one, channel, b"2", TRACE)
        await eventually(lambda: len(stream.items) == 2)
        assert traces(stream) == [None, TRACE]
        assert one.counters.broker_undecodable == 0
