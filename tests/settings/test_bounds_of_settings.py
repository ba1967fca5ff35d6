"""Each bound of a setting, as its description says it: taken at it, refused beyond it."""

import json
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal

import pytest

from hub.errors import SettingsError
from hub.settings import WITHIN, Settings, load_settings
from hub.settings.catalog import SettingInfo, by_name, declared
from hub.settings.parsing import parse_size
from hub.settings.values import show_plain

RANGED = [info for info in declared() if " from " in info.allowed]
# The least by which a value can be beyond a bound.
SMALLEST = {"SECONDS": Decimal("0.0001"), "SHARE": Decimal("0.0001")}


def bounds(info: SettingInfo) -> tuple[Decimal, Decimal]:
    """The two numbers of `info.allowed`."""
    low, high = info.allowed.rpartition(" from ")[2].split(" to ")
    if info.kind.metavar == "BYTES":
        return Decimal(parse_size(low)), Decimal(parse_size(high))
    return Decimal(low.replace(",", "")), Decimal(high.replace(",", ""))


def load(info: SettingInfo, value: Decimal) -> Settings:
    return load_settings(config_file=None, flags={info.name: f"{value:f}"}, environ={})


@pytest.mark.parametrize("info", RANGED, ids=lambda info: info.name)
def test_a_setting_is_taken_at_its_bounds_and_refused_beyond_them(info: SettingInfo) -> None:
    low, high = bounds(info)
    step = SMALLEST.get(info.kind.metavar, Decimal(1))
    for value in (low, high):
        assert Decimal(str(getattr(load(info, value), info.field))) == value
    for value in (low - step, high + step):
        with pytest.raises(SettingsError, match=re.escape(info.allowed)):
            load(info, value)


@pytest.mark.parametrize(
    ("option", "low", "high"),
    [
        ("history_size", 0, 1_000_000),
        ("history_ttl_seconds", 0, 365 * 86_400),
        ("state_max_keys", 1, 100_000),
        ("state_ttl_seconds", 0, 365 * 86_400),
    ],
)
def test_an_option_of_a_namespace_has_bounds_as_well(option: str, low: int, high: int) -> None:
    for value in (low, high):
        (changes,) = Settings(namespaces={"chat": {option: value}}).namespace_changes.values()
        assert getattr(changes, option) == value
    for value in (low - 1, high + 1):
        text = json.dumps({"chat": {option: value}})
        with pytest.raises(SettingsError, match=rf"chat\.{option} is '{value}': allowed: "):
            load_settings(config_file=None, flags={}, environ={"HUB_NAMESPACES": text})


@pytest.mark.parametrize(
    ("name", "at", "beyond"),
    [
        ("node", "n" * 64, "n" * 65),
        ("broker_prefix", "p" * 32, "p" * 33),
        ("token_cookie", "c" * 128, "c" * 129),
        ("namespaces", '{"%s":{}}' % ("n" * 199), '{"%s":{}}' % ("n" * 200)),
        ("namespaces", '{"n":{}}', '{"":{}}'),
        ("publish_keys", "n" * 64 + ":sha256:" + "0" * 64, "n" * 64 + ":sha256:" + "0" * 65),
        ("rate_commands", "10/86400", "10/86401"),
        ("rate_commands", "1/0.001:1", "0/1"),
        ("rate_commands", "1/1:5", "0/1:5"),
        ("rate_commands", "1/0.001:1", "1/0"),
        ("rate_commands", "1/0.001:1", "1/1:0"),
        ("rate_inbound_bytes", "999999999999999999/1", "9999999999999999999/1"),
        ("origins", "https://a.example:65535", "https://a.example:65536"),
    ],
)  # fmt: skip
def test_a_text_is_taken_as_long_as_it_may_be_and_no_longer(
    name: str, at: str, beyond: str
) -> None:
    load_settings(config_file=None, flags={name: at}, environ={})
    with pytest.raises(SettingsError, match=r"is .*: allowed: |is 1 to|is '"):
        load_settings(config_file=None, flags={name: beyond}, environ={})


def test_a_number_is_shown_as_it_may_be_written_again() -> None:
    """Whatever its size: seconds of years have many digits."""
    shown = {show_plain(each): each for each in (315_360_000.0, 1_234_567.0, 0.001, 2.5, 1e-05)}
    assert list(shown) == ["315360000", "1234567", "0.001", "2.5", "1e-05"]
    info = by_name()["position_ttl_seconds"]
    assert info.kind.show(load(info, Decimal(1_234_567)).position_ttl_seconds) == "1234567"


