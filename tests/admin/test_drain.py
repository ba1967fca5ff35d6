"""Drains and rebalances: ordered by an operator, taken back, and where two of them meet."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from msgspec import to_builtins

from hub.admin.drain import MAX_WINDOW_SECONDS, Drain, Drainer, Draining, Shed, Undrain
from hub.core.commands import Subscribe
from hub.core.session.session import Session
from hub.errors import BadRequestError, ConflictError
from tests.core.small_node import SmallNode
from tests.support.waiting import eventually

# Far longer than any test: what a test waits for must not come from the window's end.
LONG_SECONDS = 3000.0


class Crowd:
    """Sessions whose peers leave as soon as they are told to."""

    def __init__(self, count: int) -> None:
        self.node = SmallNode()
        self.registry = self.node.registry
        self.sessions: list[Session] = []
        for _ in range(count):
            self.join()
        self.drainer = Drainer(self.registry, self.is_alone)
        self.on_asked: Callable[[], object] = lambda: None

    def join(self) -> Session:
        session, _ = self.node.open()
        self.sessions.append(session)
        return session

    def begin(self, *, sheds: bool) -> None:
        """Begins a rebalance that keeps one session, or a drain, as an operator does."""
        if sheds:
            count = len(self.sessions) - 1
            self.drainer.begin_shedding(count, window_seconds=LONG_SECONDS)
        else:
            self.drainer.begin_drain(ready_delay_seconds=0, window_seconds=LONG_SECONDS)

    async def is_alone(self) -> bool:
        self.on_asked()
        return False

    async def until(self, closed: int) -> None:
        await eventually(lambda: sum(session.closing for session in self.sessions) >= closed)
        self.let_go()

    def let_go(self) -> None:
        for session in tuple(self.registry.leaving):
            session.lost(1012, "left")

    async def finished(self, work: Awaitable[None]) -> None:
        """Wait for it while peers leave."""
        task = asyncio.ensure_future(work)

        def done() -> bool:
            self.let_go()
            return task.done()

        await eventually(done)
        await task


async def test_a_session_that_came_through_the_door_before_it_closed_is_closed_too() -> None:
    """Its handshake was under way when the others were counted."""
    crowd = Crowd(3)
    crowd.on_asked = lambda: crowd.join() if len(crowd.sessions) < 5 else None
    await crowd.finished(crowd.drainer.drain(ready_delay_seconds=0, window_seconds=0))
    assert len(crowd.sessions) == 5
    assert all(session.closing for session in crowd.sessions)


@pytest.mark.parametrize("count", [0, 1, 200])
async def test_without_a_window_all_are_closed_at_once(count: int) -> None:
    """A node without sessions is drained at once too."""
    crowd = Crowd(count)
    await crowd.finished(crowd.drainer.drain(ready_delay_seconds=0, window_seconds=0))
    assert not crowd.registry.sessions
    assert crowd.drainer.progress is None


@pytest.mark.parametrize(("channels", "at_once"), [(0, 25), (48, 7), (100, 4)])
async def test_however_short_the_window_others_run_between_the_closes(
    channels: int, at_once: int
) -> None:
    """A node with many sessions still beats, and answers probes, while it lets them go.

    A session of many channels takes as long as several others.
    """
    crowd = Crowd(60)
    for session in crowd.sessions:
        for number in range(channels):
            crowd.node.commands.submit(session, Subscribe(None, f"a:{number}"))
    crowd.drainer.begin_drain(ready_delay_seconds=0, window_seconds=0)
    most = before = 0
    while before < 60:
        await asyncio.sleep(0)
        closed = sum(session.closing for session in crowd.sessions)
        most, before = max(most, closed - before), closed
    crowd.let_go()
    await crowd.drainer.undo()
    assert most == at_once


@pytest.mark.parametrize(("may_take_turns", "at_once"), [(True, 25), (False, 60)])
async def test_a_stop_at_once_is_one_step_only_before_a_server_that_cuts_connections(
    may_take_turns: bool, at_once: int
) -> None:
    """A worker that starts anew has no such server: its loop goes on between the closes."""
    crowd = Crowd(60)
    stop = asyncio.create_task(
        crowd.drainer.stop_at_once(return_seconds=LONG_SECONDS, may_take_turns=may_take_turns)
    )
    most = before = 0
    while before < 60:
        await asyncio.sleep(0)
        closed = sum(session.closing for session in crowd.sessions)
        most, before = max(most, closed - before), closed
    await crowd.finished(stop)
    assert most == at_once


async def test_a_drain_that_is_undone_leaves_who_was_not_told_yet_alone() -> None:
    """The node takes sessions again, and may be drained again."""
    crowd = Crowd(5)
    crowd.drainer.begin_drain(ready_delay_seconds=0, window_seconds=LONG_SECONDS)
    await crowd.until(1)
    assert crowd.drainer.progress is not None
    await crowd.drainer.undo()
    assert crowd.drainer.progress is None
    crowd.registry.check_open(None)
    assert sum(session.closing for session in crowd.sessions) == 1
    crowd.drainer.begin_drain(ready_delay_seconds=0, window_seconds=0)
    await crowd.until(5)


@pytest.mark.parametrize("sheds", [True, False])
async def test_a_drain_and_a_rebalance_never_go_on_together(sheds: bool) -> None:
    """Neither a drain nor a rebalance begins while either goes on."""
    crowd = Crowd(5)
    crowd.begin(sheds=sheds)
    with pytest.raises(ConflictError):
        crowd.drainer.begin_shedding(1, window_seconds=0)
    with pytest.raises(ConflictError):
        crowd.drainer.begin_drain(ready_delay_seconds=0, window_seconds=0)
    await crowd.drainer.undo()


@pytest.mark.parametrize("sheds", [True, False])
async def test_a_stop_takes_the_place_of_what_an_operator_began(sheds: bool) -> None:
    """The window of the stop counts, and the rest of the operator's drain
    or rebalance is dropped."""
    crowd = Crowd(5)
    crowd.begin(sheds=sheds)
    await crowd.until(1)
    await crowd.finished(crowd.drainer.stop(ready_delay_seconds=0, window_seconds=0))
    assert not crowd.registry.sessions
    assert crowd.drainer.progress is None
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_stop_cannot_be_undone() -> None:
    """An operator who takes the node back in that moment would open it for nobody's good."""
    crowd = Crowd(5)
    stopping = asyncio.ensure_future(
        crowd.drainer.stop(ready_delay_seconds=0, window_seconds=LONG_SECONDS)
    )
    await crowd.until(1)
    with pytest.raises(ConflictError):
        await crowd.drainer.undo()
    assert crowd.registry.draining
    stopping.cancel()
    await asyncio.gather(stopping, return_exceptions=True)


