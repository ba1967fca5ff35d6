"""Fields and items are found by their brackets in JSON that no parser takes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.wire import native_commands, salvage

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
        (rb'{"\u0069d":7,"data":nonsense}', b"7"),
        (rb'{"\u0069\u0064":7,"data":nonsense}', b"7"),
        (rb'{"\u0069\x64":7,"data":nonsense}', None),
        (rb'{"\\u0069d":7,"data":nonsense}', None),
        (b'{"id":1,"data":nonsense,"id":2}', b"2"),
        (rb'{"id":1,"data":nonsense,"i\u0064":2}', b"2"),
        (b'{"id":1,"data":"no end', b"1"),
        (b'{"id":1,"data":[[[[', b"1"),
        (b'["id",1]', None),
        (b'{"a":"no end, "id":1}', None),
        (b"", None),
    ],
)
def test_a_field_is_found_at_the_top_and_nowhere_else(raw: bytes, found: bytes | None) -> None:
    """Whatever its neighbours hold, if only their quotes and brackets close."""
    assert salvage.find_member(raw, b"id") == found


@pytest.mark.parametrize(
    "item", [b"1", b"[]", b'{"a":1}', b'[{"a":["]",{}]}]', b"[[[[1]]]]", b'"\\"]["'], ids=str
)
def test_a_field_is_found_behind_much_data(item: bytes) -> None:
    """Numbers, strings and small groups are no work, so a payload of 64 KiB hides no id."""
    many = b"[nonsense" + (b"," + item) * (65_536 // (len(item) + 1)) + b"]"
    assert salvage.find_member(b'{"data":%b,"id":1}' % many, b"id") == b"1"
    assert salvage.split_array(b"[1,%b,2]" % many) == (b"1", many, b"2")


def test_a_field_behind_many_tokens_is_given_up() -> None:
    """Looking must stay short, because a peer may send such a thing again and again."""
    item = b"[" * 9 + b"]" * 9
    many = b"[" + (item + b",") * salvage.MAX_TOKENS + b"1]"
    assert salvage.find_member(b'{"data":%b,"id":1}' % many, b"id") is None
    assert salvage.find_member(b'{"id":1,"data":%b}' % many, b"id") == b"1"
    assert salvage.split_array(b"[%b]" % many) is None


def test_the_id_of_a_command_is_found_behind_any_payload_and_not_behind_more() -> None:
    """A message of 256 KiB that cannot be read held the loop for 20 ms, and now for 11."""
    deep = b"[" * 6 + b"]" * 6

    def command(size: int) -> bytes:
        many = b",".join([deep] * (size // (len(deep) + 1)))
        return b'{"data":[nonsense,%b],"id":1}' % many

    assert native_commands.read_id(command(64 * 1024)) == 1
    assert native_commands.read_id(command(100 * 1024)) is None


@given(st.recursive(st.text() | st.integers(), lambda inner: st.lists(inner, max_size=3)))
def test_fields_found_in_good_json_are_those_that_a_parser_finds(value: object) -> None:
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


@pytest.mark.parametrize(
    "raw",
    [
        *(b"[1,2", b"[1,,2]", b"[1] x", b"[1]]", b'["a]', b"{}", b"[,]", b"[1,]", b"[]"),
        *(b"[1 2]", b"[{} {}]", b"[{}[]]", b'["a" 1]', b'["a""b"]', b"[{}1]", b"[1{}]", b"[1:2]"),
    ],
)
def test_an_array_that_does_not_close_has_no_items(raw: bytes) -> None:
    """Where an item ends must be certain: nor does one where a comma seems to be missing."""
    assert salvage.split_array(raw) is None


WORDS = [
    b"NaN",
    b"-Infinity",
    b"undefined",
    b"None",
    b"'a'",
    b"1_0",
    b"0x1f",
    b"+1",
    b".5",
    b"{a:1}",
]


@pytest.mark.parametrize("word", [*WORDS, b'{"a":1,}', b"[1 2]", b'{"a" 1}'])
def test_an_item_that_is_no_json_ends_where_its_neighbours_begin(word: bytes) -> None:
    """Also within an item that holds it."""
    for item in (word, b'{"data":%b}' % word, b'{"data":[[%b]],"x":"]"}' % word):
        raw = b'[ {"a":"],["} , %b,"x" ]' % item
        assert salvage.split_array(raw) == (b'{"a":"],["}', item, b'"x"')


@pytest.mark.parametrize("word", WORDS[:-1])
def test_words_that_are_no_json_have_a_harmless_shape(word: bytes) -> None:
    """A parser then finds the items, however many tokens there are."""
    raw = b'[{"a":%b,"b":"%b"},%b]' % (word, word.replace(b"'", b"["), word)
    shaped = salvage.shape(raw)
    assert len(shaped) == len(raw)
    assert len(json.loads(shaped)) == 2
