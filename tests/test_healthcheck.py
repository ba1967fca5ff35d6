"""The image's HEALTHCHECK works with every address that settings allow."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.node.test_server import has_ipv6
from tests.support.hub_process import HubProcess

SECONDS = 30.0


def check(hub: HubProcess, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: text for name, text in os.environ.items() if not name.startswith("HUB_")}
    return subprocess.run(
        [sys.executable, "-m", "hub.healthcheck"],
        env=inherited | {"HUB_PORT": str(hub.port)} | environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


@pytest.mark.parametrize("path", ["", "live", "/live", "/live/", "a/b"])
def test_a_hub_below_a_path_is_healthy_however_that_is_written(path: str) -> None:
    """As its own setting takes it."""
    with HubProcess(HUB_BASE_PATH=path) as hub:
        assert check(hub, HUB_BASE_PATH=path).returncode == 0
        assert check(hub, HUB_BASE_PATH=path, http_proxy="http://127.0.0.1:9").returncode == 0
        other = check(hub, HUB_BASE_PATH="elsewhere")
        assert (other.returncode, other.stderr) == (
            1,
            "hub: not alive: it did not answer with 200\n",
        )


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.2",
        "localhost",
        "0.0.0.0",
        "::",
        pytest.param("::1", marks=pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")),
    ],
)
def test_a_hub_is_asked_where_it_listens(host: str) -> None:
    """A hub that listens everywhere is asked at this machine's own address."""
    with HubProcess(HUB_HOST=host, HUB_INSECURE="true", HUB_HOSTS="*") as hub:
        assert check(hub, HUB_HOST=host).returncode == 0


def test_the_file_of_settings_counts_and_the_environment_wins(tmp_path: Path) -> None:
    with HubProcess(HUB_BASE_PATH="live") as hub:
        config = tmp_path / "hub.toml"
        config.write_text(f'port = {hub.port}\nbase_path = "live"\nhistory_size = 5\n')
        file = {"HUB_CONFIG": str(config), "HUB_PORT": ""}
        assert check(hub, **file).returncode == 0
        assert check(hub, **file, HUB_BASE_PATH="/").returncode == 1


def test_a_hub_that_does_not_answer_is_one_line_and_1(tmp_path: Path) -> None:
    """Whatever is wrong."""
    with HubProcess() as hub:
        for wrong in (
            {"HUB_PORT": "9"},
            {"HUB_PORT": "http"},
            {"HUB_CONFIG": str(tmp_path / "gone")},
            {"HUB_TLS_CERT": "/cert.pem"},
        ):
            ended = check(hub, **wrong)
            assert (ended.returncode, ended.stderr.count("\n")) == (1, 1), ended
            assert ended.stderr.startswith("hub: not alive: ")
