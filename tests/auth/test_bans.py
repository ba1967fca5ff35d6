"""Words about subjects and tokens: nodes that heard them all agree, whatever order they came."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.auth.bans import Standing, StandingKind, Standings
from hub.core.identity import Identity
from hub.errors import ForbiddenError, HubError

NOW = 1_000_000


def ban(name: str = "ann", *, at: int = NOW, until: int = NOW + 1000, **more: object) -> Standing:
    return Standing(StandingKind.BAN, name, at_ms=at, until_ms=until, **more)  # type: ignore[arg-type]


def refusal(table: Standings, identity: Identity, now: int = NOW) -> str:
    try:
        table.check(identity, now)
    except HubError as error:
        return error.refusal
    return ""


def test_a_banned_subject_is_refused_with_its_reason_until_the_ban_ends() -> None:
    table = Standings()
    assert table.merge(ban(reason="spam"), NOW)
    with pytest.raises(ForbiddenError, match=r"^spam$"):
        table.check(Identity(subject="ann"), NOW)
    assert refusal(table, Identity(subject="bob")) == ""
    assert refusal(table, Identity()) == ""
    assert refusal(table, Identity(subject="ann"), NOW + 1000) == ""
    assert table.forget(NOW + 1000) == [ban(reason="spam")]
    assert len(table) == 0


def test_a_revoked_token_and_older_tokens_of_a_subject_are_refused() -> None:
    """A token that does not say when it was made might be an old one."""
    table = Standings()
    table.merge(Standing(StandingKind.TOKEN, "t1", at_ms=NOW, until_ms=NOW + 1000), NOW)
    table.merge(
        Standing(StandingKind.SUBJECT, "ann", at_ms=NOW, until_ms=NOW + 1000, before=500.0), NOW
    )
    revoked = "token_revoked"
    assert refusal(table, Identity(subject="bob", token_id="t1")) == revoked
    assert refusal(table, Identity(subject="bob", token_id="t2")) == ""
    assert refusal(table, Identity(subject="ann", issued_at=499.9)) == revoked
    assert refusal(table, Identity(subject="ann")) == revoked
    assert refusal(table, Identity(subject="ann", issued_at=500.0)) == ""


def test_a_ban_that_was_lifted_is_not_brought_back_by_a_node_that_did_not_hear_it() -> None:
    table = Standings()
    first, lifted = ban(), ban(at=NOW + 10, lifted=True)
    assert table.merge(first, NOW)
    assert table.merge(lifted, NOW)
    assert not table.merge(first, NOW + 20)
    assert refusal(table, Identity(subject="ann")) == ""
    assert table.merge(ban(at=NOW + 30), NOW + 30)
    assert refusal(table, Identity(subject="ann")) == "banned"


WORDS = st.builds(
    Standing,
    st.sampled_from(StandingKind),
    st.sampled_from(["a", "b"]),
    at_ms=st.integers(0, 3),
    until_ms=st.integers(NOW + 1, NOW + 3),
    reason=st.sampled_from(["", "x"]),
    lifted=st.booleans(),
)


@given(st.lists(WORDS, max_size=5))
def test_the_order_of_words_does_not_matter(words: list[Standing]) -> None:
    """A word that comes twice changes nothing either."""
    ends = set()
    for order in itertools.permutations(words):
        table = Standings()
        for word in (*order, *order[:2]):
            table.merge(word, NOW)
        ends.add(frozenset((each.key, each.order) for each in table))
    assert len(ends) == 1
