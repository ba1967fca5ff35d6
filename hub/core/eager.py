"""Work that usually has nothing to wait for, begun at once and without a task.

A task costs 5 to 10 microseconds and a turn of the loop, which is more than a publication into
a broker of this process. `begin` therefore runs a coroutine until it first waits. Only what is
left then needs a task. Nothing here imports asyncio: a coroutine that waits hands out what its
event loop made, and gets it back unchanged.

Work that asks for the current task before its first wait (`asyncio.timeout` does) cannot be
begun this way: a broker says by `answers_at_once` whether its calls may.
"""

from collections.abc import Coroutine, Generator
from types import coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class NextTurn:
    """Awaited, it lets everybody else go on first, as `asyncio.sleep(0)` does."""

    __slots__ = ()

    def __await__(self) -> Generator[None, None, None]:
        yield


NEXT_TURN = NextTurn()


class Rest(Generic[T]):
    """What is left of a coroutine that waited; `await` goes on with it, in any task."""

    __slots__ = ("_waits_for", "_work")

    def __init__(self, work: Coroutine[Any, Any, T], waits_for: object) -> None:
        self._work = work
        self._waits_for = waits_for

    async def run(self) -> T:
        """Go on from where the work waited; return or raise what the work does."""
        return await _go_on(self._work, self._waits_for)

    def close(self) -> None:
        """Give the work up: it gets `GeneratorExit` where it waits."""
        self._work.close()


def begin(work: Coroutine[Any, Any, T]) -> T | Rest[T]:
    """Run `work` to its first wait.

    Returns its result where it did not wait, else the `Rest`, of which `run` has to be
    awaited. What the work raises before it waits is raised here.
    """
    try:
        waits_for = work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    return Rest(work, waits_for)


@coroutine
def _go_on(work: Coroutine[Any, Any, T], waits_for: object) -> Generator[Any, Any, T]:
    """Be the task's side of `work`: pass on what it waits for, and what comes back."""
    try:
        while True:
            try:
                sent = yield waits_for
            except GeneratorExit:
                work.close()
                raise
            except BaseException as error:  # noqa: BLE001 - also a cancellation is the work's
                waits_for = work.throw(error)
            else:
                waits_for = work.send(sent)
    except StopIteration as end:
        result: T = end.value
        return result
