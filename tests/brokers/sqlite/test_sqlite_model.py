"""Anything in any order, judged by a model of a few lines: restarts, power cuts, commits that fail.

The model is told what was acknowledged and nothing else. A channel's history has to be what a list
would hold, in an epoch that only ends when the channel was forgotten.
"""

import asyncio
import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hub.brokers.sqlite import recent, restoring, tending, writing
from hub.brokers.sqlite.faults import Fault, FileError
from hub.brokers.sqlite.file import HistoryFile
from hub.brokers.sqlite.layout import Commit
from hub.core.ports import PublishRequest, PublishResult
from hub.errors import HubError, NotPublishedError, OutcomeUnknownError
from tests.brokers.conftest import NAMESPACES
from tests.brokers.sqlite.nodes import OPTIONS, StoredNode
from tests.core.fakes import FakeClock
from tests.support.waiting import eventually

CHANNELS = ("a", "b", "long:a", "long:b", "none:a")
STEPS = 150


@dataclass
class Channel:
    epoch: str = ""
    published: list[tuple[int, bytes, float]] = field(default_factory=list)
    """Offset, data, and when."""
    keys: dict[str, tuple[int, bytes, float]] = field(default_factory=dict)
    """The first answer, for which data, and when."""

    @property
    def offset(self) -> int:
        return self.published[-1][0] if self.published else 0


@dataclass
class Model:
    clock: FakeClock
    channels: dict[str, Channel] = field(default_factory=dict)
    delivered: dict[tuple[str, str, int], bytes] = field(default_factory=dict)

    def took(self, name: str, request: PublishRequest, result: PublishResult) -> None:
        channel = self.channels.setdefault(name, Channel(result.epoch))
        assert result.epoch == channel.epoch
        key = request.idempotency_key
        if result.duplicate:
            assert key is not None
            assert channel.keys[key][:2] == (result.offset, request.data)
            return
        assert result.offset == channel.offset + 1, "an offset was skipped, or given out twice"
        channel.published.append((result.offset, request.data, self.clock()))
        if key is not None:
            channel.keys[key] = (result.offset, request.data, self.clock())

    def held(self, name: str) -> list[tuple[int, bytes]]:
        channel, options = self.channels[name], NAMESPACES.options(name)
        newest = channel.published[-options.history_size :] if options.history_size else []
        since = self.clock() - options.history_ttl_seconds
        return [(offset, data) for offset, data, at in newest if at >= since]


