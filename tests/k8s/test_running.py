"""The dev overlay without a cluster: its Redis and its hub run as their manifests say.

What a kubelet would do is done here: variables from ConfigMap and Secrets, `$(NAME)` filled in,
commands and arguments as they stand. Only names that a cluster resolves become addresses.
"""

import base64
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import httpx2 as httpx
import pytest

from tests.k8s.tools import Manifest, built, deployment, of_kind, the
from tests.support.redis_server import free_port
from tests.support.waiting import eventually_blocking

END_SECONDS = 20.0
# Not a byte into any regular file, as on a read-only file system.
WRITE_NO_FILES = ("prlimit", "--fsize=0")
_URL = re.compile(r'"url": ?"(http://[^"]+)"')


def container(name: str) -> Manifest:
    (found,) = deployment(built("dev"), name)["spec"]["template"]["spec"]["containers"]
    return dict(found)


def secret(name: str) -> dict[str, str]:
    (found,) = (m for m in of_kind(built("dev"), "Secret") if m["metadata"]["name"] == name)
    return {key: base64.b64decode(value).decode() for key, value in found["data"].items()}


def environment(of: Manifest) -> dict[str, str]:
    """`envFrom`, then `env`, which wins; a value may name what `env` has before it."""
    found: dict[str, str] = {}
    for source in of.get("envFrom", []):
        if "secretRef" in source:
            found |= secret(source["secretRef"]["name"])
        else:
            found |= the(built("dev"), "ConfigMap", source["configMapRef"]["name"])["data"]
    before: dict[str, str] = {}
    for variable in of["env"]:
        before[variable["name"]] = _value(variable, before)
    return found | before


def _value(variable: Manifest, before: dict[str, str]) -> str:
    match variable:
        case {"value": str(text)}:
            return filled(text, before)
        case {"valueFrom": {"secretKeyRef": {"name": name, "key": key}}}:
            return secret(name)[key]
    return "hub-5d8f7c9b4-x2x9q"  # the pod's name, the only field that is asked for


def filled(text: str, variables: dict[str, str]) -> str:
    return re.sub(r"\$\((\w+)\)", lambda match: variables[match[1]], text)


@dataclass
class Running:
    url: str
    redis_port: int
    process: subprocess.Popen[str]
    log: list[str]


@pytest.fixture(scope="module")
def redis_port() -> Iterator[int]:
    redis, port = container("hub-redis"), free_port()
    arguments = [filled(text, environment(redis)) for text in redis["args"]]
    process = subprocess.Popen(
        [
            *WRITE_NO_FILES,
            *redis["command"],
            *arguments,
            "--bind",
            "127.0.0.1",
            "--port",
            str(port),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
    )
    try:
        yield port
    finally:
        process.kill()
        process.wait(END_SECONDS)


@pytest.fixture(scope="module")
def running(redis_port: int) -> Iterator[Running]:
    of = container("hub")
    variables = environment(of)
    host = the(built("dev"), "Service", "hub-redis")["metadata"]["name"]
    variables["HUB_BROKER"] = variables["HUB_BROKER"].replace(
        f"{host}:6379", f"127.0.0.1:{redis_port}"
    )
    process = subprocess.Popen(
        [*WRITE_NO_FILES, sys.executable, "-m", "hub", "serve"],
        # The image's own, but for the port, which here is any free one.
        env=variables | {"HUB_HOST": "0.0.0.0", "HUB_PORT": "0", "PYTHONDONTWRITEBYTECODE": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    log: list[str] = []
    assert process.stderr is not None
    reader = threading.Thread(target=log.extend, args=(process.stderr,))
    reader.start()
    try:
        found = eventually_blocking(lambda: _URL.search("".join(log)), what="the hub's start")
        assert found is not None
        url = found[1].replace("0.0.0.0", "127.0.0.1")
        eventually_blocking(lambda: ready(url), what="the hub's readiness")
        yield Running(url, redis_port, process, log)
    finally:
        process.kill()
        process.wait(END_SECONDS)
        reader.join(END_SECONDS)
        process.stderr.close()


def ready(url: str) -> bool:
    return httpx.get(f"{url}/readyz", timeout=30).status_code == 200


def test_a_node_of_dev_publishes_and_delivers_through_the_redis_of_dev(running: Running) -> None:
    """With the keys of its Secret, and the password of the other."""
    keys = secret(container("hub")["envFrom"][1]["secretRef"]["name"])
    publisher = {"X-API-Key": keys["HUB_PUBLISH_KEYS"]}
    big = [{"channel": "prices", "data": "x" * 50_000} for _ in range(20)]
    with httpx.Client(base_url=running.url, headers=publisher, timeout=30) as client:
        client.post("/api/publish/prices", json={"eur": 1.09}).raise_for_status()
        client.post("/api/publish", json=big).raise_for_status()
        polled = client.get("/poll", params={"channel": "prices", "last": 3, "wait": 5}).json()
    assert [push["offset"] for push in polled["pushes"] if push["op"] == "message"] == [19, 20, 21]


def test_nobody_without_keys_gets_in(running: Running) -> None:
    """Neither to the hub nor to its Redis."""
    answer = httpx.post(f"{running.url}/api/publish/prices", json=1, timeout=30)
    assert answer.status_code == 401
    asked = subprocess.run(
        ["redis-cli", "-p", str(running.redis_port), "PUBLISH", "hub:raw:prices", "1"],
        capture_output=True,
        text=True,
        timeout=END_SECONDS,
        check=False,
    )
    assert "NOAUTH" in asked.stdout + asked.stderr


def test_a_node_needs_no_file_and_ends_in_order(running: Running) -> None:
    """Not one error of writing in its log, also not while it drains, and exit code 0."""
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(END_SECONDS) == 0
    assert "Traceback" not in "".join(running.log)
    assert "File too large" not in "".join(running.log)
