"""Sessions ended for the node's sake: told the reason, one after another, and not all at once.

A stop or an operator's drain ends all of them, a rebalance some. Each goodbye says within how long
to come back, so that the next node sees them one after another too. Operators drain a node, let it
take sessions again, and spread connections evenly over nodes.
"""

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
from msgspec import UNSET, UnsetType

from hub.admin.listing import slices
from hub.admin.requests import Admin, AdminRequest, AtTag, Handlers
from hub.core.eager import NEXT_TURN
from hub.core.node_records import NodeRecord
from hub.core.registry import SessionRegistry
from hub.core.session.session import Session
from hub.errors import BadRequestError, ConflictError, HubError
from hub.wire.codes import CloseCode

_STEP_SECONDS = 0.05
# Sessions closed between two turns of the loop, where none of them waits: 30 us each, and 2 us more
# for each channel (measured). None waits in a drain without a window, or where the closes are late.
_AT_ONCE = 25
_CHANNELS_OF_A_SESSION = 16
# Sessions that are looked at between two turns, and not closed.
_LOOKED_AT_ONCE = 2000
# Less would bring all sessions back before a fast restart is through.
_LEAST_RETURN_SECONDS = 1.0
# Closes are spread evenly already. Where another node takes a session at once, a long wait on
# top would only pile the returns up: the two together peak at 1.1 times their mean, and at
# twice with a wait as long as the window.
_RETURN_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class DrainProgress:
    """The progress of a drain or a rebalance."""

    reason: str
    """`draining` or `rebalance`, as the goodbye says."""
    sessions: int
    """The number of sessions that the drain closes in all."""
    closed: int
    window_seconds: float

    @property
    def left(self) -> int:
        """Return how many are still to be closed."""
        return self.sessions - self.closed


