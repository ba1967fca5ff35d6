"""A batch of publications is split into its items, and each is judged by itself."""

import gc
import json
import re
import tracemalloc
from collections.abc import Iterator
from typing import Any, cast

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.errors import BadRequestError, HubError, TooLargeError
from hub.wire import items, salvage
from hub.wire.items import SLICE_BYTES, Item, PublishBody, split_in_slices
from hub.wire.payload import (
    TOO_DEEP,
    check_payload,
)
from tests.wire.json_values import VALUES
from tests.wire.splitting import split_items

LIMIT = 65_536


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


@given(st.lists(VALUES, min_size=1, max_size=5))
def test_splitting_keeps_the_bytes_of_every_item(values: list[object]) -> None:
    """Data goes through a batch as it goes through a single publish."""
    datas = [json.dumps(value, indent=1).encode() for value in values]
    body = b"[" + b", ".join(b'{"channel":"a","data": ' + data + b"}" for data in datas) + b"]"
    batch = split_items(body, max_items=5)
    assert batch.is_array
    assert [item.payload for item in batch.items if isinstance(item, Item)] == datas


def test_an_object_is_a_batch_of_one_that_is_no_array() -> None:
    """Such a batch is answered with one object and not with an array."""
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
    """Invalid UTF-8 is the peer's error and must not end as a fault of the hub."""
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
    assert isinstance(batch.items[0], Item)
    assert isinstance(batch.items[1], BadRequestError)
    with pytest.raises(BadRequestError, match=TOO_DEEP):
        checked(batch.items[2])
    assert isinstance(batch.items[3], BadRequestError)
    assert isinstance(batch.items[4], Item)


def checked(item: Item | BadRequestError) -> bytes:
    """Returns the item's payload if the hub takes it: from Python 3.12 on the parser
    itself reads 5,000 levels."""
    if isinstance(item, BadRequestError):
        raise item
    return check_payload(bytes(item.data), limit=1_000_000)


@pytest.mark.parametrize(
    "raw",
    [rb'["\ud83d"', b'["a\x01" 1]', b'["\x01",]', b'["\x01"]]', b'["\x01"]\x01', b'["\x01"\x01,1]'],
)
def test_an_array_whose_items_cannot_be_told_apart_is_refused_as_a_whole(raw: bytes) -> None:
    """A guess could publish what nobody sent."""
    with pytest.raises(BadRequestError, match="body is not JSON"):
        split_items(raw, max_items=9)


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


def in_slices(raw: bytes, *, max_items: int = 10_000) -> tuple[PublishBody, int]:
    """Returns the items of the body, and the number of slices in which they were found."""
    slices, count = split_in_slices(raw, max_items=max_items), 1
    while True:
        try:
            next(slices)
        except StopIteration as end:
            return cast("PublishBody", end.value), count
        count += 1


def long_array(data: str, *, count: int = 0) -> bytes:
    item = f'{{"channel":"a","key":"a-key-of-some-length","data":{data}}}'
    return f"[{','.join([item] * (count or 4 * SLICE_BYTES // len(item)))}]".encode()


@pytest.mark.parametrize(
    "data",
    ["1", '"}, {"', '"},{"', '{"a":[{"b":1},{"c":"\\"},{"}]}', f'"{"x" * 30_000}"', "[[[[1]]]]"],
)
def test_a_long_array_is_read_a_slice_at_a_time(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever a slice could be cut by mistake; no slice is much longer than its share."""
    raw, sizes, read = long_array(data), list[int](), items._read_items

    def noting(piece: bytes) -> list[Item]:
        sizes.append(len(piece))
        return read(piece)

    monkeypatch.setattr(items, "_read_items", noting)
    batch, slices = in_slices(raw)
    assert batch.is_array
    assert slices >= 3
    assert max(sizes) <= SLICE_BYTES + 2 * len(data) + 100
    monkeypatch.undo()
    assert batch == split_items(raw, max_items=10_000_000)


@pytest.mark.parametrize(
    "raw",
    [
        long_array("1")[:-1] + b",]",
        long_array("1")[:-1],
        long_array("1") + b"x",
        long_array("1")[:-1] + b',{"channel":7}]',
        long_array("1")[:-1] + b',{"channel":"a","data":}]',
        long_array("1", count=20_000),
        b" \n" + long_array("1").replace(b"},", b"} ,"),
        b"[" * 200_000,
        b"[1," * 100_000,
        b"{" + b"}," * 100_000,
    ],
    ids=[
        "comma at the end", "no end", "more behind it", "a wrong item", "a broken item",
        "too many", "other spaces", "depth", "numbers", "no array",
    ],
)  # fmt: skip
def test_items_that_are_odd_are_told_as_if_they_were_read_in_one_go(raw: bytes) -> None:
    found = []
    for slices in (True, False):
        try:
            batch = in_slices(raw)[0] if slices else split_items(raw, max_items=10_000)
            found.append([re.sub("Raw object at [^>]*", "", str(item)) for item in batch.items])
        except HubError as error:
            found.append([error.code, error.message])
    assert found[0] == found[1]
