"""A crash between any two steps of the history file, and in the middle of anything else.

The machine publishes, retries, clears, forgets, lets time pass, restarts, changes bounds and lets
steps fail. Before or after any step of the writing thread it takes the files as they lie there, and
goes on from these. The model is the list of what was done, in order: the files have to be what a
beginning of that list makes of them, with all that was acknowledged when they were taken.
"""

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from hub.brokers.sqlite import file as file_module
from hub.brokers.sqlite import recent, restoring, tending, writing
from hub.brokers.sqlite.faults import Fault, FileError
from hub.brokers.sqlite.file import HistoryFile
from hub.core.options import KIB
from hub.core.ports import HistoryPage, PublishRequest, PublishResult
from hub.core.publication import REMOVES
from hub.errors import NotPublishedError, OutcomeUnknownError, UnavailableError
from tests.brokers.conftest import NAMESPACES
from tests.brokers.sqlite.nodes import StoredNode
from tests.core.fakes import FakeClock
from tests.support.waiting import eventually

CHANNELS = ("a", "b", "long:a", "long:b", "none:a", "rows:a")
STEPS = (
    "commit", "move", "trim_expired", "trim_oldest", "trim_channels", "trim_keys", "sift_keys",
    "vacuum", "checkpoint", "begin_line", "check", "size", "load",
)  # fmt: skip
# A file that has hardly more than its tables; one that trims all the time; one that never does.
BOUNDS = (KIB, 140 * KIB, 1 << 30)

T = TypeVar("T")


@dataclass(frozen=True)
class Published:
    channel: str
    epoch: str
    offset: int
    data: bytes
    at: float
    idempotency_key: str
    key: str | None
    removes: bool


@dataclass(frozen=True)
class Cleared:
    channel: str


@dataclass(frozen=True)
class Forgotten:
    channel: str


Done = Published | Cleared | Forgotten


@dataclass
class Channel:
    """The expected content of a channel after a part of the list."""

    epoch: str
    published: list[Published] = field(default_factory=list)
    cleared: int = 0
    rows: dict[str, bytes] = field(default_factory=dict)


def after(done: Sequence[Done]) -> dict[str, Channel]:
    channels: dict[str, Channel] = {}
    for each in done:
        if isinstance(each, Forgotten):
            channels.pop(each.channel, None)
        elif isinstance(each, Cleared):
            channel = channels[each.channel]
            channel.cleared = len(channel.published)
        else:
            channel = channels.setdefault(each.channel, Channel(each.epoch))
            channel.published.append(each)
            if each.key is not None:
                channel.rows.pop(each.key, None)
                if not each.removes:
                    channel.rows[each.key] = each.data
    return channels


def heads(done: Sequence[Done]) -> dict[str, tuple[str, int]]:
    return {name: (each.epoch, len(each.published)) for name, each in after(done).items()}


@dataclass(frozen=True)
class Taken:
    """The files at a moment, and how much had been acknowledged then."""

    path: Path
    acknowledged: int


