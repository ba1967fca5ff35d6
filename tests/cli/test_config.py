"""The command line: flags made from the settings, `hub config`, and how it says no."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from hub.cli import build
from hub.cli.config import rows
from hub.settings import Settings
from hub.settings.catalog import declared

Invoke = Callable[..., Result]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Runs `hub ...` in this process with an environment of its own."""
    for info in declared():
        monkeypatch.delenv(info.env, raising=False)
    monkeypatch.delenv("HUB_CONFIG", raising=False)
    monkeypatch.setenv("COLUMNS", "200")

    def invoke(*arguments: str, **environ: str) -> Result:
        return CliRunner().invoke(build(), list(arguments), env=environ, prog_name="hub")

    return invoke


def listed(result: Result) -> dict[str, dict[str, Any]]:
    return {row["setting"]: row for row in json.loads(result.stdout)}


def test_config_lists_every_setting_with_its_meaning(hub: Invoke) -> None:
    """The table and the JSON both do."""
    table = hub("config").stdout
    found = listed(hub("config", "--json"))
    for info in declared():
        assert f" {info.env} " in table
        assert found[info.env]["meaning"] == info.meaning
    assert len(found) == len(declared())


@pytest.mark.parametrize("command", ["serve", "config"])
def test_every_setting_is_a_flag_with_its_meaning(hub: Invoke, command: str) -> None:
    """`--help` is made from the same declarations."""
    help_text = hub(command, "--help").stdout
    words = " ".join(help_text.replace("│", " ").split())
    for info in declared():
        assert f" {info.flag} " in words
        assert f"default: {info.default.replace(',', ', ')})" in words
    assert "--no-insecure" in words


def test_config_tells_where_each_value_came_from(hub: Invoke, tmp_path: Path) -> None:
    """The source of a value is flag, environment, file or default."""
    file = tmp_path / "hub.toml"
    file.write_text("backlog = 7\n")
    arguments = ("--config", str(file), "--port", "0", "--json")
    found = listed(hub("config", *arguments, HUB_MAX_MESSAGE_BYTES="1KiB"))
    names = ("HUB_PORT", "HUB_MAX_MESSAGE_BYTES", "HUB_BACKLOG", "HUB_HOST")
    assert [(found[name]["value"], found[name]["source"]) for name in names] == [
        (0, "flag"),
        (1024, "environment"),
        (7, "file"),
        ("127.0.0.1", "default"),
    ]


def test_switch_has_a_flag_for_either_side(hub: Invoke) -> None:
    """`--no-presence` wins over the environment."""
    assert listed(hub("config", "--json", "--presence"))["HUB_PRESENCE"]["value"] is True
    found = listed(hub("config", "--json", "--no-presence", HUB_PRESENCE="true"))
    assert found["HUB_PRESENCE"]["value"] is False


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_config_never_shows_a_key(hub: Invoke, form: tuple[str, ...]) -> None:
    """Its number shows, in the output and in warnings."""
    names = ("HUB_PUBLISH_KEYS", "HUB_OPERATOR_KEYS", "HUB_TOKEN_KEYS")
    result = hub("config", *form, **dict.fromkeys(names, "s3cret,s3cret2"))
    assert result.exit_code == 0
    assert "s3cret" not in result.output
    assert "key 2 has 7 bytes" in result.stderr


def test_rows_show_values_as_an_operator_writes_them() -> None:
    """Sizes with their suffix, lists with commas, namespaces as JSON."""
    settings = Settings(
        origins=["https://a.example", "https://b.example"],
        namespaces={"chat": {"presence": True}},
        publish_keys=["one", "two"],
    )
    shown = {row.setting: row.shown for row in rows(settings)}
    assert shown["HUB_MAX_MESSAGE_BYTES"] == "64KiB"
    assert shown["HUB_HEARTBEAT_SECONDS"] == "25"
    assert shown["HUB_ORIGINS"] == "https://a.example,https://b.example"
    assert shown["HUB_NAMESPACES"] == '{"chat":{"presence":true}}'
    assert shown["HUB_PUBLISH_KEYS"] == "********,********"


@pytest.mark.parametrize("command", ["serve", "config"])
def test_wrong_setting_is_one_message_on_stderr_and_exit_code_2(hub: Invoke, command: str) -> None:
    """There is no traceback, and nothing on stdout."""
    result = hub(command, "--port", "abc", HUB_BACKLOG="0")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        "hub: --port is 'abc': allowed: a whole number from 0 to 65535",
        "hub: HUB_BACKLOG is '0': allowed: a whole number from 1 to 65535",
    ]


def test_slip_in_a_variable_is_told_on_stderr(hub: Invoke) -> None:
    """The output stays what a script expects."""
    result = hub("config", "--json", HUB_PROT="1")
    assert "did you mean HUB_PORT?" in result.stderr
    json.loads(result.stdout)


def test_serve_hands_settings_to_the_app_and_returns_its_code(
    hub: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command line decides nothing about serving."""
    calls: list[tuple[Settings, bool]] = []

    def run(settings: Settings, demo: bool, *, role: object) -> int:
        assert role is None, "it is no worker"
        calls.append((settings, demo))
        return 3

    monkeypatch.setitem(sys.modules, "hub.main", SimpleNamespace(run=run))
    assert hub("serve", "--demo", "--port", "0", "--drain-seconds", "1").exit_code == 3
    assert hub("serve").exit_code == 3
    (first, demo), (second, plain) = calls
    assert (first.port, first.drain_seconds, demo) == (0, 1, True)
    assert (second.port, plain) == (8000, False)


@pytest.mark.parametrize("arguments", [("version",), ("--version",)])
def test_version_is_printed(hub: Invoke, arguments: tuple[str, ...]) -> None:
    """Both the command and the flag print it."""
    assert hub(*arguments).stdout.strip().count(".") == 2


def test_help_does_not_load_the_settings_or_the_server() -> None:
    """`hub --help` answers at once."""
    code = "from hub.cli import build\ntry: build()(['--help'])\nexcept SystemExit: pass\n"
    printed, loaded = ran(code)
    assert "serve" in printed
    heavy = {"pydantic_settings", "uvicorn", "starlette", "structlog", "hub.app"}
    assert loaded & heavy == set()


def test_a_node_that_stands_alone_does_not_load_the_redis_client() -> None:
    """Loading the Redis client would take a third of the start."""
    _, loaded = ran("from hub import Hub, Settings\nHub(Settings(), listen=False).asgi()\n")
    assert "hub.node" in loaded
    assert "redis" not in loaded


def ran(code: str) -> tuple[str, set[str]]:
    """Runs `code`, and returns what it prints and the modules that are loaded after it."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}import sys\nprint('loaded:', *sys.modules)"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    printed, _, loaded = done.stdout.rpartition("loaded: ")
    return printed, set(loaded.split())
