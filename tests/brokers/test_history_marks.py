"""Marks tell the age of publications, and clearing them out never takes long."""

import random
from collections import deque

import pytest

from hub.brokers import history_marks
from hub.brokers.history_marks import Marks


class Log:
    def __init__(self, name: str) -> None:
        self.name = name
        self.superseded = 0
        self.kept_in = 0


class Counted(deque[Log]):
    """Counts the marks that are taken from its front."""

    taken = 0

    def popleft(self) -> Log:
        Counted.taken += 1
        return super().popleft()


def counted_marks() -> Marks[Log]:
    marks: Marks[Log] = Marks()
    marks._marks, marks._cleared = Counted(), Counted()
    return marks


def drained(marks: Marks[Log]) -> list[str]:
    found = []
    while marks:
        if (log := marks.oldest()) is not None:
            found.append(log.name)
    return found


@pytest.mark.parametrize("seed", range(8))
def test_the_oldest_publication_goes_first_whatever_was_cleared_out(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a plain list, from which each log's oldest is deleted."""
    monkeypatch.setattr(history_marks, "_CLEAR_FROM", 5)
    chance = random.Random(seed)
    marks, plain = Marks[Log](), list[Log]()
    logs = [Log(name) for name in "abcdef"]
    for _ in range(3000):
        log, count = chance.choice(logs), chance.choice((1, 1, 1, 5))
        held = sum(each is log for each in plain)
        match chance.randrange(9):
            case 0 if plain:
                while (oldest := marks.oldest()) is None:
                    pass
                assert oldest is plain.pop(0)
            case 1 | 2 | 3 | 4 if held:
                count = min(count * 2, held)
                marks.drop(log, count)
                for _ in range(count):
                    plain.remove(log)
            case _:
                marks.add(log, count)
                plain += [log] * count
        assert marks.held == len(plain)
        assert len(marks) <= 2 * len(plain) + 60
    assert drained(marks) == [log.name for log in plain]


def test_no_publication_waits_for_all_marks_to_be_cleared_out() -> None:
    """Each that goes looks at four marks at most, and yet they stay few."""
    marks, old, busy = counted_marks(), Log("old"), Log("busy")
    marks.add(old, 1)
    marks.add(busy, 50_000)
    most, longest = 0, 0
    for _ in range(120_000):
        marks.add(busy, 1)
        before = Counted.taken
        marks.drop(busy, 1)
        most = max(most, Counted.taken - before)
        longest = max(longest, len(marks))
    assert most <= history_marks._LOOKED_AT
    assert longest < 50_000 * 2.7
    assert marks.held == 50_001


def test_many_that_go_at_once_look_at_four_marks_each() -> None:
    marks, logs = counted_marks(), [Log("a"), Log("b")]
    for number in range(40_000):
        marks.add(logs[number % 2], 1)
    for _ in range(19):
        before = Counted.taken
        for log in logs:
            marks.drop(log, 1000)
        assert Counted.taken - before <= 2000 * (history_marks._LOOKED_AT + 1)
    assert marks.held == 2000
    assert len(marks) <= 2 * 2000 + 2 * history_marks._CLEAR_FROM
    assert drained(marks) == ["a", "b"] * 1000
