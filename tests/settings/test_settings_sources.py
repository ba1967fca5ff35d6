"""Where settings come from, and what is warned about."""

from collections.abc import Callable
from pathlib import Path

import pytest

from hub.core.options import ChannelOptions
from hub.errors import SettingsError
from hub.settings import Settings, load_settings
from hub.settings.catalog import ValueSource, by_name

WriteToml = Callable[[str], Path]


def load(
    environ: dict[str, str] | None = None, file: Path | None = None, **flags: object
) -> Settings:
    return load_settings(config_file=file, flags=flags, environ=environ or {})


def test_flag_wins_over_environment_over_file_over_default(toml: WriteToml) -> None:
    """Each source is asked only for what the stronger ones left open."""
    file = toml("port = 1\nbacklog = 1\nhistory_size = 1")
    settings = load({"HUB_PORT": "2", "HUB_BACKLOG": "2"}, file, port="3")
    found = (settings.port, settings.backlog, settings.history_size, settings.max_subscriptions)
    assert found == (3, 2, 1, 128)
    known = by_name()
    names = ("port", "backlog", "history_size", "max_subscriptions")
    assert [settings.origin(known[name]) for name in names] == [
        ValueSource.FLAG,
        ValueSource.ENVIRONMENT,
        ValueSource.FILE,
        ValueSource.DEFAULT,
    ]


def test_namespaces_of_a_stronger_source_replace_the_weaker_ones(toml: WriteToml) -> None:
    """They are one setting: two sources are never mixed into what nobody wrote."""
    file = toml("[namespaces.chat]\npresence = true")
    settings = load({"HUB_NAMESPACES": '{"prices":{"history_size":1}}'}, file)
    assert set(settings.namespaces().by_name) == {"prices", "hub"}


def test_flag_that_was_not_given_changes_nothing() -> None:
    """The command line hands in None for it."""
    assert load({"HUB_PORT": "2"}, port=None).port == 2


def test_empty_variable_counts_as_not_set(toml: WriteToml) -> None:
    """A compose file that passes on an unset variable passes on an empty one."""
    assert load({"HUB_PORT": "", "HUB_PUBLISH_KEYS": ""}, toml("port = 5")).port == 5


def test_hub_config_names_the_file_and_the_argument_wins(tmp_path: Path, toml: WriteToml) -> None:
    """HUB_CONFIG is read only where no file is given."""
    other = tmp_path / "other.toml"
    other.write_text("port = 7")
    environ = {"HUB_CONFIG": str(other)}
    assert load(environ).port == 7
    assert load(environ, toml("port = 8")).port == 8


def test_lists_are_separated_by_commas_or_arrays(toml: WriteToml) -> None:
    """Environment and flags have no arrays, TOML does."""
    assert load({"HUB_ORIGINS": "https://a.example, *"}).origins == ("https://a.example", "*")
    keys = load(None, toml('token_keys = ["one", "two,2"]')).token_keys
    assert [key.get_secret_value() for key in keys] == ["one", "two,2"]


def test_namespaces_change_what_they_name_and_keep_the_rest(toml: WriteToml) -> None:
    """From JSON and from a TOML table alike."""
    text = "history_size = 7\n[namespaces.chat]\npresence = true\nallow_raw = true"
    table = load(None, toml(text)).namespaces()
    json = load({"HUB_NAMESPACES": '{"chat":{"presence":true,"allow_raw":true}}'}, history_size=7)
    expected = ChannelOptions(history_size=7, presence=True, allow_raw=True)
    assert table.options("chat:1") == expected
    assert json.namespaces() == table
    assert table.options("chat") == ChannelOptions(history_size=7)


def test_unknown_variable_is_a_warning_with_the_closest() -> None:
    """Not an error: the environment belongs to others too."""
    assert load({"HUB_PROT": "1", "OTHER": "x"}).warnings() == [
        "HUB_PROT is not a setting and has no effect; did you mean HUB_PORT?"
    ]
    # That both begin with HUB_ makes nothing similar.
    assert load({"HUB_TEST_FAILED": "1"}).warnings() == [
        "HUB_TEST_FAILED is not a setting and has no effect"
    ]


