"""The kinds of values of settings: how each is explained, shown and read.

A `ValueKind` is part of the metadata of a field's type, so that messages, `--help` and `hub config`
describe it alike. `hub.settings.parsing` reads the values.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, SecretStr

from hub.auth.algorithms import ALGORITHMS as TOKEN_ALGORITHMS
from hub.brokers.redis.link import urls
from hub.core.options import KIB, MIB, Overflow
from hub.hooks.names import EVENT_NAMES, HOOK_NAMES
from hub.settings import parsing

MASK = urls.HIDDEN
CHOICE = "CHOICE"


def show_plain(value: object) -> str:
    """Return `value` as an operator would write it; "none" for no value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else str(value)
    if isinstance(value, list | tuple):
        return ",".join(show_plain(item) for item in value) or "none"
    return str(value) or "none"


def show_size(value: object) -> str:
    """Return bytes with the largest suffix that leaves a whole number: 65536 as 64KiB."""
    if not isinstance(value, int) or value == 0:
        return show_plain(value)
    for suffix, unit in (("GiB", KIB * MIB), ("MiB", MIB), ("KiB", KIB)):
        if value % unit == 0:
            return f"{value // unit}{suffix}"
    return str(value)


def show_masked(value: object) -> str:
    """Return one mask per secret, so that only their number is visible."""
    if isinstance(value, list | tuple):
        return ",".join(MASK for _ in value) or "none"
    return MASK


def show_secret(value: object) -> str:
    """Return a mask for a secret; "none" for none."""
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    return MASK if text else "none"


def show_broker(value: object) -> str:
    """Return the URLs of brokers without their passwords."""
    return urls.masked(str(value))


def show_text(value: str) -> str:
    """Return any text without the passwords of URLs that stand in it by mistake."""
    without_users = re.sub(r"(?<=//)[^\s]*@", f"{MASK}@", value)
    return re.sub(r"(?i)(?<=password=)[^&]*", MASK, without_users)


def show_json(value: object) -> str:
    """Return JSON as an operator would write it; "none" for an empty object."""
    return json.dumps(value, default=repr, separators=(",", ":")) if value != {} else "none"


def show_grants(value: object) -> str:
    """Return grants without empty lists; "none" where both are empty."""
    given = value if isinstance(value, dict) else getattr(value, "model_dump", dict)()
    return show_json({action: patterns for action, patterns in given.items() if patterns})


@dataclass(frozen=True, slots=True)
class ValueKind:
    """The allowed values, in words."""

    allowed: str
    metavar: str
    show: Callable[[object], str] = show_plain


COUNT = ValueKind("a whole number", "N")
WORKERS = ValueKind("a whole number, or auto,", "N")
SECONDS = ValueKind("a number of seconds", "SECONDS")
SHARE = ValueKind("a number", "SHARE")
SIZE = ValueKind("a size in bytes, such as 65536, 64KiB or 1MiB,", "BYTES", show_size)
SWITCH = ValueKind("true or false", "")
KEYS = ValueKind("keys separated by commas, none of them empty", "KEYS", show_masked)
ORIGINS = ValueKind(
    "origins such as https://example.com or https://*.example.com (scheme, host and port, without "
    "a path or a / at the end), or *, separated by commas",
    "ORIGINS",
)
HOSTS = ValueKind(
    "host names without a port such as hub.example or *.hub.example, IP addresses, or *, "
    "separated by commas",
    "HOSTS",
)
FILES = ValueKind("names of files separated by commas", "FILES")
TEXTS = ValueKind("texts separated by commas, none of them empty", "TEXTS")
ALGORITHMS = ValueKind(f"algorithms separated by commas: {', '.join(TOKEN_ALGORITHMS)}", "NAMES")
HOOKS = ValueKind(f"hooks separated by commas: {', '.join(HOOK_NAMES)}", "NAMES")
EVENTS = ValueKind(f"events separated by commas: {', '.join(EVENT_NAMES)}", "NAMES")
SECRET = ValueKind("a text, or whsec_ and base64", "SECRET", show_secret)
WEB_ADDRESS = ValueKind("an http or https URL", "URL", lambda value: show_text(show_plain(value)))
COOKIE = ValueKind("the name of a cookie", "NAME")
GRANTS = ValueKind(
    'a JSON object such as {"subscribe":["user:{sub}:*"],"publish":[]}', "JSON", show_grants
)
NETWORKS = ValueKind(
    "addresses or networks such as 10.0.0.7, 10.0.0.0/8 or fd00::/8, separated by commas",
    "NETWORKS",
)
RATE = ValueKind(
    "RATE/SECONDS or RATE/SECONDS:BURST, such as 10/1 or 10/1:50; each above 0, SECONDS up to"
    " 86400, RATE and BURST whole numbers or sizes such as"
    " 64KiB too; empty is off",
    "RATE",
)
NAMESPACES = ValueKind(parsing.NAMESPACES_ALLOWED, "JSON", show_json)
BROKER = ValueKind(
    "memory://, sqlite:///path (absolute, so three slashes), redis://host:port/db, rediss://host, "
    "unix:///path, several of "
    "these Redis URLs separated by commas (the same on every node; channels are spread over "
    "the servers), "
    "redis+sentinel://host:port,host:port/service or redis+cluster://host:port,host:port",
    "URL",
    show_broker,
)


