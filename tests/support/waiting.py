"""Tests wait for a condition with a deadline, and not for time to pass."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, overload

Value = TypeVar("Value")

# Generous, because only a failing test waits this long and the machine may be busy.
DEADLINE_SECONDS = 30.0
# A condition that takes its time is looked at less often: many of them ask a hub each time.
_STEP_SECONDS = (0.01, 0.05)
_STEPS_A_WAIT = 10


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
    began = time.monotonic()
    while True:
        found = condition()
        value: Value = await found if inspect.isawaitable(found) else found
        if value:
            return value
        await asyncio.sleep(_step(time.monotonic() - began, seconds, what, value))


def _step(waited: float, seconds: float, what: str, value: object) -> float:
    """Seconds to the next look; raises when there is none."""
    if waited > seconds:
        raise AssertionError(f"{what} did not come true in {seconds:g} s, last: {value!r}")
    first, last = _STEP_SECONDS
    return min(max(first, waited / _STEPS_A_WAIT), last)


def eventually_blocking(
    condition: Callable[[], Value],
    *,
    seconds: float = DEADLINE_SECONDS,
    what: str = "the condition",
) -> Value:
    """Waits like `eventually`, without an event loop."""
    began = time.monotonic()
    while not (value := condition()):
        time.sleep(_step(time.monotonic() - began, seconds, what, value))
    return value
