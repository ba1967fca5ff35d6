"""How a node ends its sessions before it stops: told, one after another, and not all at once."""

import asyncio
import random

from hub.core.engine import Engine
from hub.wire.codes import CloseCode

_STEP_SECONDS = 0.05
# Less would bring everybody back before a fast restart is through.
_LEAST_WINDOW_MS = 1000


async def drain(engine: Engine, *, ready_delay_seconds: float, drain_seconds: float) -> None:
    """Take no new sessions, then close all over `drain_seconds`, and wait until they are gone.

    First the node only says that it is not ready, for `ready_delay_seconds`, so that load
    balancers look elsewhere while the listener is still open. Ends at the latest when the
    close time-out of the last session has aborted it.
    """
    engine.draining = True
    await asyncio.sleep(ready_delay_seconds)
    sessions = list(engine.sessions.values())
    random.shuffle(sessions)
    window_ms = max(_LEAST_WINDOW_MS, int(drain_seconds * 1000))
    loop = asyncio.get_running_loop()
    began = loop.time()
    for index, session in enumerate(sessions):
        due = began + drain_seconds * index / len(sessions)
        if (wait := due - loop.time()) > 0:
            await asyncio.sleep(max(wait, _STEP_SECONDS))
        session.close(CloseCode.SERVICE_RESTART, "draining", window_ms)
    while engine.leaving:  # noqa: ASYNC110 - the core has no events, and this runs once
        await asyncio.sleep(_STEP_SECONDS)


def abort_all(engine: Engine) -> None:
    """End every session at once; used when a second signal asks for it."""
    for session in list(engine.sessions.values()):
        session.close(CloseCode.SERVICE_RESTART, "stopping")
    for session in list(engine.leaving):
        session.link.abort()