@pytest.mark.parametrize(
    ("variable", "setting"),
    [
        ("HUB_PUBLISH_KEY", "HUB_PUBLISH_KEYS"),
        ("HUB_OPERATOR_KEY", "HUB_OPERATOR_KEYS"),
    ],
)
def test_a_variable_of_the_commands_sets_no_key_of_a_node(variable: str, setting: str) -> None:
    """A letter is missing, and the node would be open. Beside the setting both are right."""
    key = "k" * 32
    told = f"{variable} is for commands and sets no key of this node; did you mean {setting}?"
    assert load({variable: key, "HUB_URL": "http://127.0.0.1:8000"}).warnings() == [told]
    assert load({variable: key, setting: key}).warnings() == []
    with pytest.raises(SettingsError) as raised:
        load({variable: key, "HUB_HOST": "0.0.0.0"})
    first, second = raised.value.message.splitlines()
    assert first.startswith("HUB_HOST is '0.0.0.0': with no key at all")
    assert second == told


@pytest.mark.parametrize(
    "more",
    [
        {"publish_keys": "k"},
        {"operator_keys": "k"},
        {"token_keys": "k" * 32},
        {"insecure": True},
    ],
)
def test_open_host_is_taken_with_any_key_or_insecure(more: dict[str, object]) -> None:
    """Each way out works alone."""
    settings = load(None, None, host="0.0.0.0", **more)
    assert not settings.listens_on_loopback_only
    assert settings.has_credentials is ("insecure" not in more)


def test_short_token_key_is_a_warning_that_does_not_show_it() -> None:
    """RFC 7518 section 3.2: 32 bytes for HS256, counted in UTF-8."""
    settings = load({"HUB_TOKEN_KEYS": f"{'é' * 16},s3cret"})
    (sentence,) = settings.warnings()
    assert sentence.startswith("HUB_TOKEN_KEYS: key 2 has 6 bytes; HS256 needs at least 32")
    assert "s3cret" not in sentence


@pytest.mark.parametrize("setting", ["publish_keys", "operator_keys"])
def test_short_key_is_a_warning_that_does_not_show_it(setting: str) -> None:
    """Below 32 characters, counted as they are typed."""
    name = f"HUB_{setting.upper()}"
    settings = load({name: f"{'k' * 32},s3cret,{'é' * 31}"})
    second, third = settings.warnings()
    assert second.startswith(f"{name}: key 2 has 6 characters; below 32 it can be guessed")
    assert third.startswith(f"{name}: key 3 has 31 characters")
    assert "s3cret" not in second + third


@pytest.mark.parametrize(
    ("host", "keys", "warned"),
    [
        ("0.0.0.0", {"publish_keys": "k" * 32, "anonymous": "subscribe"}, True),
        ("10.0.0.1", {"operator_keys": "k" * 32, "anonymous": "subscribe"}, True),
        ("0.0.0.0", {"token_keys": "t" * 32, "anonymous": "subscribe"}, True),
        ("hub.example", {"publish_keys": "k" * 32, "operator_keys": "o" * 32}, False),
        ("0.0.0.0", {"publish_keys": "k" * 32, "token_keys": "t" * 32}, False),
        ("0.0.0.0", {"token_keys": "t" * 32}, False),
        ("127.0.0.1", {"publish_keys": "k" * 32}, False),
        ("127.0.0.1", {}, False),
    ],
)
def test_hub_whose_channels_everybody_may_read_says_so(
    host: str, keys: dict[str, object], warned: bool
) -> None:
    """By a setting: keys alone close reading where other machines can connect."""
    warnings = load(None, None, host=host, **keys).warnings()
    assert [("everybody who can reach this node may read" in each) for each in warnings] == (
        [True] if warned else []
    )


def test_variables_of_kubernetes_and_of_the_client_commands_are_no_slips() -> None:
    """They share the prefix without being meant for the node."""
    names = ("HUB_SERVICE_HOST", "HUB_PORT_80_TCP", "HUB_URL", "HUB_TOKEN")
    assert load(dict.fromkeys(names, "x")).warnings() == []


@pytest.mark.parametrize(
    ("broker", "workers", "warns"),
    [("memory://", "1", False), ("memory://", "2", False), ("redis://r:6379", "1", True)],
)
def test_a_file_of_bans_is_warned_about_where_no_node_uses_it(
    broker: str, workers: str, warns: bool
) -> None:
    settings = load({"HUB_BANS_PATH": "/b", "HUB_BROKER": broker, "HUB_WORKERS": workers})
    assert [("HUB_BANS_PATH" in each) for each in settings.warnings()] == [True] * warns
