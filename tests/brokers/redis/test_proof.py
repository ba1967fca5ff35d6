"""What nodes say to each other is proved by a key that Redis does not know."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.brokers.redis.bus import MAX_APART_SECONDS, Proof


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def proof(*keys: str) -> Proof:
    return Proof(keys, Clock())


def test_who_has_the_key_is_heard_and_nobody_else() -> None:
    sealed = proof("k").seal("a", b"drain")
    assert proof("k").open("a", sealed) == b"drain"
    assert proof("other").open("a", sealed) is None
    assert proof("k").open("b", sealed) is None, "it was for another node"
    assert proof("k").open("a", b"drain") is None


def test_while_keys_change_each_of_ones_own_counts() -> None:
    old, both, new = proof("old"), proof("new", "old"), proof("new")
    assert both.open("a", old.seal("a", b"x")) == b"x"
    assert both.open("a", new.seal("a", b"x")) == b"x"
    assert old.open("a", both.seal("a", b"x")) is None


def test_without_keys_nothing_is_proved() -> None:
    assert proof().open("a", proof().seal("a", b"x")) == b"x"


@pytest.mark.parametrize("seconds", [-MAX_APART_SECONDS - 1, MAX_APART_SECONDS + 1])
def test_what_was_recorded_is_not_heard_again_for_long(seconds: float) -> None:
    clock = Clock()
    one = Proof(["k"], clock)
    sealed = one.seal("a", b"x")
    clock.now += seconds / 2
    assert one.open("a", sealed) == b"x"
    clock.now += seconds / 2
    assert one.open("a", sealed) is None


@given(st.binary(max_size=100), st.integers(0, 99), st.integers(1, 255))
def test_no_bit_may_differ(message: bytes, at: int, change: int) -> None:
    sealed = bytearray(proof("k").seal("a", message))
    sealed[at % len(sealed)] ^= change
    assert proof("k").open("a", bytes(sealed)) is None
    assert proof("k").open("a", bytes(sealed[:-1])) is None
