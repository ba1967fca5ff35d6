"""The Dockerfile's own steps, run without a container engine.

`COPY`, `RUN`, `ENV`, `HEALTHCHECK` and `CMD` are read from the Dockerfile and carried out in a
clean directory with a clean environment: only the files that `.dockerignore` leaves, only the
variables that the image sets. What stays untested here is the base image, the user and the
engine itself.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.support.waiting import eventually_blocking

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ROOT = Path(__file__).parent.parent
STEP_SECONDS = 240.0
END_SECONDS = 20.0
# What a machine needs to reach its package index, and the cache that makes a second run fast.
_KEPT = re.compile(
    r"HOME|LANG|(?:UV|PIP)_(?:\w*INDEX\w*|CACHE_DIR|\w*CERT)|(?i:\w+_proxy)|SSL_CERT_\w+"
)
# One of the folder itself, one that is a link to another folder, and what goes with them.
DOCUMENTS = ["/docs", "/docs/runbook", "/docs/protocol", "/docs/docs.css", "/docs/search.json"]
_URL = re.compile(r'"url": ?"(http://[^"]+)"')


# -- reading the two files ---------------------------------------------------------------------


@dataclass(frozen=True)
class Instruction:
    name: str
    text: str

    @property
    def exec_form(self) -> list[str]:
        """The JSON array at the end; fails for the shell form."""
        words: list[str] = json.loads(self.text[self.text.index("[") :])
        return words


def stages() -> list[list[Instruction]]:
    """The Dockerfile's instructions, a list for each `FROM`."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    found: list[list[Instruction]] = []
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if not line.strip():
            continue
        name, _, rest = line.strip().partition(" ")
        if name == "FROM":
            found.append([])
        if not found:
            continue  # an ARG before the stages: `base` reads it
        found[-1].append(Instruction(name, rest.strip()))
    return found


