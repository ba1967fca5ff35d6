"""One deadline for all connections that have sent nothing yet."""

import pytest

from hub.core.time.deadlines import GRANULARITY_SECONDS, Deadlines
from hub.transports.connection.arrivals import Arrivals
from tests.core.fakes import FakeClock

SECONDS = 10.0


class Rig:
    """Arrivals, and the names of those that were late, in order."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.deadlines = Deadlines(self.clock())
        self.arrivals = Arrivals(self.deadlines, self.clock, SECONDS)
        self.late: list[str] = []
        self.calls: dict[str, object] = {}

    def come(self, name: str) -> None:
        def late() -> None:
            self.late.append(name)

        self.calls[name] = late
        self.arrivals.add(late)

    def leave(self, name: str) -> None:
        self.arrivals.discard(self.calls[name])  # type: ignore[arg-type]  # what `come` made

    def pass_time(self, seconds: float) -> None:
        """In steps of the node's own ticks."""
        until = self.clock() + seconds
        while self.clock() < until:
            self.clock.advance(GRANULARITY_SECONDS)
            self.deadlines.tick(self.clock())


def test_each_has_its_whole_time_and_no_more() -> None:
    rig = Rig()
    for name in "abc":
        rig.come(name)
        rig.pass_time(1)
    rig.pass_time(SECONDS - 3.2)
    assert rig.late == []
    for count in (1, 2, 3):
        rig.pass_time(1)
        assert rig.late == ["a", "b", "c"][:count]
    assert not len(rig.arrivals)


def test_a_peer_that_has_sent_something_is_not_late() -> None:
    """A peer that comes when none is left to wait for has its whole time too."""
    rig = Rig()
    for name in "abc":
        rig.come(name)
    for name in "aca":
        rig.leave(name)
    rig.pass_time(SECONDS + 1)
    assert rig.late == ["b"]
    rig.come("d")
    rig.pass_time(SECONDS - 1)
    assert rig.late == ["b"]
    rig.pass_time(2)
    assert rig.late == ["b", "d"]


def test_all_of_them_have_one_entry_among_the_deadlines() -> None:
    rig = Rig()
    for number in range(1000):
        rig.come(str(number))
        rig.leave(str(number))
    assert len(rig.deadlines) == 1


def test_a_farewell_that_fails_leaves_the_others_theirs() -> None:
    rig = Rig()

    def fails() -> None:
        raise RuntimeError("a fault")

    rig.arrivals.add(fails)
    rig.come("b")
    with pytest.raises(RuntimeError):
        rig.pass_time(SECONDS + 1)
    rig.pass_time(1)
    assert rig.late == ["b"]


def test_thousands_that_are_late_together_are_told_in_many_ticks() -> None:
    rig = Rig()
    names = [str(number) for number in range(1200)]
    for name in names:
        rig.come(name)
    rig.clock.advance(SECONDS + 1)
    told = []
    for _ in range(4):
        rig.clock.advance(GRANULARITY_SECONDS)
        rig.deadlines.tick(rig.clock())
        told.append(len(rig.late))
    assert told == [512, 1024, 1200, 1200]
    assert rig.late == names
