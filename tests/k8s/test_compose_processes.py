"""The commands, variables and probes of `k8s/compose.yaml` work as processes of this machine.

Only what an engine adds is not shown here: images, networks with names, rights taken away.
"""

import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx2 as httpx
import pytest
import yaml

from tests.k8s.tools import K8S
from tests.support.hub_process import HubProcess
from tests.support.programs import outside
from tests.support.proxies.documented import DocumentedNginx
from tests.support.redis_server import RedisServer

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.skipif(
        not all(map(shutil.which, ("nginx", "redis-server", "redis-cli"))),
        reason="nginx or Redis is not installed",
    ),
]
SECONDS = 20.0
KEYS = {
    "HUB_PUBLISH_KEYS": "publishes-" + "p" * 32,
    "HUB_OPERATOR_KEYS": "operates-" + "o" * 32,
    "HUB_TOKEN_KEYS": "signs-" + "t" * 32,
}


def service(name: str) -> dict[str, Any]:
    text = re.sub(r"\$\{(\w+):\?[^}]*\}", lambda found: KEYS[found[1]], composed())
    found: dict[str, Any] = yaml.safe_load(text)["services"][name]
    return found


def composed() -> str:
    return (K8S / "compose.yaml").read_text()


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env=outside() | environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    """Started by the words of the service's `command`."""
    program, *words = shlex.split(service("redis")["command"])
    assert program == "redis-server"
    names = [word.removeprefix("--") for word in words[::2]]
    flags: dict[str, Any] = dict(zip(names, words[1::2], strict=True))
    with RedisServer(**flags) as server:
        yield server


@pytest.fixture(scope="module")
def nodes(redis: RedisServer) -> Iterator[list[HubProcess]]:
    with ExitStack() as stack:
        yield [stack.enter_context(node(name, redis)) for name in ("hub1", "hub2")]


def node(name: str, redis: RedisServer) -> HubProcess:
    """With the variables of its service, and with those of its image."""
    image = dict(re.findall(r"(HUB_\w+)=(\S+)", (K8S.parent / "Dockerfile").read_text()))
    given = image | service(name)["environment"]
    given["HUB_BROKER"] = given["HUB_BROKER"].replace("redis:6379", f"127.0.0.1:{redis.port}")
    # nginx comes from this machine's own address and not from a network of Compose.
    given["HUB_TRUSTED_PROXIES"] += ",127.0.0.1"
    return HubProcess(**given | {"HUB_PORT": "0", "HUB_NODE": name})


def test_redis_evicts_nothing_and_answers_its_probe(redis: RedisServer) -> None:
    """As the command says, and by the words of the health check."""
    kind, *words = service("redis")["healthcheck"]["test"]
    assert kind == "CMD"
    asked = run(words[0], "-p", str(redis.port), *words[1:])
    assert (asked.returncode, asked.stdout) == (0, "PONG\n")
    assert b"noeviction" in redis.ask("CONFIG", "GET", "maxmemory-policy")
    assert str(256 * 1024**2).encode() in redis.ask("CONFIG", "GET", "maxmemory")


def test_each_node_answers_the_probe_of_its_image(nodes: list[HubProcess]) -> None:
    """Compose waits for this probe (`service_healthy`) before it starts nginx."""
    for each in nodes:
        probe = (sys.executable, "-m", "hub.healthcheck")
        given = {"HUB_HOST": "::", "HUB_PORT": str(each.port)}
        assert run(*probe, **given).returncode == 0
    assert run(*probe, **given | {"HUB_PORT": "9"}).returncode == 1


def test_nginx_leads_to_both_and_they_are_one_hub(nodes: list[HubProcess]) -> None:
    """The request of the document publishes, and the dashboard's list has both nodes."""
    with DocumentedNginx([each.port for each in nodes]) as proxy:
        with httpx.Client(base_url=proxy.url, timeout=SECONDS) as client:
            key = {"X-API-Key": KEYS["HUB_PUBLISH_KEYS"]}
            body = {"eur": 1.09}
            assert client.post("/api/publish/prices", json=body).status_code == 401
            assert client.post("/api/publish/prices", json=body, headers=key).status_code == 200
            operator = {"X-API-Key": KEYS["HUB_OPERATOR_KEYS"]}
            listed = client.get("/api/nodes", headers=operator).json()
            assert {each["node"] for each in listed["nodes"]} == {"hub1", "hub2"}
            history = "/api/channels/prices/history"
            for _ in nodes:  # nginx takes turns
                page = client.get(history, headers=operator).json()
                assert [each["data"] for each in page["publications"]] == [body]


def test_a_node_stops_within_its_grace_period(redis: RedisServer) -> None:
    """Docker sends SIGTERM, and SIGKILL after it."""
    assert service("hub1")["stop_grace_period"] == "20s"
    with node("hub1", redis) as one:
        one.signal(signal.SIGTERM)
        assert one.wait(SECONDS) == 0
