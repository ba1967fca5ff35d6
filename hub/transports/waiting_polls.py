"""Polls that go on with a session, wherever it is, until this node stops.

A poll for a session of another node waits here as long as it waits there. The session is not
this node's, so no goodbye of a drain ends it: it is answered 503 instead, and whoever polls
goes on from the same positions at another node.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from hub.core.polling import PollRequest
from hub.errors import UnavailableError


class WaitingPolls:
    """One per node."""

    def __init__(self) -> None:
        self._ends: set[asyncio.Future[None]] = set()
        self._ended = False

    async def poll(
        self, ask: Callable[[PollRequest], Awaitable[bytes]], request: PollRequest
    ) -> bytes:
        """What the session's node answers; `UnavailableError` when `end_all` comes first."""
        if self._ended:
            raise UnavailableError("this node stops: poll again")
        end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        answer = asyncio.ensure_future(ask(request))
        self._ends.add(end)
        try:
            either: set[asyncio.Future[Any]] = {answer, end}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return answer.result()
            raise UnavailableError("this node stops: poll again")
        finally:
            self._ends.discard(end)
            answer.cancel()

    def end_all(self) -> None:
        """The node stops: answer what waits, and what still comes."""
        self._ended = True
        for end in self._ends:
            if not end.done():
                end.set_result(None)
