"""The names of channels that a node keeps: as many as it says, and no more."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest
import structlog

from hub.brokers.redis import directory
from hub.brokers.redis.directory import RedisDirectory
from hub.brokers.redis.keys import Keys
from hub.brokers.tracker import TrackerState
from hub.errors import UnavailableError
from tests.core.fakes import FakeClock

KEYS = Keys("hub")


class FakeShard:
    """A server where every channel has a publication; it has `scanned` names."""

    offset = 1
    state = TrackerState.LIVE

    def __init__(self) -> None:
        self.scanned: list[bytes] = []
        self.calls = self.listeners = self.channels = cast("Any", self)

    def check_up(self) -> None:
        """Does nothing: this shard is always up."""

    def tracker(self, _name: str) -> "FakeShard":
        return self

    def listen(self, _name: bytes, _hear: object, on_heard: Callable[[], None]) -> None:
        on_heard()

    def ignore(self, _name: bytes) -> None:
        """Nothing is announced."""

    async def call(self, *_command: object) -> object:
        return [b"0", self.scanned]


class Told:
    """Those that follow names hear of each."""

    def appeared(self, name: str) -> None:
        """Noted elsewhere."""

    def missed(self) -> None:
        """Nothing was."""


def key_of(name: str) -> bytes:
    return KEYS.meta(name).encode()


@pytest.fixture
async def shard() -> FakeShard:
    return FakeShard()


@pytest.fixture
async def names(shard: FakeShard, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RedisDirectory]:
    monkeypatch.setattr(directory, "MAX_NAMES", 3)
    made = RedisDirectory(
        shard=lambda _name: cast("Any", shard),
        shards=lambda: [cast("Any", shard)],
        options=cast("Any", type("Options", (), {"keys": KEYS})()),
        clock=FakeClock(),
        spawn=lambda work: cast("Any", asyncio.ensure_future(work)),
        log=structlog.get_logger(),
    )
    yield made
    await made.stop()


async def test_as_many_names_as_are_kept_match_and_one_more_is_refused(
    names: RedisDirectory,
) -> None:
    names.follow(Told())
    for name in ("a", "b", "c"):
        names._hear(name.encode())
    assert sorted(await names.matching("**", 100)) == ["a", "b", "c"]
    names._hear(b"d")
    with pytest.raises(UnavailableError, match="more than 3 channels"):
        await names.matching("**", 100)


@pytest.mark.parametrize("by", ["announced", "read", "read anew"])
async def test_names_beyond_the_bound_take_no_memory(
    names: RedisDirectory, shard: FakeShard, by: str
) -> None:
    many = [f"c{number}" for number in range(50)]
    if by == "read":
        shard.scanned = [key_of(name) for name in many]
    names.follow(Told())
    known = names._known
    assert known is not None
    await asyncio.wait_for(known.whole.wait(), 30)
    if by == "read anew":
        shard.scanned = [key_of(name) for name in many]
        await names._read_all(known)
    for name in many if by == "announced" else ():
        names._hear(name.encode())
    assert len(known.names) == 3 + 1
