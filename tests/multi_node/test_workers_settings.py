"""Settings that only a worker finds wrong end the hub at the start, and are waited for later."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.multi_node.fleet import is_ready
from tests.multi_node.workers import WorkersHub
from tests.support.fork_server import ran
from tests.support.identity_provider import make_key, public_pem
from tests.support.programs import outside
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(180)


SERVE = ("-m", "hub", "serve", "--workers", "2", "--port", "0")


def in_new_interpreters(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run the supervisor and its children as users do: nothing is forked."""
    return subprocess.run(
        [sys.executable, *SERVE],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def in_forks(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return ran(*SERVE, environment=environment, seconds=60)


@pytest.mark.parametrize(
    ("run", "name", "others"),
    [
        (in_new_interpreters, "HUB_TOKEN_PUBLIC_KEYS", {}),
        (in_forks, "HUB_TLS_CERT", {"HUB_TLS_KEY": "none.pem"}),
    ],
)
def test_a_setting_that_no_worker_can_use_is_said_once_and_ends_the_hub(
    tmp_path: Path,
    run: Callable[[dict[str, str]], subprocess.CompletedProcess[str]],
    name: str,
    others: dict[str, str],
) -> None:
    """As with one process: exit code 2 and one line for the setting."""
    told = run(outside() | {name: str(tmp_path / "none.pem")} | others)
    assert told.returncode == 2
    [line] = [line for line in told.stderr.splitlines() if name in line]
    assert line.startswith(f"hub: {name}")
    assert "Traceback" not in told.stderr


async def test_a_setting_that_a_worker_cannot_use_later_is_tried_until_it_is_mended(
    tmp_path: Path,
) -> None:
    """The other worker serves meanwhile, and the log says what is wrong."""
    file, pem = tmp_path / "keys.pem", public_pem(make_key("EdDSA"))
    file.write_text(pem)
    with WorkersHub(HUB_TOKEN_PUBLIC_KEYS=str(file)) as hub:
        file.unlink()
        hub.kill_child(1)
        await eventually(lambda: hub.stderr.count('"worker_ended"') >= 3, seconds=60)
        assert await is_ready(hub)
        file.write_text(pem)
        lines = [json.loads(line) for line in hub.stderr.splitlines()]
        reasons = {line.get("reason") for line in lines if line["event"] == "worker_ended"}
        assert reasons == {
            None, f"HUB_TOKEN_PUBLIC_KEYS: {file} cannot be read: No such file or directory",
        }  # fmt: skip
        started = hub.stderr.count('"worker_started"')
        await eventually(lambda: hub.stderr.count('"worker_started"') > started, seconds=60)


async def test_a_broker_of_its_own_is_no_worker_s_after_sighup(
    tmp_path: Path, redis: RedisServer
) -> None:
    """No message of another worker would reach its subscribers: the old ones stay, on Redis."""
    file = tmp_path / "hub.toml"
    file.write_text(f"broker = '{redis.url}'\n")
    with WorkersHub(HUB_CONFIG=str(file)) as hub:
        before = hub.processes()
        file.write_text("broker = 'memory://'\n")
        hub.signal(signal.SIGHUP)
        await eventually(lambda: "worker_did_not_come_up" in hub.stderr, seconds=60)
        lines = [json.loads(line) for line in hub.stderr.splitlines()]
        [line] = [line for line in lines if line["event"] == "worker_did_not_come_up"]
        assert line["reason"].startswith("HUB_BROKER is memory://")
        await eventually(lambda: hub.processes() == before)
        assert await is_ready(hub)


async def test_a_worker_says_which_settings_wait_for_a_restart(tmp_path: Path) -> None:
    """The broker process obeys them, and SIGHUP does not replace it."""
    file = tmp_path / "hub.toml"
    file.write_text("history_ttl_seconds = 50\nheartbeat_seconds = 25\n")
    with WorkersHub(HUB_CONFIG=str(file)) as hub:
        file.write_text("history_ttl_seconds = 60\nheartbeat_seconds = 11\n")
        hub.signal(signal.SIGHUP)
        await eventually(lambda: '"workers_replaced"' in hub.stderr, seconds=60)
        lines = [json.loads(line) for line in hub.stderr.splitlines()]
        told = [line["message"] for line in lines if line["event"] == "setting"]
        assert len(told) == 2
        assert {line.partition(":")[0] for line in told} == {"HUB_HISTORY_TTL_SECONDS"}
