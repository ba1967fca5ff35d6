"""Host names that requests may name: the `Host` header against an allow list.

A page of any site can have its own name resolve to this machine (DNS rebinding). Its browser then
takes the hub for the page's own host, sends the requests of such a page without a foreign `Origin`,
and hands it the answers. Only the name in `Host` shows the attack: it is the page's name. Rules,
for a host of any port:

- Names of this machine (`localhost`, `*.localhost`, 127.0.0.0/8, `::1`) are always allowed:
  browsers ask no DNS for them (RFC 6761 section 6.3), so no page can take them.
- If `HUB_HOSTS` is set, the names that its entries cover are allowed: `hub.example`,
  `*.hub.example` (subdomains at any depth, not the domain itself), an IP address, or `*` for all.
- If it is not set and a key is, all names are allowed: a page without the key may do no more than
  any peer without it.
- If neither is set, only names of this machine are allowed, and IP addresses where the hub listens
  on other addresses too, or `HUB_INSECURE` lets other machines in: no DNS answer can lead an IP
  address elsewhere.
- A request without `Host` comes from no browser and is allowed.
"""

import ipaddress
import re
from collections.abc import Iterable

from hub.errors import MisdirectedRequestError, SettingsError

# RFC 9110 section 7.2: uri-host [ ":" port ]. Compared in lower case, without a root's dot.
_HOST = re.compile(r"(?P<host>\[[0-9a-f:.]+\]|[a-z0-9._~-]+?)\.?(?::[0-9]*)?")
_ENTRY = re.compile(r"(?:\*\.)?[a-z0-9_~-][a-z0-9._~-]*")
# Enough to recognise it in a log; the rest is whatever a stranger sent.
_SHOWN_CHARACTERS = 100

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


# So many allowed and as many refused names are cached, 200 bytes each; others are judged each time.
_MAX_SEEN = 256


class HostList:
    """The allow list, parsed once at the start."""

    __slots__ = ("_addresses", "_any", "_exact", "_listed", "_refused", "_seen", "_subdomains")

    def __init__(
        self,
        entries: Iterable[str],
        *,
        any_by_default: bool,
        addresses_by_default: bool,
        setting: str = "HUB_HOSTS",
    ) -> None:
        """Take the entries.

        Args:
            any_by_default: without entries every host is allowed.
            addresses_by_default: without entries every IP address is.

        Raises:
            SettingsError: names the first entry that cannot be a host.
        """
        entries = [entry.strip().lower() for entry in entries]
        names = [_entry(entry, setting) for entry in entries if entry != "*"]
        self._listed = bool(entries)
        self._any = "*" in entries or (not entries and any_by_default)
        self._addresses = not entries and addresses_by_default
        self._exact = frozenset(name for name in names if not name.startswith("*."))
        self._subdomains = tuple(name[1:] for name in names if name.startswith("*."))
        self._seen: set[str] = set()
        """Headers that were allowed: clients of a hub name few hosts, again and again."""
        self._refused: dict[str, str] = {}
        """Why others were not: a flood names one host again and again."""

    def check(self, host: str | None) -> None:
        """Raise `MisdirectedRequestError` unless a request may name `host`, its header or None."""
        if self._any or host is None or host in self._seen:
            return
        if (known := self._refused.get(host)) is not None:
            raise MisdirectedRequestError(known)
        match = _HOST.fullmatch(host.lower())
        short = len(host) <= _SHOWN_CHARACTERS
        if match is None or not self._covers(match["host"]):
            why = self._refusal(host[:_SHOWN_CHARACTERS])
            if short:
                if len(self._refused) >= _MAX_SEEN:
                    self._refused.clear()
                self._refused[host] = why
            raise MisdirectedRequestError(why)
        if len(self._seen) < _MAX_SEEN and short:
            self._seen.add(host)

    def _covers(self, name: str) -> bool:
        address = _address(name)
        if _is_this_machine(name, address):
            return True
        if address is not None:
            return self._addresses or str(address) in self._exact
        return name in self._exact or name.endswith(self._subdomains)

    def _refusal(self, shown: str) -> str:
        if self._listed:
            return f"host {shown!r} is not one that requests may name here (see HUB_HOSTS)"
        return (
            f"host {shown!r} is neither localhost nor a loopback address, and with no key set "
            "requests may name no other: list it in HUB_HOSTS, or set a key"
        )


def _entry(text: str, setting: str) -> str:
    address = _address(text)
    if address is not None:
        return str(address)
    if _ENTRY.fullmatch(text) is None:
        raise SettingsError(
            f"{setting}: {text!r} is not allowed: a host name without a port, which may begin "
            "with *., or an IP address, or *"
        )
    return text.removesuffix(".")


def _address(name: str) -> Address | None:
    try:
        address = ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None
    return one_form(address)


def one_form(address: Address) -> Address:
    """Return an IPv4 address as such, also where a socket for both families shows it as IPv6."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _is_this_machine(name: str, address: Address | None) -> bool:
    if address is not None:
        return address.is_loopback
    return name == "localhost" or name.endswith(".localhost")
