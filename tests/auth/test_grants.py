"""Which claim holds the grants, and what `{sub}` in them becomes."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.auth.grants import Grants, in_channel, read_grants
from hub.core.identity import Identity, matches
from hub.core.publication import check_channel
from hub.errors import UnauthorizedError


def grants(claims: dict[str, Any], subject: str | None = "ann", **more: Any) -> Grants:
    return read_grants(claims, subject=subject, **more)


def test_the_claim_is_found_by_its_name_and_then_by_its_path() -> None:
    """A provider that wants namespaced claims writes URLs, which have dots."""
    inner = {"subscribe": ["a"]}
    url = "https://hub.example/grants"
    assert grants({url: inner}, claim=url).subscribe == ("a",)
    assert grants({"app": {"hub": inner}}, claim="app.hub").subscribe == ("a",)
    assert grants({"app.hub": inner, "app": {"hub": {}}}, claim="app.hub").subscribe == ("a",)
    assert grants({"app": "text"}, claim="app.hub") == Grants()


def test_a_claim_may_be_an_object_as_text() -> None:
    """Some providers put nothing else into a claim."""
    assert grants({"hub": '{"publish":["a"]}'}).publish == ("a",)
    for wrong in ("", "text", "[]", "[" * 10_000):
        with pytest.raises(UnauthorizedError):
            grants({"hub": wrong})


def test_default_grants_are_those_of_tokens_that_hold_none() -> None:
    """A token that says what it grants, if only nothing, is taken at its word."""
    default = {"subscribe": ("user:{sub}:*",)}
    assert grants({}, default=default).subscribe == ("user:ann:*",)
    assert grants({"hub": {}}, default=default) == Grants()


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ("ann", "user:ann:*"),
        ("f2b1e6b4-7c2f", "user:f2b1e6b4-7c2f:*"),
        ("ann@example.com", "user:ann@example~2Ecom:*"),
        ("*", "user:~2A:*"),
        ("ann:*", "user:ann~3A~2A:*"),
        ("a~b", "user:a~7Eb:*"),
        ("Zo\u00eb", "user:Zo~C3~AB:*"),
        ("{sub}", "user:~7Bsub~7D:*"),
    ],
)
def test_sub_in_a_grant_is_the_tokens_subject(subject: str, expected: str) -> None:
    assert grants({"hub": {"subscribe": ["user:{sub}:*"]}}, subject).subscribe == (expected,)


def test_sub_in_a_grant_of_a_token_without_one_is_refused() -> None:
    """An empty place would be everybody's."""
    with pytest.raises(UnauthorizedError, match="has no sub"):
        grants({"hub": {"subscribe": ["user:{sub}:*"]}}, None)


SUBJECTS = st.text(min_size=1, max_size=20).filter(lambda text: text.isprintable()) | st.text(
    "ab*:.~|{}", min_size=1, max_size=6
)


@given(SUBJECTS, SUBJECTS)
def test_no_subject_widens_a_grant_or_shares_a_channel(one: str, other: str) -> None:
    """A provider may let people choose any name."""
    channel = f"user:{in_channel(other)}:inbox"
    check_channel(channel)
    [pattern] = grants({"hub": {"subscribe": ["user:{sub}:*"]}}, one).subscribe
    assert matches(pattern, channel) == (one == other)
    assert not matches(pattern, "user:")
    assert Identity(subscribe=(pattern,)).may_subscribe(channel) == (one == other)
