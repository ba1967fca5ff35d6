"""The peer behind proxies: the client's address and scheme, as trusted proxies report them.

A proxy appends the address of its own peer to `Forwarded` (RFC 7239) or `X-Forwarded-For`. The
entries before it come from that peer. So only the end of the list is reliable, and only as far as
proxies of the allow list reach: the client is the first address from the right that is none of
them.

    HUB_TRUSTED_PROXIES=10.0.0.0/8, the socket's peer is 10.0.0.7
    X-Forwarded-For: 1.2.3.4, 203.0.113.9, 10.0.0.5     the client is 203.0.113.9; it wrote 1.2.3.4

Rules:

- The hub does not read the fields of a peer that is no trusted proxy: any peer may write them.
- If both fields stand and name different clients, one of them came from the client through a
  proxy that knows only the other: neither counts, and the address is the proxy's own.
- An entry that is no address (`unknown`, an obfuscated name, rubbish) ends the search: the client
  is the proxy that wrote it.
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence

from hub.auth.hosts import one_form
from hub.errors import SettingsError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

FIELDS = frozenset({"forwarded", "x-forwarded-for", "x-forwarded-proto"})
"""The header fields that this module reads, in lower case."""
# Proxies between a client and a hub: a request that names more was not written by them.
_MAX_HOPS = 32
# Before an IPv4 address that is written as one of IPv6 (RFC 4291 section 2.5.5.2).
_MAPPED_BITS = 96
# RFC 7239 section 4: name=token or name="quoted string", by semicolons; hops by commas.
_PAIR = re.compile(r'\s*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)=("(?:[^"\\]|\\.)*"|[^\s";,]*)\s*(;|,|$)')
_PORT = re.compile(r":[0-9]{1,5}")


class TrustedProxies:
    """The networks of trusted proxies, parsed once at the start."""

    __slots__ = ("_networks", "_seen")

    def __init__(
        self, entries: Iterable[str] = (), *, setting: str = "HUB_TRUSTED_PROXIES"
    ) -> None:
        """Take addresses and networks; raise `SettingsError` naming the first that is neither."""
        self._networks = tuple(_network(entry, setting) for entry in entries)
        self._seen: dict[str, bool] = {}
        """Answers of before: the same few proxies have all connections."""

    def __bool__(self) -> bool:
        return bool(self._networks)

    def trusts(self, address: str) -> bool:
        """Whether `address` is one of the proxies."""
        known = self._seen.get(address)
        if known is None:
            known = self._covers(address)
            if len(self._seen) >= 256:
                self._seen.clear()
            self._seen[address] = known
        return known

    def _covers(self, address: str) -> bool:
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(found in network for network in self._networks)

    def client(self, peer: str, headers: Mapping[str, str]) -> str:
        """Return the client's address; it is `peer` itself where that is no trusted proxy."""
        if not self._networks or FIELDS.isdisjoint(headers) or not self.trusts(peer):
            return peer
        told = []
        if (forwarded := headers.get("forwarded")) is not None:
            told.append(self._walk(peer, [hop.get("for", "") for hop in _hops(forwarded)]))
        if (listed := headers.get("x-forwarded-for")) is not None:
            told.append(self._walk(peer, listed.split(",")))
        return told[0] if len(set(told)) == 1 else peer

    def scheme(self, peer: str, headers: Mapping[str, str]) -> str | None:
        """Return `http` or `https`, as the nearest trusted proxy was asked; None where none
        says."""
        if not self._networks or FIELDS.isdisjoint(headers) or not self.trusts(peer):
            return None
        said = headers.get("x-forwarded-proto", "").rpartition(",")[2]
        hops = _hops(headers.get("forwarded", ""))
        if not said.strip() and hops:
            said = hops[-1].get("proto", "")
        word = said.strip().lower()
        return word if word in {"http", "https"} else None

    def _walk(self, peer: str, hops: Sequence[str]) -> str:
        client = peer
        for hop in reversed(hops[-_MAX_HOPS:]):
            address = _address(hop)
            if address is None:
                break
            client = address
            if not self.trusts(address):
                break
        return client


def _network(entry: str, setting: str) -> Network:
    try:
        network = ipaddress.ip_network(entry.strip(), strict=False)
    except ValueError:
        raise SettingsError(
            f"{setting}: {entry!r} is not allowed: an address such as 10.0.0.7, or a network such"
            " as 10.0.0.0/8 or fd00::/8"
        ) from None
    first = one_form(network.network_address)
    if first == network.network_address or network.prefixlen < _MAPPED_BITS:
        return network
    # ::ffff:10.0.0.0/104 is 10.0.0.0/8, and so its addresses are written here.
    return ipaddress.ip_network(f"{first}/{network.prefixlen - _MAPPED_BITS}")


def _hops(field: str) -> list[dict[str, str]]:
    """Return the hops of a `Forwarded` field by their parameters; those before rubbish are left
    out."""
    hops: list[dict[str, str]] = [{}]
    at = 0
    while at < len(field):
        if (found := _PAIR.match(field, at)) is None:
            # The entries behind it come from the nearer proxies, and may still be whole.
            comma = field.find(",", at)
            if comma < 0:
                return []
            hops, at = [{}], comma + 1
            continue
        name, value, end = found.groups()
        text = re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
        hops[-1][name.lower()] = text
        if end == ",":
            hops.append({})
        at = found.end()
    return hops if hops != [{}] else []


def _address(hop: str) -> str | None:
    """Return the address of a hop without its port, in its one form; None where it is none."""
    text = hop.strip()
    if text.startswith("["):
        inside, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not _PORT.fullmatch(rest)):
            return None
        text = inside
    elif text.count(":") == 1:
        text, _, port = text.partition(":")
        if not _PORT.fullmatch(f":{port}"):
            return None
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv6Address) and found.scope_id is not None:
        return None
    return str(one_form(found))
