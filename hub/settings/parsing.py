"""Read and judge the text of a setting, in the same way from environment, flag, TOML and Python.

Each function raises a `ValueError`; one without text means "see the kind"
(`hub.settings.values.ValueKind`).
"""

import ipaddress
import json
import re
import string
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from hub.auth import keys
from hub.auth.algorithms import ALGORITHMS
from hub.auth.hosts import HostList
from hub.auth.origins import OriginList
from hub.auth.proxies import TrustedProxies
from hub.brokers.redis.link import urls
from hub.brokers.sqlite.urls import SCHEME, path_of
from hub.core import decimals
from hub.core.limits import Rate
from hub.core.options import KIB, MIB
from hub.core.publication import odd_character
from hub.errors import SettingsError
from hub.hooks.names import EVENT_NAMES, HOOK_NAMES
from hub.hooks.signing import read_secret
from hub.settings.declaring import DAY_SECONDS
from hub.settings.machine import usable_cores

NAMESPACES_ALLOWED = 'a JSON object such as {"chat":{"presence":true}}'
_SPACES = " \t\r\n"
_SIZE = re.compile(r"\s*([0-9]{1,18})\s*(B|KiB|MiB|GiB|TiB)?\s*", re.IGNORECASE | re.ASCII)
_UNITS = {"b": 1, "kib": KIB, "mib": MIB, "gib": KIB * MIB, "tib": MIB * MIB}
_PATH_SEGMENT = re.compile(r"[A-Za-z0-9_.~-]+")
_NODE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_DIGEST = re.compile(r"[0-9a-fA-F]{64}")
_COOKIE = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
_PREFIX = re.compile(r"[A-Za-z0-9_.-]{1,32}")
# A channel's alphabet (`hub.core.publication`) without the colon that ends a namespace.
_NAMESPACE = re.compile(r"[A-Za-z0-9_.@~+-]{1,199}")


def parse_whole(value: object) -> object:
    """Return a whole number, from text or TOML; raise `ValueError` for anything else.

    TOML's `true` is no number, although Python's is.
    """
    found = decimals.whole(value.strip(_SPACES)) if isinstance(value, str) else value
    if not isinstance(found, int) or isinstance(found, bool):
        raise ValueError  # noqa: TRY004 - pydantic turns only a ValueError into its own error
    return found


def parse_workers(value: object) -> object:
    """Return a whole number, or for `auto` the number of usable cores."""
    return usable_cores() if value == "auto" else parse_whole(value)


def parse_number(value: object) -> object:
    """Return a number that may have a decimal point."""
    found = decimals.number(value.strip(_SPACES)) if isinstance(value, str) else value
    if not isinstance(found, int | float) or isinstance(found, bool):
        raise ValueError  # noqa: TRY004
    return found


def parse_size(value: object) -> int:
    """Return bytes from a whole number or text such as `64KiB`; raise `ValueError` for anything
    else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError
    return int(match[1]) * _UNITS[(match[2] or "B").lower()]


def split_list(value: object) -> object:
    """Split at commas; TOML and Python hand in lists."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",")] if value.strip() else []
    return value


def split_files(value: object) -> object:
    """Split as `split_list` does; Python may hand in paths."""
    if isinstance(value, Path):
        return [str(value)]
    if isinstance(value, list | tuple):
        return [str(each) if isinstance(each, Path) else each for each in value]
    return split_list(value)


