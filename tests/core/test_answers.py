"""The table of answers to why a connection did not get a publication."""

from itertools import combinations

from hub.core.forensics.answers import TABLE, Fact, Fate
from hub.core.forensics.noted import TERMS, What


def test_every_row_can_answer() -> None:
    """No row of the table stands below one whose facts hold wherever its own do."""
    hidden = [lower for upper, lower in combinations(TABLE, 2) if upper.facts <= lower.facts]
    assert hidden == []


def test_whatever_the_facts_a_row_answers() -> None:
    """The last row asks for nothing."""
    assert TABLE[-1].facts == frozenset()


def test_every_answer_is_given_by_a_row() -> None:
    assert {row.answer for row in TABLE} == set(Fate)


def test_every_note_of_a_publication_has_a_row_that_it_decides_alone() -> None:
    """The others are no notes of one publication: how a subscription ended, and what it had asked
    for, a refusal."""
    alone = {fact for row in TABLE if len(row.facts) == 1 for fact in row.facts}
    assert {what for what in What if what not in alone} == {
        What.HELD,
        What.REFUSED,
        *TERMS,
    }


def test_a_fact_and_a_note_are_never_taken_for_each_other() -> None:
    assert not {fact.value for fact in Fact} & {what.value for what in What}
