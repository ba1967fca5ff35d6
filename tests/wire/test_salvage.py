"""What is read of JSON that no parser takes: the fields and items that its brackets still show."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.wire import salvage

HALF = rb'"abc\ud83d"'


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        (b'{"id":7,"data":%b}' % HALF, b"7"),
        (b'{"data":%b,"id":"x"}' % HALF, b'"x"'),
        (b'{"data":{"id":1},"id":2}', b"2"),
        (b'{"data":{"id":1}}', None),
        (b'{"data":[[1]],"id":{"a":[1]}}', b'{"a":[1]}'),
        (b'{"id":[[1]]}', b"[[1]]"),
        (b'{ "id" : 7 , "data" : nonsense}', b"7"),
        (b'{"x":"\\"id\\":1,","id":2,"data":\x01}', b"2"),
        (b'{"x":"id","y":"id","z":1}', None),
        (b'{"op":"id","id":3}', b"3"),
        (b'{"op":"ping","id":1', None),
        (b'{"op":"ping"} {"id":1}', None),
        (b'{"a":1}}, {"id":1}', None),
        (b'["id",1]', None),
        (b'{"a":"no end, "id":1}', None),
        (b"", None),
    ],
)
def test_a_field_is_found_at_the_top_and_nowhere_else(raw: bytes, found: bytes | None) -> None:
    """Whatever its neighbours hold, if only their quotes and brackets close."""
    assert salvage.find_member(raw, b"id") == found


def test_a_field_behind_many_tokens_is_given_up() -> None:
    """Looking must stay short: whoever sends such a thing may send it again and again."""
    many = b"[" + b"1," * salvage.MAX_TOKENS + b"1]"
    assert salvage.find_member(b'{"data":%b,"id":1}' % many, b"id") is None
    assert salvage.find_member(b'{"id":1,"data":%b}' % many, b"id") == b"1"


@given(st.recursive(st.text() | st.integers(), lambda inner: st.lists(inner, max_size=3)))
def test_what_is_found_in_good_json_is_what_a_parser_finds(value: object) -> None:
    """`id` last, so that all of the value is walked over."""
    raw = json.dumps({"value": value, "id": value}).encode()
    found = salvage.find_member(raw, b"id")
    assert found is not None
    assert json.loads(found) == value


@given(st.lists(st.text() | st.integers() | st.lists(st.text(), max_size=2), min_size=1))
def test_an_array_is_split_where_a_parser_splits_it(values: list[object]) -> None:
    """Both ways: by its tokens, and by a copy whose strings are harmless."""
    raw = json.dumps(values, indent=1).encode()
    by_tokens = salvage.split_array(raw)
    assert by_tokens is not None
    assert [json.loads(part) for part in by_tokens] == values
    assert len(salvage.shape(raw)) == len(raw)


@pytest.mark.parametrize("raw", [b"[1,2", b"[1,,2]", b"[1] x", b"[1]]", b'["a]', b"{}", b"[,]"])
def test_an_array_that_does_not_close_has_no_items(raw: bytes) -> None:
    """Where an item ends must be certain."""
    assert salvage.split_array(raw) is None
