"""Goes through all open sessions of a node in turns of the loop, for work that concerns many.

A node may have 100,000 sessions, and a ban or a key that is taken out may end all of them. In one
step the hub only looks at a few thousand, or acts on some twenty, and then other work goes on.

The sessions are those of the first turn. So a rule that ends sessions has to hold at every door
before. A session that has ended when its turn comes is left out, and a fault ends its session
alone.
"""

from collections.abc import Callable

from hub.core.eager import NEXT_TURN, Rest, begin
from hub.core.registry import SessionRegistry
from hub.core.session.session import Session

# Sessions that are looked at in one turn: 0.25 us each (measured).
TURN_COST = 2000
# A session that is acted on counts as so many: it is written to, which takes 30 us.
ACT_COST = 100

Act = Callable[[Session], bool]
"""Acts on a session where it is concerned; returns whether it is."""


async def each_session(registry: SessionRegistry, act: Act) -> int:
    """Call `act` for each open session; return for how many it did something.

    Example: an operator closes 10,000 connections of a subject. Each turn closes 20, and
    publications go out between two turns.
    """
    acted = spent = 0
    for session in tuple(registry.sessions.values()):
        if session.closing:
            continue
        try:
            if act(session):
                acted += 1
                spent += ACT_COST
        except Exception as error:  # noqa: BLE001 - logged with traceback, and the others go on
            registry.failed(session, error)
        spent += 1
        if spent >= TURN_COST:
            spent = 0
            await NEXT_TURN
    return acted


def each_session_soon(registry: SessionRegistry, act: Act, done: Callable[[int], None]) -> None:
    """Call like `each_session`, the first turn in this call; `done` gets the number at the end."""

    async def carry_out() -> None:
        done(await each_session(registry, act))

    if isinstance(rest := begin(carry_out()), Rest):
        registry.spawn(rest.run())
