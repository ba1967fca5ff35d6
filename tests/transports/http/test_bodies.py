"""The bounds on bodies: the length that a head declares, and all bytes that are held together."""

import pytest

from hub.errors import TooLargeError
from hub.transports.http.bodies import BodyBudget, check_declared


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


@pytest.mark.parametrize("declared", ["1", "200", "0" * 40 + "200", "0" * 5000])
def test_zeros_before_a_length_say_nothing(declared: str) -> None:
    check_declared({"content-length": declared}, 200)


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ("201", "body is 201 bytes, limit is 200"),
        ("0" * 40 + "201", "body is 201 bytes, limit is 200"),
        ("9" * 5000, "body is over 1,000,000,000,000,000,000 bytes, limit is 200"),
    ],
)
def test_a_length_over_the_limit_is_told_as_it_is(declared: str, said: str) -> None:
    with pytest.raises(TooLargeError) as raised:
        check_declared({"content-length": declared}, 200)
    assert raised.value.message == said
