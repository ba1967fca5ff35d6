"""A token in a cookie counts only where the hub's own page, or a listed one, sent it."""

import contextlib

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.auth.credentials import Credentials, read_cookie
from hub.auth.policy import Policy
from hub.errors import UnauthorizedError

KEY = "a-token-key-of-at-least-32-bytes"
TOKEN = jwt.encode({"sub": "ann"}, KEY, algorithm="HS256")


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("t=abc", "abc"),
        ("a=1; t=abc; b=2", "abc"),
        ('t="abc"', "abc"),
        ("t=a=b", "a=b"),
        ("a=1, t=abc", "abc"),
        ("t=abc; t=abc", "abc"),
        ("tt=abc", None),
        ("t=", None),
        ("t", None),
        ("", None),
    ],
)
def test_a_cookie_is_found_by_its_name(header: str, value: str | None) -> None:
    assert read_cookie(header, "t") == value


def test_two_cookies_of_the_name_are_nobodys() -> None:
    """A page of another host of the domain can set one beside it."""
    with pytest.raises(UnauthorizedError, match="2 cookies t"):
        read_cookie("t=a; t=b", "t")


@given(st.text())
def test_any_header_is_read(header: str) -> None:
    with contextlib.suppress(UnauthorizedError):
        read_cookie(header, "t")


def subject(
    *, origins: tuple[str, ...] = (), cookie: str = f"t={TOKEN}", **page: str
) -> str | None:
    policy = Policy(token_keys=[KEY], origins=origins, token_cookie="t")
    return policy.identify(Credentials(cookie=cookie, host="hub.example", **page)).subject


def test_pages_of_the_same_host_and_listed_ones_are_known_by_their_cookie() -> None:
    assert subject(origin="https://hub.example") == "ann"
    assert subject(fetch_site="same-origin") == "ann"
    assert subject(origin="https://app.example", origins=("https://app.example",)) == "ann"
    assert subject(origin="https://a.app.example", origins=("https://*.app.example",)) == "ann"


@pytest.mark.parametrize(
    "page",
    [
        {},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"fetch_site": "same-site"},
        {"fetch_site": "cross-site"},
        {"fetch_site": "none"},
    ],
)
@pytest.mark.parametrize("origins", [(), ("*",)])
def test_from_elsewhere_a_cookie_is_none(page: dict[str, str], origins: tuple[str, ...]) -> None:
    """A cookie does not count even where any page may connect: the browser sends it whether the
    user wants or not (cross-site WebSocket hijacking)."""
    with pytest.raises(UnauthorizedError, match="a token is needed"):
        subject(origins=origins, **page)


def test_a_cookie_that_does_not_hold_is_refused_and_another_credential_goes_before_it() -> None:
    with pytest.raises(UnauthorizedError):
        subject(cookie="t=x.y.z", origin="https://hub.example")
    with pytest.raises(UnauthorizedError, match="not one that is set"):
        subject(origin="https://hub.example", authorization="Bearer wrong")
