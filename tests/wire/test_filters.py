"""A filter passes publications by their tags, and a text that is no filter is refused."""

import sys
import tracemalloc
from contextlib import suppress
from string import ascii_lowercase
from types import FrameType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from orjson import dumps as encode_json

from hub.errors import BadRequestError
from hub.wire.filters import (
    MAX_FILTER_BYTES,
    MAX_VALUES,
    MEMO_BYTES,
    Tags,
    encode_tags,
    read_filter,
)

NBA: Tags = {"league": "nba", "home": True, "round": 3, "price": 9.5, "name": "b"}


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        (b'{"league":"nba"}', True),
        (b'{"league":"nfl"}', False),
        (b'{"league":["nfl","nba"]}', True),
        (b'{"league":["nfl"]}', False),
        (b'{"league":"nba","round":4}', False),
        (b'{"league":"nba","round":3}', True),
        (b'{"round":3.0}', True),
        (b'{"round":"3"}', False),
        (b'{"home":true}', True),
        (b'{"home":1}', False),
        (b'{"round":true}', False),
        (b'{"round":{"gt":2}}', True),
        (b'{"round":{"gt":3}}', False),
        (b'{"round":{"gte":3,"lt":4}}', True),
        (b'{"round":{"lte":2}}', False),
        (b'{"price":{"gt":9}}', True),
        (b'{"round":{"gt":"2"}}', False),
        (b'{"home":{"gt":0}}', False),
        (b'{"name":{"gt":"a","lt":"c"}}', True),
        (b'{"league":{"ne":"nfl"}}', True),
        (b'{"league":{"ne":"nba"}}', False),
        (b'{"league":{"eq":"nba"}}', True),
        (b'{"league":{"in":["nba"]}}', True),
        (b'{"none":"x"}', False),
        (b'{"none":{"ne":"x"}}', True),
        (b'{"none":{"gt":1}}', False),
        (b'{"none":{"exists":false}}', True),
        (b'{"none":{"exists":true}}', False),
        (b'{"home":{"exists":true}}', True),
    ],
)
def test_a_condition_passes_the_tags_that_it_names(condition: bytes, holds: bool) -> None:
    assert read_filter(condition).matches(encode_tags(NBA)) is holds


def test_a_publication_without_tags_passes_only_filters_that_ask_for_none() -> None:
    assert not read_filter(b'{"league":"nba"}').matches(None)
    assert read_filter(b'{"league":{"ne":"nba"}}').matches(None)
    assert read_filter(b'{"league":{"exists":false}}').matches(b"{}")


def test_the_same_condition_is_an_equal_filter() -> None:
    one, other = read_filter(b'{"a":1, "b":[2]}'), read_filter(b'{"b":[2],"a":1}')
    assert one == other
    assert hash(one) == hash(other)
    assert one != read_filter(b'{"a":1}')


@pytest.mark.parametrize(
    "wrong",
    [
        b"", b"{}", b"[]", b'"a"', b"null", b'{"a":null}', b'{"a":[]}', b'{"a":{}}', b'{"":1}',
        b'{"a":{"like":1}}', b'{"a":{"in":1}}', b'{"a":{"gt":[1]}}', b'{"a":{"exists":1}}',
        b'{"a":[[1]]}', b'{"a":{"gt":{"gt":1}}}', b'{"a":"%b"}' % (b"x" * 201), b"\xff",
        b'{"a":[%b]}' % b",".join([b"1"] * (MAX_VALUES + 1)), b'{"%b":1}' % (b"x" * 65),
        b'{"a":1e999}', b'{"a":' + b" " * MAX_FILTER_BYTES + b"1}",
        b"{" + b",".join(b'"%d":1' % n for n in range(17)) + b"}",
    ],
    ids=range(22),
)  # fmt: skip
def test_a_text_that_is_no_filter_is_refused(wrong: bytes) -> None:
    with pytest.raises(BadRequestError, match="filter"):
        read_filter(wrong)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_bytes_raise_anything_else(raw: bytes) -> None:
    with suppress(BadRequestError):
        read_filter(raw).matches(encode_tags(NBA))


def test_filters_and_tags_that_are_remembered_are_bounded_in_bytes() -> None:
    """A subscriber chooses its filters, and may choose another one each time."""
    texts = [f"{a}{b}" for a in ascii_lowercase for b in ascii_lowercase]
    long = {f"t{number}": texts[number * 80 :][:95] for number in range(8)}
    tracemalloc.start()
    try:
        for number in range(1500):
            wanted = read_filter(encode_json({"n": f"{number}", **long}))
            assert not wanted.matches(encode_tags({"n": f"{number}", "x": "é" * 200}))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held <= 3 * MEMO_BYTES + 1024 * 1024


TAGS = st.sampled_from(["a", "1", "", 0, 1, 1.0, 2.5, True, False])


@given(tag=TAGS, values=st.lists(TAGS, min_size=1, max_size=6), as_in=st.booleans())
def test_a_list_is_each_of_its_values(
    tag: str | float, values: list[str | float], *, as_in: bool
) -> None:
    """`true` is not 1, also where both stand in one list."""
    listed = read_filter(encode_json({"t": {"in": values} if as_in else values}))
    tags = encode_tags({"t": tag})
    one_by_one = [read_filter(encode_json({"t": each})).matches(tags) for each in values]
    assert listed.matches(tags) is any(one_by_one)


def test_a_filter_of_long_lists_costs_by_its_lists() -> None:
    """A subscriber chooses the lists, and each publication is compared with them."""
    names = ascii_lowercase[:12]
    wanted = read_filter(encode_json({name: [0] * (MAX_VALUES - 2) + [5, 1] for name in names}))
    calls = 0

    def note(_frame: FrameType, event: str, _: object) -> None:
        nonlocal calls
        calls += event == "call"

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        assert wanted.matches(encode_tags(dict.fromkeys(names, 1)))
    finally:
        sys.setprofile(before)
    assert calls < 10 * len(names)
