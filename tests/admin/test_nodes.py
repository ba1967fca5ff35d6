"""What a node does when an operator drains it, takes that back, or has it shed connections."""

import asyncio
from typing import Any

import pytest
from msgspec import to_builtins

from hub.admin.drain import MAX_WINDOW_SECONDS, Drain, Drainer, Draining, Shed, Undrain
from hub.errors import BadRequestError, ConflictError
from tests.core.small_node import SmallNode


class Rig:
    """A node with three connections."""

    def __init__(self) -> None:
        self.node = SmallNode()
        self.links = [self.node.open()[1] for _ in range(3)]
        self.drainer = Drainer(self.node.registry, self._is_alone)
        draining = Draining(
            self.node.registry, self.drainer, drain_seconds=0.05, ready_delay_seconds=0
        )
        self._handlers = draining.handlers()

    async def _is_alone(self) -> bool:
        return False

    async def ask(self, request: Any) -> dict[str, Any]:
        told: dict[str, Any] = to_builtins(await self._handlers[type(request)](request))
        return told


async def test_a_drain_says_how_many_go_and_over_how_long() -> None:
    """By the node's own setting where the operator says nothing; it takes no more sessions."""
    rig = Rig()
    assert await rig.ask(Drain()) == {"closing": 3, "window_seconds": 0.05}
    assert rig.node.registry.draining
    with pytest.raises(ConflictError):
        await rig.ask(Drain(1.0))
    assert await rig.ask(Undrain()) == {"connections": len(rig.node.registry.sessions)}
    assert not rig.node.registry.draining


async def test_what_is_shed_is_what_was_asked_for() -> None:
    """No more than there are; of nothing nothing begins."""
    rig = Rig()
    assert await rig.ask(Shed(0)) == {"closing": 0, "window_seconds": 0.05}
    assert await rig.ask(Shed(9, 0.0)) == {"closing": 3, "window_seconds": 0.0}
    while any(link.closed is None for link in rig.links):
        await asyncio.sleep(0)
    assert not rig.node.registry.draining


@pytest.mark.parametrize("request_", [Drain(-1.0), Drain(MAX_WINDOW_SECONDS + 1), Shed(1, -0.5)])
async def test_a_window_has_bounds(request_: Any) -> None:
    rig = Rig()
    with pytest.raises(BadRequestError, match="0 to 3600"):
        await rig.ask(request_)
    assert rig.drainer.progress is None
