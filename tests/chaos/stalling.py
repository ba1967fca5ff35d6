"""How a test brings one reader to a stop while another goes on."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from tests.chaos.operator import Operator
from tests.chaos.subscriber import Subscriber, subscribed
from tests.support.waiting import eventually

SMALL_BUFFER_BYTES = 4096
"""SO_RCVBUF of a reader that stops; the kernel doubles it (socket(7))."""
narrowly_subscribed = partial(subscribed, receive_buffer_bytes=SMALL_BUFFER_BYTES)
"""`subscribed`, for a reader that will stop: its kernel then takes little."""
# More than twice what the hub hands to the kernel at a time (16 KiB): the kernel is full.
_OWED_BYTES = 40_000
_STEP = 10


async def stall(operator: Operator, stalled: Subscriber, channels: Sequence[str]) -> None:
    """Publish until the kernel takes nothing more for a subscriber that does not read.

    Nothing is dropped yet: what follows is dropped in one piece.
    """
    record: dict[str, Any] | None = None
    for _ in range(200):
        await operator.flood(channels, _STEP)
        record = await operator.connection(stalled)
        assert record is not None, "the hub let go of the stalled reader"
        assert record["dropped"] == 0, record
        if record["outbox_bytes"] > _OWED_BYTES:
            return
    raise AssertionError(f"the kernel takes all for a peer that reads nothing: {record}")


async def flood_beside(
    operator: Operator, healthy: Subscriber, channels: Sequence[str], *, steps: int, count: int
) -> dict[str, int]:
    """Publish `count` messages to each channel `steps` times, each time as soon as the healthy
    reader has those before: it keeps up, so nothing of its own may be dropped.

    Returns each channel's head.
    """
    heads: dict[str, int] = {}
    for _ in range(steps):
        heads = await operator.flood(channels, count)
        await eventually(
            lambda: all(healthy.reached(name, head) for name, head in heads.items()),  # noqa: B023 - called before the next step
            what="the healthy reader's last message",
        )
    return heads