async def test_a_stop_waits_neither_for_what_has_no_connection_nor_for_what_cannot_be_closed() -> (
    None
):
    """A session whose link breaks its promises is told of, and the others are closed."""
    crowd = Crowd(3)

    def fail(data: bytes) -> int:
        raise RuntimeError("a fault")

    crowd.sessions[1].link.send = fail  # type: ignore[method-assign]  # see above
    draining = asyncio.ensure_future(crowd.drainer.drain(ready_delay_seconds=0, window_seconds=0))
    await eventually(lambda: not crowd.registry.sessions)
    # Nobody says that any of the connections is gone.
    crowd.node.wait(6)
    await draining
    assert [str(fault) for fault in crowd.node.faults] == ["a fault"]


class Rig:
    """A node with three connections."""

    def __init__(self) -> None:
        self.node = SmallNode()
        self.links = [self.node.open()[1] for _ in range(3)]
        self.drainer = Drainer(self.node.registry, self._is_alone)
        draining = Draining(
            self.node.registry, self.drainer, drain_seconds=0.05, ready_delay_seconds=0
        )
        self._handlers = draining.handlers()

    async def _is_alone(self) -> bool:
        return False

    async def ask(self, request: Any) -> dict[str, Any]:
        told: dict[str, Any] = to_builtins(await self._handlers[type(request)](request))
        return told


async def test_a_drain_says_how_many_go_and_over_how_long() -> None:
    """The window is the node's own setting if the operator gives none, and the
    node takes no more sessions."""
    rig = Rig()
    assert await rig.ask(Drain()) == {"closing": 3, "window_seconds": 0.05}
    assert rig.node.registry.draining
    with pytest.raises(ConflictError):
        await rig.ask(Drain(1.0))
    assert await rig.ask(Undrain()) == {"connections": len(rig.node.registry.sessions)}
    assert not rig.node.registry.draining


async def test_a_rebalance_sheds_as_many_sessions_as_it_was_asked_to() -> None:
    """No more than there are; of nothing nothing begins."""
    rig = Rig()
    assert await rig.ask(Shed(0)) == {"closing": 0, "window_seconds": 0.05}
    assert await rig.ask(Shed(9, 0.0)) == {"closing": 3, "window_seconds": 0.0}
    while any(link.closed is None for link in rig.links):
        await asyncio.sleep(0)
    assert not rig.node.registry.draining


@pytest.mark.parametrize("request_", [Drain(-1.0), Drain(MAX_WINDOW_SECONDS + 1), Shed(1, -0.5)])
async def test_a_window_has_bounds(request_: Any) -> None:
    rig = Rig()
    with pytest.raises(BadRequestError, match="0 to 3600"):
        await rig.ask(request_)
    assert rig.drainer.progress is None