class Walk:
    """One run through it all."""

    def __init__(self, directory: Path, seed: int, patch: pytest.MonkeyPatch) -> None:
        self.directory = directory
        self.chance = random.Random(seed)
        self.patch = patch
        self.clock = FakeClock()
        self.model = Model(self.clock)
        self.path = directory / "hub.db"
        self.files = 0
        self.numbers = 0
        self.node = StoredNode(self.path, clock=self.clock)

    async def start(self) -> None:
        self.node = StoredNode(self.path, clock=self.clock)
        await self.node.__aenter__()
        for name in CHANNELS[::2]:
            await self.node.subscribe(name)

    def requests(self) -> list[PublishRequest]:
        made = []
        for _ in range(self.chance.choice((1, 1, 2, 10, 150))):
            self.numbers += 1
            name, key = self.chance.choice(CHANNELS), None
            data = b'"%d %b"' % (self.numbers, b"x" * self.chance.choice((0, 20, 3000)))
            if self.chance.random() < 0.3:
                key = f"{name} {self.numbers}"
            made.append(PublishRequest(name, data, "p", idempotency_key=key))
            if key is not None and self.chance.random() < 0.3:
                made.append(made[-1])
        return made

    async def publish(self) -> None:
        requests = self.requests()
        for request, outcome in zip(
            requests, await self.node.stored.publish_many(requests), strict=True
        ):
            assert isinstance(outcome, PublishResult), outcome
            self.model.took(request.channel, request, outcome)

    async def restart(self) -> None:
        await self.node.__aexit__()
        await self.start()

    async def cut_the_power(self) -> None:
        """Only what lies in the files goes on."""
        self.files += 1
        where = self.directory / f"cut-{self.files}"
        where.mkdir()
        for suffix in ("", "-wal"):
            if (lying := Path(f"{self.path}{suffix}")).exists():
                shutil.copy(lying, where / f"hub.db{suffix}")
        await self.node.__aexit__()
        self.path = where / "hub.db"
        await self.start()

    async def a_commit_fails(self) -> None:
        """A commit fails before or after it was made; requests with a key are repeated."""
        committed, stands = HistoryFile.commit, self.chance.random() < 0.5

        def commit(file: HistoryFile, what: Commit) -> None:
            self.patch.setattr(HistoryFile, "commit", committed)
            if stands:
                committed(file, what)
            raise FileError(Fault.IO if stands else Fault.FULL, file.path, uncertain=stands)

        self.patch.setattr(HistoryFile, "commit", commit)
        requests = [
            PublishRequest(each.channel, each.data, "p", idempotency_key=f"k{number}-{each.data!r}")
            for number, each in enumerate(self.requests())
        ]
        outcomes = await self.node.stored.publish_many(requests)
        expected = OutcomeUnknownError if stands else NotPublishedError
        assert {type(each) for each in outcomes} == {expected}
        await eventually(lambda: not self.node.stored.problems())
        for request in requests:
            result = await self.node.stored.publish(request)
            assert result.duplicate == stands
            if stands:
                channel = self.model.channels.setdefault(request.channel, Channel(result.epoch))
                answer = (result.offset, request.data, self.clock())
                channel.keys[request.idempotency_key or ""] = answer
                assert result.offset == channel.offset + 1
                channel.published.append((result.offset, request.data, self.clock()))
            else:
                self.model.took(request.channel, request, result)

    async def try_again(self) -> None:
        """A key that was used: the same answer, or a new publication once it is forgotten."""
        name = self.chance.choice(CHANNELS)
        channel = self.model.channels.get(name)
        if channel is None or not channel.keys:
            return
        key, (_, data, at) = self.chance.choice(list(channel.keys.items()))
        request = PublishRequest(name, data, "p", idempotency_key=key)
        try:
            result = await self.node.stored.publish(request)
        except HubError as error:
            raise AssertionError(error.message) from error
        assert result.duplicate == (self.clock() - at < OPTIONS.idempotency_ttl_seconds)
        if not result.duplicate:
            del channel.keys[key]
        self.model.took(name, request, result)

    async def time_passes(self) -> None:
        self.clock.advance(self.chance.choice((0.5, 20.0, 45.0)))

    async def tend(self) -> None:
        self.node.a_second_passes()
        await asyncio.sleep(0)

    async def judge(self) -> None:
        for name, channel in self.model.channels.items():
            found: list[tuple[int, bytes]] = []
            limit = self.chance.choice((7, 64, 1000))
            after = 0
            while (page := await self.node.history(name, after, limit)).publications:
                found += [(each.offset, each.data) for each in page.publications]
                after = page.last
            assert (page.head.epoch, page.head.offset) == (channel.epoch, channel.offset)
            assert found == self.model.held(name)
        for each in self.node.delivered:
            place = (each.channel, self.model.channels[each.channel].epoch, each.offset)
            assert self.model.delivered.setdefault(place, each.data) == each.data
            assert each.data == self.model.channels[each.channel].published[each.offset - 1][1]
        assert self.node.resets == []


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("in_memory", [1 << 20, 3000], ids=["memory", "hardly any"])
async def test_the_broker_holds_what_a_list_would_hold(
    tmp_path: Path, seed: int, in_memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The steps come in any order."""
    monkeypatch.setattr(writing, "FIRST_RETRY_SECONDS", 0.001)
    monkeypatch.setattr(restoring, "MEMORY_BYTES", in_memory)
    monkeypatch.setattr(tending, "_CHECKPOINT_BYTES", 200_000)
    if in_memory < recent.MOVED_BYTES:
        monkeypatch.setattr(recent, "MOVED_CHANGES", 11)
        monkeypatch.setattr(recent, "_STEP_CHANNELS", 3)
    walk = Walk(tmp_path, seed, monkeypatch)
    await walk.start()
    steps = [walk.publish] * 6 + [walk.try_again, walk.time_passes, walk.tend, walk.judge] + [
        walk.restart, walk.cut_the_power, walk.a_commit_fails,
    ]  # fmt: skip
    for _ in range(STEPS):
        await walk.chance.choice(steps)()
    await walk.judge()
    await walk.node.__aexit__()