@pytest.mark.parametrize(("small", "large"), WITHIN)
def test_a_bound_that_another_one_makes_vain_is_a_warning(small: str, large: str) -> None:
    """Not where both are the same."""
    places = {
        "position_ttl_seconds": 9,
        "history_ttl_seconds": 8,
        "idempotency_ttl_seconds": 8,
        "expiry_warning_seconds": 0.8,
        "token_max_age_seconds": 0.9,
        "max_connections": 9,
        "address_connections": 8,
        "subject_connections": 8,
        "max_channels": 9,
        "max_subscriptions": 8,
        "max_message_bytes": 1,
        "outbox_max_bytes": 2,
        "max_body_bytes": 3,
        "outbox_total_bytes": 4,
        "history_total_bytes": 4,
        "body_total_bytes": 4,
    }
    sizes = {name: int(10_000 * place) for name, place in places.items()}
    sizes |= {name: 1 for name, same in WITHIN if same == large and name != small}
    assert Settings(**sizes | {large: sizes[small]}).warnings() == []
    (sentence,) = Settings(**sizes | {large: sizes[small] - 1}).warnings()
    assert f"{large} ({sizes[small] - 1:,})" in sentence
    assert f" is smaller than {small} ({sizes[small]:,}), " in sentence


def test_a_namespaces_history_that_its_epoch_does_not_outlive_is_a_warning() -> None:
    """A quiet channel is forgotten with its history. Not where both are the same."""
    namespaces = {"chat": {"history_ttl_seconds": 1_000}, "news": {"history_size": 5}}
    vain, fits = (
        Settings(position_ttl_seconds=seconds, namespaces=namespaces).warnings()
        for seconds in (999, 1_000)
    )
    assert fits == []
    (sentence,) = vain
    assert sentence == (
        "position_ttl_seconds (999) is smaller than history_ttl_seconds of the namespace chat "
        "(1,000), which can never be used up"
    )


@pytest.mark.parametrize(
    ("name", "value", "needed"),
    [
        ("HUB_HOOKS", "connect", ("HUB_HOOK_URL",)),
        ("HUB_HOOK_TIMEOUT_SECONDS", "3", ("HUB_HOOK_URL",)),
        ("HUB_HOOK_CACHE_SECONDS", "3", ("HUB_HOOK_URL",)),
        ("HUB_HOOK_WHEN_DOWN", "allow", ("HUB_HOOK_URL",)),
        ("HUB_WEBHOOK_EVENTS", "session.opened", ("HUB_WEBHOOK_URL",)),
        ("HUB_WEBHOOK_SECRET", "whsec_" + "QUFB" * 10, ("HUB_HOOK_URL", "HUB_WEBHOOK_URL")),
    ],
)
def test_a_setting_of_hooks_without_their_address_is_a_warning(
    name: str, value: str, needed: Sequence[str]
) -> None:
    def warnings(more: Mapping[str, str]) -> Sequence[str]:
        environ = {name: value, **more}
        return load_settings(config_file=None, flags={}, environ=environ).warnings()

    (sentence,) = warnings({})
    assert sentence == f"{name} has no effect without {' or '.join(needed)}"
    for address in needed:
        told = warnings({address: "http://127.0.0.1:9/hub"})
        assert not any("has no effect" in each for each in told)


@pytest.mark.parametrize("over", ["17MiB", "33MiB", "65MiB"])
@pytest.mark.parametrize("setting", ["max_message_bytes", "max_body_bytes"])
def test_a_size_that_some_broker_never_takes_is_refused_at_the_start(
    setting: str, over: str
) -> None:
    """Redis cuts a node off behind 32 MiB, and the broker process a worker behind 64 MiB."""
    with pytest.raises(SettingsError, match=f"^HUB_{setting.upper()} is '{over}': .*to 16MiB$"):
        load_settings(config_file=None, flags={}, environ={f"HUB_{setting.upper()}": over})


@pytest.mark.parametrize(
    ("setting", "what"),
    [
        ("publish_keys", "key 1 has 31 characters; below 32"),
        ("operator_keys", "key 1 has 31 characters; below 32"),
        ("token_keys", "key 1 has 31 bytes; HS256 needs at least 32"),
    ],
)
def test_a_key_of_32_characters_is_none_that_can_be_guessed(setting: str, what: str) -> None:
    for size, is_said in ((32, False), (31, True)):
        settings = Settings(**{setting: ("k" * size,)})
        assert any(what in said for said in settings.warnings()) is is_said


def test_of_a_value_that_is_refused_80_characters_are_shown() -> None:
    for size, shown in ((80, "x" * 80), (81, f"{'x' * 80}... (81 characters)")):
        with pytest.raises(SettingsError) as refused:
            Settings(port="x" * size)
        assert shown in str(refused.value)
