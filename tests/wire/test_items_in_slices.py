"""A long array is split in many steps, also where one of its items cannot be read."""

import pytest

from hub.errors import BadRequestError
from hub.wire import items
from hub.wire.items import SLICE_BYTES, split_in_slices
from tests.wire.splitting import ended, split_items

GOOD = b'{"channel":"a","data":"%b"}' % (b"x" * 1000)
BAD = b'{"channel":1,"data":1}'


def steps(raw: bytes, monkeypatch: pytest.MonkeyPatch) -> tuple[items.PublishBody, list[int]]:
    """Return the body, and how many bytes of items each step has read one by one."""
    read = 0
    read_item = items._read_item

    def counts(part: bytes, tokens: int) -> items.Item | BadRequestError:
        nonlocal read
        read += len(memoryview(part))
        return read_item(part, tokens)

    monkeypatch.setattr(items, "_read_item", counts)
    splitting = split_in_slices(raw, max_items=1000)
    of_steps: list[int] = []
    while True:
        read = 0
        try:
            next(splitting)
        except StopIteration as done:
            return done.value, [*of_steps, read]
        of_steps.append(read)


@pytest.mark.parametrize("bad", [0, 500, 799])
def test_items_beside_one_that_cannot_be_read_are_read_in_slices(
    monkeypatch: pytest.MonkeyPatch, bad: int
) -> None:
    given = [GOOD] * 800
    given[bad] = BAD
    raw = b"[" + b",".join(given) + b"]"
    body, read = steps(raw, monkeypatch)
    assert [isinstance(each, BadRequestError) for each in body.items].index(True) == bad
    assert sum(read) > 700_000
    assert max(read) < SLICE_BYTES + 2 * len(GOOD)


@pytest.mark.parametrize(
    "raw",
    [
        b"[" + b",".join([GOOD] * 300) + b",x]",
        b"[" + b",".join([GOOD] * 300),
        b"[" + b",".join([GOOD] * 300 + [b'{"channel":"a","data":[}']) + b"]",
        b"[" + b" " * 200_000 + b"]",
        b"[" + b",".join([GOOD] * 300) + b",]",
    ],
    ids=["no value", "no end", "a bracket too few", "empty", "a comma too many"],
)
def test_in_slices_and_in_one_go_an_array_means_the_same(raw: bytes) -> None:
    told: list[object] = []
    for split in (split_items, lambda raw, max_items: ended(items._split_whole(raw, max_items))):
        try:
            told.append([known(each) for each in split(raw, max_items=1000).items])
        except BadRequestError as error:
            told.append(error.message)
    assert told[0] == told[1]


def known(item: items.Item | BadRequestError) -> bytes | str:
    return item.payload if isinstance(item, items.Item) else item.message


NESTED = b'{"channel":"a","data":{"rows":[%b]}}' % b",".join([b'{"a":{"b":1}, "c":{}}'] * 50)


@pytest.mark.parametrize("item", [GOOD, NESTED], ids=["texts", "objects in objects"])
@pytest.mark.parametrize("between", [b",", b", ", b" ,\n    ", b"\r\n\t,"])
@pytest.mark.parametrize("around", [b"[%b]", b" [\n  %b\n] "])
@pytest.mark.parametrize("more", [0, 1])
def test_a_long_array_is_cut_whatever_white_space_is_between_its_items(
    monkeypatch: pytest.MonkeyPatch, item: bytes, between: bytes, around: bytes, more: int
) -> None:
    """Python's encoder writes a space behind each comma: 4 MiB of that were one step of 11 ms.

    With one item more than whole slices the last slice is a little longer.
    """
    looked: list[int] = []
    read_items = items._read_items

    def counts(raw: bytes) -> list[items.Item]:
        looked.append(len(raw))
        return read_items(raw)

    monkeypatch.setattr(items, "_read_items", counts)
    of_a_slice = -(-SLICE_BYTES // (len(item) + len(between)))
    given = [item] * (5 * of_a_slice + more)
    found = split_items(around % between.join(given), max_items=len(given))
    assert [each.payload for each in found.items if isinstance(each, items.Item)] == [
        item.partition(b'"data":')[2][:-1]
    ] * len(given)
    assert len(looked) <= 7
    assert max(looked) < SLICE_BYTES + 3 * (len(item) + len(between))
