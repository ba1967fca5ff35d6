"""Publications that come together are made in one call, and nobody can tell from what they get."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.core.identity import Identity
from hub.core.limits import PeerLimits, Rate
from hub.core.options import ChannelOptions, Namespaces
from hub.core.ports import PublishRequest, PublishResult
from hub.core.publish_run import MAX_RUN
from hub.errors import HubError, UnavailableError
from hub.transports.turns import Turns
from tests.core.small_node import Shape, SmallNode
from tests.core.subscribers import Subscriber
from tests.support.frames import BINARY, CLOSE, PING, PONG, masked
from tests.transports.wired import Wired, ping, publish

CHANNELS = ("a", "b")
KEYED = Namespaces(ChannelOptions(), {"rows": ChannelOptions(keyed=True)})
MAY = Identity(subscribe=("*",), publish=("a", "b", "rows:*"), subject="ann")
SLOW = Rate(5, 1, 5)


def published(fields: str, channel: str = "a") -> bytes:
    return masked(b'{"op":"publish","channel":"%b",%b}' % (channel.encode(), fields.encode()))


FRAMES: tuple[bytes, ...] = (
    *(publish(number, b"%d" % number, "a") for number in range(8)),
    publish(4, b'"b"', "b"),
    publish(5, b"5", "forbidden"),
    publish(6, b"6", "$hub:stats"),
    publish(7, b'"' + b"x" * 200 + b'"'),
    published('"id":8,"data":8,"key":"k"'),
    published('"id":9,"data":9,"echo":false'),
    published('"id":10,"data":10,"idempotency_key":"once"'),
    published('"id":11,"data":11,"idempotency_key":"once"'),
    published('"id":12,"key":"k","remove":true'),
    published('"id":13,"key":"k","remove":true', "rows:a"),
    published('"id":14,"data":14,"key":"k"', "rows:a"),
    published('"id":15,"data":15,"end":true'),
    published('"id":16,"data":16,"history":false'),
    published('"id":17,"data":17,"tags":{"t":1}'),
    published('"id":18,"data":{'),
    published('"id":19'),
    masked(b'{"op":"subscribe","id":20,"channel":"a"}'),
    masked(b'{"op":"unsubscribe","id":21,"channel":"a"}'),
    masked(b'{"op":"history","id":22,"channel":"a"}'),
    ping(23),
    masked(b"", PING),
    masked(b"12345678", PONG),
)
LAST: tuple[bytes, ...] = (
    b"",
    masked(b"\xff"),
    masked(b"1", BINARY),
    masked(b"", CLOSE),
    b"\xff" * 20,
    publish(99)[:-1],
)


@dataclass(frozen=True)
class Seen:
    """The results of a run: the publisher's bytes, and what others got and counted."""

    sent: bytes
    streams: Sequence[object]
    counts: Sequence[object]


def run(shape: Shape, data: bytes, *, gathers: bool) -> Seen:
    """Let a publisher send the frames in one read, to a node with runs or without."""
    node = SmallNode(shape)
    readers = [Subscriber(node, channel) for channel in CHANNELS]
    peer = Wired(node, Turns(node.clock), max_message_bytes=100)
    peer.session.identity = MAY
    if not gathers:
        node.registry.publish_run.submit = node.commands.submit  # type: ignore[method-assign]  # one by one
    peer.receive(data)
    node.loop.settle()
    counters = node.counters
    sent = b"".join(peer.transport.writes)
    for name in (*CHANNELS, "rows:a"):
        if (held := node.memory.held(name)) is not None:
            sent = sent.replace(held[0].epoch.encode(), name.encode() * 6)
    counts = (
        dict(counters.commands), dict(counters.command_errors), dict(counters.publish_errors),
        counters.publications, counters.duplicates, node.fanout.backlog_bytes, len(node.faults),
        peer.session.closing, peer.transport.ended, node.memory.names(),
        [node.memory.rows_held(name) for name in (*CHANNELS, "rows:a")],
    )  # fmt: skip
    streams = [[push for push in reader.read() if push["op"] != "reply"] for reader in readers]
    return Seen(sent, streams, counts)


PLAIN = Shape(KEYED)
SHAPES = (
    *[PLAIN] * 6,
    replace(PLAIN, peer_limits=PeerLimits(publishes=SLOW)),
    replace(PLAIN, peer_limits=PeerLimits(commands=SLOW)),
    replace(PLAIN, max_backlog_bytes=6),
    replace(PLAIN, latent=True),
)


