"""Where the hub listens: one address, all of one family, or all."""

import errno
import socket
import threading

import pytest

from hub import Hub, Settings
from hub.errors import SettingsError
from hub.node.binding import bind, listening_sockets, url_of


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")


def reaches(address: str, bound: socket.socket) -> bool:
    try:
        with socket.create_connection((address, bound.getsockname()[1]), timeout=5):
            return True
    except OSError:
        return False


@pytest.mark.parametrize(
    ("host", "ipv4", "ipv6"),
    [
        pytest.param("::", True, True, marks=needs_ipv6),
        pytest.param("::1", False, True, marks=needs_ipv6),
        ("0.0.0.0", True, False),
        ("127.0.0.1", True, False),
        ("localhost", True, False),
    ],
)
def test_a_host_is_reached_by_the_families_that_it_names(host: str, ipv4: bool, ipv6: bool) -> None:
    """Whatever the system's default for sockets of IPv6 is."""
    with bind(host, 0, 10) as bound:
        assert not bound.getblocking()
        assert reaches("127.0.0.1", bound) == ipv4
        if has_ipv6():
            assert reaches("::1", bound) == ipv6


@pytest.mark.parametrize("reason", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
def test_where_the_kernel_has_no_ipv6_every_address_is_every_one_of_ipv4(
    monkeypatch: pytest.MonkeyPatch, reason: int
) -> None:
    """The same image runs there, too."""
    original = socket.socket

    def without(family: int, kind: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(reason, "no IPv6")
        return original(family, kind)

    monkeypatch.setattr("hub.node.server.socket.socket", without)
    with bind("::", 0, 10) as bound:
        assert bound.family == socket.AF_INET
        assert bound.getsockname()[0] == "0.0.0.0"
    with pytest.raises(SettingsError, match=r"HUB_HOST is ::1: .*an address of this machine"):
        bind("::1", 0, 10)


def test_a_port_that_is_taken_is_said_to_be() -> None:
    with bind("127.0.0.1", 0, 10) as bound:
        port = bound.getsockname()[1]
        with pytest.raises(SettingsError, match=f"HUB_PORT is {port} on HUB_HOST 127.0.0.1"):
            bind("127.0.0.1", port, 10)


def test_workers_wait_for_a_port_that_a_killed_hub_still_has() -> None:
    """Its workers let go of it as soon as they notice."""
    with bind("127.0.0.1", 0, 10, shared=True) as held:
        settings = Settings(port=held.getsockname()[1], workers=2)
        with pytest.raises(SettingsError, match="Address already in use"):
            listening_sockets(settings, patience_seconds=0)
        letting_go = threading.Timer(0.1, held.close)
        letting_go.start()
        made = listening_sockets(settings, patience_seconds=60)
    letting_go.join()
    assert {each.getsockname()[1] for each in made} == {settings.port}
    for each in made:
        each.close()


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid", "2001:db8::1"])
def test_an_address_of_another_machine_is_said_to_be(host: str) -> None:
    with pytest.raises(SettingsError, match=f"^HUB_HOST is {host}: .*an address of this machine"):
        bind(host, 0, 10)


def test_an_address_in_a_url_has_its_brackets() -> None:
    assert url_of("::", 80, "/live") == "http://[::]:80/live"
    assert url_of("127.0.0.1", 80) == "http://127.0.0.1:80"


@needs_ipv6
async def test_a_hub_on_every_address_answers_both_families() -> None:
    settings = Settings(host="::", port=0, insecure=True, drain_seconds=0)
    async with Hub(settings) as hub:
        assert hub.url.startswith("http://[::]:")
        port = int(hub.url.rpartition(":")[2])
        for address in ("127.0.0.1", "::1"):
            with socket.create_connection((address, port), timeout=5):
                pass
