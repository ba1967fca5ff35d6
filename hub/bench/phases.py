"""The waits that every round has, whatever is measured."""

import time
from collections.abc import Callable, Sequence

from hub.bench.load import Worker
from hub.bench.plan import BenchError, Order, Plan
from hub.bench.progress import Progress
from hub.bench.watch import Watch

STEP_SECONDS = 0.05
STALL_SECONDS = 20.0
CONNECT_SECONDS_EACH = 0.002
"""Time allowed per connection, ten times what a front door takes, on top of `STALL_SECONDS`."""
QUIET_SECONDS = 3.0
"""A round is over when nothing arrived for this long after the last publication."""


def await_connected(plan: Plan, progress: Progress, watch: Watch, name: str) -> None:
    """Wait until every connection stands or has failed.

    Raises:
        BenchError: It takes too long, or none could connect.
    """
    watch.phase(f"{name}: connecting", plan.subscribers)
    deadline = time.monotonic() + STALL_SECONDS + CONNECT_SECONDS_EACH * plan.subscribers
    while progress.connected + progress.ended < plan.subscribers:
        watch.reached(progress.connected)
        if time.monotonic() > deadline:
            raise BenchError(f"only {progress.connected:,} of {plan.subscribers:,} connected")
        time.sleep(STEP_SECONDS)
    if not progress.connected:
        raise BenchError("no subscriber could connect")


def await_delivered(progress: Progress, expected: int, show: Callable[[], None]) -> None:
    """Wait until everything has arrived, or nothing did for `QUIET_SECONDS`."""
    last, since = progress.delivered, time.monotonic()
    while last < expected and time.monotonic() - since < QUIET_SECONDS:
        time.sleep(STEP_SECONDS)
        show()
        if progress.delivered != last:
            last, since = progress.delivered, time.monotonic()


def begin(herd: Sequence[Worker]) -> None:
    """Tell every reader that the measured phase begins; return when all have begun it.

    One that is told and not waited for may come to it when the first deliveries are past: they
    would be missing in its bytes.
    """
    for reader in herd:
        reader.order(Order.BEGIN)
    for reader in herd:
        reader.answer()
