"""Waiting for a condition with a deadline, instead of for time to pass."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, overload

Value = TypeVar("Value")

# Generous, because only a failing test waits this long and the machine may be busy.
DEADLINE_SECONDS = 30.0
_STEP_SECONDS = 0.01


@overload
async def eventually(
    condition: Callable[[], Awaitable[Value]], *, seconds: float = ..., what: str = ...
) -> Value: ...


@overload
async def eventually(
    condition: Callable[[], Value], *, seconds: float = ..., what: str = ...
) -> Value: ...


async def eventually(
    condition: Callable[[], Value | Awaitable[Value]],
    *,
    seconds: float = DEADLINE_SECONDS,
    what: str = "the condition",
) -> Value:
    """Return the condition's value as soon as it is true; it may be a coroutine function.

    Raises `AssertionError` with the last value when `seconds` have passed.
    """
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        value: Value = await found if inspect.isawaitable(found) else found
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true in {seconds:g} s, last: {value!r}")
        await asyncio.sleep(_STEP_SECONDS)


def eventually_blocking(
    condition: Callable[[], Value],
    *,
    seconds: float = DEADLINE_SECONDS,
    what: str = "the condition",
) -> Value:
    """`eventually` for tests without an event loop."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true in {seconds:g} s, last: {value!r}")
        time.sleep(_STEP_SECONDS)
    return value
