"""Begins coroutines at once and without a task, because most of them never wait.

A task costs 5 to 10 microseconds and a turn of the loop, more than a publication into a broker of
this process. So `begin` runs a coroutine until it first waits, and only the rest needs a task. This
module does not import asyncio: a coroutine that waits yields an object of its event loop, and gets
it back unchanged.

A coroutine that asks for the current task before its first wait (`asyncio.timeout` does) cannot
begin this way. A broker declares by `answers_at_once` whether its calls can.
"""

from collections.abc import Coroutine, Generator
from contextlib import AbstractAsyncContextManager
from types import coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class NextTurn:
    """An awaitable that lets all other work go on first, as `asyncio.sleep(0)` does."""

    __slots__ = ()

    def __await__(self) -> Generator[None, None, None]:
        yield


NEXT_TURN = NextTurn()


async def in_turns(
    work: Generator[None, None, T], one_at_a_time: AbstractAsyncContextManager[Any]
) -> T:
    """Return the result of `work`; each step but the first waits for another turn of the loop.

    Args:
        one_at_a_time: held from the second step on.
    """
    try:
        next(work)
        async with one_at_a_time:
            while True:
                await NEXT_TURN
                next(work)
    except StopIteration as end:
        result: T = end.value
        return result


class Rest(Generic[T]):
    """The rest of a coroutine that waited; any task may `run` it."""

    __slots__ = ("_waits_for", "_work")

    def __init__(self, work: Coroutine[Any, Any, T], waits_for: object) -> None:
        self._work = work
        self._waits_for = waits_for

    async def run(self) -> T:
        """Continue where the work waited; return its result or raise its error."""
        return await _go_on(self._work, self._waits_for)

    def close(self) -> None:
        """Abandon the work: `GeneratorExit` is raised in it where it waits."""
        self._work.close()


def begin(work: Coroutine[Any, Any, T]) -> T | Rest[T]:
    """Run `work` to its first wait.

    Return its result where it did not wait, else the `Rest`, whose `run` has to be awaited. An
    error of the work before it waits is raised here.
    """
    try:
        waits_for = work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    return Rest(work, waits_for)


@coroutine
def _go_on(work: Coroutine[Any, Any, T], waits_for: object) -> Generator[Any, Any, T]:
    """Drive `work` for a task: yield the objects that it waits for, and send back the results."""
    try:
        while True:
            try:
                sent = yield waits_for
            except GeneratorExit:
                work.close()
                raise
            except BaseException as error:  # noqa: BLE001 - a cancellation goes to the work too
                waits_for = work.throw(error)
            else:
                waits_for = work.send(sent)
    except StopIteration as end:
        result: T = end.value
        return result
