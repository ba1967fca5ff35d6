"""Each bound of the brokers: what comes up to it is taken, and one beyond is not."""

import asyncio
from typing import cast

import pytest

from hub.brokers.idempotency import IdempotencyKeys
from hub.brokers.local.frames import Frames
from hub.brokers.redis.bus import Proof
from hub.brokers.redis.channels.messages import decode
from hub.brokers.sqlite.intake import Waiting
from hub.brokers.sqlite.layout import cut
from hub.core.ports import PublishRequest
from hub.core.publication import Position, Publication

KIB = 1024
MIB = KIB * KIB


# -- what a file holds -------------------------------------------------------------------------


def blocks(*sizes: int) -> list[int]:
    """How many publications of these sizes make each block."""
    found = [Publication("a", at, b"x" * size, 0) for at, size in enumerate(sizes, start=1)]
    return [len(block) for block in cut(found)]


def test_a_block_has_up_to_64_publications_and_32_kib() -> None:
    """One alone is taken whatever its size."""
    assert blocks(*[1] * 64) == [64]
    assert blocks(*[1] * 65) == [64, 1]
    assert blocks(16 * KIB, 16 * KIB) == [2]
    assert blocks(16 * KIB, 16 * KIB + 1) == [1, 1]
    assert blocks(1, 40 * KIB, 1) == [1, 1, 1]


def waiting(count: int, size: int) -> Waiting:
    made = Waiting()
    for _ in range(count):
        made.add(PublishRequest("a", b"x" * size, "backend"), lambda _outcome: None)
    return made


def test_100000_publications_and_32_mib_wait_for_the_disk() -> None:
    """The first may always, and then there is room for no other."""
    few = waiting(3, 0)
    assert few.refusal(100_000 - 3, 0) is None
    assert few.refusal(100_000 - 2, 0) is not None
    some = waiting(1, MIB)
    assert some.refusal(1, 31 * MIB) is None
    refused = some.refusal(1, 31 * MIB + 1)
    assert refused is not None
    assert "limits are 100,000 and 33,554,432" in refused.message
    assert waiting(0, 0).refusal(1, 64 * MIB) is None
    some.taken()
    assert some.refusal(1, 64 * MIB) is None


# -- what others may write in Redis ------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset", "read"),
    [
        (b"0", False),
        (b"1", True),
        (b"9007199254740991", True),
        (b"9007199254740992", False),
        (b"00000000000000001", False),
    ],
)
def test_an_offset_in_redis_is_one_that_browsers_hold(offset: bytes, read: bool) -> None:
    message = decode("a", b"e\n%b\n7\n\n1" % offset, max_message_bytes=10)
    assert (message is not None) is read


@pytest.mark.parametrize(
    ("time_ms", "read"), [(b"9007199254740991", True), (b"9007199254740992", False)]
)
def test_a_time_in_redis_is_one_that_browsers_hold(time_ms: bytes, read: bool) -> None:
    """Else the entry is no publication, and a gap `invalid` stands in its place."""
    message = decode("a", b"e\n1\n%b\n\n1" % time_ms, max_message_bytes=10)
    assert message is not None
    assert (message.publication is not None) is read


@pytest.mark.parametrize(("size", "read"), [(10, True), (11, False)])
def test_a_payload_in_redis_has_the_bytes_of_a_message(size: int, read: bool) -> None:
    message = decode("a", b"e\n1\n7\n\n" + b"1" * size, max_message_bytes=10)
    assert message is not None
    assert (message.publication is not None) is read


@pytest.mark.parametrize("apart", [300, -300])
def test_a_word_of_another_node_counts_for_five_minutes(apart: int) -> None:
    """By clocks that differ, in either direction."""
    now = 1_700_000_000.0
    sealed = Proof(["key"], lambda: now).seal("n2", b"close")
    for seconds, opened in ((apart, b"close"), (apart * 1.00001, None)):
        assert Proof(["key"], lambda s=seconds: now + s).open("n2", sealed) == opened  # type: ignore[misc]  # bound


# -- what waits between processes of one machine ------------------------------------------------


class NobodyReads:
    """A transport whose peer takes nothing."""

    def __init__(self, waiting_bytes: int) -> None:
        self._waiting_bytes = waiting_bytes
        self.aborted = False

    def write(self, _data: bytes) -> None:
        """Nothing becomes of it."""

    def get_write_buffer_size(self) -> int:
        return self._waiting_bytes

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        self.aborted = True


@pytest.mark.parametrize(("size", "aborted"), [(64 * MIB, False), (64 * MIB + 1, True)])
async def test_64_mib_wait_for_another_process_and_no_more(size: int, *, aborted: bool) -> None:
    """The hub cuts off a worker that is owed more; the worker reads the rest from history."""
    frames = Frames(on_messages=lambda _: None, on_lost=lambda: None)
    transport = NobodyReads(size)
    frames.connection_made(cast("asyncio.BaseTransport", transport))
    frames.send((1,))
    await asyncio.sleep(0)
    assert transport.aborted is aborted


def test_a_million_idempotency_keys_are_remembered() -> None:
    keys = IdempotencyKeys(ttl_seconds=300, clock=lambda: 0.0)
    keys._count = 999_999
    for number in range(2):
        keys.restore("backend", b"%016d" % number, 1, 300, Position("e", 1))
        assert len(keys) == 1_000_000
    assert [len(each.made) for each in keys._by_publisher.values()] == [1]
