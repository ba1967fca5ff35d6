"""The kinds of values that settings take: how each is read, shown and explained.

A `Kind` rides in the metadata of a field's type, so that messages, `--help` and `hub config`
say the same about it. A validator that raises a `ValueError` without text means "see the kind".
"""

import ipaddress
import json
import re
import string
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, SecretStr

from hub.auth import keys
from hub.auth.algorithms import ALGORITHMS as TOKEN_ALGORITHMS
from hub.auth.hosts import HostList
from hub.auth.origins import OriginList
from hub.auth.proxies import TrustedProxies
from hub.brokers.redis.link import urls
from hub.brokers.sqlite.urls import is_sqlite
from hub.core import decimals
from hub.core.limits import Rate
from hub.core.options import KIB, MIB, Overflow
from hub.core.publication import odd_character
from hub.errors import SettingsError
from hub.hooks.events import EVENT_NAMES
from hub.hooks.signing import read_secret
from hub.settings.cores import usable_cores
from hub.settings.declaring import DAY_SECONDS

MASK = urls.HIDDEN
CHOICE = "CHOICE"
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


def show_plain(value: object) -> str:
    """`value` as an operator would write it; "none" for nothing at all."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ",".join(show_plain(item) for item in value) or "none"
    return str(value) or "none"


def show_size(value: object) -> str:
    """Bytes with the largest suffix that leaves a whole number: 65536 as 64KiB."""
    if not isinstance(value, int) or value == 0:
        return show_plain(value)
    for suffix, unit in (("GiB", KIB * MIB), ("MiB", MIB), ("KiB", KIB)):
        if value % unit == 0:
            return f"{value // unit}{suffix}"
    return str(value)


def show_masked(value: object) -> str:
    """One mask per secret, so that their number can be seen and nothing else."""
    if isinstance(value, list | tuple):
        return ",".join(MASK for _ in value) or "none"
    return MASK


def show_secret(value: object) -> str:
    """A mask where there is a secret; "none" where there is none."""
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    return MASK if text else "none"


def show_broker(value: object) -> str:
    """The URLs of brokers without the passwords they may hold."""
    return urls.masked(str(value))


def show_text(value: str) -> str:
    """Any text, without the passwords of URLs that stand in it by mistake."""
    without_users = re.sub(r"(?<=//)[^\s]*@", f"{MASK}@", value)
    return re.sub(r"(?i)(?<=password=)[^&]*", MASK, without_users)


def show_json(value: object) -> str:
    """JSON as an operator would write it; "none" for an empty object."""
    return json.dumps(value, default=repr, separators=(",", ":")) if value != {} else "none"


def show_grants(value: object) -> str:
    """Grants without the lists that are empty; "none" where both are."""
    given = value if isinstance(value, dict) else getattr(value, "model_dump", dict)()
    return show_json({action: patterns for action, patterns in given.items() if patterns})


@dataclass(frozen=True, slots=True)
class Kind:
    """What a value may be, in words."""

    allowed: str
    metavar: str
    show: Callable[[object], str] = show_plain


COUNT = Kind("a whole number", "N")
WORKERS = Kind("a whole number, or auto,", "N")
SECONDS = Kind("a number of seconds", "SECONDS")
SHARE = Kind("a number", "SHARE")
SIZE = Kind("a size in bytes, such as 65536, 64KiB or 1MiB,", "BYTES", show_size)
SWITCH = Kind("true or false", "")
KEYS = Kind("keys separated by commas, none of them empty", "KEYS", show_masked)
ORIGINS = Kind(
    "origins such as https://example.com or https://*.example.com, or *, separated by commas",
    "ORIGINS",
)
HOSTS = Kind(
    "host names without a port such as hub.example or *.hub.example, IP addresses, or *, "
    "separated by commas",
    "HOSTS",
)
FILES = Kind("names of files separated by commas", "FILES")
TEXTS = Kind("texts separated by commas, none of them empty", "TEXTS")
ALGORITHMS = Kind(f"algorithms separated by commas: {', '.join(TOKEN_ALGORITHMS)}", "NAMES")
HOOKS = Kind("hooks separated by commas: connect, subscribe, publish", "NAMES")
EVENTS = Kind(
    "events separated by commas: channel.occupied, channel.vacated, member.joined, member.left, "
    "session.opened, session.closed",
    "NAMES",
)
SECRET = Kind("a text, or whsec_ and base64", "SECRET", show_secret)
WEB_ADDRESS = Kind("an http or https URL", "URL", lambda value: show_text(show_plain(value)))
COOKIE = Kind("the name of a cookie", "NAME")
GRANTS = Kind(
    'a JSON object such as {"subscribe":["user:{sub}:*"],"publish":[]}', "JSON", show_grants
)
NETWORKS = Kind(
    "addresses or networks such as 10.0.0.7, 10.0.0.0/8 or fd00::/8, separated by commas",
    "NETWORKS",
)
RATE = Kind(
    "RATE/SECONDS or RATE/SECONDS:BURST, such as 10/1 or 10/1:50; each above 0, and sizes such as"
    " 64KiB too; empty is off",
    "RATE",
)
NAMESPACES = Kind('a JSON object such as {"chat":{"presence":true}}', "JSON", show_json)
BROKER = Kind(
    "memory://, sqlite:///path, redis://host:port/db, rediss://host, unix:///path, several of "
    "these Redis URLs separated by commas (the same on every node; channels are spread over "
    "the servers), "
    "redis+sentinel://host:port,host:port/service or redis+cluster://host:port,host:port",
    "URL",
    show_broker,
)


def choice(*values: str) -> Kind:
    return Kind(f"one of {', '.join(values)}", CHOICE)


def parse_whole(value: object) -> object:
    """A whole number as it is written or as TOML has it; raise `ValueError` for anything else.

    TOML's `true` is no number, although Python's is.
    """
    found = decimals.whole(value.strip(_SPACES)) if isinstance(value, str) else value
    if not isinstance(found, int) or isinstance(found, bool):
        raise ValueError  # noqa: TRY004 - pydantic turns only a ValueError into its own error
    return found


def parse_workers(value: object) -> object:
    """A whole number, or `auto` for as many as there are cores to use."""
    return usable_cores() if value == "auto" else parse_whole(value)


def parse_number(value: object) -> object:
    """The same for one that may have a decimal point."""
    found = decimals.number(value.strip(_SPACES)) if isinstance(value, str) else value
    if not isinstance(found, int | float) or isinstance(found, bool):
        raise ValueError  # noqa: TRY004
    return found


def parse_size(value: object) -> int:
    """Bytes from a whole number or text such as `64KiB`; raise `ValueError` for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError
    return int(match[1]) * _UNITS[(match[2] or "B").lower()]