@given(
    frames=st.lists(st.sampled_from(FRAMES), min_size=10, max_size=40),
    last=st.sampled_from(LAST),
    shape=st.sampled_from(SHAPES),
)
def test_commands_of_one_read_are_answered_as_if_each_was_carried_out_by_itself(
    frames: list[bytes], last: bytes, shape: Shape
) -> None:
    """Replies and their order, refusals, limits, keys, streams and counts."""

    async def both() -> tuple[Seen, Seen]:
        data = b"".join((*frames, last))
        return run(shape, data, gathers=True), run(shape, data, gathers=False)

    one, other = asyncio.run(both())
    assert one == other


class Calls:
    """Notes how publications reach the broker."""

    def __init__(self, node: SmallNode) -> None:
        self.sizes: list[int] = []
        self.fault: Exception | None = None
        one, many = node.memory.publish_now, node.memory.publish_many_now

        def publish_now(request: PublishRequest) -> PublishResult:
            self.sizes.append(1)
            return one(request)

        def publish_many_now(
            requests: Sequence[PublishRequest],
        ) -> Sequence[PublishResult | HubError]:
            self.sizes.append(len(requests))
            if self.fault is not None:
                raise self.fault
            return many(requests)

        node.memory.publish_now = publish_now  # type: ignore[method-assign]  # a spy
        node.memory.publish_many_now = publish_many_now  # type: ignore[method-assign]  # a spy


@pytest.fixture
def node() -> SmallNode:
    return SmallNode()


async def test_publications_of_one_read_in_one_channel_reach_the_broker_together(
    node: SmallNode,
) -> None:
    """A run has a bound, so that a piece of a turn has one; another command ends it."""
    calls, peer = Calls(node), Wired(node, Turns(node.clock))
    frames = [publish(number) for number in range(MAX_RUN + 2)]
    frames += [ping(100), publish(101), publish(102, channel="b"), publish(103, channel="b")]
    peer.receive(b"".join(frames))
    assert calls.sizes == [MAX_RUN, 2, 1, 2]
    assert len(peer.transport.writes) == 1
    assert peer.replies() == [*range(MAX_RUN + 2), 100, 101, 102, 103]


async def test_publications_of_a_run_that_the_broker_refuses_are_answered_at_their_place(
    node: SmallNode,
) -> None:
    """The other publications are made."""
    calls, peer = Calls(node), Wired(node, Turns(node.clock))
    many = node.memory.publish_many_now

    def refusing(requests: Sequence[PublishRequest]) -> Sequence[PublishResult | HubError]:
        first, _, third = many(requests)
        return [first, UnavailableError("no room"), third]

    node.memory.publish_many_now = refusing  # type: ignore[method-assign]  # a broker without room
    peer.receive(b"".join(publish(number) for number in range(3)))
    replies = peer.pushes()
    assert calls.sizes == [3]
    assert [reply["id"] for reply in replies] == [0, 1, 2]
    assert [reply.get("error", {}).get("code") for reply in replies] == [None, "unavailable", None]
    assert node.counters.command_errors["unavailable"] == 1


async def test_a_fault_of_the_hub_in_a_run_is_a_neutral_reply_to_each(node: SmallNode) -> None:
    """As for a publication by itself; the connection goes on."""
    calls, peer = Calls(node), Wired(node, Turns(node.clock))
    calls.fault = RuntimeError("internals")
    peer.receive(publish(1) + publish(2))
    errors = [reply["error"]["message"] for reply in peer.pushes()]
    assert errors == ["internal error"] * 2
    assert len(node.faults) == 1
    peer.receive(publish(3))
    assert peer.replies() == [3]


@pytest.mark.parametrize("prevent", ["block", "asks"])
async def test_there_are_no_runs_where_each_publication_needs_a_look(
    node: SmallNode, monkeypatch: pytest.MonkeyPatch, prevent: str
) -> None:
    """A peer that takes no replies, and an application that is asked about each."""
    calls, peer = Calls(node), Wired(node, Turns(node.clock))
    publishes = node.command_handler.publishes
    if prevent == "block":
        peer.session.block()
    else:
        monkeypatch.setattr(publishes, "way", lambda _session: "awaited")
    peer.receive(publish(1) + publish(2))
    node.loop.settle()
    assert calls.sizes == [1, 1]
