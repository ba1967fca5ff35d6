"""Which settings are refused, and in which words."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from hub.errors import SettingsError
from hub.settings import load_settings
from hub.settings.values import BROKER, HOSTS, ORIGINS

WriteToml = Callable[[str], Path]


def complaint(
    environ: dict[str, str] | None = None, file: Path | None = None, **flags: object
) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(config_file=file, flags=flags, environ=environ or {})
    return caught.value.message


WRONG = [
    ("port", "abc", "allowed: a whole number from 0 to 65535"),
    ("port", "65536", "allowed: a whole number from 0 to 65535"),
    ("host", "a b", "allowed: an IP address or a host name, such as 127.0.0.1 or ::1"),
    ("base_path", "/a//b", "allowed: a path such as /live, of letters, digits and _ . ~ -"),
    ("base_path", "/a/../b", "allowed: a path such as /live, of letters, digits and _ . ~ -"),
    ("heartbeat_seconds", "nan", "allowed: a number of seconds from 0.01 to 3600"),
    ("heartbeat_seconds", "inf", "allowed: a number of seconds from 0.01 to 3600"),
    (
        "max_message_bytes",
        "64k",
        "allowed: a size in bytes, such as 65536, 64KiB or 1MiB, from 1 to 16MiB",
    ),
    ("presence", "maybe", "allowed: true or false"),
    ("overflow", "newest", "allowed: one of drop_oldest, latest_per_key, disconnect"),
    ("log_level", "loud", "allowed: one of debug, info, warning, error, critical"),
    (
        "broker",
        "kafka://x",
        f"allowed: {BROKER.allowed}",
    ),
    ("node", "a b", "allowed: 1 to 64 characters of A-Z a-z 0-9 _ . -"),
    ("broker_prefix", "a:b", "allowed: 1 to 32 characters of A-Z a-z 0-9 _ . -"),
    (
        "origins",
        "example.com",
        f"allowed: {ORIGINS.allowed}",
    ),
    ("hosts", "http://hub.example", f"allowed: {HOSTS.allowed}"),
    ("namespaces", "[]", 'allowed: a JSON object such as {"chat":{"presence":true}}'),
]


@pytest.mark.parametrize(("name", "value", "allowed"), WRONG)
def test_wrong_value_is_named_as_its_source_names_it(name: str, value: str, allowed: str) -> None:
    """The setting, the value, what is allowed: one line."""
    env = f"HUB_{name.upper()}"
    assert complaint({env: value}) == f"{env} is {value!r}: {allowed}"
    flag = f"--{name.replace('_', '-')}"
    assert complaint(None, None, **{name: value}) == f"{flag} is {value!r}: {allowed}"


@pytest.mark.parametrize(
    "text",
    ["1_0", "8_311", "-0", "+5", "٣", "\uff11\uff12", "1e1", "0x10", "5.", ".5", "5 0", "1,000"],
)
@pytest.mark.parametrize("name", ["port", "history_size", "heartbeat_seconds", "max_head_bytes"])
def test_a_text_that_is_no_plain_number_is_refused(name: str, text: str) -> None:
    """From the environment, by flag, and as a namespace's option; a slip would count otherwise."""
    env = f"HUB_{name.upper()}"
    assert complaint({env: text}).startswith(f"{env} is {text!r}: allowed: ")
    assert f"is {text!r}: allowed: " in complaint(None, None, **{name: text})
    namespaces = json.dumps({"chat": {"history_size": text}}, ensure_ascii=False)
    assert (
        f"chat.history_size is {text!r}: allowed: a whole number from 0 to 1,000,000"
        in complaint({"HUB_NAMESPACES": namespaces})
    )


@pytest.mark.parametrize("written", ["5.0", "true", "'1_0'", "nan", "[]", "1979-05-27"])
def test_a_toml_value_that_is_no_whole_number_is_refused(toml: WriteToml, written: str) -> None:
    """Its own whole numbers may have underscores, as TOML says; nothing else is one."""
    assert "allowed: a whole number from 0 to 65535" in complaint(None, toml(f"port = {written}"))
    assert load_settings(config_file=toml("port = 8_311"), flags={}, environ={}).port == 8311


def test_a_units_letters_are_of_ascii() -> None:
    """The sign of the kelvin (U+212A) is a K to who compares without case."""
    assert "allowed: a size in bytes" in complaint({"HUB_MAX_BODY_BYTES": "64\u212aiB"})


def test_wrong_toml_value_is_named_as_its_key(toml: WriteToml) -> None:
    """Also where TOML has a type that Python would let pass for another."""
    message = complaint(None, toml("port = true"))
    assert message.startswith("port in the config file is 'true': allowed: a whole number")


def test_every_wrong_setting_has_its_line() -> None:
    """One start shows all mistakes."""
    lines = complaint({"HUB_PORT": "x", "HUB_BACKLOG": "0"}, None, drain_seconds="-1").splitlines()
    assert [line.split(" is ")[0] for line in lines] == [
        "HUB_PORT",
        "HUB_BACKLOG",
        "--drain-seconds",
    ]


