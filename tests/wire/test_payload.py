"""A payload is judged as JSON and then left byte for byte as it was."""

import gc
import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.errors import BadRequestError, TooLargeError
from hub.wire import salvage
from hub.wire.payload import (
    MAX_NESTING,
    TOO_DEEP,
    Item,
    check_key,
    check_payload,
    encode_payload,
    split_items,
)

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


@pytest.mark.parametrize("data", [b"[1,\xc0\xaf]", b"\xff", b'{"name":\xff}'])
def test_bytes_that_are_no_utf_8_are_told_alike_at_every_door(data: bytes) -> None:
    """In a batch too: its byte within the payload, whatever stands around it."""
    with pytest.raises(BadRequestError) as alone:
        check_payload(data, limit=LIMIT)
    for body in (b'[{"channel":"a","data":%b}]', b'[1,{"data":%b,"channel":"\xc3\xa9"}]'):
        *_, item = split_items(body % data, max_items=2).items
        assert isinstance(item, BadRequestError)
        assert item.message == alone.value.message


def test_a_channel_that_is_no_utf_8_is_told_with_its_byte() -> None:
    """Within the item, as it is not in the payload."""
    (item,) = split_items(b'[{"channel":"\xff","data":1}]', max_items=1).items
    assert isinstance(item, BadRequestError)
    assert item.message == "not JSON: not UTF-8: byte 12 cannot be decoded"