class Drainer:
    """Ends the sessions of a node one after another; one per node, owned by the event loop.

    Args:
        is_alone: returns whether there is no other node that a session could go to.
        is_away: returns whether a session's peer cannot be told now, as between two polls; a drain
            does not wait for it.
    """

    def __init__(
        self,
        registry: SessionRegistry,
        is_alone: Callable[[], Awaitable[bool]],
        is_away: Callable[[Session], bool] = lambda _: False,
    ) -> None:
        self._registry = registry
        self._is_alone = is_alone
        self._is_away = is_away
        self.progress: DrainProgress | None = None
        """Progress of the present drain or rebalance; None without one."""
        self._task: asyncio.Task[None] | None = None
        self._stopping = False

    async def stop(self, *, ready_delay_seconds: float, window_seconds: float) -> None:
        """`drain` because the process ends: it replaces a drain that an operator began."""
        await self.undo()
        self._stopping = True
        await self.drain(ready_delay_seconds=ready_delay_seconds, window_seconds=window_seconds)

    async def stop_at_once(self, *, return_seconds: float, may_take_turns: bool) -> None:
        """`stop` where connections end anyway: tell all now, and spread them by their return.

        Args:
            may_take_turns: False where another turn of the loop may cut connections that were not
                told yet. 15,000 sessions take 320 ms in one step (measured).
        """
        self._stopping = self._registry.draining = True
        if self._task is not None:
            self._task.cancel()
        return_ms = int(max(_LEAST_RETURN_SECONDS, return_seconds) * 1000)
        spent = 0.0
        for session in list(self._registry.sessions.values()):
            if may_take_turns and spent >= _AT_ONCE:
                await NEXT_TURN
                spent = 0.0
            spent += _cost(session)
            _close_one(self._registry, session, "draining", return_ms)
        await self.drain(ready_delay_seconds=0, window_seconds=0)

    async def drain(self, *, ready_delay_seconds: float, window_seconds: float) -> None:
        """Take no new sessions, then close all over the window, and wait until they are gone.

        First the node only says that it is not ready, for `ready_delay_seconds`, so that load
        balancers look elsewhere while the listener is still open. Ends at the latest when the
        close time-out of the last session has aborted it.
        """
        self._registry.draining = True
        await asyncio.sleep(ready_delay_seconds)
        while sessions := list(self._registry.sessions.values()):
            there = await self._not_away(sessions)
            if not there:
                window_seconds = 0
            await self._close(there or sessions, "draining", window_seconds)
            # Sessions that were being opened when the drain began.
            window_seconds = 0
        # The core has no events, and this runs once.
        while self._registry.leaving or self._registry.parting:  # noqa: ASYNC110
            await asyncio.sleep(_STEP_SECONDS)

    def begin_drain(self, *, ready_delay_seconds: float, window_seconds: float) -> None:
        """Begin `drain` for an operator; the node stays up, not ready, until `undo`.

        Raises `ConflictError` while it drains or rebalances already.
        """
        self._check_idle()
        self._registry.draining = True
        self._task = asyncio.create_task(
            self.drain(ready_delay_seconds=ready_delay_seconds, window_seconds=window_seconds)
        )

    def begin_shedding(self, count: int, *, window_seconds: float) -> None:
        """Ask `count` sessions, chosen at random, to connect again, perhaps elsewhere.

        Raises `ConflictError` while the node drains or rebalances already.
        """
        self._check_idle()
        sessions = list(self._registry.sessions.values())
        count = min(max(count, 0), len(sessions))
        self._task = asyncio.create_task(
            self._close(sessions, "rebalance", window_seconds, count=count)
        )

    async def undo(self) -> None:
        """End an operator's drain; the node takes sessions again.

        Raises `ConflictError` once the process ends.
        """
        if self._stopping:
            raise ConflictError("the node is stopping")
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        self._registry.draining = False

    def _check_idle(self) -> None:
        if self._registry.draining or (self._task is not None and not self._task.done()):
            raise ConflictError("the node drains or rebalances already")

    async def _not_away(self, sessions: Sequence[Session]) -> list[Session]:
        found: list[Session] = []
        for some in slices(sessions, _LOOKED_AT_ONCE):
            found += [session for session in some if not self._is_away(session)]
            await asyncio.sleep(0)
        return found

    async def _close(
        self,
        sessions: list[Session],
        reason: str,
        window_seconds: float,
        *,
        count: int | None = None,
    ) -> None:
        """Close `count` of the sessions, or all, in a random order."""
        count = len(sessions) if count is None else count
        share = 1 if await self._is_alone() else _RETURN_SHARE
        return_ms = int(max(_LEAST_RETURN_SECONDS, window_seconds * share) * 1000)
        loop = asyncio.get_running_loop()
        began, spent = loop.time(), 0.0
        try:
            for index in range(count):
                self.progress = DrainProgress(reason, count, index, window_seconds)
                due = began + window_seconds * index / count
                if (wait := due - loop.time()) > 0:
                    await asyncio.sleep(max(wait, _STEP_SECONDS))
                    spent = 0.0
                elif spent >= _AT_ONCE:
                    await asyncio.sleep(0)
                    spent = 0.0
                # Drawn one by one: to draw from 100,000 at once takes 30 ms.
                chosen = random.randrange(index, len(sessions))
                session, sessions[chosen] = sessions[chosen], sessions[index]
                spent += _cost(session)
                _close_one(self._registry, session, reason, return_ms)
        finally:
            self.progress = None


def abort_all(registry: SessionRegistry) -> None:
    """End every session at once; used when a second signal asks for it.

    One step, 400 ms with 15,000 sessions (measured): who asked wants the process gone, and a turn
    in between would only serve sessions that this step ends too.
    """
    for session in list(registry.sessions.values()):
        _close_one(registry, session, "stopping", None)
    for session in list(registry.leaving):
        registry.abort(session)


def _cost(session: Session) -> float:
    """Return for how many sessions without channels its close counts."""
    return 1 + len(session.subscriptions) / _CHANNELS_OF_A_SESSION


def _close_one(
    registry: SessionRegistry, session: Session, reason: str, return_ms: int | None
) -> None:
    """Close one session; a fault of it must not keep the others."""
    try:
        session.close(CloseCode.SERVICE_RESTART, reason, return_ms)
    except Exception as error:  # noqa: BLE001 - told, and the others go on
        registry.failed(session, error)
        registry.abort(session)


