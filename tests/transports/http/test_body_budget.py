"""What is held of peers' bytes before anybody may look at it, and the bounds on it."""

from hub.transports.http.bodies import BodyBudget


class Holder:
    """A connection, as the budget sees one."""

    def __init__(self) -> None:
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True


def test_who_has_held_longest_is_cut_where_all_hold_too_much() -> None:
    """64 KiB behind each of 100,000 polls that wait would be 6 GiB."""
    budget = BodyBudget(1000)
    first, second, third = Holder(), Holder(), Holder()
    budget.hold_unparsed(first, 400)
    budget.hold_unparsed(second, 400)
    budget.hold_unparsed(first, 600)
    assert budget.unparsed_bytes == 1000
    budget.hold_unparsed(third, 100)
    assert (first.aborted, second.aborted, third.aborted) == (True, False, False)
    assert budget.unparsed_bytes == 500
    assert budget.bytes == 0  # bodies have a bound of their own


def test_what_is_read_on_is_held_no_more() -> None:
    budget = BodyBudget(1000)
    holder = Holder()
    budget.hold_unparsed(holder, 5000)
    assert not holder.aborted  # nobody else could be given up for it, and it is one connection's
    budget.hold_unparsed(holder, 0)
    budget.hold_unparsed(holder, 0)
    assert budget.unparsed_bytes == 0
