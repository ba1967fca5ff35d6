"""Pages of the same host, and of what is listed, may talk to the hub; no others."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.auth.origins import OriginList
from hub.errors import ForbiddenError, SettingsError


def allowed(origin: str | None, host: str | None = "hub.example:8000", *entries: str) -> bool:
    try:
        OriginList(entries).check(origin, host)
    except ForbiddenError:
        return False
    return True


@pytest.mark.parametrize("entries", [(), ("https://example.com",), ("*",)])
def test_a_request_without_an_origin_is_allowed(entries: tuple[str, ...]) -> None:
    """A request without an origin comes from no browser, so its credentials decide."""
    assert allowed(None, "hub.example", *entries)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://127.0.0.1:8000", "127.0.0.1:8000"),
        ("http://localhost:8000", "LOCALHOST:8000"),
        ("http://[::1]:8000", "[::1]:8000"),
        ("http://hub.example", "hub.example"),
        ("http://hub.example", "hub.example:80"),
        ("http://hub.example:80", "hub.example"),
        ("https://hub.example", "hub.example:443"),
        ("https://hub.example:443", "hub.example"),
        ("HTTPS://Hub.Example", "hub.example"),
    ],
)
def test_a_page_of_the_same_host_is_allowed(origin: str, host: str) -> None:
    """Default ports count as written, letters in either case are the same."""
    assert allowed(origin, host)
    assert allowed(origin, host, "https://other.example")


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://localhost:8000", "127.0.0.1:8000"),
        ("http://hub.example:8001", "hub.example:8000"),
        ("http://hub.example", "hub.example:443"),
        ("https://hub.example", "hub.example:80"),
        ("http://evil.example", "hub.example"),
        ("http://hub.example.evil.example", "hub.example"),
        ("http://hub.example@evil.example", "hub.example"),
        ("http://evil.example/hub.example", "hub.example"),
        ("http://hub.example", None),
        ("http://hub.example", ""),
        ("chrome-extension://hub.example", "hub.example"),
        ("null", "null"),
        ("", ""),
        ("http://", ""),
        ("http://a:99999", "a:99999"),
        ("http://a, http://a", "a"),
    ],
)
def test_a_page_of_another_host_is_refused(origin: str, host: str | None) -> None:
    """Another name, port or scheme's port is another host; what cannot be read is nobody's."""
    assert not allowed(origin, host)


@pytest.mark.parametrize(
    ("entry", "origin"),
    [
        ("https://example.com", "https://example.com"),
        ("https://example.com", "https://example.com:443"),
        ("https://Example.com:443", "https://EXAMPLE.com"),
        ("https://example.com:8443", "https://example.com:8443"),
        ("https://*.example.com", "https://a.example.com"),
        ("https://*.example.com", "https://a.b.example.com"),
        ("https://*.example.com:8443", "https://a.example.com:8443"),
        ("chrome-extension://abcdef", "chrome-extension://abcdef"),
        ("*", "https://anything.example"),
        ("*", "null"),
    ],
)
def test_a_listed_origin_is_allowed(entry: str, origin: str) -> None:
    """Exactly, as a subdomain at any depth, or by the star that covers all."""
    assert allowed(origin, "hub.example", "https://first.example", entry)


@pytest.mark.parametrize(
    ("entry", "origin"),
    [
        ("https://example.com", "http://example.com"),
        ("https://example.com", "https://example.com:8443"),
        ("https://example.com", "https://a.example.com"),
        ("https://*.example.com", "https://example.com"),
        ("https://*.example.com", "https://evilexample.com"),
        ("https://*.example.com", "https://.example.com"),
        ("https://*.example.com", "http://a.example.com"),
        ("https://*.example.com", "https://a.example.com:8443"),
        ("https://*.example.com", "https://a.example.com.evil.example"),
        ("https://*.example.com", "https://*.example.com"),
        ("https://*.example.com", "null"),
    ],
)
def test_an_origin_beside_the_list_is_refused(entry: str, origin: str) -> None:
    """Scheme, host and port all count; the domain of a wildcard is not its own subdomain."""
    assert not allowed(origin, "hub.example", entry)


LABELS = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=12)


@given(st.lists(LABELS, min_size=1, max_size=4), LABELS)
def test_a_wildcard_covers_subdomains_and_nothing_that_only_looks_alike(
    labels: list[str], stranger: str
) -> None:
    """A wildcard matches only names that end with a dot and the domain."""
    below = ".".join((*labels, "example.com"))
    entry = "https://*.example.com"

    assert allowed(f"https://{below}", "hub.example", entry)
    assert not allowed(f"https://{stranger}example.com", "hub.example", entry)
    assert not allowed(f"https://{below}.{stranger}", "hub.example", entry)


@pytest.mark.parametrize(
    ("fetch_site", "holds"),
    [
        ("same-origin", True),
        ("same-site", False),
        ("cross-site", False),
        ("none", False),
        ("", False),
        (None, False),
        (" same-origin ", True),
        ("Same-Origin", False),
        ("same-origin, same-origin", False),
        ("same-origin, cross-site", False),
        ("cross-site, same-origin", False),
        ("same-origin;x=1", False),
        ("same-origin,", False),
    ],
)
def test_only_the_browsers_own_word_for_same_origin_stands_for_the_host(
    fetch_site: str | None, holds: bool
) -> None:
    """A proxy that rewrites `Host` makes the page's own origin look foreign."""
    origins = OriginList(())
    if holds:
        origins.check("https://hub.example", "127.0.0.1:8000", fetch_site)
    else:
        with pytest.raises(ForbiddenError):
            origins.check("https://hub.example", "127.0.0.1:8000", fetch_site)


