"""What a head says of its body's size."""

import pytest

from hub.errors import TooLargeError
from hub.transports.http.bodies import check_declared


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