MAX_WINDOW_SECONDS = 3600.0
# A rebalance leaves a node alone that is so little above the average: they are never quite even.
TOLERANCE = 1.05


class Closing(msgspec.Struct, frozen=True):
    """The drain or rebalance that has begun. Fields that are not set are left out."""

    closing: int | UnsetType = UNSET
    """The number of sessions that will be closed ..."""
    window_seconds: float | UnsetType = UNSET
    """... and over how long."""
    connections: int | UnsetType = UNSET
    """The number of sessions now."""


class Drain(AdminRequest[Closing], frozen=True, tag="drain"):
    """Closes all sessions and takes no more until `Undrain`; the process stays."""

    window_seconds: float | None = None
    """The time that the closes are spread over; None for the node's own setting."""


class Undrain(AdminRequest[Closing], frozen=True, tag="undrain"):
    """Takes sessions again."""


class Shed(AdminRequest[Closing], frozen=True, tag="shed"):
    """Asks `count` sessions to connect again, perhaps elsewhere."""

    count: int
    window_seconds: float | None = None


class Draining:
    """Carries the requests about drains out; one per node.

    Args:
        drain_seconds, ready_delay_seconds: hold where the operator gives no time.
    """

    def __init__(
        self,
        registry: SessionRegistry,
        drainer: Drainer,
        *,
        drain_seconds: float,
        ready_delay_seconds: float,
    ) -> None:
        self._registry = registry
        self._drainer = drainer
        self._drain_seconds = drain_seconds
        self._ready_delay_seconds = ready_delay_seconds

    def handlers(self) -> Handlers:
        return {Drain: self._drain, Undrain: self._undrain, Shed: self._shed}

    async def _drain(self, asked: Drain) -> Closing:
        sessions, window = len(self._registry.sessions), self._window(asked.window_seconds)
        self._drainer.begin_drain(
            ready_delay_seconds=self._ready_delay_seconds, window_seconds=window
        )
        return Closing(closing=sessions, window_seconds=window)

    async def _undrain(self, _asked: Undrain) -> Closing:
        await self._drainer.undo()
        return Closing(connections=len(self._registry.sessions))

    async def _shed(self, asked: Shed) -> Closing:
        window = self._window(asked.window_seconds)
        if asked.count:
            self._drainer.begin_shedding(asked.count, window_seconds=window)
        closing = min(asked.count, len(self._registry.sessions))
        return Closing(closing=closing, window_seconds=window)

    def _window(self, seconds: float | None) -> float:
        if seconds is None:
            return self._drain_seconds
        if not 0 <= seconds <= MAX_WINDOW_SECONDS:
            raise BadRequestError(f"window_seconds is not 0 to {MAX_WINDOW_SECONDS:g}")
        return seconds


# -- over all nodes --------------------------------------------------------------------------------


async def rebalance(admin: Admin, window_seconds: float | None) -> Sequence[Mapping[str, object]]:
    """Have nodes with more than their share ask the excess of sessions to connect again.

    Returns a row for each node: how many it has, and how many it closes; None without an answer.
    """
    nodes = await admin.nodes()
    staying = {tag: record for tag, record in nodes.items() if not record.draining}
    shares = excess(staying)

    async def shed(tag: str) -> int | None:
        try:
            told = await admin.call(Shed(shares[tag], window_seconds), AtTag(tag))
        except HubError:
            return None
        return told.closing or 0

    closing = await asyncio.gather(*map(shed, staying))
    rows = [
        {"node": record.node, "connections": record.connections, "closing": each}
        for record, each in zip(staying.values(), closing, strict=True)
    ]
    return sorted(rows, key=lambda row: str(row["node"]))


def excess(nodes: Mapping[str, NodeRecord]) -> Mapping[str, int]:
    """Return by tag how many connections are above an even share and the tolerance."""
    total = sum(record.connections for record in nodes.values())
    share = math.ceil(total / len(nodes)) if nodes else 0
    return {
        tag: record.connections - share if record.connections > share * TOLERANCE else 0
        for tag, record in nodes.items()
    }