@pytest.mark.parametrize(
    "item",
    [
        b'{"channel":"a","data":' + b"[" * 1100 + b"]" * 1100 + b',"a":1' * 300 + b"}",
        b'{"channel":"a","data":\xff' + b",a:1" * 300 + b"}",
    ],
)
def test_many_items_with_a_fault_are_not_each_looked_into_to_the_end(
    item: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them together have about as many tokens as one document may have."""
    seen = 0
    tokens = salvage._tokens

    def counted(*args: Any) -> Iterator[tuple[int, bytes, int, int]]:
        nonlocal seen
        for token in tokens(*args):
            seen += 1
            yield token

    monkeypatch.setattr(salvage, "_tokens", counted)
    batch = split_items(b"[" + b",".join([item] * 500) + b"]", max_items=1000)
    assert len(batch.items) == 500
    assert seen < 3 * salvage.MAX_TOKENS


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


GOOD = b'{"channel":"a","data":1}'
DEEP = b"[" * 1_000 + b"]" * 1_000


@pytest.mark.parametrize(
    "data",
    [rb'"abc\ud83d"', rb'"\ude00"', b'"a\x01b"', b'"a\nb"', rb'"\x41"', rb'"a\\\ud83d\""', DEEP],
)
def test_text_that_is_no_json_and_deep_nesting_are_errors_of_their_item(data: bytes) -> None:
    """The others are published: half an emoji must not cost 999 strangers their messages."""
    bad = b'{"channel":"a","data":%b}' % data
    fine = rb' {"channel":"b", "data":"\\\" \ud83d\ude00 ] , ["}'
    batch = split_items(b"[%b,\n%b , %b]" % (GOOD, bad, fine), max_items=3)
    first, broken, last = batch.items
    assert isinstance(first, Item)
    assert isinstance(last, Item)
    assert last.payload == rb'"\\\" \ud83d\ude00 ] , ["'
    if isinstance(broken, Item):
        with pytest.raises(BadRequestError):
            check_payload(broken.payload, limit=LIMIT)


@pytest.mark.parametrize(
    "word",
    [
        *(b"NaN", b"Infinity", b"-Infinity", b"nan", b"undefined", b"None", b"True", b"'x'", b""),
        *(b"1_0", b"0x1f", b"01", b"+1", b".5", b"1.", b"{a:1}", b"[1,]", b"[1 2]", b'{"a" 1}'),
    ],
    ids=str,
)
@pytest.mark.parametrize("many", [b"1", b"1" + b",[[[[[1]]]]]" * 3_000], ids=["few", "many"])
def test_a_word_that_is_no_json_is_the_error_of_its_item(word: bytes, many: bytes) -> None:
    """As JavaScript and Python write what JSON lacks, in an item's data or in an item's place."""
    good = b'{"channel":"a","data":[%b]}' % many
    for bad in (b'{"channel":"a","data":%b}' % word, b'{"channel":"a","data":[[%b]]}' % word):
        if word == b"" and bad.endswith(b"[[]]}"):
            continue
        first, broken, last = split_items(b"[%b,%b , %b]" % (good, bad, good), max_items=3).items
        assert isinstance(first, Item)
        assert isinstance(last, Item)
        assert first.payload == last.payload == b"[%b]" % many
        assert isinstance(broken, BadRequestError)
        assert "not JSON" in broken.message


def test_half_an_emoji_and_a_deep_item_in_one_array_are_two_errors() -> None:
    """One way to split does not stop the other."""
    half, deep = (b'{"channel":"a","data":%b}' % data for data in (rb'"\ud83d"', DEEP * 5))
    deeper = b'{"channel":"a","data":%b}' % (b"[" * 5_000 + b"]" * 5_000)
    batch = split_items(b"[" + b",".join((GOOD, half, deeper, deep, GOOD)) + b"]", max_items=9)
    kinds = [isinstance(item, Item) for item in batch.items]
    assert kinds[0] is kinds[4] is True
    assert isinstance(batch.items[2], BadRequestError)
    assert batch.items[2].message.startswith(TOO_DEEP)


@pytest.mark.parametrize(
    "raw",
    [rb'["\ud83d"', b'["a\x01" 1]', b'["\x01",]', b'["\x01"]]', b'["\x01"]\x01', b'["\x01"\x01,1]'],
)
def test_an_array_whose_items_cannot_be_told_apart_is_refused_as_a_whole(raw: bytes) -> None:
    """A guess could publish what nobody sent."""
    with pytest.raises(BadRequestError, match="body is not JSON"):
        split_items(raw, max_items=9)


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_nesting_has_one_limit(opening: bytes, closing: bytes) -> None:
    """Just below it all is well, above it the answer is one and the same."""

    def nested(depth: int) -> bytes:
        return opening * depth + b"1" + closing * depth

    assert check_payload(nested(MAX_NESTING), limit=LIMIT) == nested(MAX_NESTING)
    for depth in (MAX_NESTING + 1, 975, 1_000, 1_024, 1_025, 5_000):
        with pytest.raises(BadRequestError) as caught:
            check_payload(nested(depth), limit=LIMIT)
        assert caught.value.message.startswith(TOO_DEEP)


@pytest.mark.parametrize("depth", [200, 511, 512, 513, 600, 1_023, 1_024, 1_025, 5_000])
@pytest.mark.parametrize("tail", [b"", b"1", b"x", b"{", b"]" * 100, b'"'])
def test_brackets_without_their_ends_are_told_as_what_they_are(depth: int, tail: bytes) -> None:
    """Too deep, or without an end: whatever memory a parser would have wanted."""
    with pytest.raises(BadRequestError) as caught:
        check_payload(b"[" * depth + tail, limit=10_000)
    message = caught.value.message
    assert "memory" not in message
    if depth > MAX_NESTING:
        assert message.startswith(f"{TOO_DEEP}: line 1 column {MAX_NESTING + 2}")
    elif tail in {b"", b"1"}:
        column = depth + len(tail) + 1
        assert f"unexpected end of data: line 1 column {column}" in message


def test_many_brackets_side_by_side_are_not_deep() -> None:
    """Counting them is only the first look."""
    raw = b"[" + b",".join([b"[{}]"] * 5_000) + b"]"
    assert check_payload(raw, limit=LIMIT) == raw


def test_python_objects_have_the_same_limit() -> None:
    """Though the encoder of choice gives up at half of it."""

    def nested(depth: int) -> object:
        value: object = 1
        for _ in range(depth):
            value = [value]
        return value

    for depth in (250, 300, MAX_NESTING):
        raw = encode_payload(nested(depth))
        assert check_payload(raw, limit=LIMIT) == raw
    endless: list[object] = []
    endless.append(endless)
    for value in (nested(MAX_NESTING + 1), nested(5_000), endless):
        with pytest.raises(BadRequestError) as caught:
            check_payload(encode_payload(value), limit=LIMIT)
        assert caught.value.message.startswith(TOO_DEEP)
    for value in (object(), "\ud83d", [[object()]]):
        with pytest.raises(BadRequestError, match="cannot be encoded"):
            encode_payload(value)


def test_too_many_items_are_refused_as_a_whole() -> None:
    """Both numbers are named."""
    body = orjson.dumps([{"channel": "a", "data": 1}] * 3)
    assert len(split_items(body, max_items=3).items) == 3
    for too_many in (body, body.replace(b"1", rb'"\ud83d"')):
        with pytest.raises(TooLargeError, match="batch has 3 items, limit is 2"):
            split_items(too_many, max_items=2)


BODY_BYTES = 1 << 20
FIELDS = b'{"channel":"a","data":1,' + b'"a":1,' * 170 + b'"\\ud800":1},'
HOSTILE = {
    "quotes": b"[" + b'"' * (BODY_BYTES - 1),
    "escaped quotes": b"[" + b'"\\"' * (BODY_BYTES // 3),
    "empty strings and a control character": b'[""' + b',""' * (BODY_BYTES // 3) + b',"\x01"]',
    "a control character and empty strings": b'["\x01"' + b',""' * (BODY_BYTES // 3) + b"]",
    "a word that is no JSON and numbers": b"[x" + b",1" * (BODY_BYTES // 2) + b"]",
    "many fields": b"[" + (FIELDS * 1000)[:-1] + b"]",
    "numbers": b"[" + b"1," * (BODY_BYTES // 2) + b"1]",
    "numbers without commas": b"[" + b"11 " * (BODY_BYTES // 3) + b"1]",
    "arrays": b"[" + b"[]," * (BODY_BYTES // 3) + b"1]",
    "publications": b"[" + b'{"channel":"a","data":1},' * (BODY_BYTES // 25) + b"1]",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_refused_array_takes_no_more_memory_than_a_few_copies(name: str) -> None:
    """Items are counted before an object is made of each, and strings before they are cut out."""
    raw = HOSTILE[name]
    gc.collect()
    tracemalloc.start()
    try:
        with pytest.raises((BadRequestError, TooLargeError)) as caught:
            split_items(raw, max_items=1000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6 * len(raw), f"{peak / len(raw):.1f} bytes for each of the body's"
    assert len(caught.value.message) < 200


def test_very_many_items_are_refused_before_all_are_read() -> None:
    """The error says the limit; how many there are is not worth finding out."""
    with pytest.raises(TooLargeError, match="batch has over 1,000 items, limit is 1,000"):
        split_items(b"[" + b"1," * 30_000 + b"1]", max_items=1000)


def test_a_full_batch_with_very_many_fields_is_read() -> None:
    """Commas within an item are none between items."""
    item = b'{"channel":"a","data":[' + b"1," * 60 + b"1]}"
    batch = split_items(b"[" + b",".join([item] * 1000) + b"]", max_items=1000)
    assert all(isinstance(item, Item) for item in batch.items)
    assert len(batch.items) == 1000


@pytest.mark.parametrize(
    "key",
    [
        "é" * 200, "ключ", "κλειδί", "鍵", "열쇠", "مفتاح", "מפתח", "कुंजी", "กุญแจ",
        "\u0686\u0627\u067e\u200c\u0634\u062f\u0647", "👨\u200d👩\u200d👧", "k\u00a0b",
        "全角\u3000", "\u200e", "\ufeff", "\ue000", "\U0001fae9", "a b", "\U0003fffe", "a\u0301",
    ],
)  # fmt: skip
def test_keys_are_of_any_script(key: str) -> None:
    """With what joins characters, and those that this Python has never heard of."""
    assert check_key(key, "key") == key


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("", "key is 0 characters"),
        ("x" * 201, "key is 201 characters"),
        ("a\nb", r"U\+000A is its character 2"),
        ("a\x00", r"U\+0000 is its character 2"),
        ("\x7f", r"U\+007F"),
        ("aéß\x85", r"U\+0085 is its character 4"),
        ("\u2028", r"U\+2028"),
        ("ab\u202e", r"U\+202E is its character 3"),
        ("\u2066", r"U\+2066"),
        ("\ud83d", r"U\+D83D"),
    ],
)
def test_a_key_that_is_refused_says_which_character_it_is(key: str, why: str) -> None:
    """Most of them cannot be seen."""
    with pytest.raises(BadRequestError, match=why):
        check_key(key, "key")
