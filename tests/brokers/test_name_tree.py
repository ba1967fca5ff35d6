"""Names by their segments: what a pattern finds among them is what matches it."""

from hypothesis import given
from hypothesis import strategies as st

from hub.brokers import name_tree
from hub.brokers.name_tree import NameTree
from hub.core.options import is_reserved
from hub.core.patterns import matches, names_reserved

PART = st.sampled_from(["", "a", "b", "hub"])
NAME = st.builds(
    lambda first, rest: (first + "".join(rest)) or "a",
    PART,
    st.lists(st.builds(str.__add__, st.sampled_from([":", "."]), PART), max_size=3),
)
PATTERN = st.builds(
    lambda first, rest, end: first + "".join(rest) + end,
    st.sampled_from(["a", "b", "*", "hub"]),
    st.lists(
        st.builds(str.__add__, st.sampled_from([":", "."]), st.sampled_from(["", "a", "b", "*"])),
        max_size=2,
    ),
    st.sampled_from(["", ":**", ".**"]),
)


@given(
    added=st.lists(NAME, max_size=30),
    removed=st.lists(NAME, max_size=10),
    pattern=PATTERN | st.just("**"),
)
def test_a_tree_finds_what_matches_and_is_held(
    added: list[str], removed: list[str], pattern: str
) -> None:
    """However names and patterns are made; channels of the hub come where they are named."""
    tree, held = NameTree(), set[str]()
    for name in added:
        assert tree.add(name) == (name not in held)
        held.add(name)
    for name in removed:
        tree.remove(name)
        held.discard(name)
    found = [name for name in tree.matching(pattern) if name is not None]
    expected = {
        name
        for name in held
        if matches(pattern, name) and (names_reserved(pattern) or not is_reserved(name))
    }
    assert len(found) == len(set(found))
    assert set(found) == expected
    assert len(tree) == len(held)
    assert all(name in tree for name in held)
    assert not any(name in tree for name in set(removed) - held)


@given(names=st.sets(NAME, max_size=20))
def test_a_tree_whose_names_all_went_holds_nothing(names: set[str]) -> None:
    tree = NameTree()
    for name in names:
        tree.add(name)
    for name in names:
        tree.remove(name)
    assert not tree._root.branches


async def test_a_search_costs_by_what_matches_and_gives_others_their_turn() -> None:
    """Of many channels only those below the literal part are looked at."""
    tree = NameTree()
    for number in range(3 * name_tree._TURN):
        tree.add(f"many:{number}")
    tree.add("few:1")
    assert list(tree.matching("few:*")) == ["few:1"]
    assert [name for name in tree.matching("many:*:x") if name is None] == [None] * 3
    assert await tree.find("many:*", 5) == [f"many:{number}" for number in range(5)]
