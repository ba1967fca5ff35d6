"""Secrets in a broker's URL are never shown, in whatever form they are written."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from hub.brokers.redis.link import urls
from hub.brokers.redis.link.connection import FixedServer
from hub.cli import build
from hub.cli.config import rows
from hub.errors import HubError, SettingsError
from hub.settings import Settings, load_settings

# Unescaped and escaped, with all that ends the parts of a URL.
PASSWORDS = [
    "s3cr3t",
    "s3cr3t@w0rd",
    "s3cr3t@w0@rd",
    "s3cr3t/w0rd",
    "s3cr3t?w0rd",
    "s3cr3t#w0rd",
    "s3cr3t:w0rd",
    "s3cr3t,w0rd",
    "s3cr3t%40w0rd",
    "s3cr3t[w0rd",
    "s3cr3t w0rd",
    "s3cr3t&w0rd",
    "s3cr3t/w0@rd",
    "s3cr3t\N{FULLWIDTH SOLIDUS}w0rd",
]
FORMS = [
    "redis://:{}@host:6379/0",
    "redis://user:{}@host/0",
    "rediss://{}@host:6379",
    "REDIS://user:{}@host",
    "redis://a:1,redis://user:{}@b:2",
    "redis://user:{}@a:1,redis://user:{}@b:2",
    "unix://user:{}@/run/redis.sock",
    "redis+sentinel://user:{}@a:1,b:2/service/0",
    "redis+cluster://user:{}@a:1,b:2",
    "redis:/user:{}@host",
    "redis:user:{}@host",
    "kafka://user:{}@host",
    "user:{}@host",
]
QUERIES = [
    "redis://host/0?password={}",
    "redis://host/0?db=1&password={}&x=y",
    "redis+sentinel://a:1/service?sentinel_username=u&sentinel_password={}",
    "rediss://host?ssl_password={}",
    "redis://host?PASSWORD={}",
    "redis://host?p%61ssword={}",
    "redis://user:{}@host?password={}",
]


def parts_of(password: str) -> list[str]:
    """Returns the parts of the password that must not be seen."""
    return [part for part in ("s3cr3t", "w0rd", "w0") if part in password]


def shown_by_config(**environ: str) -> str:
    result = CliRunner().invoke(build(), ["config", "--json"], env=environ, prog_name="hub")
    return result.output + result.stderr


def shown_of_settings(**environ: str) -> list[str]:
    """Returns what `hub config` prints, or the error's text, without running the command,
    which takes 30 ms to make."""
    try:
        settings = load_settings(config_file=None, flags={}, environ=environ)
    except HubError as error:
        return [error.message]
    shown = [text for row in rows(settings) for text in (str(row.value), row.shown)]
    return [*shown, *settings.warnings()]


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("form", [*FORMS, *QUERIES])
def test_no_part_of_a_password_is_shown(form: str, password: str) -> None:
    """The password is hidden by `hub config`, in errors of settings, and in
    a server's name or error."""
    url = form.replace("{}", password)
    shown = [urls.masked(url), *shown_of_settings(HUB_BROKER=url)]
    if password == PASSWORDS[0]:
        shown.append(shown_by_config(HUB_BROKER=url))
    for part in urls.split(url):
        if urls.scheme(part) in urls.PLAIN:
            shown += [
                urls.without_secrets(part),
                *said_of(lambda part=part: FixedServer(part).name),
            ]
        shown += said_of(lambda part=part: urls.parse_sentinel(part))
        shown += said_of(lambda part=part: urls.parse_cluster(part))
    for text in shown:
        assert not any(part in text for part in parts_of(password)), text


