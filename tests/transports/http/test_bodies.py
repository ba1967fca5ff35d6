"""The bounds on bodies: the length that a head declares, and all bytes that are held together."""

import gzip
import random
import zlib
from collections.abc import Callable, Generator

import pytest

from hub.errors import BadRequestError, TooLargeError
from hub.transports.http.bodies import (
    FED_BYTES,
    SLICE_BYTES,
    BodyBudget,
    check_declared,
    plain,
)
from tests.support.steps import inflated


class Holder:
    """A connection, as the budget sees one."""

    def __init__(self) -> None:
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True


def test_the_connection_that_has_held_longest_is_cut_where_all_hold_too_much() -> None:
    """64 KiB behind each of 100,000 polls that wait would be 6 GiB."""
    budget = BodyBudget(1000)
    first, second, third = Holder(), Holder(), Holder()
    budget.hold_unparsed(first, 400)
    budget.hold_unparsed(second, 400)
    budget.hold_unparsed(first, 600)
    assert budget.unparsed_bytes == 1000
    budget.hold_unparsed(third, 100)
    assert (first.aborted, second.aborted, third.aborted) == (True, False, False)
    assert budget.unparsed_bytes == 500
    assert budget.bytes == 0  # bodies have a bound of their own


def test_bytes_that_are_read_on_are_held_no_more() -> None:
    budget = BodyBudget(1000)
    holder = Holder()
    budget.hold_unparsed(holder, 5000)
    assert not holder.aborted  # nobody else could be given up for it, and it is one connection's
    budget.hold_unparsed(holder, 0)
    budget.hold_unparsed(holder, 0)
    assert budget.unparsed_bytes == 0


@pytest.mark.parametrize("declared", ["1", "200", "0" * 40 + "200", "0" * 5000])
def test_zeros_before_a_length_say_nothing(declared: str) -> None:
    check_declared({"content-length": declared}, 200)


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ("201", "body is 201 bytes, limit is 200"),
        ("0" * 40 + "201", "body is 201 bytes, limit is 200"),
        ("9" * 5000, "body is over 1,000,000,000,000,000,000 bytes, limit is 200"),
    ],
)
def test_a_length_over_the_limit_is_told_as_it_is(declared: str, said: str) -> None:
    with pytest.raises(TooLargeError) as raised:
        check_declared({"content-length": declared}, 200)
    assert raised.value.message == said


GZIPPED = {"content-encoding": "gzip"}


@pytest.mark.parametrize("size", [0, 1, SLICE_BYTES - 1])
def test_a_short_body_is_inflated_at_once(size: int) -> None:
    assert plain(gzip.compress(b"x" * size), GZIPPED, 1 << 22) == b"x" * size


@pytest.mark.parametrize("size", [SLICE_BYTES + 1, 5 * SLICE_BYTES, 1 << 22])
@pytest.mark.parametrize("fill", ["bomb", "noise"])
def test_a_long_body_is_inflated_in_steps(size: int, fill: str) -> None:
    """4 MiB in one step would hold the loop for 10 ms, however few bytes came."""
    body = b" " * size if fill == "bomb" else random.Random(7).randbytes(size)
    found = plain(gzip.compress(body, 1), GZIPPED, size)
    assert not isinstance(found, bytes)
    steps = 0

    def counted() -> Generator[None, None, bytes]:
        nonlocal steps
        while True:
            steps += 1
            try:
                yield next(found)
            except StopIteration as done:
                return bytes(done.value)

    assert inflated(counted()) == body
    assert steps >= size / SLICE_BYTES - 1


def test_a_body_that_holds_nothing_is_read_in_steps() -> None:
    """4 MiB of empty blocks inflate to nothing, which takes 430 ms."""
    deflate = zlib.compressobj(wbits=31)
    head = deflate.flush(zlib.Z_SYNC_FLUSH)
    body = head + b"\x00\x00\x00\xff\xff" * 100_000 + deflate.flush()
    found = plain(body, GZIPPED, 1 << 22)
    assert not isinstance(found, bytes)
    steps = sum(1 for _ in found)
    assert steps == len(body) // FED_BYTES - 1
    assert inflated(plain(body, GZIPPED, 1 << 22)) == b""


@pytest.mark.parametrize("size", [SLICE_BYTES, 3 * SLICE_BYTES])
@pytest.mark.parametrize(
    "spoil", [lambda packed: packed[:-9], lambda packed: packed + b"1", lambda packed: packed * 2]
)
def test_a_body_that_is_not_one_whole_member_is_refused(
    size: int, spoil: Callable[[bytes], bytes]
) -> None:
    packed = spoil(gzip.compress(random.Random(7).randbytes(size)))
    with pytest.raises(BadRequestError):
        inflated(plain(packed, GZIPPED, 1 << 22))


@pytest.mark.parametrize("size", [SLICE_BYTES, 3 * SLICE_BYTES])
def test_no_more_is_inflated_than_a_body_may_have(size: int) -> None:
    packed = gzip.compress(b"x" * size)
    assert len(inflated(plain(packed, GZIPPED, size))) == size
    with pytest.raises(TooLargeError):
        inflated(plain(packed, GZIPPED, size - 1))
