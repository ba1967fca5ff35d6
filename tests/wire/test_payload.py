"""A payload is judged as JSON and then left byte for byte as it was."""

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.errors import BadRequestError, TooLargeError
from hub.wire.payload import Item, check_key, check_payload, split_items

LIMIT = 65_536
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | FLOATS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(VALUES, st.sampled_from([None, 1, "\t"]), st.booleans())
def test_valid_json_stays_byte_for_byte_but_for_its_line_breaks(
    value: object, indent: int | str | None, ascii_only: bool
) -> None:
    """Escapes, number forms and inner spaces survive; a line break becomes one space."""
    raw = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode()
    checked = check_payload(raw, limit=1_000_000)
    assert checked == raw.replace(b"\n", b" ")
    assert json.loads(checked) == value


@given(VALUES, st.text(" \t\r\n"), st.text(" \t\r\n"))
def test_surrounding_whitespace_is_stripped(value: object, before: str, after: str) -> None:
    """What stands around the value is not part of it."""
    raw = json.dumps(value).encode()
    assert check_payload(before.encode() + raw + after.encode(), limit=1_000_000) == raw


@given(st.binary(max_size=40))
def test_what_is_accepted_is_one_line_of_json(raw: bytes) -> None:
    """Whatever the bytes: either a clear refusal or JSON without a line break."""
    try:
        checked = check_payload(raw, limit=LIMIT)
    except BadRequestError:
        return
    assert b"\n" not in checked
    assert b"\r" not in checked
    json.loads(checked)


@pytest.mark.parametrize(
    "raw",
    [b"12345678901234567890123", b"1.0", b"-0", b"1E+2", rb'"\u00e9\/"', b'{"a":1,"a":2}', b"null"],
)
def test_forms_that_a_parser_would_change_are_kept(raw: bytes) -> None:
    """The value that orjson makes of it is thrown away."""
    assert check_payload(raw, limit=LIMIT) == raw


def test_carriage_returns_and_line_feeds_each_become_a_space() -> None:
    """The length stays, so positions in error messages still hold."""
    assert check_payload(b'{"a":\r\n 1}', limit=LIMIT) == b'{"a":   1}'


@pytest.mark.parametrize(
    "raw",
    [b"[1,]", b"NaN", b"01", b'"\n"', b"1 2", b"{'a':1}", b'"\\ud800"', b"1e400", b"\xef\xbb\xbf1",
     b"[" * 2000 + b"]" * 2000],
)  # fmt: skip
def test_what_is_not_strictly_json_is_refused_with_its_position(raw: bytes) -> None:
    """Readers differ on these, so nobody gets them."""
    with pytest.raises(BadRequestError, match=r"payload is not JSON: .* line 1 column \d+"):
        check_payload(raw, limit=LIMIT)


@pytest.mark.parametrize("raw", [b"", b" \r\n"])
def test_an_empty_payload_says_that_it_is_empty(raw: bytes) -> None:
    """Nothing is not a JSON value."""
    with pytest.raises(BadRequestError, match="payload is empty"):
        check_payload(raw, limit=LIMIT)


def test_invalid_utf_8_is_refused_with_its_byte() -> None:
    """The position is that of the byte, not that of the document."""
    with pytest.raises(BadRequestError, match="not UTF-8: byte 8 "):
        check_payload(b'{"name":\xff}', limit=LIMIT)


def test_a_payload_over_the_limit_says_both_sizes() -> None:
    """The limit itself is still allowed."""
    assert check_payload(b"1" * 300, limit=300)
    with pytest.raises(TooLargeError, match=r"^payload is 70,112 bytes, limit is 65,536$"):
        check_payload(b"1" * 70_112, limit=LIMIT)


@given(st.lists(VALUES, min_size=1, max_size=5))
def test_splitting_keeps_the_bytes_of_every_item(values: list[object]) -> None:
    """Data goes through a batch as it goes through a single publish."""
    datas = [json.dumps(value, indent=1).encode() for value in values]
    body = b"[" + b", ".join(b'{"channel":"a","data": ' + data + b"}" for data in datas) + b"]"
    batch = split_items(body, max_items=5)
    assert batch.is_array
    assert [item.payload for item in batch.items if isinstance(item, Item)] == datas


def test_one_object_is_a_batch_of_one_that_is_no_array() -> None:
    """So that it is answered with one object."""
    batch = split_items(b' {"channel":"a","data":1.0,"key":"k","idempotency_key":"i"}', max_items=1)
    (item,) = batch.items
    assert not batch.is_array
    assert isinstance(item, Item)
    assert (item.channel, item.payload, item.key, item.idempotency_key) == ("a", b"1.0", "k", "i")


@pytest.mark.parametrize(
    ("part", "why"),
    [
        ("5", "Expected `object`"),
        ('{"channel":"a"}', "missing required field `data`"),
        ('{"data":1}', "missing required field `channel`"),
        ('{"channel":7,"data":1}', "Expected `str`"),
        ('{"channel":"a","data":1,"idempotencyKey":"x"}', "unknown field `idempotencyKey`"),
    ],
)
def test_an_unreadable_item_stands_as_its_error_beside_the_others(part: str, why: str) -> None:
    """Each item is validated separately."""
    good = '{"channel":"a","data":1}'
    first, broken, last = split_items(f"[{good},{part},{good}]".encode(), max_items=9).items
    assert isinstance(first, Item)
    assert isinstance(last, Item)
    assert isinstance(broken, BadRequestError)
    assert why in broken.message


def test_invalid_utf_8_inside_an_items_data_is_found_by_check_payload() -> None:
    """The raw part is not validated when it is cut out."""
    (item,) = split_items(b'[{"channel":"a","data":"\xff"}]', max_items=1).items
    assert isinstance(item, Item)
    with pytest.raises(BadRequestError, match="not UTF-8"):
        check_payload(item.payload, limit=LIMIT)


def test_invalid_utf_8_in_a_channel_is_an_error_of_its_item() -> None:
    """It must not end as a fault of the hub."""
    (item,) = split_items(b'[{"channel":"\xff","data":1}]', max_items=1).items
    assert isinstance(item, BadRequestError)


@pytest.mark.parametrize("raw", [b"[1,2", b"[1] x", b"[]", b" [ ] "])
def test_a_broken_or_empty_array_is_refused_as_a_whole(raw: bytes) -> None:
    """There is no item that could be answered."""
    with pytest.raises(BadRequestError):
        split_items(raw, max_items=9)


def test_too_many_items_are_refused_as_a_whole() -> None:
    """Both numbers are named."""
    body = orjson.dumps([{"channel": "a", "data": 1}] * 3)
    assert len(split_items(body, max_items=3).items) == 3
    with pytest.raises(TooLargeError, match="batch has 3 items, limit is 2"):
        split_items(body, max_items=2)


def test_keys_are_1_to_200_printable_characters() -> None:
    """Of any alphabet."""
    assert check_key("é" * 200, "key") == "é" * 200
    for bad in ("", "x" * 201, "a\nb", "a\x00"):
        with pytest.raises(BadRequestError, match="key"):
            check_key(bad, "key")
