"""Bans and revocations are kept by the broker: read at a start, renewed, and waited for."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import msgspec
import pytest
import structlog
import structlog.testing

from hub.admin.bans import AccessLog, LiftStanding, SetStanding
from hub.auth.bans import MAX_STANDINGS, Standing, StandingKind
from hub.brokers.idempotency import IdempotencyKeys
from hub.brokers.memory import MemoryBroker
from hub.core.identity import Identity
from hub.core.options import ACCESS_CHANNEL, ACCESS_OPTIONS, ChannelOptions, Namespaces
from hub.core.ports import HistoryPage, UndecidedError
from hub.core.publication import Position, Publication
from hub.core.pushes import Gap
from hub.errors import ConflictError, ForbiddenError, NotFoundError, UnavailableError
from tests.support.waiting import eventually

BAN = SetStanding(StandingKind.BAN, "ann", 60.0, "spam")


class Cluster:
    """Some nodes' logs on one broker, on a clock of their own."""

    def __init__(self, options: ChannelOptions = ACCESS_OPTIONS) -> None:
        self.now_ms = 1_700_000_000_000
        self.nodes: list[AccessLog] = []
        self.away = False
        self.broker = MemoryBroker(
            downstream=self,
            namespaces=Namespaces(by_channel={ACCESS_CHANNEL: options}),
            clock=lambda: self.now_ms / 1000,
            wall_clock=lambda: self.now_ms / 1000,
            idempotency=IdempotencyKeys(ttl_seconds=1, clock=lambda: 0.0, max_keys=1),
            position_ttl_seconds=1e9,
            max_channels=10,
        )

    def node(self) -> AccessLog:
        registry: Any = type("Registry", (), {"sessions": {}})()
        log = AccessLog(
            self,  # type: ignore[arg-type]  # of the broker what is used
            lambda: registry,
            now_ms=lambda: self.now_ms,
            log=structlog.get_logger(),
        )
        self.nodes.append(log)
        return log

    # -- the broker, which may be away

    async def publish(self, request: Any) -> Any:
        self._check()
        return self.broker.publish_now(request)

    async def subscribe(self, channel: str, on_open: Callable[[Position], None]) -> None:
        self._check()
        await self.broker.subscribe(channel, on_open)
        on_open((await self.broker.history(channel, 0, 1)).head)

    async def history(self, channel: str, after: int, limit: int) -> HistoryPage:
        self._check()
        return await self.broker.history(channel, after, limit)

    def _check(self) -> None:
        if self.away:
            raise UnavailableError("the broker is away")

    # -- hub.core.ports.Downstream

    def deliver(self, publication: Publication) -> None:
        for node in self.nodes:
            node.deliver(publication)

    def lost(self, gap: Gap) -> None:
        raise AssertionError(gap)

    def reset(self, channel: str, head: Position) -> None:
        raise AssertionError(channel)

    def announce(self, channel: str, change: object) -> None:
        raise AssertionError(channel)


