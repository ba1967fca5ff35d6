"""Token buckets, and what one connection, address, subject or publisher may ask for."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.core import limits as module
from hub.core.counters import Counters
from hub.core.limits import Bucket, Buckets, Limiter, Meter, PeerLimits, Rate, party
from hub.errors import RateLimitedError
from tests.core.fakes import FakeClock

TEN = Rate(10, 1, 20)


def limiter(**limits: object) -> tuple[Limiter, FakeClock, Counters]:
    clock, counters = FakeClock(), Counters()
    return Limiter(PeerLimits(**limits), clock, counters), clock, counters  # type: ignore[arg-type]


def test_a_bucket_is_full_at_first_and_fills_by_its_rate() -> None:
    bucket = Bucket(TEN, 0)
    assert [bucket.take(TEN, 0) for _ in range(20)] == [0] * 20
    assert bucket.take(TEN, 0) == pytest.approx(0.1)
    assert bucket.take(TEN, 0.0999) > 0
    assert bucket.take(TEN, 0.1) == 0
    assert [bucket.take(TEN, 100) for _ in range(21)][-2:] == [0, pytest.approx(0.1)]


def test_a_take_larger_than_a_bucket_needs_all_of_it_and_leaves_a_debt() -> None:
    bucket = Bucket(TEN, 0)
    assert bucket.take(TEN, 0, 50) == 0
    assert bucket.take(TEN, 0) == pytest.approx(3.1)
    assert bucket.take(TEN, 3.1) == 0


@given(st.lists(st.tuples(st.floats(0, 2), st.integers(1, 30)), max_size=60))
def test_no_order_of_events_gets_more_than_its_rate_and_burst(
    events: list[tuple[float, int]],
) -> None:
    bucket, now, taken = Bucket(TEN, 0), 0.0, 0
    for passed, tokens in events:
        now += passed
        if not bucket.take(TEN, now, tokens):
            taken += tokens
    assert taken <= 20 + now * 10 + 30


def test_each_party_has_its_own_bucket_and_the_longest_unused_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_KEYS", 2)
    buckets = Buckets(Rate(1, 1, 1), FakeClock())
    assert [buckets.take("a"), buckets.take("b")] == [0, 0]
    assert buckets.take("a") > 0
    assert buckets.take("c") == 0
    assert len(buckets) == 2
    assert buckets.take("a") > 0, "b was the longest unused"


def test_a_party_costs_the_same_among_few_and_among_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """A party with many addresses must not make each further one dearer."""

    def seconds_of_each(most: int) -> float:
        monkeypatch.setattr(module, "MAX_KEYS", most)
        buckets = Buckets(Rate(1, 1, 1), FakeClock())
        for number in range(most):
            buckets.take(number)
        began = time.perf_counter()
        for number in range(12_000):
            buckets.take(-number)
        return time.perf_counter() - began

    assert seconds_of_each(30_000) < 6 * min(seconds_of_each(300) for _ in range(3))


def test_addresses_of_ipv6_count_by_their_network() -> None:
    assert party("2001:db8::1") == party("2001:db8::ffff:1") != party("2001:db8:0:1::1")
    assert party("203.0.113.9") == "203.0.113.9"
    assert party("") == ""


def test_a_limit_that_is_off_limits_nothing() -> None:
    judge, _, counters = limiter()
    for _ in range(1000):
        judge.check_handshake("203.0.113.9")
        judge.check_publish("key")
        judge.check_address(10_000)
        judge.check_subject(10_000)
    assert not judge.meters_commands
    assert not counters.rate_limited


def test_a_refusal_says_when_to_come_back_and_is_counted() -> None:
    judge, clock, counters = limiter(handshakes=Rate(1, 5, 1), publishes=Rate(2, 1, 2))
    judge.check_handshake("203.0.113.9")
    judge.check_handshake("203.0.113.10")
    with pytest.raises(RateLimitedError) as refused:
        judge.check_handshake("203.0.113.9")
    assert refused.value.retry_after_seconds == 5
    clock.advance(5)
    judge.check_handshake("203.0.113.9")
    judge.check_publish("key", 2)
    with pytest.raises(RateLimitedError):
        judge.check_publish("key")
    judge.check_publish("another")
    assert counters.rate_limited == {"handshakes": 1, "publishes": 1}


@pytest.mark.parametrize("name", ["address", "subject"])
def test_connections_of_a_peer_are_bounded_in_number(name: str) -> None:
    judge, _, counters = limiter(**{f"{name}_connections": 3})
    check = getattr(judge, f"check_{name}")
    check(2)
    with pytest.raises(RateLimitedError, match="3"):
        check(3)
    assert counters.rate_limited == {f"{name}_connections": 1}


def refusals(judge: Limiter, meter: Meter, sizes: list[int]) -> list[bool]:
    return [judge.check_command(meter, size) is not None for size in sizes]


def test_a_connection_is_limited_in_commands_and_in_bytes() -> None:
    judge, clock, counters = limiter(commands=Rate(2, 1, 2), inbound_bytes=Rate(100, 1, 100))
    meter = judge.new_meter()
    assert refusals(judge, meter, [10, 10, 10]) == [False, False, True]
    clock.advance(1)
    assert refusals(judge, meter, [99, 99]) == [False, True]
    assert counters.rate_limited == {"commands": 1, "inbound_bytes": 1}


def test_a_subject_named_like_an_address_takes_none_of_the_bytes_of_the_address() -> None:
    judge, _, counters = limiter(inbound_bytes=Rate(100, 1, 100))
    judge.check_body("sub:192.0.2.1", 100, address="198.51.100.1")
    judge.check_body("192.0.2.1", 100, address="192.0.2.1")
    for publisher in ("sub:192.0.2.1", "192.0.2.1"):
        with pytest.raises(RateLimitedError):
            judge.check_body(publisher, 1, address="192.0.2.1")
    assert counters.rate_limited == {"inbound_bytes": 2}


def test_a_peer_that_goes_on_for_ten_seconds_is_closed_and_one_that_pauses_is_not() -> None:
    judge, clock, _ = limiter(commands=Rate(1, 1, 1))

    def seconds_until_closed(pause: float, seconds: float) -> float | None:
        meter, began = judge.new_meter(), clock()
        while clock() - began <= seconds:
            over = judge.check_command(meter, 0)
            if over is not None and over[1]:
                return clock() - began
            clock.advance(pause)
        return None

    assert seconds_until_closed(0.25, 30) == pytest.approx(10.25)
    assert seconds_until_closed(1.5, 60) is None
