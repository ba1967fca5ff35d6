"""A payload is judged as JSON, left byte for byte as it was, and kept in its own length."""

import json
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.errors import BadRequestError, TooLargeError
from hub.wire.filters import encode_tags, read_filter
from hub.wire.payload import (
    MAX_NESTING,
    TOO_DEEP,
    check_key,
    check_payload,
    encode_payload,
)
from tests.wire.json_values import VALUES
from tests.wire.splitting import split_items

LIMIT = 65_536


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
    """White space around the value is not part of it."""
    raw = json.dumps(value).encode()
    assert check_payload(before.encode() + raw + after.encode(), limit=1_000_000) == raw


@given(st.binary(max_size=40))
def test_an_accepted_payload_is_one_line_of_json(raw: bytes) -> None:
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
def test_a_payload_that_is_not_strictly_json_is_refused_with_its_position(raw: bytes) -> None:
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
    """Such a text is too deep, or has no end; the memory that a parser would
    have wanted does not matter."""
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


COUNT = 1000


@pytest.mark.parametrize(
    "kept",
    [
        lambda number: encode_tags({"number": number}),
        lambda number: read_filter(b'{"number":%d}' % number),
        lambda number: check_payload(encode_payload({"number": number}), limit=100),
    ],
    ids=["tags", "filter", "payload of a Python program"],
)
def test_a_kept_payload_takes_its_own_length(kept: Callable[[int], object]) -> None:
    kept(0)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        held = [kept(number) for number in range(COUNT)]
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (after - before) / len(held) < 200