@pytest.mark.parametrize(
    ("fetch_site", "holds"),
    [
        ("cross-site", False),
        ("same-site", False),
        ("same-origin", True),
        ("none", True),
        ("", True),
        (None, True),
        ("Cross-Site", False),
        (" cross-site\t", False),
        ("cross-site, cross-site", False),
        ("same-origin, cross-site", False),
        ("none, same-origin", False),
        ("cross-site;x=1", False),
        ("nested-navigable", False),
        ("?1", False),
        ("SAME-ORIGIN", False),
        ("None", False),
        (" ", True),
    ],
)
@pytest.mark.parametrize("entries", [(), ("https://example.com",)])
def test_a_page_of_elsewhere_that_names_no_origin_is_refused(
    entries: tuple[str, ...], fetch_site: str | None, holds: bool
) -> None:
    """Such as `<img src="http://localhost:8000/sse?channel=a">`, a session each time.

    Typed addresses (`none`), the hub's own pages and programs are none of these. What the field
    does not say plainly is taken for elsewhere.
    """
    origins = OriginList(entries)
    if holds:
        origins.check(None, "localhost:8000", fetch_site)
        return
    assert fetch_site is not None
    with pytest.raises(ForbiddenError, match=r"a page of elsewhere asks \(.*HUB_ORIGINS"):
        origins.check(None, "localhost:8000", fetch_site)


def test_the_star_covers_pages_that_name_no_origin() -> None:
    OriginList(["*"]).check(None, "localhost:8000", "cross-site")


def refusal(origin: str, host: str | None, *entries: str) -> str:
    with pytest.raises(ForbiddenError) as caught:
        OriginList(entries).check(origin, host)
    return caught.value.message


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://hub.example:8080", "hub.example"),
        ("https://hub.example:8443", "hub.example"),
        ("https://hub.example:8443", "HUB.example:443"),
        ("http://[2001:db8::1]:8080", "[2001:db8::1]"),
        ("http://hub.example", "hub.example:8080"),
        ("http://hub.example:8080", "hub.example:8081"),
    ],
)
def test_a_proxy_that_changes_the_port_is_named_with_its_cure(origin: str, host: str) -> None:
    """nginx with `proxy_set_header Host $host` behind a port other than the scheme's own."""
    message = refusal(origin, host)
    assert repr(origin) in message
    assert repr(host) in message
    assert "proxy_set_header Host $http_host" in message
    assert "HUB_ORIGINS" in message


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://evil.example:8080", "hub.example"),
        ("https://hub.example", "127.0.0.1:8000"),
        ("null", "hub.example"),
        ("http://hub.example:8080", ""),
    ],
)
def test_any_other_refusal_names_both_values_and_the_setting(origin: str, host: str) -> None:
    message = refusal(origin, host)
    assert repr(origin) in message
    assert repr(host) in message
    assert message.endswith("list it in HUB_ORIGINS")


