"""`hub/docs/http.md`, `django.md` and `fastapi.md`: each program publishes what it says."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.support.hub_process import HubProcess
from tests.support.programs import outside, running
from tests.support.redis_server import free_port
from tests.support.snippets import DOCS, ROOT, URL, blocks, blocks_in, finished
from tests.support.waiting import eventually_blocking

KEY = "p" * 32
SECONDS = 100.0
pytestmark = pytest.mark.timeout(240)
# The file that a program stands in, and what runs it.
PROGRAMS = {
    "php": ("publish.php", "php"),
    "ruby": ("publish.rb", "ruby"),
    "go": ("publish.go", "go run"),
    "java": ("Publish.java", "java"),
}


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    """One that wants keys, as one in production does."""
    with HubProcess(HUB_PUBLISH_KEYS=KEY) as process:
        yield process


@pytest.fixture(scope="module")
def open_hub() -> Iterator[HubProcess]:
    with HubProcess() as process:
        yield process


def history(hub: HubProcess, channel: str) -> list[object]:
    answer = httpx.get(f"{hub.url}/api/channels/{channel}/history", timeout=SECONDS).json()
    return [each["data"] for each in answer["publications"]]


@pytest.mark.parametrize("language", PROGRAMS)
def test_a_program_in_another_language_publishes_with_a_key(
    hub: HubProcess, tmp_path: Path, language: str
) -> None:
    """The program prints the hub's answer."""
    name, program = PROGRAMS[language]
    command, *arguments = program.split()
    if shutil.which(command) is None:
        pytest.skip(f"{command} is not installed")
    (block,) = blocks(f"publish-{language}")
    (tmp_path / name).write_text(block.text.replace(URL, hub.url))
    before = len(history(hub, "prices"))
    done = subprocess.run(
        [command, *arguments, name],
        cwd=tmp_path,
        env=outside() | {"HUB_PUBLISH_KEY": KEY},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert '"offset"' in done.stdout, done.stdout
    assert history(hub, "prices")[before:] == [{"eur": 1.09}]


def test_the_tested_labels_are_those_of_the_document() -> None:
    """A language in the document without a test fails here."""
    text = (ROOT / "hub" / "docs" / "http.md").read_text()
    named = ["publish-php", "publish-ruby", "publish-go", "publish-java"]
    assert [label for label in named if f" {label}\n" not in text] == []
    assert len(named) == len(PROGRAMS)


def test_an_array_is_published_and_history_is_one_request(open_hub: HubProcess) -> None:
    (many,), (asked,) = blocks("publish-many"), blocks("history")
    answers = json.loads(finished(many, open_hub.url))
    assert [each["offset"] for each in answers] == [1, 2]
    kept = json.loads(finished(asked, open_hub.url))
    assert [each["data"] for each in kept["publications"]] == [{"eur": 1.09}, {"eur": 1.1}]


def test_polls_are_answered_with_pushes_and_positions(open_hub: HubProcess) -> None:
    """The first with what is there, the second with a reset: its position is an example."""
    url = f"{open_hub.url}/api/publish/prices"
    httpx.post(url, json={"eur": 1.5}, timeout=SECONDS).raise_for_status()
    first, second = (json.loads(finished(block, open_hub.url)) for block in blocks("polled"))
    assert [push["data"] for push in first["pushes"]] == [{"eur": 1.5}]
    assert second["pushes"][0]["reason"] == "reset"
    assert set(second["positions"]) == {"prices"}


def run_python(
    tmp_path: Path, hub: HubProcess, label: str, more: str, *packages: str
) -> subprocess.CompletedProcess[str]:
    """The block as a program that goes on with `more`, where `packages` are there as well."""
    (block,) = blocks(label)
    (tmp_path / "program.py").write_text(block.text.replace(URL, hub.url) + "\n\n" + more)
    command = [sys.executable]
    if packages:
        uv = shutil.which("uv")
        if uv is None:
            pytest.skip("uv is not installed")
        asked = [word for package in packages for word in ("--with", package)]
        command = [uv, "run", "--quiet", "--frozen", "--no-sync", *asked, "python"]
        there = subprocess.run(
            [*command, "-c", ""], cwd=ROOT, capture_output=True, timeout=SECONDS, check=False
        )
        if there.returncode:
            pytest.skip(f"{packages} cannot be installed")
    return subprocess.run(
        [*command, str(tmp_path / "program.py")],
        cwd=ROOT,
        env=outside(),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


DJANGO = """
import django
from django.conf import settings
from django.http import QueryDict
memory = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
settings.configure(DATABASES={"default": memory})
django.setup()

class Request:
    POST = QueryDict("id=17&amount=3")

with transaction.atomic():
    answer = orders(Request())
    print("before", len(transaction.get_connection().run_on_commit))
print(answer.content.decode())
Request.POST = QueryDict("id=17&amount=4")
print(orders(Request()).content.decode())
"""


def test_the_view_of_django_publishes_after_the_commit(
    open_hub: HubProcess, tmp_path: Path
) -> None:
    """The publication comes once; the same order with another amount is a line in
    the log, and no error page."""
    done = run_python(tmp_path, open_hub, "django-view", DJANGO)
    assert done.returncode == 0, done.stderr
    shown = 'before 1\n{"id": "17", "amount": 3}\n{"id": "17", "amount": 4}\n'
    assert done.stdout == shown
    assert "order 17 is not announced: conflict: " in done.stderr
    assert history(open_hub, "orders") == [{"id": "17", "amount": 3}]


FLASK = """
client = app.test_client()
print(client.post("/price/1.09").json)
"""


def test_the_view_of_flask_publishes(open_hub: HubProcess, tmp_path: Path) -> None:
    before = len(history(open_hub, "prices"))
    done = run_python(tmp_path, open_hub, "flask-view", FLASK, "flask")
    assert done.returncode == 0, done.stderr
    assert history(open_hub, "prices")[before:] == [{"eur": 1.09}]


def test_the_view_of_flask_says_what_the_hub_refuses(hub: HubProcess, tmp_path: Path) -> None:
    """The answer is JSON with a status that says to try again; here there is no key."""
    done = run_python(tmp_path, hub, "flask-view", FLASK, "flask")
    assert done.returncode == 0, done.stderr
    assert "unauthorized: " in done.stdout


CELERY = """
app.conf.task_always_eager = True
print(announce.delay("18", 3).get() == announce.delay("18", 3).get())
"""


def test_the_task_of_celery_publishes_once_however_often_it_runs(
    open_hub: HubProcess, tmp_path: Path
) -> None:
    done = run_python(tmp_path, open_hub, "celery-task", CELERY, "celery[redis]")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "True\n"
    assert history(open_hub, "orders").count({"id": "18", "amount": 3}) == 1


def test_an_application_of_fastapi_publishes_to_a_hub_of_its_own(
    open_hub: HubProcess, tmp_path: Path
) -> None:
    """Under uvicorn, as it would run."""
    (block,) = blocks("fastapi-publisher")
    (tmp_path / "example.py").write_text(block.text.replace(URL, open_hub.url))
    port = free_port()

    def position() -> str:
        try:
            url = f"http://127.0.0.1:{port}/price/1.25"
            return httpx.post(url, timeout=SECONDS).raise_for_status().text
        except httpx.TransportError:
            return ""

    uvicorn = (sys.executable, "-m", "uvicorn", "example:app", "--port", str(port))
    with running(tmp_path / "log", *uvicorn, cwd=tmp_path):
        eventually_blocking(position, seconds=SECONDS, what="the application")
    assert history(open_hub, "prices")[-1] == {"eur": 1.25}


def test_an_application_of_fastapi_says_what_the_hub_refuses(
    hub: HubProcess, tmp_path: Path
) -> None:
    """In place of a bare 500; here it has no key."""
    more = """
from fastapi.testclient import TestClient

with TestClient(app) as client:
    answer = client.post("/price/1.25")
    print(answer.status_code, answer.json())
"""
    done = run_python(tmp_path, hub, "fastapi-publisher", more)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("503 {'error': 'unauthorized: ")


def test_every_block_is_a_program_that_python_reads() -> None:
    """Blocks that are only a part of a program are checked too."""
    for guide in ("django", "fastapi", "python", "python-threads", "access"):
        for block in (
            each for each in blocks_in(DOCS / f"{guide}.md") if each.language == "python"
        ):
            compile(block.text, f"{guide}.md", "exec")