class Running:
    """Runs what logs have to do beside."""

    def __init__(self) -> None:
        self.tasks: list[asyncio.Task[None]] = []

    def spawn(self, work: Any) -> None:
        self.tasks.append(asyncio.ensure_future(work))

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@pytest.fixture
async def running(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    monkeypatch.setattr("hub.admin.bans._LOOK_SECONDS", 0.01)
    monkeypatch.setattr("hub.admin.bans._RETRY_SECONDS", 0.01)
    monkeypatch.setattr("hub.admin.bans.random.uniform", lambda low, _high: low)
    async with AsyncExitStack() as stack:
        running = Running()
        stack.push_async_callback(running.stop)
        yield running


def banned(node: AccessLog, subject: str = "ann") -> bool:
    try:
        node.check(Identity(subject=subject))
    except ForbiddenError:
        return True
    except UndecidedError:
        return False
    return False


async def say(node: AccessLog, asked: SetStanding | LiftStanding) -> None:
    await node.handlers()[type(asked)](asked)


async def test_every_node_hears_a_ban_and_its_end(running: Running) -> None:
    cluster = Cluster()
    one, two = cluster.node(), cluster.node()
    for node in (one, two):
        node.start(running.spawn)
    await eventually(lambda: not any(_undecided(node) for node in (one, two)))
    await say(one, BAN)
    assert banned(one)
    assert banned(two)
    await say(two, LiftStanding(StandingKind.BAN, "ann"))
    assert not banned(one)
    with pytest.raises(NotFoundError):
        await say(one, LiftStanding(StandingKind.BAN, "ann"))


def _undecided(node: AccessLog) -> bool:
    try:
        node.check(Identity(subject="nobody"))
    except UndecidedError:
        return True
    return False


async def test_a_node_that_starts_later_knows_them_before_it_lets_anybody_in(
    running: Running,
) -> None:
    """A request that comes before the node has read the bans waits until
    the broker has told them."""
    cluster = Cluster()
    first = cluster.node()
    first.start(running.spawn)
    await eventually(lambda: not _undecided(first))
    await say(first, BAN)
    cluster.away = True
    later = cluster.node()
    later.start(running.spawn)
    with pytest.raises(UndecidedError) as caught:
        later.check(Identity(subject="ann"))
    waiting = asyncio.ensure_future(caught.value.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    cluster.away = False
    await waiting
    assert banned(later)
    assert not banned(later, "bob")


async def test_words_that_history_loses_are_said_again(running: Running) -> None:
    """However it lost them: here others pushed them out, as in a Redis that was emptied."""
    cluster = Cluster(ChannelOptions(history_size=3, history_ttl_seconds=1e9))
    node = cluster.node()
    node.start(running.spawn)
    await eventually(lambda: not _undecided(node))
    await say(node, BAN)
    for number in range(2):
        await say(node, SetStanding(StandingKind.BAN, f"other-{number}", 1.0))
    for _ in range(5):
        await say(node, SetStanding(StandingKind.TOKEN, "t", 1.0))
    cluster.now_ms += 2000

    async def held() -> bool:
        page = await cluster.broker.history(ACCESS_CHANNEL, 0, 10)
        return any(b'"ann"' in each.data for each in page.publications)

    await eventually(held)
    later = cluster.node()
    later.start(running.spawn)
    await eventually(lambda: banned(later))


async def test_bans_that_have_ended_are_forgotten_and_their_number_is_bounded(
    running: Running,
) -> None:
    cluster = Cluster()
    node = cluster.node()
    node.start(running.spawn)
    await eventually(lambda: not _undecided(node))
    for number in range(MAX_STANDINGS):
        node.standings.merge(
            Standing(StandingKind.TOKEN, str(number), cluster.now_ms, cluster.now_ms + 1000),
            cluster.now_ms,
        )
    with pytest.raises(ConflictError, match="10,000"):
        await say(node, BAN)
    cluster.now_ms += 1000
    await say(node, BAN)
    assert len(node.standings) == 1


def test_a_full_table_takes_what_is_said_of_whom_it_knows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Other nodes may say twice as much as one node takes, and a subject whose ban
    is lifted is let in again."""
    monkeypatch.setattr("hub.admin.bans.MAX_STANDINGS", 2)
    cluster = Cluster()
    node = cluster.node()

    def hear(offset: int, name: str, *, lifted: bool = False) -> None:
        said = Standing(
            StandingKind.BAN, name, cluster.now_ms + offset, cluster.now_ms + 1000, lifted=lifted
        )
        data = msgspec.json.encode(said)
        node.deliver(Publication(ACCESS_CHANNEL, offset, data, cluster.now_ms))

    for offset, name in enumerate("abcde", start=1):
        hear(offset, name)
    assert sorted(each.name for each in node.standings) == list("abcd")
    hear(6, "a", lifted=True)
    found = node.standings.find(StandingKind.BAN, "a")
    assert found is not None
    assert found.lifted


async def test_a_word_that_no_node_could_have_said_is_passed_over(running: Running) -> None:
    cluster = Cluster()
    node = cluster.node()
    for data in (
        b"{}",
        b"7",
        b'{"kind":"new","name":"a","at_ms":1,"until_ms":2}',
        b"[" * 10_000,
        b'{"kind":"ban","name":"\xff","at_ms":1,"until_ms":2}',
    ):
        node.deliver(Publication(ACCESS_CHANNEL, 1, data, 0))
    assert len(node.standings) == 0


async def test_a_node_alone_needs_no_broker() -> None:
    """A node with the memory broker keeps bans itself, and they end with the process."""
    registry: Any = type("Registry", (), {"sessions": {}})()
    node = AccessLog(None, lambda: registry, now_ms=lambda: 1000, log=structlog.get_logger())
    await say(node, BAN)
    assert banned(node)


@pytest.mark.parametrize("ends_with_hub", [True, False])
async def test_that_a_restart_forgets_it_is_said_once(*, ends_with_hub: bool) -> None:
    registry: Any = type("Registry", (), {"sessions": {}})()
    with structlog.testing.capture_logs() as lines:
        node = AccessLog(
            None,
            lambda: registry,
            now_ms=lambda: 1000,
            log=structlog.get_logger(),
            ends_with_hub=ends_with_hub,
        )
        await say(node, BAN)
        await say(node, BAN)
    told = [line["event"] for line in lines if line["log_level"] == "warning"]
    assert told == ["access_not_kept"] * ends_with_hub
