"""The programs in `clients/examples` do what their first lines say. Its pages are opened by
`tests/browser/test_example_pages.py`.
"""

import ast
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.support.example_app import EXAMPLES, ExampleApp
from tests.support.hub_process import HubProcess
from tests.support.programs import outside, running
from tests.support.redis_server import RedisServer, free_port, is_installed
from tests.support.waiting import eventually_blocking

NODE = shutil.which("node")
UV = shutil.which("uv")
# Only a failing test waits so long: a busy machine starts a program in ten seconds.
SECONDS = 20.0
START_SECONDS = 60.0
pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def app() -> Iterator[ExampleApp]:
    with ExampleApp() as running:
        yield running


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    with HubProcess() as running:
        yield running


def newest(hub_url: str, channel: str) -> list[object]:
    answer = httpx.get(f"{hub_url}/api/channels/{channel}/history", timeout=SECONDS).json()
    return [each["data"] for each in answer["publications"]]


def token(app: ExampleApp, name: str) -> dict[str, str]:
    given = httpx.get(f"{app.url}/token", params={"name": name}, timeout=SECONDS).json()
    return {"Authorization": f"Bearer {given}"}


def test_a_port_serves_the_hub_first_and_the_application_where_the_hub_has_nothing(
    app: ExampleApp,
) -> None:
    """The hub's paths stay its own; the application's 404 is the application's."""
    with httpx.Client(base_url=app.url, timeout=SECONDS) as http:
        assert http.get("/readyz").status_code == 200
        assert "export" in http.get("/client.js").text
        assert "<title>Ticker</title>" in http.get("/ticker").text
        assert http.get("/openapi.json").json()["paths"].keys() >= {"/prices", "/token"}
        assert "/api/publish" in http.get("/api/openapi.json").json()["paths"]
        assert http.get("/nothing").json() == {"detail": "Not Found"}


def test_a_request_of_the_application_publishes_in_the_hub_it_came_by(app: ExampleApp) -> None:
    """`request.state.hub`, with a key for slow readers; the answer names the position."""
    price = {"symbol": "EURUSD", "price": 1.08}
    answer = httpx.post(f"{app.url}/prices", json=price, timeout=SECONDS)
    poll = f"{app.url}/poll?channel=prices&last=1&wait=5"
    said = httpx.get(poll, headers=token(app, "ada"), timeout=SECONDS).json()
    (push,) = said["pushes"]
    assert (push["data"], push["key"]) == (price, "EURUSD")
    assert answer.json()["position"] == said["positions"]["prices"]


def test_the_tokens_of_the_application_open_its_channels_and_no_others(app: ExampleApp) -> None:
    """Without one the hub answers 401, elsewhere 403."""
    poll = f"{app.url}/poll?wait=0&channel="
    assert httpx.get(f"{poll}prices", timeout=SECONDS).status_code == 401
    headers = token(app, "ada")
    assert httpx.get(f"{poll}prices", headers=headers, timeout=SECONDS).status_code == 200
    assert httpx.get(f"{poll}secrets", headers=headers, timeout=SECONDS).status_code == 403


