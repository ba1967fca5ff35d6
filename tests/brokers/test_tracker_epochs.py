"""A page of a channel waits until this node is in the epoch that the page was read in."""

from dataclasses import dataclass, field

import pytest

from hub.brokers.tracker import HoldBudget, Tracker, once_reached
from hub.core.counters import Counters
from hub.core.ports import HistoryPage
from hub.core.publication import Position
from hub.errors import UnavailableError


@pytest.fixture(autouse=True)
def no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.brokers.tracker._STEP_SECONDS", 0)


def tracker(epoch: str | None) -> Tracker:
    """One that has come into an epoch, or is still opening."""
    budget = HoldBudget(channel_messages=1, channel_bytes=1, total_bytes=1, counters=Counters())
    made = Tracker("a", budget)
    if epoch is not None:
        made.open(Position(epoch, 5))
    return made


@dataclass
class Reader:
    """Reads a page of this epoch, as often as it is asked."""

    epoch: str
    reads: int = 0
    poked: list[Tracker] = field(default_factory=list)

    async def read(self) -> HistoryPage:
        self.reads += 1
        return HistoryPage(Position(self.epoch, 7), 1, ())


async def test_a_page_of_the_epoch_of_this_node_is_given_at_once() -> None:
    reader = Reader("e")
    page = await once_reached(reader.read, lambda: tracker("e"), what="history")
    assert (page.head, reader.reads) == (Position("e", 7), 1)


@pytest.mark.parametrize("here", [None, tracker(None)], ids=["not followed", "opening"])
async def test_where_nobody_is_in_any_epoch_there_is_nothing_to_wait_for(
    here: Tracker | None,
) -> None:
    reader = Reader("e")
    await once_reached(reader.read, lambda: here, what="history")
    assert reader.reads == 1


async def test_a_page_is_read_again_until_this_node_has_come_there() -> None:
    """Each time the tracker is said to be elsewhere."""
    reader, here = Reader("new"), tracker("old")

    def catch_up(tracker: Tracker) -> None:
        reader.poked.append(tracker)
        if len(reader.poked) == 3:
            tracker.epoch = "new"

    page = await once_reached(reader.read, lambda: here, what="history", catch_up=catch_up)
    assert page.head.epoch == "new"
    assert (reader.reads, reader.poked) == (4, [here] * 3)


async def test_a_node_that_does_not_come_there_has_no_page() -> None:
    with pytest.raises(UnavailableError, match="no rows of 'a': its epoch is changing"):
        await once_reached(Reader("new").read, lambda: tracker("old"), what="rows of 'a'")