def split_list(value: object) -> object:
    """Environment and flags separate by commas; TOML and Python hand in lists."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",")] if value.strip() else []
    return value


def split_files(value: object) -> object:
    """As `split_list`; Python may hand in paths."""
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
    """As `split_list`; a table of TOML becomes entries as `hub.auth.keys` reads them."""
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
    """An entry as `hub.auth.keys` understands it: that module knows the form, once."""
    keys.read_publish_key(check_key(value).get_secret_value())
    return value


def check_origin(value: str) -> str:
    """An entry as `hub.auth.origins` understands it: that module knows the form, once."""
    origin = value.strip().lower()
    try:
        OriginList([origin])
    except SettingsError:
        raise ValueError from None
    return origin


def check_host_name(value: str) -> str:
    """An entry as `hub.auth.hosts` understands it."""
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
    if value.strip() not in TOKEN_ALGORITHMS:
        raise ValueError
    return value.strip()


def check_hook(value: str) -> str:
    if value.strip() not in {"connect", "subscribe", "publish"}:
        raise ValueError
    return value.strip()


def check_event(value: str) -> str:
    if value.strip() not in EVENT_NAMES:
        raise ValueError
    return value.strip()


def check_secret(value: SecretStr) -> SecretStr:
    """Empty, a text, or `whsec_` and base64."""
    try:
        read_secret(value.get_secret_value())
    except ValueError:
        raise ValueError from None
    return value


def check_web_address(value: str) -> str:
    """Empty, or an absolute URL with a host."""
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
    """Empty, or a token of RFC 9110 section 5.6.2, as RFC 6265 asks."""
    if value and _COOKIE.fullmatch(value) is None:
        raise ValueError
    return value


def check_rate(value: str) -> str:
    """A rate as it is written; `rate_of` reads it."""
    rate_of(value)
    return value.strip()


def rate_of(text: str) -> Rate | None:
    """The token bucket that `text` names; None for an empty one.

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
    """An entry as `hub.auth.proxies` understands it."""
    try:
        TrustedProxies([value])
    except SettingsError:
        raise ValueError from None
    return value.strip()