@pytest.fixture(scope="module")
def shop(hub: HubProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The Django application, publishing to `hub`."""
    port = free_port()
    log = tmp_path_factory.mktemp("django") / "log"
    program = str(EXAMPLES / "django_app.py")
    serve = ("runserver", "--noreload", f"127.0.0.1:{port}")
    with running(log, sys.executable, program, *serve, HUB_URL=hub.url) as process:
        url = f"http://127.0.0.1:{port}"

        def answers() -> bool:
            assert process.poll() is None, log.read_text()
            try:
                return httpx.get(f"{url}/orders", timeout=SECONDS).status_code == 405
            except httpx.TransportError:
                return False

        eventually_blocking(answers, seconds=START_SECONDS, what=f"Django at {url}")
        yield url


def test_a_django_view_publishes_an_order_once(hub: HubProcess, shop: str) -> None:
    """A browser that repeats the request gets the first position again."""
    order = {"id": "17", "amount": "3"}
    first, again = (httpx.post(f"{shop}/orders", data=order, timeout=SECONDS) for _ in range(2))
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.json()["announced"] == again.json()["announced"]
    assert newest(hub.url, "orders") == [{"id": "17", "amount": 3}]


def test_a_django_view_says_which_order_was_announced_with_other_data(shop: str) -> None:
    """The hub's 409 is the visitor's, and no fault of the program."""
    first = httpx.post(f"{shop}/orders", data={"id": "19", "amount": "3"}, timeout=SECONDS)
    other = httpx.post(f"{shop}/orders", data={"id": "19", "amount": "4"}, timeout=SECONDS)
    assert (first.status_code, other.status_code) == (200, 409)
    assert "error" in other.json()


def test_a_django_view_says_when_the_hub_did_not_take_it(tmp_path: Path) -> None:
    """The order is saved all the same: 202, not announced."""
    port = free_port()
    program = (sys.executable, str(EXAMPLES / "django_app.py"), "runserver", "--noreload")
    with running(tmp_path / "log", *program, f"127.0.0.1:{port}", HUB_URL="http://127.0.0.1:9"):

        def order() -> httpx.Response | None:
            try:
                form = {"id": "18", "amount": "1"}
                return httpx.post(f"http://127.0.0.1:{port}/orders", data=form, timeout=SECONDS)
            except httpx.TransportError:
                return None

        answer = eventually_blocking(order, seconds=START_SECONDS, what="an answer of Django")
    assert answer is not None
    assert (answer.status_code, answer.json()["announced"]) == (202, False)


def test_a_django_view_whose_key_the_hub_refuses_says_so_in_its_log(tmp_path: Path) -> None:
    """The visitor's order is saved: 202. The fault is the program's, and its owner reads why."""
    port, log = free_port(), tmp_path / "log"
    program = (sys.executable, str(EXAMPLES / "django_app.py"), "runserver", "--noreload")
    with (
        HubProcess(HUB_PUBLISH_KEYS="the-right-key") as hub,
        running(log, *program, f"127.0.0.1:{port}", HUB_URL=hub.url, HUB_PUBLISH_KEY="wrong-key"),
    ):

        def order() -> httpx.Response | None:
            try:
                form = {"id": "21", "amount": "1"}
                return httpx.post(f"http://127.0.0.1:{port}/orders", data=form, timeout=SECONDS)
            except httpx.TransportError:
                return None

        answer = eventually_blocking(order, seconds=START_SECONDS, what="an answer of Django")
        assert answer is not None
        assert (answer.status_code, answer.json()["announced"]) == (202, False)
    assert "order 21 is not announced: unauthorized" in log.read_text()


SCRIPT = re.compile(r"^# /// script\n((?:#.*\n)+?)# ///$", re.MULTILINE)


@pytest.mark.parametrize(
    "name", ["fastapi_app.py", "answer_app.py", "django_app.py", "celery_app.py"]
)
def test_a_program_names_what_it_needs_and_how_it_is_run(name: str) -> None:
    """PEP 723: `uv run --script` installs that, the hub and its client from this tree."""
    text = (EXAMPLES / name).read_text()
    (header,) = SCRIPT.findall(text)
    told = tomllib.loads(
        "".join(line.removeprefix("#").lstrip() for line in header.splitlines(True))
    )
    named = {re.split(r"[\[>=]", each)[0] for each in told["dependencies"]}
    roots = {node.module for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)}
    needed = {PACKAGES[root] for each in roots if each and (root := each.split(".")[0]) in PACKAGES}
    assert needed <= named
    for each in told["tool"]["uv"]["sources"].values():
        assert (EXAMPLES / each["path"] / "pyproject.toml").exists()
    assert f"uv run --script clients/examples/{name}" in text


PACKAGES = {
    "fastapi": "fastapi",
    "django": "django",
    "celery": "celery",
    "hub_client": "broadcast-hub-client",
}


def script(name: str, *arguments: str) -> tuple[str, ...]:
    """The documented command."""
    assert UV is not None
    return (UV, "run", "--quiet", "--script", str(EXAMPLES / name), *arguments)


def can_install(name: str) -> bool:
    """Whether what the program needs is on this machine, or can be fetched."""
    if UV is None:
        return False
    asked = (UV, "sync", "--quiet", "--script", str(EXAMPLES / name))
    return subprocess.run(asked, capture_output=True, timeout=120, check=False).returncode == 0


def test_the_documented_command_of_the_django_program_works() -> None:
    """Outside of this project's own environment."""
    if not can_install("django_app.py"):
        pytest.skip("uv, or what it would install, is not here")
    done = subprocess.run(
        script("django_app.py", "check"), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_celery_task_that_runs_twice_publishes_an_order_once(
    hub: HubProcess, tmp_path: Path
) -> None:
    """The test runs the documented commands: a worker, and two orders to it."""
    if not is_installed() or not can_install("celery_app.py"):
        pytest.skip("redis-server, uv, or what it would install, is not here")
    with RedisServer() as redis:
        reached = {"HUB_URL": hub.url, "CELERY_BROKER": redis.url}
        worker = script("celery_app.py", "worker", "--pool", "solo", "--loglevel", "info")
        with running(tmp_path / "log", *worker, HUB_URL=hub.url, CELERY_BROKER=redis.url):
            for _ in range(2):
                announce = script("celery_app.py", "announce", "20", "3")
                subprocess.run(announce, env=outside() | reached, timeout=120, check=True)
            log = tmp_path / "log"
            eventually_blocking(
                lambda: log.read_text().count("succeeded") == 2,
                seconds=START_SECONDS,
                what="two tasks",
            )
    assert newest(hub.url, "orders").count({"id": "20", "amount": 3}) == 1


@pytest.mark.skipif(NODE is None, reason="Node 20 or newer is not installed")
def test_a_node_program_prints_messages_through_a_restart_of_the_hub(tmp_path: Path) -> None:
    """The program prints messages from before and after the restart;
    state and gaps go to stderr."""
    assert NODE is not None
    log = tmp_path / "log"
    with HubProcess() as hub:
        publish(hub, 1)
        program = (NODE, str(EXAMPLES / "node_subscriber.mjs"), hub.url, "prices")
        with running(log, *program) as process:
            eventually_blocking(lambda: 1 in printed(log), seconds=START_SECONDS, what="1")
            hub.restart()
            publish(hub, 2)
            eventually_blocking(lambda: 2 in printed(log), seconds=START_SECONDS, what="2")
        assert process.returncode == 0
    assert printed(log) == [1, 2]
    assert "reset" in log.read_text()


def publish(hub: HubProcess, data: object) -> None:
    httpx.post(f"{hub.url}/api/publish/prices", json=data, timeout=SECONDS).raise_for_status()


def printed(log: Path) -> list[object]:
    lines = [line for line in log.read_text().splitlines() if line.startswith("{")]
    return [json.loads(line)["data"] for line in lines]
