"""Channel names and positions are accepted in one form each, and refused with a reason."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.core.publication import MAX_OFFSET, Position, check_channel
from hub.errors import BadRequestError

EPOCHS = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)


@given(st.from_regex(r"[A-Za-z0-9_.:@~+-]{1,200}", fullmatch=True))
def test_a_channel_name_of_the_alphabet_is_returned_as_it_is(name: str) -> None:
    assert check_channel(name) == name


@pytest.mark.parametrize("name", ["", "a b", "a/b", "a=b", "a,b", "ä", "a\n", "x" * 201, "a%"])
def test_any_other_channel_name_is_refused_with_what_is_allowed(name: str) -> None:
    """The offending name is shown, a long one cut."""
    with pytest.raises(BadRequestError, match=r"1 to 200 characters of A-Z a-z 0-9") as caught:
        check_channel(name)
    assert len(caught.value.message) < 300


@pytest.mark.parametrize("name", [None, 7, b"a", ["a"]])
def test_a_channel_that_is_no_string_is_refused_with_its_type(name: object) -> None:
    with pytest.raises(BadRequestError, match=f"not {type(name).__name__}"):
        check_channel(name)


@given(EPOCHS, st.integers(0, MAX_OFFSET))
def test_a_position_can_be_written_and_read_back(epoch: str, offset: int) -> None:
    assert Position.parse(str(Position(epoch, offset))) == Position(epoch, offset)


@pytest.mark.parametrize(
    "text",
    ["", "e", "e:", ":1", "e:-1", "e:+1", "e: 1", "e:1.0", "e:٣", "e f:1", "a:b:1", "e:1\n",
     f"e:{MAX_OFFSET + 1}", "e:" + "9" * 5000, f"{'e' * 65}:1", None, 5],
)  # fmt: skip
def test_anything_else_is_refused_with_the_form(text: object) -> None:
    """Numbers that a browser could not hold are refused too, and digits that are not ASCII."""
    with pytest.raises(BadRequestError, match="is not of the form epoch:offset") as caught:
        Position.parse(text)
    assert len(caught.value.message) < 200
