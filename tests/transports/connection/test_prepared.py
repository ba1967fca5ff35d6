"""Publications behind a head that came before: by a plain call, or with a call back."""

from collections.abc import Callable

import pytest

from hub.auth.policy import Policy
from hub.errors import NotPublishedError, RateLimitedError
from tests.transports.connection.rig import Rig, post

KEY = "a-key-that-is-long-enough-to-be-one"
Make = Callable[..., Rig]
ways = pytest.mark.parametrize("publishes", ["by coroutine", "now", "soon"])


@ways
async def test_fields_of_a_known_head_hold_for_each_publication(
    make_rig: Make, publishes: str
) -> None:
    rig = make_rig(publishes=publishes)
    for body in (b"1", b"2", b"3"):
        more = "X-Message-Key: k\r\nX-Message-Tags: a=b\r\nX-Message-TTL: 2\r\n"
        rig.receive(post("a", body, more))
        await rig.settle()
    assert rig.answers == [200] * 3
    said = [(each.data, each.key, each.tags, each.keep_ms) for each in rig.registry.published]
    assert said == [(body, "k", b'{"a":"b"}', 2000) for body in (b"1", b"2", b"3")]
    assert [body for _, body in rig.whole_answers()] == [
        b'{"channel":"a","offset":%d,"epoch":"e1"}' % offset for offset in (1, 2, 3)
    ]


@ways
async def test_a_publication_refused_behind_a_known_head_is_told_and_counted(
    make_rig: Make, publishes: str
) -> None:
    """By what is wrong with its body, by the broker, and by a fault of the hub."""
    rig = make_rig(publishes=publishes)
    fails = rig.registry.fails
    steps: list[tuple[bytes, Exception | None]] = [
        (b"1", None), (b"{", None), (b"2", NotPublishedError("no room")), (b"3", None),
    ]  # fmt: skip
    if publishes != "soon":
        # A broker with a call back tells errors of the hub alone.
        steps.append((b"4", ZeroDivisionError("ours")))
    for body, error in steps:
        fails.clear()
        if error is not None:
            fails["a"] = error
        rig.receive(post("a", body))
        await rig.settle()
    assert rig.answers == [200, 400, 503, 200, 500][: len(steps)]
    assert rig.published == [b"1", b"3"]
    assert rig.counters.http_errors["bad_request"] == 1
    assert rig.counters.http_errors["not_published"] == 1
    assert rig.budget.bytes == 0


@ways
async def test_a_message_key_that_is_refused_is_refused_each_time(
    make_rig: Make, publishes: str
) -> None:
    rig = make_rig(publishes=publishes)
    for _ in range(3):
        rig.receive(post("a", b"1", f"X-Message-Key: {'k' * 201}\r\n"))
        await rig.settle()
    assert rig.answers == [400] * 3
    assert not rig.published


@ways
async def test_a_publishers_limit_counts_each_publication(make_rig: Make, publishes: str) -> None:
    asked: list[tuple[str, int]] = []

    def check(publisher: str, count: int, *, address: str) -> None:
        assert address == "192.0.2.7"
        asked.append((publisher, count))
        if len(asked) > 2:
            raise RateLimitedError("slower")

    rig = make_rig(publishes=publishes, check_publish=check)
    for _ in range(3):
        rig.receive(post("a", b"1"))
        await rig.settle()
    assert rig.answers == [200, 200, 429]
    assert asked == [("192.0.2.7", 1)] * 3


@ways
async def test_a_head_is_judged_anew_when_keys_have_changed(make_rig: Make, publishes: str) -> None:
    policy = Policy(publish_keys=[KEY])
    rig = make_rig(policy=policy, publishes=publishes)
    request = post("a", b"1", f"Authorization: Bearer {KEY}\r\n")
    for _ in range(2):
        rig.receive(request)
        await rig.settle()
    policy.replace_publish_keys(["another-key-that-is-long-enough-too"])
    rig.receive(request)
    await rig.settle()
    assert rig.answers == [200, 200, 401]


@ways
async def test_a_connection_that_is_told_to_stop_gets_one_more_answer(
    make_rig: Make, publishes: str
) -> None:
    rig = make_rig(publishes=publishes)
    for body in (b"1", b"2"):
        rig.receive(post("a", body))
        await rig.settle()
    rig.connection.leave_after_next()
    rig.receive(post("a", b"3") + post("a", b"4"))
    await rig.settle()
    assert rig.answers == [200] * 3
    assert rig.published == [b"1", b"2", b"3"]
    assert b"Connection: close" in rig.transport.written


async def test_publications_behind_one_that_is_answered_later_wait_for_it(make_rig: Make) -> None:
    rig = make_rig(publishes="soon")
    for channel in ("a", "slow"):
        rig.registry.gate.set()
        rig.receive(post(channel, b"0"))
        await rig.settle()
    rig.registry.gate.clear()
    rig.receive(post("slow", b"1") + post("a", b"2"))
    rig.receive(post("a", b"3"))
    await rig.settle()
    assert rig.answers == [200] * 2
    rig.registry.gate.set()
    await rig.settle()
    assert rig.answers == [200] * 5
    assert rig.published == [b"0", b"0", b"1", b"2", b"3"]
    assert rig.budget.bytes == 0


async def test_nobody_is_answered_whose_connection_is_gone(make_rig: Make) -> None:
    """The publication is made, and the bytes held for it are released."""
    rig = make_rig(publishes="soon")
    rig.registry.gate.set()
    rig.receive(post("slow", b"0"))
    await rig.settle()
    rig.registry.gate.clear()
    rig.receive(post("slow", b"1"))
    await rig.settle()
    rig.transport.abort()
    assert rig.budget.bytes == 0
    rig.registry.gate.set()
    await rig.settle()
    assert rig.answers == [200]
    assert rig.published == [b"0", b"1"]


async def test_a_publication_that_takes_too_long_is_told_so_and_the_answer_comes_too_late(
    make_rig: Make,
) -> None:
    rig = make_rig(publishes="soon")
    rig.registry.gate.set()
    rig.receive(post("slow", b"0"))
    await rig.settle()
    rig.registry.gate.clear()
    rig.receive(post("slow", b"1"))
    await rig.settle()
    rig.wait(61)
    await rig.settle()
    assert rig.answers == [200, 503]
    rig.registry.gate.set()
    await rig.settle()
    assert rig.answers == [200, 503]
    assert rig.transport.ended or rig.transport.eof