@pytest.mark.parametrize(
    ("json", "tail"),
    [
        ("{", "it is no JSON"),
        ('{"chat":{"nope":1}}', "chat.nope is unknown; known are history_size,"),
        ('{"chat":{"history_size":-1}}', "chat.history_size is '-1': allowed: a whole number"),
        ('{"chat":{"overflow":"x"}}', "chat.overflow is 'x': allowed: one of drop_oldest,"),
        ('{"a:b":{}}', "'a:b': a namespace is 1 to 199 characters"),
        ('{"chat":3}', "'chat': allowed: an object"),
    ],
)
def test_wrong_namespace_says_which_option(json: str, tail: str) -> None:
    """A JSON object is long; the message points into it."""
    message = complaint({"HUB_NAMESPACES": json})
    assert message.startswith("HUB_NAMESPACES")
    assert tail in message


@pytest.mark.parametrize("name", ["publish_keys", "operator_keys", "token_keys"])
def test_empty_key_is_refused_without_showing_the_others(name: str, toml: WriteToml) -> None:
    """A trailing comma must not become a key that everybody knows."""
    message = complaint({f"HUB_{name.upper()}": "s3cret,"})
    assert message == (
        f"HUB_{name.upper()} is '********': allowed: keys separated by commas, none of them empty"
    )
    assert "s3cret" not in complaint(None, toml(f'{name} = ["s3cret", 5]'))


def test_password_of_a_broker_is_not_shown() -> None:
    """A URL with credentials is a secret in part."""
    assert "hunter2" not in complaint({"HUB_BROKER": "kafka://me:hunter2@example:6379"})


@pytest.mark.parametrize("name", ["prot", "HUB_PORT", "Port"])
def test_unknown_toml_key_is_refused_with_the_closest(toml: WriteToml, name: str) -> None:
    """A slip in the file must not silently leave a default in place."""
    file = toml(f"{name} = 1")
    assert complaint(None, file) == f"{name} in {file} is not a setting; did you mean port?"


def test_config_file_that_cannot_be_read_is_named(tmp_path: Path, toml: WriteToml) -> None:
    """The file may be missing, or no TOML."""
    assert "cannot be read: No such file" in complaint(None, tmp_path / "absent.toml")
    assert "is no TOML" in complaint(None, toml("port ="))
    assert "is no TOML" in complaint({"HUB_CONFIG": str(toml("="))})


def test_port_that_kubernetes_set_is_explained() -> None:
    """A Service named `hub` gives every pod HUB_PORT."""
    assert "enableServiceLinks: false" in complaint({"HUB_PORT": "tcp://10.0.0.1:80"})


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "hub.example"])
def test_open_host_without_keys_is_refused_with_both_ways_out(host: str) -> None:
    """Nobody exposes a hub to strangers by accident."""
    message = complaint({"HUB_HOST": host})
    assert message.startswith(f"HUB_HOST is {host!r}: with no key at all only this machine")
    assert "HUB_PUBLISH_KEYS" in message
    assert "HUB_INSECURE=true (--insecure)" in message


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("HUB_PORT", "8_311", "a whole number"),
        ("HUB_PORT", "+8311", "a whole number"),
        ("HUB_PORT", "٨", "a whole number"),
        ("HUB_KEEP_ALIVE_SECONDS", "1e3", "a number of seconds"),
        ("HUB_WORKERS", "AUTO", "or auto"),
        ("HUB_RATE_COMMANDS", "10/86401", "SECONDS up to 86400"),
        ("HUB_RATE_COMMANDS", "0.5/1", "RATE and BURST whole numbers"),
        ("HUB_HOSTS", "hub.example:80", "without a port"),
        ("HUB_PUBLISH_KEYS", "shop:sha256:12ab", "64 hexadecimal digits"),
        ("HUB_PUBLISH_KEYS", "sha256:12ab=orders:*", "64 hexadecimal digits"),
    ],
)
def test_a_value_that_only_looks_right_is_refused(name: str, value: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        load_settings(config_file=None, flags={}, environ={name: value})


def test_a_secret_that_is_wrong_is_not_repeated() -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings(config_file=None, flags={}, environ={"HUB_WEBHOOK_SECRET": "whsec_?hidden"})
    assert "hidden" not in str(refused.value)


@pytest.mark.parametrize(
    ("key", "value", "algorithms"),
    [
        ("HUB_TOKEN_KEYS", "k" * 32, "RS256,EdDSA"),
        ("HUB_TOKEN_JWKS_URL", "https://login.example/keys", "HS256"),
        ("HUB_TOKEN_PUBLIC_KEYS", "public.pem", "HS256"),
    ],
)
def test_algorithms_that_fit_no_key_are_refused(key: str, value: str, algorithms: str) -> None:
    """The hub would take no token at all."""
    text = complaint({key: value, "HUB_TOKEN_ALGORITHMS": algorithms})
    assert text.startswith(f"HUB_TOKEN_ALGORITHMS is '{algorithms}': it fits no key, so ")
    load_settings(
        config_file=None, flags={}, environ={key: value, "HUB_TOKEN_ALGORITHMS": "HS256,RS256"}
    )
