"""Whose word about a client's address counts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.auth.proxies import TrustedProxies
from hub.errors import SettingsError

PROXY, INNER, CLIENT, FORGED = "10.0.0.7", "10.0.0.5", "203.0.113.9", "1.2.3.4"
PROXIES = TrustedProxies(["10.0.0.0/8", "fd00::/8"])


def test_the_client_is_the_first_from_the_right_that_is_no_proxy() -> None:
    headers = {"x-forwarded-for": f"{FORGED}, {CLIENT}, {INNER}"}
    assert PROXIES.client(PROXY, headers) == CLIENT


def test_a_header_that_a_stranger_writes_is_not_read() -> None:
    for headers in ({"x-forwarded-for": FORGED}, {"forwarded": f"for={FORGED}"}):
        assert PROXIES.client(CLIENT, headers) == CLIENT
    assert PROXIES.scheme(CLIENT, {"x-forwarded-proto": "https"}) is None


def test_without_proxies_nothing_is_read() -> None:
    assert TrustedProxies().client(PROXY, {"x-forwarded-for": FORGED}) == PROXY
    assert not TrustedProxies()


@pytest.mark.parametrize(
    ("field", "client"),
    [
        (f"for={CLIENT}", CLIENT),
        (f"For={CLIENT};proto=https;by={PROXY}", CLIENT),
        (f"for={FORGED}, for={CLIENT}", CLIENT),
        (f'for="{CLIENT}:4711"', CLIENT),
        ('for="[2001:DB8:0::1]:4711"', "2001:db8::1"),
        ('for="[2001:db8::1]"', "2001:db8::1"),
        ('for="[::ffff:203.0.113.9]"', CLIENT),
        (f"for={CLIENT};host=a, for={INNER}", CLIENT),
        (f'rubbish"", for={CLIENT}', CLIENT),
        # Nothing is known behind these: the proxy that wrote them is the nearest that is.
        ("for=unknown", PROXY),
        ("for=_hidden", PROXY),
        ('for="unfinished', PROXY),
        ("for=", PROXY),
        ("", PROXY),
        (f"for={CLIENT}, for=unknown", PROXY),
        (f"for=unknown, for={INNER}", INNER),
        # A zone means something at its own host alone (RFC 4007 section 6).
        ('for="[fe80::1%25eth0]"', PROXY),
        ('for="[::ffff:203.0.113.9%1]"', PROXY),
        (f'for={CLIENT}, for="[::ffff:{INNER}]"', CLIENT),
    ],
)
def test_forwarded_is_read_as_rfc_7239_has_it(field: str, client: str) -> None:
    assert PROXIES.client(PROXY, {"forwarded": field}) == client


@pytest.mark.parametrize(
    ("field", "client"),
    [
        (CLIENT, CLIENT),
        (f"{CLIENT}:4711", CLIENT),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("::ffff:203.0.113.9", CLIENT),
        ("::ffff:cb00:7109", CLIENT),
        (f"{FORGED}, {CLIENT}, [::ffff:{INNER}]:80", CLIENT),
        ("fe80::1%eth0", PROXY),
        (f"{CLIENT}, fe80::1%eth0", PROXY),
        ("::ffff:203.0.113.9%eth0", PROXY),
        (f"{CLIENT}:port", PROXY),
        (f"{CLIENT},", PROXY),
        ("' OR 1=1", PROXY),
    ],
)
def test_x_forwarded_for_is_read_in_all_its_forms(field: str, client: str) -> None:
    assert PROXIES.client(PROXY, {"x-forwarded-for": field}) == client


def test_two_fields_that_differ_name_nobody() -> None:
    """The client wrote one of them, and a proxy that knows only the other passed it on."""
    both = {"forwarded": f"for={FORGED}", "x-forwarded-for": CLIENT}
    assert PROXIES.client(PROXY, both) == PROXY
    assert PROXIES.client(PROXY, both | {"forwarded": f"for={CLIENT}"}) == CLIENT


def test_the_scheme_is_what_the_nearest_proxy_says() -> None:
    assert PROXIES.scheme(PROXY, {"x-forwarded-proto": "http, HTTPS"}) == "https"
    assert PROXIES.scheme(PROXY, {"forwarded": "for=a;proto=http, for=b;proto=https"}) == "https"
    assert PROXIES.scheme(PROXY, {"x-forwarded-proto": "gopher"}) is None


def test_a_very_long_list_costs_no_more_than_its_end() -> None:
    listed = ", ".join([FORGED, *([INNER] * 5000)])
    assert PROXIES.client(PROXY, {"x-forwarded-for": listed}) == INNER


@given(st.text(max_size=200), st.text(max_size=200))
def test_no_field_raises_and_none_makes_more_than_an_address(first: str, second: str) -> None:
    for headers in (
        {"forwarded": first},
        {"x-forwarded-for": first},
        {"forwarded": first, "x-forwarded-for": second, "x-forwarded-proto": second},
    ):
        assert set(PROXIES.client(PROXY, headers)) <= set("0123456789abcdef.:")
        assert PROXIES.scheme(PROXY, headers) in {None, "http", "https"}


def test_an_entry_that_is_no_network_is_named() -> None:
    with pytest.raises(SettingsError, match=r"HUB_TRUSTED_PROXIES: 'proxy.local'"):
        TrustedProxies(["10.0.0.1", "proxy.local"])


@pytest.mark.parametrize("entry", ["::ffff:10.0.0.0/104", "::ffff:10.0.0.5", "::ffff:0:0/96"])
def test_a_network_of_ipv4_may_be_written_as_one_of_ipv6(entry: str) -> None:
    """Addresses have one form each, and so have networks: else the entry would cover nobody."""
    proxies = TrustedProxies([entry])
    assert proxies.trusts("10.0.0.5")
    assert not proxies.trusts("::1")
