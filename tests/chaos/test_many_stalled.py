"""A hundred readers that stop: the process has a limit too."""

from collections.abc import Iterator

import pytest

from tests.chaos.crowd import crowd
from tests.chaos.operator import operating
from tests.chaos.stalling import SMALL_BUFFER_BYTES, narrowly_subscribed, stall
from tests.support.hub_process import HubProcess

MANY = 100
TOTAL_BYTES = 10_000_000
EACH_BYTES = 1_000_000


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    with HubProcess(
        HUB_OUTBOX_TOTAL_BYTES=str(TOTAL_BYTES),
        HUB_OUTBOX_MAX_BYTES=str(EACH_BYTES),
        HUB_CLOSE_TIMEOUT_SECONDS="30",
    ) as hub:
        yield hub


async def test_hundred_stalled_readers_share_the_limit_of_the_process(
    hub: HubProcess, transport: str
) -> None:
    """Together they would be owed ten times it; the bound holds in the outboxes and in RSS,
    those that are closed learn why, and the others live on.
    """
    name = f"crowd-{transport}"
    async with (
        operating(hub) as operator,
        crowd(
            hub.port, transport, [name] * MANY, receive_buffer_bytes=SMALL_BUFFER_BYTES
        ) as readers,
    ):
        await operator.flood([name], 1)
        before = operator.rss_bytes
        for _ in range(12):
            await operator.flood([name], 50)
            assert await operator.metric("hub_outbox_bytes") <= TOTAL_BYTES
        assert operator.rss_bytes - before < 2 * TOTAL_BYTES

        alive = await operator.connections()
        assert 0 < alive < MANY
        closed = [each for each in readers if await operator.connection(each) is None]
        assert len(closed) == MANY - alive
        for each in closed[:10]:
            await each.read_to_end()
            assert each.goodbye is not None
            assert each.goodbye["code"] == each.close_code == 4508
            assert f"{TOTAL_BYTES:,}" in each.goodbye["reason"]


async def test_the_one_owed_most_is_closed_first(hub: HubProcess) -> None:
    """Many small debts push the process over its bound; the largest one pays."""
    async with (
        operating(hub) as operator,
        narrowly_subscribed(hub.port, "websocket", "debts", "big") as most,
        crowd(hub.port, "websocket", ["debts"] * MANY, receive_buffer_bytes=SMALL_BUFFER_BYTES),
    ):
        await stall(operator, most, ["big"])
        await operator.flood(["big"], 150)
        while await operator.connection(most) is not None:
            # Less in one batch than the largest debt, so that one closing is enough.
            await operator.flood(["debts"], 1)
            assert await operator.metric("hub_outbox_bytes") <= TOTAL_BYTES
        assert await operator.connections() == MANY
        await most.read_to_end()
        assert most.close_code == 4508
