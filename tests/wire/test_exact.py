"""What is kept of what orjson writes takes its own length, not that of the buffer."""

import tracemalloc
from collections.abc import Callable

import pytest

from hub.wire.filters import encode_tags, read_filter
from hub.wire.payload import check_payload, encode_payload

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
def test_what_is_kept_takes_its_own_length(kept: Callable[[int], object]) -> None:
    kept(0)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        held = [kept(number) for number in range(COUNT)]
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (after - before) / len(held) < 200
