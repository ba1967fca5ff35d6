"""Records what a client gave to the application, and checks that nothing is missing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tests.support.stream import Push, View, place
from tests.support.waiting import eventually

# Only a failing test waits so long: a blocked transport costs a probe, a better one is
# retried after a while, and two busy cores run two browsers.
READ_SECONDS = 40.0


@dataclass(frozen=True, slots=True)
class Seen:
    """In the application's order: messages (`data`, `position`) and gaps (`reason`, ...)."""

    log: Sequence[dict[str, Any]]

    @property
    def data(self) -> list[Any]:
        return [entry["data"] for entry in self.log if "data" in entry]

    @property
    def gaps(self) -> list[str]:
        return [entry["reason"] for entry in self.log if "reason" in entry]

    def faults(self, start: str) -> list[str]:
        """Where the positions do not follow each other and no gap says why.

        Args:
            start: the position that was subscribed from.
        """
        view = View("the application")
        view.feed({"op": "subscribed", "position": start})
        for entry in self.log:
            view.feed(_push(entry))
        return view.faults


def _push(entry: dict[str, Any]) -> Push:
    """As the hub says it."""
    epoch, offset = place(entry["position"])
    if "reason" in entry:
        return {"op": "gap", "epoch": epoch, **entry}
    return {"op": "message", "offset": offset, **entry}


class Witness(Protocol):
    """A subscriber of one channel through one of the clients."""

    async def seen(self) -> Seen: ...


async def has_all(witness: Witness, numbers: int) -> None:
    """Wait for `numbers`; everything from 1 on came once, in order, and no gap was announced."""
    await catches_up(witness, numbers)
    seen = await witness.seen()
    assert seen.gaps == []
    assert seen.data == list(range(1, numbers + 1))


async def catches_up(witness: Witness, number: int) -> None:
    """Wait until `number` came, or one after it."""

    async def came() -> bool:
        return (await witness.seen()).data[-1:] >= [number]

    try:
        await eventually(came, seconds=READ_SECONDS, what=f"number {number}")
    except AssertionError as error:
        seen = await witness.seen()
        raise AssertionError(f"{error}: {seen.data[-3:]}, gaps {seen.gaps}") from None
