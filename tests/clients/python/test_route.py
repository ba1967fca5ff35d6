"""The environment names proxies and certificates; a client uses what concerns its hub."""

import os
import ssl
from pathlib import Path

import pytest

from hub_client import HubClient, Publisher, SyncPublisher
from hub_client import route as route_module
from hub_client.route import find_route
from tests.support import certificates

HTTP, HTTPS = "http://127.0.0.1:8000", "https://hub.example.org/live"
SOCKS = "socks5://proxy.example.org:1080"
NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
OTHERS = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE", "REQUEST_METHOD")


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*NAMES, *(name.lower() for name in NAMES), *OTHERS):
        monkeypatch.delenv(name, raising=False)


def given(monkeypatch: pytest.MonkeyPatch, **environment: str) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("no_proxy", ["fd00::/8", "[::1]", "[fd00::]/8", "[", "://", "]]:x", "%"])
@pytest.mark.parametrize("url", [HTTP, HTTPS])
def test_an_entry_of_no_proxy_that_names_another_host_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, no_proxy: str, url: str
) -> None:
    """The form of the entry does not matter."""
    given(monkeypatch, NO_PROXY=no_proxy)
    assert find_route(url).proxy is None
    given(monkeypatch, ALL_PROXY="proxy.example.org:3128")
    assert find_route(url).proxy == "http://proxy.example.org:3128"


@pytest.mark.parametrize(
    ("url", "no_proxy"),
    [
        ("http://127.0.0.1:8000", "*"),
        ("http://127.0.0.1:8000", "localhost, 127.0.0.1"),
        ("http://127.0.0.1:8000", "127.0.0.0/8"),
        ("http://127.0.0.1:8000", "10.0.0.1 127.0.0.1:8000"),
        ("http://[::ffff:127.0.0.1]:8000", "127.0.0.1"),
        ("http://[::1]:8000", "::1"),
        ("http://[::1]:8000", "[::1]"),
        ("http://[::1]:8000", "[::1]:8000"),
        ("http://[fd00::7]", "fd00::/8"),
        ("http://[fd00::7]", "[fd00::]/8"),
        ("http://localhost:8000", "LOCALHOST"),
        ("https://hub.example.org", "example.org"),
        ("https://hub.example.org", ".example.org"),
        ("https://hub.example.org", "*.example.org"),
        ("https://hub.example.org", "hub.example.org:443"),
        ("https://Hub.Example.org.", "hub.example.org"),
        ("https://hub.example.org", "https://hub.example.org"),
        ("https://hub.example.org", "all://hub.example.org/"),
    ],
)
def test_no_proxy_names_hosts_networks_ports_and_what_is_below_a_name(
    monkeypatch: pytest.MonkeyPatch, url: str, no_proxy: str
) -> None:
    """A proxy that cannot be used is then no error."""
    given(monkeypatch, ALL_PROXY=SOCKS, NO_PROXY=no_proxy)
    assert find_route(url).proxy is None


@pytest.mark.parametrize(
    ("url", "no_proxy"),
    [
        ("http://127.0.0.1:8000", "127.0.0.1:8001"),
        ("http://127.0.0.1:8000", "10.0.0.0/8"),
        ("http://[::1]:8000", "[::1]:8001"),
        ("https://hub.example.org", "ample.org"),
        ("https://hub.example.org", "www.example.org"),
        ("https://hub.example.org", "http://hub.example.org"),
        ("https://hub.example.org", "."),
        ("https://hub.example.org", ""),
    ],
)
def test_no_proxy_names_nobody_else(
    monkeypatch: pytest.MonkeyPatch, url: str, no_proxy: str
) -> None:
    given(monkeypatch, ALL_PROXY="http://proxy.example.org:3128", NO_PROXY=no_proxy)
    assert find_route(url).proxy == "http://proxy.example.org:3128"


