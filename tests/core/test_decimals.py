"""Numbers as text: plain decimals, whoever sends them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.core import decimals

NO_NUMBERS = [
    *("", " ", " 1", "1 ", "1\n", "+1", "-0", "-1", "1_0", "8_311", "1,000", "0x1f", "1e1", "1E1"),
    *("nan", "NaN", "inf", "Infinity", "-Infinity", ".", ".5", "5.", "1.2.3", "1._5", "½", "²"),
    *("٣", "१", "\uff11\uff12", "\U0001d7d9", "1\N{ZERO WIDTH SPACE}", "one", "0" * 19),
]


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_a_text_that_is_no_plain_decimal_is_no_number(text: str) -> None:
    """Such a text is refused even if Python reads it as a number."""
    assert decimals.whole(text) is None
    assert decimals.number(text) is None


@given(st.integers(0, 10**18 - 1))
def test_a_whole_number_is_read_as_it_is(value: int) -> None:
    assert decimals.whole(str(value)) == value


def test_a_number_may_have_a_point_and_a_whole_number_may_not() -> None:
    assert (decimals.number("2.5"), decimals.whole("2.5"), decimals.whole("2.0")) == (
        2.5,
        None,
        None,
    )
    assert (decimals.number("007"), decimals.whole("007")) == (7.0, 7)
