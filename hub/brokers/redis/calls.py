"""One call on its way to Redis, and how it ends."""

import asyncio
from dataclasses import dataclass

from hub.brokers.redis.failures import CallError

Answer = asyncio.Future[object]


@dataclass(slots=True)
class Call:
    packed: bytes
    answer: Answer
    deadline_seconds: float
    about: str = ""
    """The first key of what runs a function: calls about the same stay in their order."""
    keys: int = 0
    """How many it needs."""
    followed: bool = False
    """Made for another call, that a server refused because its slot is on its way elsewhere."""


def fail(call: Call, error: CallError) -> None:
    if not call.answer.done():
        call.answer.set_exception(error)