def check_key(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().strip():
        raise ValueError
    return value


def split_publish_keys(value: object) -> object:
    """Split as `split_list` does; a table of TOML becomes entries as `hub.auth.keys` reads them."""
    if not isinstance(value, dict):
        return split_list(value)
    return [_publish_key_of_table(str(name), entry) for name, entry in value.items()]


def _publish_key_of_table(name: str, entry: object) -> str:
    known = {"sha256", "channels"}
    if keys.NAME.fullmatch(name) is None:
        raise ValueError("the name of a key is 1 to 64 characters of A-Z a-z 0-9 _ . -")
    if not isinstance(entry, dict) or not set(entry) <= known:
        raise ValueError(f"publish_keys.{name} is a table with sha256 and channels")
    digest, channels = entry.get("sha256"), entry.get("channels", ["*"])
    if not isinstance(digest, str) or _DIGEST.fullmatch(digest) is None:
        raise ValueError(f"publish_keys.{name}.sha256 is not 64 hexadecimal digits")
    listed = isinstance(channels, list) and all(isinstance(each, str) for each in channels)
    if not listed or not channels:
        raise ValueError(f"publish_keys.{name}.channels is no list of channels")
    return f"{name}:sha256:{digest}={'|'.join(channels)}"


def check_publish_key(value: SecretStr) -> SecretStr:
    """Check an entry by `hub.auth.keys`, which alone knows the form."""
    keys.read_publish_key(check_key(value).get_secret_value())
    return value


def check_origin(value: str) -> str:
    """Check an entry by `hub.auth.origins`, which alone knows the form."""
    origin = value.strip().lower()
    try:
        OriginList([origin])
    except SettingsError:
        raise ValueError from None
    return origin


def check_host_name(value: str) -> str:
    """Check an entry by `hub.auth.hosts`."""
    host = value.strip().lower()
    try:
        HostList([host], any_by_default=False, addresses_by_default=False)
    except SettingsError:
        raise ValueError from None
    return host


def check_text(value: str) -> str:
    if not value.strip():
        raise ValueError
    return value.strip()


def check_algorithm(value: str) -> str:
    if value.strip() not in ALGORITHMS:
        raise ValueError
    return value.strip()


def check_hook(value: str) -> str:
    if value.strip() not in HOOK_NAMES:
        raise ValueError
    return value.strip()


def check_event(value: str) -> str:
    if value.strip() not in EVENT_NAMES:
        raise ValueError
    return value.strip()


def check_secret(value: SecretStr) -> SecretStr:
    """Accept an empty text, any text, or `whsec_` and base64."""
    try:
        read_secret(value.get_secret_value())
    except ValueError:
        raise ValueError from None
    return value


def check_web_address(value: str) -> str:
    """Accept an empty text, or an absolute URL with a host."""
    address = value.strip()
    try:
        parts = urlsplit(address)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if address and not (usable and address.isascii() and not re.search(r"[\s#]", address)):
        raise ValueError
    return address


def check_cookie(value: str) -> str:
    """Accept an empty text, or a token of RFC 9110 section 5.6.2, as RFC 6265 asks."""
    if value and _COOKIE.fullmatch(value) is None:
        raise ValueError
    return value


def check_rate(value: str) -> str:
    """Check a rate and return it as it is written; `rate_of` reads it."""
    rate_of(value)
    return value.strip()


def rate_of(text: str) -> Rate | None:
    """Return the token bucket that `text` describes; None for an empty text.

    `10/1` is 10 a second and 10 at once, `10/1:50` is 50 at once. Raises `ValueError`.
    """
    if not text.strip():
        return None
    many, slash, rest = text.partition("/")
    seconds, colon, burst = rest.partition(":")
    events = parse_size(many)
    number = decimals.number(seconds.strip(_SPACES))
    most = parse_size(burst) if colon else events
    if not slash or number is None or not (events > 0 and 0 < number <= DAY_SECONDS and most > 0):
        raise ValueError
    return Rate(events, number, most)


def check_network(value: str) -> str:
    """Check an entry by `hub.auth.proxies`."""
    try:
        TrustedProxies([value])
    except SettingsError:
        raise ValueError from None
    return value.strip()


def check_base_path(value: str) -> str:
    """Return the path in its one form, "" or "/x/y"; raise `ValueError` for other text."""
    segments = value.strip().strip("/")
    parts = segments.split("/") if segments else []
    if any(part in {".", ".."} or _PATH_SEGMENT.fullmatch(part) is None for part in parts):
        odd = _odd(segments, "_.~-/")
        raise ValueError(f"{odd}allowed: a path such as /live, of letters, digits and _ . ~ -")
    return "".join(f"/{part}" for part in parts)


def check_host(value: str) -> str:
    host = value.strip()
    if not host or any(character.isspace() or character in "/@[]" for character in host):
        raise ValueError("allowed: an IP address or a host name, such as 127.0.0.1 or ::1")
    return host


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach `host`. A name other than localhost is not
    trusted."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def check_broker(value: str) -> str:
    """Check the name of a broker; `hub.node.broker` makes the broker."""
    if value == "memory://" or urls.are_redis(value):
        return value
    if value.startswith(SCHEME):
        path_of(value)
        return value
    raise ValueError


def check_node(value: str) -> str:
    if _NODE.fullmatch(value) is None:
        raise ValueError(f"{_odd(value, '_.-')}allowed: 1 to 64 characters of A-Z a-z 0-9 _ . -")
    return value


def check_prefix(value: str) -> str:
    if _PREFIX.fullmatch(value) is None:
        raise ValueError(f"{_odd(value, '_.-')}allowed: 1 to 32 characters of A-Z a-z 0-9 _ . -")
    return value


def check_port(value: object) -> object:
    """Read a port; raise `ValueError` for other text.

    A Kubernetes Service called `hub` sets HUB_PORT for every pod, which the error explains.
    """
    if isinstance(value, str) and value.startswith("tcp://"):
        raise ValueError(
            "Kubernetes sets this for a Service named hub; put enableServiceLinks: false in the "
            "pod, or set the port explicitly"
        )
    return parse_whole(value)


def parse_json_object(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value) if value.strip() else {}
    except ValueError as error:
        raise ValueError(f"it is no JSON ({error}); allowed: {NAMESPACES_ALLOWED}") from None


def check_namespace(value: str) -> str:
    if _NAMESPACE.fullmatch(value) is None:
        odd = _odd(value, "_.@~+-")
        raise ValueError(f"{odd}a namespace is 1 to 199 characters of A-Z a-z 0-9 _ . @ ~ + -")
    return value


def _odd(value: str, marks: str) -> str:
    """Return the beginning of a refusal that names a character which looks like an allowed one, or
    like nothing; empty for ASCII, which the value itself shows."""
    if value.isascii():
        return ""
    odd = odd_character(value, string.ascii_letters + string.digits + marks)
    return odd and f"{odd}; "
