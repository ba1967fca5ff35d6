"""Every broker there is, made fresh for each test of the contract."""

from collections.abc import Callable

import pytest

from hub.brokers.idempotency import IdempotencyKeys
from hub.brokers.memory import MemoryBroker
from hub.core.options import ChannelOptions, Namespaces
from tests.brokers.rig import Rig
from tests.core.fakes import FakeClock

NAMESPACES = Namespaces(
    ChannelOptions(history_size=5, history_ttl_seconds=60),
    {
        "none": ChannelOptions(history_size=0),
        "long": ChannelOptions(history_size=1000),
        "table": ChannelOptions(
            history_size=5,
            history_ttl_seconds=60,
            keyed=True,
            state_max_keys=4,
            state_ttl_seconds=120,
        ),
        "rows": ChannelOptions(history_size=0, keyed=True),
    },
)


def memory_rig(
    *, max_channels: int = 100, max_keys: int = 1000, history_total_bytes: int = 1 << 30
) -> Rig:
    clock = FakeClock()
    rig = Rig(clock)
    rig.broker = broker = MemoryBroker(
        downstream=rig,
        namespaces=NAMESPACES,
        clock=clock,
        wall_clock=clock.wall,
        idempotency=IdempotencyKeys(ttl_seconds=300, clock=clock, max_keys=max_keys),
        position_ttl_seconds=7 * 86400,
        max_channels=max_channels,
        history_total_bytes=history_total_bytes,
    )
    rig.forget = lambda channel: broker._forget(broker._logs[channel])
    return rig


MAKERS: dict[str, Callable[[], Rig]] = {"memory": memory_rig}


@pytest.fixture(params=MAKERS, ids=str)
def rig(request: pytest.FixtureRequest) -> Rig:
    """A broker whose node subscribes to nothing yet."""
    return MAKERS[request.param]()
