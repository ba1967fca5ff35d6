"""The circuit breaker: closed, open, one that tries, and how long it stays open."""

import pytest

from hub.hooks.breaker import FAILURES, FIRST_SECONDS, LAST_SECONDS, Breaker


class Rig:
    def __init__(self) -> None:
        self.now = 1000.0
        self.breaker = Breaker(lambda: self.now)

    def fail(self, times: int = 1) -> None:
        for _ in range(times):
            assert self.breaker.may_ask()
            self.breaker.failed()

    def opened(self) -> "Rig":
        self.fail(FAILURES)
        return self


def test_the_breaker_opens_with_the_last_of_some_failures_in_a_row() -> None:
    rig = Rig()
    rig.fail(FAILURES - 1)
    rig.breaker.answered()
    rig.fail(FAILURES - 1)
    assert rig.breaker.may_ask()
    assert rig.breaker.failed()
    assert not rig.breaker.may_ask()


def test_a_single_caller_tries_when_its_time_has_come() -> None:
    """Half open: the others are told no until it is known what became of that one."""
    rig = Rig().opened()
    rig.now += FIRST_SECONDS - 0.001
    assert not rig.breaker.may_ask()
    rig.now += 0.001
    assert [rig.breaker.may_ask() for _ in range(5)] == [True, False, False, False, False]
    rig.now += 3600
    assert not rig.breaker.may_ask()


def test_an_answer_to_the_one_that_tries_lets_all_ask() -> None:
    rig = Rig().opened()
    rig.now += FIRST_SECONDS
    assert rig.breaker.may_ask()
    rig.breaker.answered()
    assert not rig.breaker.is_open
    assert [rig.breaker.may_ask() for _ in range(5)] == [True] * 5


def test_each_failure_of_one_that_tries_doubles_the_pause_up_to_half_a_minute() -> None:
    rig = Rig().opened()
    pauses = []
    for _ in range(8):
        began = rig.now
        while not rig.breaker.may_ask():
            rig.now += 0.5
        pauses.append(rig.now - began)
        assert not rig.breaker.failed(), "it was open already"
    assert pauses == [1, 2, 4, 8, 16, LAST_SECONDS, LAST_SECONDS, LAST_SECONDS]
    rig.now += LAST_SECONDS
    assert rig.breaker.may_ask()
    rig.breaker.answered()
    rig.fail(FAILURES)
    rig.now += FIRST_SECONDS
    assert rig.breaker.may_ask(), "after an answer it begins anew"


def test_questions_asked_before_the_breaker_opened_prolong_nothing() -> None:
    rig = Rig()
    assert all(rig.breaker.may_ask() for _ in range(20))
    for _ in range(20):
        rig.breaker.failed()
    rig.now += FIRST_SECONDS
    assert rig.breaker.may_ask()


@pytest.mark.parametrize("later", ["answered", "failed"])
def test_a_caller_that_is_cancelled_while_trying_leaves_the_try_to_the_next(later: str) -> None:
    rig = Rig().opened()
    rig.now += FIRST_SECONDS
    assert rig.breaker.may_ask()
    rig.breaker.given_up()
    assert rig.breaker.may_ask()
    getattr(rig.breaker, later)()
    assert rig.breaker.may_ask() == (later == "answered")