def base() -> str:
    """The image that the stages begin with, unless a build names another."""
    (found,) = re.findall(r"^ARG BASE=(\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    return str(found)


def last_stage(name: str) -> Instruction:
    """The one instruction of that name in the final image."""
    (found,) = [instruction for instruction in stages()[-1] if instruction.name == name]
    return found


def is_ignored(path: str, patterns: list[str]) -> bool:
    """Whether `.dockerignore` leaves `path` out: the last pattern wins that fits it or a parent."""
    parts = path.split("/")
    parents = ["/".join(parts[: count + 1]) for count in range(len(parts))]
    ignored = False
    for pattern in patterns:
        bare = pattern.lstrip("!").removeprefix("**/")
        names = parts if "**/" in pattern else parents
        # A star stops at a slash (Go's filepath.Match).
        if any(fnmatch(name, bare) and name.count("/") == bare.count("/") for name in names):
            ignored = not pattern.startswith("!")
    return ignored


def context_files() -> list[str]:
    """Returns the files that would be sent to the engine; symbolic links stay links."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    patterns = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    found = []
    for directory, names, files in os.walk(ROOT):
        at = Path(directory)
        links = [name for name in names if (at / name).is_symlink()]
        # Nothing here is ever included, and some of it is large.
        names[:] = [name for name in names if not name.startswith(".") and name != "node_modules"]
        found += [(at / name).relative_to(ROOT).as_posix() for name in (*files, *links)]
    return [path for path in found if not is_ignored(path, patterns)]


# -- the image ---------------------------------------------------------------------------------


@dataclass
class Image:
    """A directory that stands for the image's file system."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    directory: str = "/"

    def place(self, path: str) -> Path:
        return self.root / os.path.normpath(f"{self.directory}/{path}").lstrip("/")

    def set(self, text: str) -> None:
        """`ENV`: paths of the image become those of the directory."""
        for word in shlex.split(text):
            name, _, value = word.partition("=")
            value = re.sub(r"(^|:)/opt", rf"\1{self.root}/opt", value)
            self.environment[name] = value.replace("$PATH", self.environment["PATH"])

    def copy(self, text: str) -> None:
        """`COPY` of what the context holds: a file into a directory, a directory's content."""
        *sources, target = text.split()
        files = context_files()
        for source in sources:
            chosen = [path for path in files if path == source or path.startswith(f"{source}/")]
            assert chosen, f"COPY {source}: .dockerignore leaves nothing of it"
            for path in chosen:
                inside = path[len(source) :].lstrip("/") or Path(path).name
                to = self.place(target) / inside
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / path, to, follow_symlinks=False)

    def run(self, command: list[str]) -> str:
        """`RUN`, or anything else that has to end well."""
        done = subprocess.run(
            command,
            cwd=self.place(""),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=STEP_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout


def clean_environment(path: str) -> dict[str, str]:
    kept = {name: text for name, text in os.environ.items() if _KEPT.fullmatch(name)}
    return kept | {"PATH": f"{path}:/usr/bin:/bin"}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The final stage, made by the steps of the first from nothing but the context."""
    root = tmp_path_factory.mktemp("image")
    # Stands for the base image: an interpreter with pip and nothing else.
    uv = shutil.which("uv")
    quick = [str(uv), "venv", "--quiet", "--seed", "--python", sys.executable]
    make = quick if uv else [sys.executable, "-m", "venv"]
    subprocess.run([*make, root / "base"], check=True, timeout=STEP_SECONDS)
    building = Image(root, clean_environment(f"{root}/base/bin"))
    for instruction in stages()[0]:
        match instruction.name:
            case "ENV":
                building.set(instruction.text)
            case "WORKDIR":
                building.directory = instruction.text
                building.place("").mkdir(parents=True)
            case "COPY":
                building.copy(instruction.text)
            case "RUN":
                building.run(["/bin/sh", "-c", instruction.text])
            case name:
                assert name == "FROM", f"this test does not know {name}"
    # The first stage stays behind; what the second takes over has to do without it.
    shutil.rmtree(building.place(""))
    final = Image(root, {"PATH": "/usr/bin:/bin"})
    final.set(last_stage("ENV").text)
    return final


@dataclass
class Running:
    process: subprocess.Popen[str]
    url: str
    environment: dict[str, str]


@pytest.fixture(scope="module")
def running(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """`CMD` with a key, on a free port."""
    log = tmp_path_factory.mktemp("log") / "hub.log"
    environment = image.environment | {
        "HUB_PORT": "0",
        "HUB_OPERATOR_KEYS": "operator-key",
        "HUB_DRAIN_SECONDS": "0.2",
    }
    with log.open("w") as output:
        process = subprocess.Popen(
            last_stage("CMD").exec_form, env=environment, cwd="/", stderr=output, text=True
        )
    try:
        found = eventually_blocking(lambda: _URL.search(log.read_text()), what=log.read_text())
        assert found is not None
        url = found[1].replace("0.0.0.0", "127.0.0.1")
        yield Running(process, url, environment | {"HUB_PORT": url.rpartition(":")[2]})
    finally:
        process.kill()
        process.wait(END_SECONDS)


# -- what holds --------------------------------------------------------------------------------


def test_versions_are_pinned_and_both_stages_begin_alike() -> None:
    """A full Python version and Debian's name; uv exactly."""
    images = {stage[0].text.split()[0] for stage in stages()}
    assert images == {"${BASE}"}, "one argument for both: a build may name it by its digest"
    assert re.fullmatch(r"python:3\.1[1-4]\.\d+-slim-[a-z]+(@sha256:[0-9a-f]{64})?", base())
    assert re.search(r"\buv==\d+\.\d+\.\d+\b", (ROOT / "Dockerfile").read_text())


def test_the_user_is_a_number_above_zero() -> None:
    """An orchestrator checks `runAsNonRoot` by number."""
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", last_stage("USER").text)
    assert last_stage("STOPSIGNAL").text == "SIGTERM"


def test_the_context_holds_no_tests_no_history_and_no_local_environment() -> None:
    """Nor anything but what the Dockerfile copies."""
    copied = {
        source
        for instruction in stages()[0]
        if instruction.name == "COPY"
        for source in instruction.text.split()[:-1]
    }
    files = context_files()
    assert "hub/pages/client" in files
    assert [f for f in files if not any(f == s or f.startswith(f"{s}/") for s in copied)] == []
    assert [f for f in files if "__pycache__" in f] == []


def test_the_image_holds_the_locked_runtime_and_no_test_tools(image: Image) -> None:
    """The lock's versions, without the groups for development."""
    code = "import importlib.metadata as m; print(*sorted(d.name for d in m.distributions()))"
    names = set(image.run(["python", "-c", code]).lower().split())
    assert {"broadcast-hub", "broadcast-hub-client", "uvloop", "websockets"} <= names
    tools = {"pytest", "mypy", "ruff", "hypothesis", "playwright", "import-linter", "uv", "aiohttp"}
    assert names & tools == set()


def test_the_image_holds_the_package_itself_compiled_and_not_a_link_to_its_source(
    image: Image,
) -> None:
    """Its user may not write bytecode, so there has to be some."""
    where = Path(image.run(["python", "-c", "import hub; print(hub.__file__)"]).strip())
    assert where.is_relative_to(image.place("opt/hub"))
    assert list(where.parent.glob("__pycache__/app.*.pyc"))
    assert not (where.parent / "pages/client").is_symlink()


def test_without_a_key_the_container_says_what_is_missing_and_ends(image: Image) -> None:
    """The container listens on all addresses, so the hub refuses to start without keys."""
    ended = subprocess.run(
        last_stage("CMD").exec_form,
        env=image.environment,
        capture_output=True,
        text=True,
        timeout=END_SECONDS,
        check=False,
    )
    assert ended.returncode == 2
    assert "HUB_HOST" in ended.stderr
    assert "HUB_PUBLISH_KEYS" in ended.stderr


@pytest.mark.parametrize(
    "path", ["/", "/page.js", "/client.js", "/client/hub.js", "/dashboard", *DOCUMENTS]
)
def test_the_container_serves_its_pages(running: Running, path: str) -> None:
    """They are data files, which a wheel may lose."""
    answer = httpx.get(running.url + path, auth=("operator", "operator-key"), timeout=30)
    assert answer.status_code == 200
    assert answer.content


def test_the_health_check_passes_for_a_hub_and_fails_without_one(running: Running) -> None:
    """Run as the engine would: in the container's environment."""
    check = last_stage("HEALTHCHECK").exec_form
    codes = [
        subprocess.run(
            check, env=environment, capture_output=True, timeout=10, check=False
        ).returncode
        for environment in (
            running.environment,
            running.environment | {"http_proxy": "http://127.0.0.1:9"},
            running.environment | {"HUB_BASE_PATH": "/elsewhere"},
            running.environment | {"HUB_PORT": "9"},
        )
    ]
    assert codes == [0, 0, 1, 1]


def test_the_stop_signal_ends_the_container_in_order(running: Running) -> None:
    """The last test here: the command is the hub itself, no shell that swallows the signal."""
    running.process.send_signal(signal.Signals[last_stage("STOPSIGNAL").text])
    assert running.process.wait(END_SECONDS) == 0