def said_of(make: Any) -> list[str]:
    """Returns the name that `make` gives, or the message of its error."""
    try:
        made = make()
    except HubError as error:
        return [error.message]
    return [made] if isinstance(made, str) else []


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("memory://", "memory://"),
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("redis://user:p@host:6379/0", "redis://********@host:6379/0"),
        ("redis://:p@[::1]:6379", "redis://********@[::1]:6379"),
        ("redis://:p@a,redis://:p@b", "redis://********@a,redis://********@b"),
        ("redis+sentinel://u:p@a:1,b:2/s/0", "redis+sentinel://********@a:1,b:2/s/0"),
        ("redis://h?db=1&password=p&x=y", "redis://h?db=1&password=********&x=y"),
        ("rediss://h?ssl_keyfile=/a/key.pem", "rediss://h?ssl_keyfile=/a/key.pem"),
        ("unix:///run/redis@1.sock?password=a@b", "unix:///run/redis@1.sock?password=********"),
        ("redis://:p@h?ssl_ca_certs=/a", "redis://********@h?ssl_ca_certs=/a"),
        ("redis://:p/q@host", "redis://********"),
        ("redis://host:port", "redis://host:port"),
    ],
)
def test_all_else_is_shown(url: str, shown: str) -> None:
    assert urls.masked(url) == shown


def test_name_of_a_server_is_its_place() -> None:
    assert FixedServer("redis://user:p@host:6379/0?protocol=2").name == "redis://host:6379/0"
    assert FixedServer("unix://user:p@/run/redis.sock").name == "unix:///run/redis.sock"


@pytest.mark.parametrize("password", ["a/b", "a?b", "a#b", "a@b/c"])
@pytest.mark.parametrize("kind", ["redis", "redis+sentinel", "redis+cluster"])
def test_password_that_has_to_be_escaped_is_named_as_what_is_wrong(
    password: str, kind: str
) -> None:
    """Else a parser took a part of it for the host's name."""
    url = f"{kind}://user:{password}@host:6379/service"
    make = {
        "redis": FixedServer,
        "redis+sentinel": urls.parse_sentinel,
        "redis+cluster": urls.parse_cluster,
    }[kind]
    with pytest.raises(SettingsError, match="%2F %3F %23 %40"):
        make(url)


@given(st.text(max_size=60))
def test_nothing_that_is_no_url_makes_it_fail(text: str) -> None:
    for url in (text, f"redis://{text}", f"redis://a:b@{text}"):
        urls.masked(url)
        urls.without_secrets(url)
        urls.scheme(url)


@given(st.text(st.characters(codec="utf-8"), min_size=4, max_size=20))
def test_no_password_stays_whole(password: str) -> None:
    """The form in which it is written does not matter."""
    password = f"k{password}k"
    for form in ("redis://u:{}@h/0", "redis://h?password={}", "redis://:{}@h?password={}"):
        url = form.replace("{}", password)
        assert password not in urls.masked(url)
        assert password not in urls.without_secrets(url)


def test_config_shows_the_broker_in_its_table_too() -> None:
    runner = CliRunner()
    shown = runner.invoke(build(), ["config"], env={"HUB_BROKER": "redis://:a@s3cr3t@h/0"}).output
    assert "s3cr3t" not in shown
    assert "redis://********@h/0" in shown
    listed = json.loads(
        runner.invoke(build(), ["config", "--json"], env={"HUB_BROKER": "redis://:p@h/0"}).stdout
    )
    (value,) = [row["value"] for row in listed if row["setting"] == "HUB_BROKER"]
    assert value == "redis://********@h/0"


def test_url_of_another_setting_shows_no_password_either() -> None:
    """A URL may have been put in the wrong place."""
    for name in ("host", "node", "origins", "hosts"):
        with pytest.raises(SettingsError) as refused:
            Settings(**{name: "https://user:s3cr3t/w0rd@host"})
        assert "s3cr3t" not in refused.value.message
        assert "w0rd" not in refused.value.message


@pytest.mark.parametrize(
    "url", ["redis://host/x", "redis://host:6379/0x1", "rediss://host/1/2", "redis://host/-1"]
)
def test_a_database_that_is_no_number_is_refused(url: str) -> None:
    """redis-py takes 0 then, and two hubs that should know nothing of each other share one."""
    with pytest.raises(SettingsError, match="expected a number"):
        FixedServer(url)
    with pytest.raises(SettingsError, match="expected a number"):
        urls.parse_sentinel("redis+sentinel://host/service/x")