def choice(*values: str) -> ValueKind:
    return ValueKind(f"one of {', '.join(values)}", CHOICE)


Count = Annotated[int, BeforeValidator(parsing.parse_whole), COUNT]
Workers = Annotated[int, BeforeValidator(parsing.parse_workers), WORKERS]
Seconds = Annotated[float, BeforeValidator(parsing.parse_number), SECONDS]
Share = Annotated[float, BeforeValidator(parsing.parse_number), SHARE]
Bytes = Annotated[int, BeforeValidator(parsing.parse_size), SIZE]
Switch = Annotated[bool, SWITCH]
OverflowPolicy = Annotated[Overflow, choice(*Overflow)]
Port = Annotated[int, BeforeValidator(parsing.check_port), ValueKind("a whole number", "PORT")]
Host = Annotated[str, AfterValidator(parsing.check_host), ValueKind("an address", "ADDRESS")]
BasePath = Annotated[str, AfterValidator(parsing.check_base_path), ValueKind("a path", "PATH")]
FilePath = Annotated[str, ValueKind("the path of a file or a directory", "PATH")]
Node = Annotated[str, AfterValidator(parsing.check_node), ValueKind("a name", "NAME")]
BrokerUrl = Annotated[str, AfterValidator(parsing.check_broker), BROKER]
BrokerPrefix = Annotated[str, AfterValidator(parsing.check_prefix), ValueKind("a name", "NAME")]
Key = Annotated[SecretStr, AfterValidator(parsing.check_key)]
Keys = Annotated[tuple[Key, ...], BeforeValidator(parsing.split_list), KEYS]
PublishKey = Annotated[SecretStr, AfterValidator(parsing.check_publish_key)]
PublishKeys = Annotated[tuple[PublishKey, ...], BeforeValidator(parsing.split_publish_keys), KEYS]
Origin = Annotated[str, AfterValidator(parsing.check_origin)]
Origins = Annotated[tuple[Origin, ...], BeforeValidator(parsing.split_list), ORIGINS]
HostName = Annotated[str, AfterValidator(parsing.check_host_name)]
Hosts = Annotated[tuple[HostName, ...], BeforeValidator(parsing.split_list), HOSTS]
Text = Annotated[str, AfterValidator(parsing.check_text)]
Files = Annotated[tuple[Text, ...], BeforeValidator(parsing.split_files), FILES]
Texts = Annotated[tuple[Text, ...], BeforeValidator(parsing.split_list), TEXTS]
Algorithm = Annotated[str, AfterValidator(parsing.check_algorithm)]
Algorithms = Annotated[tuple[Algorithm, ...], BeforeValidator(parsing.split_list), ALGORITHMS]
Hook = Annotated[str, AfterValidator(parsing.check_hook)]
Hooks = Annotated[tuple[Hook, ...], BeforeValidator(parsing.split_list), HOOKS]
Event = Annotated[str, AfterValidator(parsing.check_event)]
Events = Annotated[tuple[Event, ...], BeforeValidator(parsing.split_list), EVENTS]
Secret = Annotated[SecretStr, AfterValidator(parsing.check_secret), SECRET]
WebAddress = Annotated[str, AfterValidator(parsing.check_web_address), WEB_ADDRESS]
Cookie = Annotated[str, AfterValidator(parsing.check_cookie), COOKIE]
ClaimName = Annotated[
    str, AfterValidator(parsing.check_text), ValueKind("the name of a claim", "CLAIM")
]
Network = Annotated[str, AfterValidator(parsing.check_network)]
Networks = Annotated[tuple[Network, ...], BeforeValidator(parsing.split_list), NETWORKS]
RateLimit = Annotated[str, AfterValidator(parsing.check_rate), RATE]
NamespaceName = Annotated[str, AfterValidator(parsing.check_namespace)]
