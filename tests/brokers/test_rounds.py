"""All things of a kind are looked at in turn, and those that are gone do not stay."""

import pytest

from hub.brokers import rounds as rounds_module
from hub.brokers.rounds import Rounds


def made(*things: str) -> tuple[Rounds[str], set[str]]:
    there = set(things)
    rounds: Rounds[str] = Rounds(there.__contains__)
    for thing in things:
        rounds.add(thing)
    return rounds, there


def test_each_has_its_turn_before_one_has_its_second() -> None:
    rounds, _ = made(*"abcde")
    assert [list(rounds.some(2)) for _ in range(5)] == [[*"ab"], [*"cd"], [*"ea"], [*"bc"], [*"de"]]


def test_none_is_looked_at_twice_in_a_call() -> None:
    rounds, _ = made(*"ab")
    assert list(rounds.some(10)) == ["a", "b"]
    assert list(Rounds[str](lambda _: True).some(10)) == []


def test_a_member_that_is_gone_leaves_the_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while it is looked at, and however many there are."""
    monkeypatch.setattr(rounds_module, "_GONE_AT_ONCE", 45)
    rounds, there = made(*"abc")
    for thing in rounds.some(1):
        there.discard(thing)
    assert list(rounds.some(3)) == ["b", "c"]
    assert len(rounds) == 2
    rounds, there = made(*(str(number) for number in range(100)), "last")
    there.intersection_update({"last"})
    assert list(rounds.some(5)) == []
    assert len(rounds) == 51
    assert [*rounds.some(5), *rounds.some(5)] == ["last"]
    assert len(rounds) == 1