def test_the_proxy_of_the_addresses_own_scheme_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy of the other scheme is ignored."""
    given(monkeypatch, HTTPS_PROXY="http://tls.example.org:1", ALL_PROXY=SOCKS, http_proxy="p:1")
    assert find_route(HTTP).proxy == "http://p:1"
    assert find_route(HTTPS).proxy == "http://tls.example.org:1"
    given(monkeypatch, http_proxy="ftp://nobody", HTTPS_PROXY="http://ann@tls.example.org:1")
    assert find_route(HTTPS).proxy == "http://ann:@tls.example.org:1"


MAKERS = pytest.mark.parametrize("make", [HubClient, Publisher, SyncPublisher])


@MAKERS
@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("ALL_PROXY", SOCKS, r"ALL_PROXY .*SOCKS takes .*\[socks\].*127.0.0.1 in NO_PROXY"),
        ("ALL_PROXY", "socks5h://ann:secret@p:1080", "ALL_PROXY is 'socks5h://p:1080'"),
        ("HTTP_PROXY", "http://p?token=secret", r"HTTP_PROXY is 'http://p\?token=\*{8}'"),
        ("HTTP_PROXY", "http://p/#a=1", "HTTP_PROXY is 'http://p/#a=1'"),
        ("HTTP_PROXY", "ftp://ann:se/cret@p", "HTTP_PROXY is 'ftp://p'"),
        ("HTTP_PROXY", "ftp://p", "HTTP_PROXY is 'ftp://p', allowed is"),
        ("HTTP_PROXY", "http://[::1", "HTTP_PROXY is 'http://"),
        ("HTTP_PROXY", "http://p:port", "HTTP_PROXY is 'http://p:port'"),
        ("HTTP_PROXY", "http://", "HTTP_PROXY is 'http://'"),
        ("HTTP_PROXY", "http://a b", "HTTP_PROXY is 'http://a b'"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_named_with_its_variable(
    monkeypatch: pytest.MonkeyPatch, make: type, name: str, value: str, why: str
) -> None:
    """Every constructor names it in one line, without its password."""
    given(monkeypatch, **{name.lower(): value})
    with pytest.raises(ValueError, match=why) as caught:
        make(HTTP)
    assert "secret" not in str(caught.value)
    assert "cret" not in str(caught.value)
    assert "\n" not in str(caught.value)
    given(monkeypatch, NO_PROXY="127.0.0.1")
    make(HTTP)


@MAKERS
@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE"])
def test_certificates_and_key_logs_concern_https_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make: type, name: str
) -> None:
    """A stale path is an error there, named with its variable."""
    given(monkeypatch, **{name: str(tmp_path / "gone" / "file")})
    make(HTTP)
    assert find_route(HTTP).verify_redirected.check_hostname
    with pytest.raises(ValueError, match=rf"{name} is '.*gone/file': "):
        make(HTTPS)


def test_a_file_without_certificates_is_said_to_be_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "empty.pem").touch()
    given(monkeypatch, SSL_CERT_FILE=str(tmp_path / "empty.pem"))
    with pytest.raises(ValueError, match=r"SSL_CERT_FILE is .*no certificates in it"):
        find_route(HTTPS)


@pytest.mark.skipif(not certificates.is_installed(), reason="no openssl here")
def test_the_named_authority_is_trusted_and_keys_are_logged(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = certificates.make_certificates(tmp_path)
    (tmp_path / "folder").mkdir()
    given(
        monkeypatch,
        SSL_CERT_FILE=str(made.authority),
        SSL_CERT_DIR=os.pathsep.join((str(tmp_path / "gone"), str(tmp_path / "folder"))),
        SSLKEYLOGFILE=str(tmp_path / "keys"),
    )
    tls = find_route(HTTPS).tls
    assert tls is not None
    assert len(tls.get_ca_certs()) == 1
    assert tls.verify_mode is ssl.CERT_REQUIRED
    assert tls.keylog_filename == str(tmp_path / "keys")


async def test_where_socks_is_spoken_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the libraries' own means, which are asked for as an extra."""
    monkeypatch.setattr(route_module, "_speaks_socks", lambda: True)
    given(monkeypatch, ALL_PROXY="socks5h://ann:secret@p:1080")
    assert find_route(HTTP).proxy == "socks5h://ann:secret@p:1080"
