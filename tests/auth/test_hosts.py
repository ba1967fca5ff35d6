"""Requests may name this machine, and what is listed; without a key nothing else."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.auth.hosts import HostList
from hub.errors import MisdirectedRequestError, SettingsError
from hub.node.access import policy_of
from hub.settings import Settings
from hub.wire.codes import http_status


def allowed(
    host: str | None, *entries: str, any_by_default: bool = False, addresses: bool = False
) -> bool:
    hosts = HostList(entries, any_by_default=any_by_default, addresses_by_default=addresses)
    try:
        hosts.check(host)
    except MisdirectedRequestError:
        return False
    return True


OWN = [
    "localhost",
    "localhost:8000",
    "LOCALHOST:8000",
    "localhost.",
    "localhost.:8000",
    "app.localhost:8000",
    "127.0.0.1",
    "127.0.0.1:8000",
    "127.9.9.9:1",
    "[::1]",
    "[::1]:8000",
    "[::ffff:127.0.0.1]:8000",
]
FOREIGN = [
    "evil.example",
    "evil.example:8000",
    "localhost.evil.example",
    "notlocalhost",
    "evillocalhost:8000",
    "127.0.0.1.evil.example",
    "127.1",
    "0x7f.0.0.1",
    "10.0.0.1",
    "192.168.1.5:8000",
    "[::2]:8000",
    "",
    ":8000",
    " ",
    "localhost evil.example",
    "localhost, evil.example",
    "localhost@evil.example",
    "evil.example/localhost",
    "localhost:8000:8000",
    "localhost:port",
    "[::1",
    "\ud800",
]


@pytest.mark.parametrize("host", OWN)
@pytest.mark.parametrize("entries", [(), ("hub.example",)])
def test_names_of_this_machine_are_always_allowed(host: str, entries: tuple[str, ...]) -> None:
    """No page of another machine can have one of them for its own."""
    assert allowed(host, *entries)


@pytest.mark.parametrize("host", FOREIGN)
@pytest.mark.parametrize("entries", [(), ("hub.example",)])
def test_other_hosts_are_refused(host: str, entries: tuple[str, ...]) -> None:
    """A name that is made to resolve to this machine, and what only looks like one of its own."""
    assert not allowed(host, *entries)


def test_a_request_that_names_no_host_is_allowed() -> None:
    """A request without a host comes from no browser, so it needs no check."""
    assert allowed(None)


@pytest.mark.parametrize("host", [*OWN, *FOREIGN])
def test_with_a_key_every_host_is_allowed_until_some_are_listed(host: str) -> None:
    assert allowed(host, any_by_default=True)
    assert allowed(host, "*")
    assert allowed(host, "hub.example", any_by_default=True) is (host in OWN)


@pytest.mark.parametrize("host", ["10.0.0.1", "192.168.1.5:8000", "[2001:db8::1]:8000"])
def test_addresses_are_allowed_where_the_hub_listens_on_some(host: str) -> None:
    """Probes and browsers ask for these, and a name that resolves elsewhere is no address."""
    assert allowed(host, addresses=True)
    assert not allowed(host, "hub.example", addresses=True)
    assert not allowed("evil.example", addresses=True)


@pytest.mark.parametrize(
    ("entry", "host"),
    [
        ("hub.example", "hub.example"),
        ("hub.example", "hub.example:8000"),
        ("hub.example", "HUB.example."),
        ("Hub.Example", "hub.example"),
        (" hub.example ", "hub.example"),
        ("hub.example.", "hub.example"),
        ("*.hub.example", "a.hub.example"),
        ("*.hub.example", "a.b.hub.example:1"),
        ("10.0.0.1", "10.0.0.1:8000"),
        ("2001:db8:0::1", "[2001:db8::1]:8000"),
        ("[2001:db8::1]", "[2001:DB8::1]"),
    ],
)
def test_a_listed_host_is_allowed(entry: str, host: str) -> None:
    assert allowed(host, "first.example", entry)


@pytest.mark.parametrize(
    ("entry", "host"),
    [
        ("hub.example", "a.hub.example"),
        ("hub.example", "evilhub.example"),
        ("*.hub.example", "hub.example"),
        ("*.hub.example", "evilhub.example"),
        ("*.hub.example", "a.hub.example.evil.example"),
        ("10.0.0.1", "10.0.0.10"),
    ],
)
def test_a_host_beside_the_list_is_refused(entry: str, host: str) -> None:
    assert not allowed(host, entry)


@pytest.mark.parametrize(
    "entry", ["", "hub.example:8000", "http://hub.example", "a b", "*hub.example", "a/b", "a.*.b"]
)
def test_an_entry_that_is_no_host_ends_the_start(entry: str) -> None:
    with pytest.raises(SettingsError) as caught:
        HostList(["fine.example", entry], any_by_default=False, addresses_by_default=False)
    assert caught.value.message.startswith(f"HUB_HOSTS: {entry!r} is not allowed: ")


@given(st.text(max_size=300).filter(lambda host: not allowed(host)))
def test_little_of_a_host_is_shown(host: str) -> None:
    """A stranger writes it, and whatever it is it raises nothing else."""
    with pytest.raises(MisdirectedRequestError, match="HUB_HOSTS") as caught:
        HostList((), any_by_default=False, addresses_by_default=False).check(host)
    assert repr(host[:100]) in caught.value.message
    assert len(caught.value.message) < 1400


@given(st.text(string.ascii_lowercase, min_size=1, max_size=8))
def test_only_a_dot_makes_a_subdomain(label: str) -> None:
    assert allowed(f"{label}.hub.example", "*.hub.example")
    assert not allowed(f"{label}hub.example", "*.hub.example")


@pytest.mark.parametrize(
    ("settings", "yes", "no"),
    [
        ({}, ["localhost"], ["hub.example", "10.0.0.1"]),
        ({"host": "0.0.0.0", "insecure": True}, ["10.0.0.1:8000"], ["hub.example"]),
        # Mounted under another server, which may listen on any address.
        ({"insecure": True}, ["10.0.0.1:8000"], ["hub.example"]),
        ({"publish_keys": ["k" * 32]}, ["hub.example"], []),
        ({"token_keys": ["k" * 32], "hosts": "hub.example"}, ["hub.example"], ["b.example"]),
        ({"hosts": "hub.example,*.b.example"}, ["a.b.example"], ["10.0.0.1"]),
    ],
)
def test_settings_make_the_policy(
    settings: dict[str, object], yes: list[str], no: list[str]
) -> None:
    policy = policy_of(Settings(**settings))
    for host in yes:
        policy.check_host(host)
    for host in no:
        with pytest.raises(MisdirectedRequestError):
            policy.check_host(host)


def test_a_misdirected_request_is_421() -> None:
    """RFC 9110 section 15.5.20: another connection, or none, would serve it."""
    assert http_status(MisdirectedRequestError.code) == 421
