"""The settings as such: declarations, kinds of values, the Python API."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from hub.core.options import KIB, MIB, ChannelOptions, Overflow
from hub.errors import SettingsError
from hub.settings import Settings
from hub.settings.catalog import SettingInfo, by_name, declared
from hub.settings.fields import Fields
from hub.settings.machine import usable_bytes
from hub.settings.parsing import is_loopback, parse_size
from hub.settings.values import show_size


@pytest.mark.parametrize("info", declared(), ids=lambda info: info.name)
def test_every_setting_says_what_it_means_what_is_allowed_and_its_default(
    info: SettingInfo,
) -> None:
    """No field can be added without its words."""
    assert info.meaning.endswith(".")
    assert all((info.allowed, info.default, info.group))


def test_every_field_is_in_the_catalog_once() -> None:
    """The catalog is derived from the fields and hides none."""
    assert [info.field for info in declared()] == list(Fields.model_fields)
    assert len(by_name()) == len(declared())


@pytest.mark.parametrize("info", declared(), ids=lambda info: info.name)
def test_every_number_has_a_lower_and_an_upper_bound(info: SettingInfo) -> None:
    """Bounded: what is a count, a time or a size says its range."""
    if info.kind.metavar in {"N", "SECONDS", "BYTES", "PORT"}:
        assert " from " in info.allowed


def test_defaults_are_those_of_the_wire_contract() -> None:
    """Those that tests and operators rely on."""
    settings = Settings()
    assert (settings.host, settings.port, settings.broker) == ("127.0.0.1", 8000, "memory://")
    assert (settings.outbox_max_messages, settings.outbox_max_bytes) == (1000, MIB)
    assert (settings.max_message_bytes, settings.max_subscriptions) == (64 * KIB, 128)
    assert settings.channel_defaults() == ChannelOptions()
    assert settings.outbox_total_bytes == usable_bytes() // 4


def test_direct_construction_reads_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """`Settings()` in a library is the same on every machine."""
    monkeypatch.setenv("HUB_PORT", "1234")
    monkeypatch.setenv("PORT", "1235")
    assert Settings().port == 8000


def test_python_arguments_are_checked_and_typed() -> None:
    """The class is the Python API."""
    settings = Settings(
        port=0, publish_keys=["abc"], max_message_bytes="1KiB", overflow="disconnect"
    )
    assert settings.publish_keys[0].get_secret_value() == "abc"
    assert settings.max_message_bytes == KIB
    assert settings.overflow is Overflow.DISCONNECT
    with pytest.raises(
        SettingsError, match=r"^port is '-1': allowed: a whole number from 0 to 65535$"
    ):
        Settings(port=-1)
    with pytest.raises(SettingsError, match=r"^prot is not a setting; did you mean port\?$"):
        Settings(prot=1)


def test_settings_are_frozen() -> None:
    """A holder of the settings can rely on them."""
    settings = Settings()
    with pytest.raises(ValidationError):
        settings.port = 1


@pytest.mark.parametrize(
    ("written", "normal"),
    [("", ""), ("/", ""), ("live", "/live"), ("/a/b/", "/a/b"), (" /x ", "/x")],
)
def test_base_path_has_one_form(written: str, normal: str) -> None:
    """Nothing, or a leading slash and none at the end."""
    assert Settings(base_path=written).base_path == normal


@given(number=st.integers(0, 10**12), unit=st.sampled_from(["", "B", "KiB", "MiB", "GiB"]))
def test_size_is_its_number_times_its_unit(number: int, unit: str) -> None:
    """In any case and with blanks around, plain numbers included."""
    factor = {"": 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}[unit]
    for text in (f"{number}{unit}", f" {number} {unit.lower()} ", f"{number}{unit.upper()}"):
        assert parse_size(text) == number * factor
    assert parse_size(number) == number


@given(st.integers(1, 2**50))
def test_size_shown_reads_back_the_same(size: int) -> None:
    """A size can be copied from `hub config` into a setting."""
    assert parse_size(show_size(size)) == size


@given(st.text(max_size=12))
def test_text_is_a_size_or_refused_without_another_error(text: str) -> None:
    """Never a negative size, never a surprise."""
    with contextlib.suppress(ValueError):
        assert parse_size(text) >= 0


@pytest.mark.parametrize("wrong", ["64k", "1.5MiB", "-1", "", "KiB", "٣", "1e3", True, None, 1.5])
def test_a_text_that_is_no_size_is_refused(wrong: object) -> None:
    """Ambiguous suffixes too: is 64k 64,000 or 65,536?"""
    with pytest.raises(ValueError, match=r"^$"):
        parse_size(wrong)


def test_session_limits_are_the_settings() -> None:
    """Each limit comes from the setting of its name."""
    given_limits = {
        "outbox_max_messages": 1,
        "outbox_max_bytes": 2,
        "outbox_max_age_seconds": 3,
        "max_subscriptions": 4,
        "max_message_bytes": 5,
    }
    limits = Settings(**given_limits).session_limits()
    assert {name: getattr(limits, name) for name in given_limits} == given_limits


def test_secrets_do_not_show_in_the_repr_of_the_settings() -> None:
    """Somebody will log it."""
    assert "s3cret" not in repr(Settings(publish_keys=["s3cret"], token_keys=["s3cret"]))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost", "LOCALHOST"])
def test_loopback_needs_no_key(host: str) -> None:
    """Only this machine can reach it."""
    assert is_loopback(host)
    assert not Settings(host=host).has_credentials


def test_insecure_hub_says_so() -> None:
    """The start log tells who may publish."""
    (sentence,) = Settings(host="0.0.0.0", insecure=True).warnings()
    assert sentence == "host is 0.0.0.0 without any key: everybody may publish"


def test_a_journal_on_disk_of_nothing_is_a_warning() -> None:
    """A journal without memory notes nothing, so nothing reaches the disk; a
    path alone is no warning."""
    assert Settings(journal_path="/var/lib/hub").warnings() == []
    (warning,) = Settings(journal_path="/var/lib/hub", journal_bytes=0).warnings()
    assert "journal_path is set and journal_bytes is 0" in warning
    with pytest.raises(SettingsError, match="journal_disk_bytes"):
        Settings(journal_disk_bytes=1000)


def test_limits_that_contradict_each_other_are_a_warning() -> None:
    """A message larger than the outbox would never pass a slow reader's."""
    (sentence,) = Settings(outbox_max_bytes="1KiB").warnings()
    assert sentence == (
        "outbox_max_bytes (1,024) is smaller than HUB_MAX_MESSAGE_BYTES (65,536), "
        "which can never be used up"
    )
