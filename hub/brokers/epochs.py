"""What is read of a channel waits until this node is in the epoch that it was read in.

A broker outside this process may have begun an epoch that this node has not heard of yet. A
session that resumed in it now would be set back to the one before, so the node catches up first.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from hub.brokers.tracker import State, Tracker
from hub.core.publication import Position
from hub.errors import UnavailableError

# Three seconds in all: over Redis a comparison of epochs takes two round trips and a barrier.
_TRIES = 100
_STEP_SECONDS = 0.03


class Read(Protocol):
    """A page of history, or of rows."""

    @property
    def head(self) -> Position: ...


R = TypeVar("R", bound=Read)


async def once_reached(
    read: Callable[[], Awaitable[R]],
    tracker: Callable[[], Tracker | None],
    *,
    what: str,
    catch_up: Callable[[Tracker], None] = lambda _: None,
) -> R:
    """What `read` returns, read again until `tracker` is in its epoch.

    Args:
        tracker: of the channel; None where this node does not listen to it.
        what: is read, for the error.
        catch_up: told of a tracker that is in another epoch, at each try.

    Raises:
        UnavailableError: the tracker has not come there within three seconds.
    """
    for _ in range(_TRIES):
        page = await read()
        here = tracker()
        if here is None or here.state is State.OPENING or here.epoch == page.head.epoch:
            return page
        catch_up(here)
        await asyncio.sleep(_STEP_SECONDS)
    raise UnavailableError(f"no {what}: its epoch is changing")
