"""Patterns: which names they match, and that whatever is found by a tree is what matches."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.core.identity import Identity
from hub.core.patterns import PatternTree, check_pattern, matches
from hub.errors import BadRequestError, ForbiddenError

SEGMENTS = st.sampled_from(["a", "b", "prices", "", "x1"])
NAMES = st.lists(st.tuples(st.sampled_from([":", "."]), SEGMENTS), min_size=1, max_size=5).map(
    lambda parts: "".join(separator + segment for separator, segment in parts)[1:] or "a"
)
WILD = st.sampled_from(["a", "b", "prices", "*", "*"])
PATTERNS = st.tuples(
    st.lists(st.tuples(st.sampled_from([":", "."]), WILD), min_size=1, max_size=4),
    st.sampled_from(["", ":**", ".**"]),
).map(lambda made: "".join(s + w for s, w in made[0])[1:] + made[1])


@pytest.mark.parametrize(
    ("pattern", "name", "does"),
    [
        ("prices:*", "prices:eur", True),
        ("prices:*", "prices:eur:spot", False),
        ("prices:*", "prices.eur", False),
        ("prices:*", "prices:", False),
        ("prices:*", "prices", False),
        ("prices:**", "prices:eur:spot", True),
        ("prices:**", "prices", False),
        ("*", "news", True),
        ("*", "a:b", False),
        ("**", "a:b.c", True),
        ("a:*:c", "a:b:c", True),
        ("a.*.c", "a.b.c", True),
        ("a:*:c", "a:b:d", False),
        ("news", "news", True),
    ],
)
def test_a_star_is_one_segment_and_two_are_all_the_rest(
    pattern: str, name: str, *, does: bool
) -> None:
    """Segments are separated by `:` or `.`, and neither stands for the other."""
    tree: PatternTree[str] = PatternTree()
    tree.add(check_pattern(pattern), "found")
    assert matches(pattern, name) is does
    assert bool(tree.matching(name)) is does


@pytest.mark.parametrize("text", ["a*", "a:b*", "**:a", "a:***", "a b:*", "", "a" * 201])
def test_a_text_that_would_silently_match_nothing_is_no_pattern(text: str) -> None:
    """A star beside letters, or two stars before the end, make a text no pattern."""
    with pytest.raises(BadRequestError):
        check_pattern(text)


@given(st.lists(PATTERNS, max_size=12), st.lists(NAMES, max_size=12), st.data())
def test_a_tree_finds_what_matches(
    patterns: list[str], names: list[str], data: st.DataObject
) -> None:
    """The tree finds them also after some patterns were removed, and an
    empty tree keeps nothing."""
    tree: PatternTree[int] = PatternTree()
    for number, pattern in enumerate(patterns):
        tree.add(pattern, number)
    gone = data.draw(st.sets(st.sampled_from(range(len(patterns))))) if patterns else set()
    for number in gone:
        tree.remove(patterns[number], number)
    for name in names:
        expected = {
            number
            for number, pattern in enumerate(patterns)
            if number not in gone and _reference(pattern, name)
        }
        found = tree.matching(name)
        assert set(found) == expected
        assert len(found) == len(expected)
        assert expected == {n for n in expected if matches(patterns[n], name)}
    for number in set(range(len(patterns))) - gone:
        tree.remove(patterns[number], number)
    assert not tree


def _reference(pattern: str, name: str) -> bool:
    wanted, given_ = re.split("([:.])", pattern), re.split("([:.])", name)
    for place, part in enumerate(wanted):
        if part == "**":
            return place < len(given_) and bool("".join(given_[place:]))
        if place >= len(given_) or (part == "*" and not given_[place]):
            return False
        if part not in ("*", given_[place]):
            return False
    return len(wanted) == len(given_)


@pytest.mark.parametrize(
    ("grant", "pattern", "may"),
    [
        ("*", "prices:*", True),
        ("*", "**", True),
        ("prices:*", "prices:*", True),
        ("prices:*", "prices:**", True),
        ("prices:*", "prices:eur:*", True),
        ("prices:e*", "prices:*", False),
        ("prices:eur", "prices:*", False),
        ("prices:*", "*", False),
        ("prices:*", "*:eur", False),
        ("prices:eur", "prices:eur", True),
        ("*", "hub:*", False),
    ],
)
def test_a_grant_has_to_cover_every_channel_that_matches(
    grant: str, pattern: str, *, may: bool
) -> None:
    """A pattern is refused if it may match a channel that is not granted."""
    identity = Identity(subscribe=(grant,))
    if may:
        identity.check_pattern(pattern)
    else:
        with pytest.raises(ForbiddenError):
            identity.check_pattern(pattern)