class Crashes(RuleBasedStateMachine):
    """One run; has an event loop of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.patch = pytest.MonkeyPatch()
        self.directory = Path(tempfile.mkdtemp())
        self.path = self.directory / "hub.db"
        self.clock = FakeClock()
        self.done: list[Done] = []
        self.numbers = self.copies = 0
        self.bound = BOUNDS[-1]
        self.trimmed = False
        """Whether a bound may have trimmed something."""
        self.take_in: int | None = None
        """Take the files at the step after so many."""
        self.before = False
        self.fail_in: int | None = None
        self.fails: Callable[[str], FileError] | None = None
        self.taken: Taken | None = None
        self._patch_steps()
        self.node = StoredNode(self.path, clock=self.clock)

    def _patch_steps(self) -> None:
        patch = self.patch.setattr
        patch(writing, "FIRST_RETRY_SECONDS", 0.001)
        patch(writing, "MAX_RETRY_SECONDS", 0.002)
        patch(restoring, "MEMORY_BYTES", 2000)
        patch(tending, "_CHECKPOINT_BYTES", 60 * KIB)
        patch(tending, "_FREE_BYTES", 8 * KIB)
        patch(tending, "_SLACK", 3)
        patch(tending, "_COMMITS_BETWEEN", 2)
        patch(file_module, "_TRIM_BYTES", 6 * KIB)
        patch(recent, "MOVED_CHANGES", 9)
        patch(recent, "_STEP_CHANNELS", 4)
        for name in STEPS:
            patch(HistoryFile, name, self._step(getattr(HistoryFile, name)))

    def _step(self, real: Callable[..., T]) -> Callable[..., T]:
        def step(file: HistoryFile, *arguments: Any) -> T:
            due = self._is_due()
            if due and self.before:
                self._take(file)
            failing = self._failure(file)
            if failing is not None and not failing.uncertain:
                raise failing
            found = real(file, *arguments)
            if due and not self.before:
                self._take(file)
            if failing is not None:
                raise failing
            return found

        return step

    def _is_due(self) -> bool:
        if self.take_in is None:
            return False
        self.take_in -= 1
        return self.take_in == 0

    def _failure(self, file: HistoryFile) -> FileError | None:
        if self.fail_in is None or self.fails is None:
            return None
        self.fail_in -= 1
        return self.fails(file.path) if self.fail_in == 0 else None

    def _take(self, file: HistoryFile) -> None:
        if self.taken is not None:
            return
        acknowledged = len(self.done)
        self.copies += 1
        where = self.directory / f"{self.copies}"
        where.mkdir()
        # A checkpoint may write the file meanwhile, and the WAL has the same pages until it ends.
        for suffix in ("", "-wal", "-lock"):
            if (lying := Path(f"{file.path}{suffix}")).exists():
                shutil.copy(lying, where / f"hub.db{suffix}")
        self.taken = Taken(where / "hub.db", acknowledged)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(asyncio.wait_for(work, 30))

    async def _start(self) -> None:
        self.node = StoredNode(self.path, clock=self.clock, history_total_bytes=self.bound)
        await self.node.__aenter__()
        await self._mended()
        for name in CHANNELS[::2]:
            await self.node.subscribe(name)

    async def _mended(self) -> None:
        await eventually(lambda: not self.node.stored.problems())

    def teardown(self) -> None:
        self.fail_in = self.take_in = None
        self.run(self.node.__aexit__())
        self.patch.undo()
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        shutil.rmtree(self.directory)

    # -- what is done ---------------------------------------------------------------------------

    @initialize()
    def start(self) -> None:
        self.run(self._start())

    @rule(
        which=st.lists(
            st.tuples(st.sampled_from(CHANNELS), st.sampled_from((2, 40, 3000)), st.booleans()),
            min_size=1,
            max_size=25,
        ),
        apart=st.booleans(),
    )
    def publish(self, which: Sequence[tuple[str, int, bool]], apart: bool) -> None:
        """In one call, or each in its own."""
        self.run(self._publish([self._request(*each) for each in which], apart=apart))

    def _request(self, name: str, size: int, removes: bool) -> PublishRequest:
        self.numbers += 1
        key, marks = None, 0
        if name.startswith("rows:"):
            key, marks = f"k{self.numbers % 3}", REMOVES if removes else 0
        data = b'"%d %b"' % (self.numbers, b"x" * size)
        return PublishRequest(
            name, data, "p", key=key, marks=marks, idempotency_key=f"i{self.numbers}"
        )

    async def _publish(self, requests: Sequence[PublishRequest], *, apart: bool) -> None:
        await self._mended()
        outcomes: list[object] = []
        if apart:
            calls = [self._publish_one(each) for each in requests]
            outcomes += await asyncio.gather(*calls, return_exceptions=True)
        else:
            outcomes += await self.node.stored.publish_many(requests)
            for request, outcome in zip(requests, outcomes, strict=True):
                if isinstance(outcome, PublishResult):
                    self._took(request, outcome)
        unknown, not_published = [], []
        for request, outcome in zip(requests, outcomes, strict=True):
            if isinstance(outcome, OutcomeUnknownError):
                unknown.append(request)
            elif isinstance(outcome, NotPublishedError):
                not_published.append(request)
            else:
                assert isinstance(outcome, PublishResult), outcome
        await self._mended()
        stands = []
        for request in unknown:
            result = await self._again(request)
            stands.append(result.duplicate)
        assert len(set(stands)) <= 1, "half a commit stands"
        for request in not_published:
            assert not (await self._again(request)).duplicate

    async def _publish_one(self, request: PublishRequest) -> PublishResult:
        result = await self.node.stored.publish(request)
        self._took(request, result)
        return result

    async def _again(self, request: PublishRequest) -> PublishResult:
        result = await self._sent(request)
        self._took(request, result)
        return result

    async def _sent(self, request: PublishRequest) -> PublishResult:
        """Publish until there is an answer."""
        while True:
            await self._mended()
            try:
                return await self.node.stored.publish(request)
            except (NotPublishedError, OutcomeUnknownError):
                pass

    def _took(self, request: PublishRequest, result: PublishResult) -> None:
        channel = after(self.done).get(request.channel)
        if channel is not None:
            assert result.epoch == channel.epoch
        offset = 1 if channel is None else len(channel.published) + 1
        assert result.offset == offset, "an offset was skipped, or given out twice"
        assert request.idempotency_key is not None
        self.done.append(
            Published(
                request.channel, result.epoch, result.offset, request.data, self.clock(),
                request.idempotency_key, request.key, bool(request.marks),
            )
        )  # fmt: skip

    @rule(place=st.integers(0, 1000))
    def try_again(self, place: int) -> None:
        """A key that is remembered gets the same answer."""
        live = [each for channel in after(self.done).values() for each in channel.published]
        live = [each for each in live if self.clock() - each.at < 290]
        if live:
            self.run(self._try_again(live[place % len(live)]))

    async def _try_again(self, each: Published) -> None:
        await self._mended()
        request = PublishRequest(
            each.channel, each.data, "p", key=each.key, marks=REMOVES if each.removes else 0,
            idempotency_key=each.idempotency_key,
        )  # fmt: skip
        result = await self._sent(request)
        assert (result.duplicate, result.epoch, result.offset) == (True, each.epoch, each.offset)

    @rule(name=st.sampled_from(CHANNELS))
    def clear(self, name: str) -> None:
        if name in after(self.done):
            self.run(self._clear(name))

    async def _clear(self, name: str) -> None:
        await self._mended()
        held, self.fail_in = self.fail_in, None
        await self.node.broker.clear(name)
        self.fail_in = held
        self.done.append(Cleared(name))

    @rule(name=st.sampled_from(CHANNELS[1::2]))
    def forget(self, name: str) -> None:
        """Of those that nobody has subscribed to."""
        if name in after(self.done):
            self.run(self._forget(name))

    async def _forget(self, name: str) -> None:
        await self._mended()
        self.done.append(Forgotten(name))
        self.node.forget(name)
        await asyncio.sleep(0)

    # No sum of these is exactly the time in history, which two clocks would round differently.
    @rule(seconds=st.sampled_from((0.31, 19.0, 61.0)))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def tend(self) -> None:
        """A second passes for the broker, and what there is to do is done."""
        self.run(self._tend())

    async def _tend(self) -> None:
        self.node.a_second_passes()
        upkeep = self.node.stored._tending
        await eventually(lambda: self.node.stored._writer.settled and not upkeep._checkpointing)
        await self._mended()

    @rule(bound=st.sampled_from(BOUNDS))
    def restart(self, bound: int) -> None:
        """In order, with another bound."""
        self.bound = bound
        self.trimmed = self.trimmed or bound != BOUNDS[-1]
        self.run(self._restart())

    async def _restart(self) -> None:
        self.fail_in = None
        await self.node.__aexit__()
        await self._start()

    @rule(steps=st.integers(1, 12), before=st.booleans())
    def crash_soon(self, steps: int, before: bool) -> None:
        self.take_in, self.before = steps, before

    @rule(
        steps=st.integers(1, 6),
        fails=st.sampled_from(
            (
                partial(FileError, Fault.FULL),
                partial(FileError, Fault.LOCKED),
                partial(FileError, Fault.IO),
                partial(FileError, Fault.IO, uncertain=True),
            )
        ),
    )
    def fail_soon(self, steps: int, fails: Callable[[str], FileError]) -> None:
        self.fail_in, self.fails = steps, fails

    # -- what has to be -------------------------------------------------------------------------

    @invariant()
    def taken_publications_are_a_beginning(self) -> None:
        if self.taken is not None:
            self.run(self._go_on_from(self.taken))

    async def _go_on_from(self, taken: Taken) -> None:
        self.take_in = self.fail_in = None
        await self.node.__aexit__()
        self.path, self.taken = taken.path, None
        await self._start()
        assert "history_lost" not in self.node.events()
        found = {}
        for name in CHANNELS:
            if self.node.stored.held(name) is not None:
                head = (await self.node.history(name)).head
                if head.offset:
                    found[name] = (head.epoch, head.offset)
        least = taken.acknowledged
        while least and isinstance(self.done[least - 1], Forgotten):
            least -= 1  # It is written with the next commit.
        for count in range(least, len(self.done) + 1):
            if heads(self.done[:count]) == found:
                break
        else:
            raise AssertionError(f"{found} is none of what was done, from {least} on: {self.done}")
        kept, rest = self.done[:count], self.done[count:]
        # A history that was cleared behind it may be so already, also behind a channel that was
        # forgotten: that is written with the next commit.
        for each in takewhile(lambda each: not isinstance(each, Published), rest):
            if isinstance(each, Cleared) and (channel := after(kept).get(each.channel)) is not None:
                held = self.node.stored.held(each.channel)
                if held is not None and not held[1] and len(channel.published) > channel.cleared:
                    kept.append(each)
        self.done = kept

    @invariant()
    def history_is_what_a_list_would_hold(self) -> None:
        self.run(self._judge())

    async def _page(self, name: str, last: int) -> HistoryPage:
        while True:
            try:
                return await self.node.history(name, last, 7)
            except UnavailableError:
                # Upkeep has failed, and the file is opened again.
                await self._mended()

    async def _judge(self) -> None:
        await self._mended()
        for name, channel in after(self.done).items():
            found: list[tuple[int, bytes]] = []
            oldest = 0
            while (page := await self._page(name, found[-1][0] if found else 0)).publications:
                found += [(each.offset, each.data) for each in page.publications]
                oldest = max(oldest, page.oldest)
            # What is trimmed between two pages is announced by the second; the last one, without
            # publications, comes from memory, which may not know yet.
            found = [each for each in found if each[0] >= max(oldest, page.oldest)]
            assert (page.head.epoch, page.head.offset) == (channel.epoch, len(channel.published))
            options = NAMESPACES.options(name)
            newest = channel.published[-options.history_size :] if options.history_size else []
            since = self.clock() - options.history_ttl_seconds
            held = [
                (each.offset, each.data)
                for each in newest
                if each.at >= since and each.offset > channel.cleared
            ]
            if not self.trimmed:
                assert found == held
            else:
                assert found == held[len(held) - len(found) :]
            if options.keyed:
                rows = {key: data for key, (_, data) in (await self.node.rows(name)).items()}
                if self.trimmed:
                    assert rows.items() <= channel.rows.items()
                else:
                    assert rows == channel.rows
        assert self.node.resets == []


@pytest.mark.timeout(300)
def test_a_crash_between_any_two_steps_leaves_what_a_beginning_of_it_all_makes() -> None:
    """Moving, trimming, checkpoints and vacuum are among the steps, and so are steps that fail."""
    run_state_machine_as_test(
        Crashes,
        settings=settings(
            max_examples=15,
            stateful_step_count=30,
            deadline=None,
            # A smaller example is seldom worth minutes: threads make the same steps differ.
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