def test_a_host_that_is_no_host_is_shown_in_part() -> None:
    assert len(refusal("http://a.example", "x" * 10_000)) < 400
    assert "names no host" in refusal("http://a.example", None)


@given(st.text(max_size=60), st.text(max_size=30))
def test_no_origin_raises_anything_but_forbidden(origin: str, host: str) -> None:
    """A stranger writes both headers; a list without the star covers neither."""
    if allowed(origin, host, "https://*.example.com"):
        assert origin.lower().startswith(("http://", "https://"))


@given(st.text(string.printable, max_size=300))
def test_the_message_shows_at_most_a_hundred_characters_of_the_origin(origin: str) -> None:
    """A long origin does not fill the log."""
    with pytest.raises(ForbiddenError) as caught:
        OriginList(()).check(origin, None)
    assert repr(origin[:100]) in caught.value.message
    assert "HUB_ORIGINS" in caught.value.message


@pytest.mark.parametrize(
    "entry",
    [
        "",
        " https://a",
        "null",
        "example.com",
        "https://",
        "https://*",
        "https://*example.com",
        "https://a.*.com",
        "https://a:123456",
        "https://example.com/",
        "https://user@example.com",
    ],
)
def test_an_entry_that_is_no_origin_ends_the_start(entry: str) -> None:
    """The message names the setting, the value and what is allowed."""
    with pytest.raises(SettingsError) as caught:
        OriginList(["https://fine.example", entry])
    assert caught.value.message.startswith(f"HUB_ORIGINS: {entry!r} is not allowed: * or scheme://")


def test_another_name_of_loopback_is_refused_with_what_to_open() -> None:
    """People open `localhost` and write 127.0.0.1, which is the usual first refusal."""
    with pytest.raises(ForbiddenError, match=r"open the page at http://127\.0\.0\.1:8000, which"):
        OriginList([]).check("http://localhost:8000", "127.0.0.1:8000")
    with pytest.raises(ForbiddenError) as refusal:
        OriginList([]).check("http://localhost:3000", "127.0.0.1:8000")
    assert "open the page" not in refusal.value.message


def test_a_page_without_an_origin_is_told_to_be_served() -> None:
    """`null` in the list would be every sandboxed frame of every site, so it cannot be listed."""
    with pytest.raises(ForbiddenError, match="opened as a file"):
        OriginList([]).check("null", "127.0.0.1:8000")


def test_a_slash_at_an_origins_end_is_named() -> None:
    with pytest.raises(SettingsError, match="leave out the / at its end"):
        OriginList(["http://localhost:8080/"])


def test_an_origin_is_judged_once_and_the_memory_of_judgements_is_bounded() -> None:
    """A flood of refused origins costs little, and unbounded names do not stay in memory."""
    allowed = OriginList(["https://shop.example"])
    for _ in range(3):
        allowed.check("https://shop.example", "hub.example")
        with pytest.raises(ForbiddenError, match=r"elsewhere\.example"):
            allowed.check("https://elsewhere.example", "hub.example")
        # The same page of another host is another question.
        allowed.check("https://elsewhere.example", "elsewhere.example")
    for number in range(5_000):
        with pytest.raises(ForbiddenError):
            allowed.check(f"https://{number}.example", "hub.example")
        with pytest.raises(ForbiddenError):
            allowed.check(f"https://{number}.example", "h" * 5_000)
    kept = allowed._known
    assert len(kept) <= 256
    assert all(len(str(asked)) < 1_000 for asked in kept)
