"""Background work of a process: tasks whose errors are logged, a steady pace, and joint endings."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import TYPE_CHECKING

from hub.core.ports import Spawn
from hub.core.time.deadlines import GRANULARITY_SECONDS

# Two steps of the deadlines: a deadline that is set so far ahead comes no later than without longer
# pauses. A tick that wakes the process takes 0.1 to 0.2 ms where others use its caches (measured).
QUIET_SECONDS = 2 * GRANULARITY_SECONDS

if TYPE_CHECKING:
    # Commands use this module too, and load no logger for their help.
    from structlog.typing import FilteringBoundLogger


@contextlib.asynccontextmanager
async def tasks(log: "FilteringBoundLogger") -> AsyncGenerator[Spawn]:
    """Give the block a `Spawn`, whose tasks are cancelled and awaited at the block's end.

    A task that raises ends alone: its error is logged.
    """

    async def guard(work: Coroutine[object, object, None]) -> None:
        try:
            await work
        except Exception:
            log.exception("task_failed")

    running: set[asyncio.Task[None]] = set()
    failure: Exception | None = None
    async with asyncio.TaskGroup() as group:

        def spawn(work: Coroutine[object, object, None]) -> None:
            task = group.create_task(guard(work))
            running.add(task)
            task.add_done_callback(running.discard)
            # A task that is cancelled before its first step never gets to its work.
            task.add_done_callback(lambda _: work.close())

        try:
            yield spawn
        except Exception as error:  # noqa: BLE001 - raised below: the group would wrap it
            failure = error
        for task in tuple(running):
            task.cancel()
    if failure is not None:
        raise failure


class Ticks:
    """Calls `tick` every `GRANULARITY_SECONDS` from `start` to `stop`, counted from its end.

    An error of it is logged, and the next call comes all the same. One timer of the event loop goes
    on by itself: a task that sleeps takes a future and two turns of the loop for each tick, which
    is a third of the cost of an idle node's tick.

    Args:
        quiet: called behind a tick; where it returns true, the next tick is `QUIET_SECONDS` away.
    """

    def __init__(
        self,
        tick: Callable[[], object],
        log: "FilteringBoundLogger",
        *,
        quiet: Callable[[], bool] = lambda: False,
    ) -> None:
        self._tick = tick
        self._quiet = quiet
        self._log = log
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin; call it once, in the event loop."""
        self._after(GRANULARITY_SECONDS)

    def _after(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._on_time)

    def stop(self) -> None:
        """Call no more; harmless where it has not begun."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_time(self) -> None:
        try:
            self._tick()
        except Exception:  # noqa: BLE001 - the border: logged with traceback, and the next comes
            self._log.exception("tick_failed")
        if self._timer is not None:
            self._after(QUIET_SECONDS if self._quiet() else GRANULARITY_SECONDS)


async def until_one_ends(*works: Coroutine[object, object, None]) -> None:
    """Run all at once; when one returns or raises, cancel the others and do the same.

    Nothing of them runs any more when it returns or raises.
    """
    running = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    for task in done:
        task.result()


async def wait_while(waits: Callable[[], bool], seconds: float, *, step_seconds: float) -> None:
    """Return once `waits` is False, at the latest after `seconds`; ask in steps of `step_seconds`.

    For the few waits of a process's end, whose conditions have no event.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while waits() and loop.time() < end:  # noqa: ASYNC110 - as above
        await asyncio.sleep(step_seconds)