def check_base_path(value: str) -> str:
    """The path in its one form: "" or "/x/y"."""
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
    """Whether only this machine can reach `host`. A name other than localhost is not trusted."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def check_broker(value: str) -> str:
    """Which names of brokers there are; `hub.node.broker` makes what is named."""
    if value == "memory://" or is_sqlite(value) or urls.are_redis(value):
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
    """Explain the trap that a Kubernetes Service called `hub` sets HUB_PORT for every pod."""
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
        raise ValueError(f"it is no JSON ({error}); allowed: {NAMESPACES.allowed}") from None


def check_namespace(value: str) -> str:
    if _NAMESPACE.fullmatch(value) is None:
        odd = _odd(value, "_.@~+-")
        raise ValueError(f"{odd}a namespace is 1 to 199 characters of A-Z a-z 0-9 _ . @ ~ + -")
    return value


def _odd(value: str, marks: str) -> str:
    """The beginning of a refusal that names a character which looks like an allowed one, or like
    nothing; empty for those of ASCII, which the value shows."""
    if value.isascii():
        return ""
    odd = odd_character(value, string.ascii_letters + string.digits + marks)
    return odd and f"{odd}; "


Count = Annotated[int, BeforeValidator(parse_whole), COUNT]
Workers = Annotated[int, BeforeValidator(parse_workers), WORKERS]
Seconds = Annotated[float, BeforeValidator(parse_number), SECONDS]
Share = Annotated[float, BeforeValidator(parse_number), SHARE]
Bytes = Annotated[int, BeforeValidator(parse_size), SIZE]
Switch = Annotated[bool, SWITCH]
OverflowPolicy = Annotated[Overflow, choice(*Overflow)]
Port = Annotated[int, BeforeValidator(check_port), Kind("a whole number", "PORT")]
Host = Annotated[str, AfterValidator(check_host), Kind("an address", "ADDRESS")]
BasePath = Annotated[str, AfterValidator(check_base_path), Kind("a path", "PATH")]
FilePath = Annotated[str, Kind("the path of a file or a directory", "PATH")]
Node = Annotated[str, AfterValidator(check_node), Kind("a name", "NAME")]
BrokerUrl = Annotated[str, AfterValidator(check_broker), BROKER]
BrokerPrefix = Annotated[str, AfterValidator(check_prefix), Kind("a name", "NAME")]
Key = Annotated[SecretStr, AfterValidator(check_key)]
Keys = Annotated[tuple[Key, ...], BeforeValidator(split_list), KEYS]
PublishKey = Annotated[SecretStr, AfterValidator(check_publish_key)]
PublishKeys = Annotated[tuple[PublishKey, ...], BeforeValidator(split_publish_keys), KEYS]
Origin = Annotated[str, AfterValidator(check_origin)]
Origins = Annotated[tuple[Origin, ...], BeforeValidator(split_list), ORIGINS]
HostName = Annotated[str, AfterValidator(check_host_name)]
Hosts = Annotated[tuple[HostName, ...], BeforeValidator(split_list), HOSTS]
Text = Annotated[str, AfterValidator(check_text)]
Files = Annotated[tuple[Text, ...], BeforeValidator(split_files), FILES]
Texts = Annotated[tuple[Text, ...], BeforeValidator(split_list), TEXTS]
Algorithm = Annotated[str, AfterValidator(check_algorithm)]
Algorithms = Annotated[tuple[Algorithm, ...], BeforeValidator(split_list), ALGORITHMS]
Hook = Annotated[str, AfterValidator(check_hook)]
Hooks = Annotated[tuple[Hook, ...], BeforeValidator(split_list), HOOKS]
Event = Annotated[str, AfterValidator(check_event)]
Events = Annotated[tuple[Event, ...], BeforeValidator(split_list), EVENTS]
Secret = Annotated[SecretStr, AfterValidator(check_secret), SECRET]
WebAddress = Annotated[str, AfterValidator(check_web_address), WEB_ADDRESS]
Cookie = Annotated[str, AfterValidator(check_cookie), COOKIE]
ClaimName = Annotated[str, AfterValidator(check_text), Kind("the name of a claim", "CLAIM")]
Network = Annotated[str, AfterValidator(check_network)]
Networks = Annotated[tuple[Network, ...], BeforeValidator(split_list), NETWORKS]
RateLimit = Annotated[str, AfterValidator(check_rate), RATE]
NamespaceName = Annotated[str, AfterValidator(check_namespace)]
