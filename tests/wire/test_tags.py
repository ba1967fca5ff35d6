"""Tags: what they may be, and the one form in which they are kept."""

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.core.publication import ENDS, REMOVES, Publication
from hub.errors import BadRequestError
from hub.wire import native_pushes
from hub.wire.filters import MAX_TAGS, check_tags, read_tags
from hub.wire.payload import marks_of

SCALARS = (
    st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
)


def test_the_same_tags_are_the_same_bytes() -> None:
    assert (
        check_tags(b'{ "b": 1,\n "a":"x"}') == check_tags(b'{"a":"x","b":1}') == b'{"a":"x","b":1}'
    )


def test_a_header_has_two_forms() -> None:
    assert read_tags("league=nba, home = true") == b'{"home":"true","league":"nba"}'
    assert read_tags(' {"home":true}') == b'{"home":true}'


@pytest.mark.parametrize(
    "wrong",
    [
        b"", b"[]", b"1", b'"a"', b'{"a":null}', b'{"a":[1]}', b'{"a":{}}', b'{"":1}', b'{"a":1} x',
        b'{"a\\u0000":1}', b'{"a":1e999}', b'{"a":"%b"}' % (b"x" * 201), b'{"%b":1}' % (b"x" * 65),
        b'{"a":123456789012345678901234567890}', b"\xff",
        json.dumps({str(n): n for n in range(MAX_TAGS + 1)}).encode(),
    ],
    ids=range(16),
)  # fmt: skip
def test_a_value_that_is_no_tags_is_refused(wrong: bytes) -> None:
    with pytest.raises(BadRequestError):
        check_tags(wrong)


@pytest.mark.parametrize("wrong", ["", "league", "a=b,", "a=b,,c=d", "{", '{"a":null}'])
def test_a_header_that_has_none_is_refused(wrong: str) -> None:
    with pytest.raises(BadRequestError):
        read_tags(wrong)


@given(st.dictionaries(st.from_regex("[a-z]{1,20}", fullmatch=True), SCALARS, max_size=16))
def test_tags_come_back_as_they_were(tags: dict[str, object]) -> None:
    raw = json.dumps(tags).encode()
    assert json.loads(check_tags(raw)) == tags
    assert b"\n" not in check_tags(raw)


@pytest.mark.parametrize("marks", [0, REMOVES, ENDS, REMOVES | ENDS])
def test_a_message_says_its_tags_and_marks(marks: int) -> None:
    publication = Publication("a", 1, b"1", 5, "k", tags=b'{"x":1}', marks=marks)
    said = json.loads(native_pushes.encode(publication))
    assert said["tags"] == {"x": 1}
    assert (said.get("remove", False), said.get("end", False)) == (
        bool(marks & REMOVES),
        bool(marks & ENDS),
    )
    assert orjson.loads(orjson.dumps(native_pushes.publication_object(publication)))["tags"] == {
        "x": 1
    }


def test_a_row_is_removed_by_its_key() -> None:
    assert marks_of(remove=True, end=False, key="k") == REMOVES
    with pytest.raises(BadRequestError, match="key"):
        marks_of(remove=True, end=False, key=None)
