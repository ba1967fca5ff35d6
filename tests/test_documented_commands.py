"""Commands of the documents for which this machine has no engine are judged by their own programs.

kubectl and docker parse a command before they look for a server, so one that gets as far as a
refused connection is a command. What needs no server is run.
"""

import base64
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from configparser import ConfigParser
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
import yaml

from hub.settings import load_settings
from tests.k8s.tools import built, of_kind, program, the
from tests.support.hub_process import HubProcess
from tests.support.programs import outside, running
from tests.support.redis_server import free_port
from tests.support.snippets import (
    DOCS,
    GUIDES,
    ROOT,
    Block,
    blocks,
    blocks_in,
    finished,
)
from tests.support.waiting import eventually_blocking

SECONDS = 30.0
KEY = "k" * 32
KEYS = {"HUB_PUBLISH_KEYS": KEY, "HUB_OPERATOR_KEYS": "o" * 32, "HUB_TOKEN_KEYS": "t" * 32}
NOWHERE = "127.0.0.1:1"
# What a shell would fill in: any text does where only the form is judged.
_RANDOM = "$(openssl rand -hex 32)"
pytestmark = pytest.mark.timeout(180)


def one(label: str) -> Block:
    (block,) = blocks(label)
    return block


def commands(text: str) -> list[list[str]]:
    """The simple commands of a shell's text, each as its words."""
    words = shlex.shlex(text.replace("\\\n", " "), posix=True, punctuation_chars="|&;\n")
    words.whitespace = " \t"
    words.whitespace_split = True
    words.commenters = ""
    found: list[list[str]] = [[]]
    for word in words:
        if set(word) <= set("|&;\n"):
            found.append([])
        else:
            found[-1].append(word)
    return [command for command in found if command]


def of_guides(name: str) -> list[list[str]]:
    """Every command of this program in the guides, in blocks and in the text."""
    found: list[list[str]] = []
    for guide in GUIDES:
        found += [
            words
            for block in blocks_in(guide)
            if block.language == "sh"
            for words in commands(block.text)
            if words[0] == name
        ]
        text = re.sub(r"^```.*?^```$", "", guide.read_text(), flags=re.MULTILINE | re.DOTALL)
        found += [shlex.split(code) for code in re.findall(rf"`({name} [^`]+)`", text)]
    return found


def ended(*command: str, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=cwd,
        env=outside() | variables,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


# -- every block is run ------------------------------------------------------------------------

# A conversation, a picture of the layers, a policy: nothing that anybody could run.
NOT_RUN = {"text"}


def test_every_block_that_somebody_could_run_has_a_label() -> None:
    """A label is what `tests/test_documents.py` looks for, so every such block has a test."""
    bare = [
        f"{block.document}: {block.text.splitlines()[0]}"
        for guide in GUIDES
        for block in blocks_in(guide)
        if not block.label and block.language not in NOT_RUN
    ]
    assert bare == []


# -- Kubernetes --------------------------------------------------------------------------------


@pytest.mark.parametrize("words", of_guides("kubectl"), ids=" ".join)
def test_kubectl_takes_the_command(words: list[str]) -> None:
    """kubectl accepts the command and tries to reach a cluster; a command that
    needs none is carried out."""
    kubectl, arguments = program("kubectl"), words[1:]
    if "create" in arguments:
        made = ended(kubectl, *arguments, "--dry-run=client", "-o", "yaml", KUBECONFIG=os.devnull)
        assert made.returncode == 0, made.stderr
        return
    nobody = ("--server", f"http://{NOWHERE}", "--request-timeout", "1s")
    asked = ended(kubectl, *arguments, *nobody, KUBECONFIG=os.devnull)
    assert "refused" in asked.stderr, asked.stderr


def test_the_secrets_that_the_commands_make_have_what_the_chart_asks_for() -> None:
    """By name and key: Kubernetes would say so only when a pod starts."""
    made: dict[str, set[str]] = {}
    for words in [*commands(one("cluster-secrets").text), *commands(one("helm-redis").text)]:
        if words[0] == "kubectl" and "secret" in words:
            run = ended(program("kubectl"), *words[1:], "--dry-run=client", "-o", "yaml")
            secret = yaml.safe_load(run.stdout)
            made[secret["metadata"]["name"]] = set(secret["data"])
    assert made == {
        "hub-broker": {"url"},
        "hub-keys": {"HUB_PUBLISH_KEYS", "HUB_OPERATOR_KEYS", "HUB_TOKEN_KEYS"},
        "hub-redis": {"password"},
    }


@pytest.mark.parametrize(
    "label", ["cluster-secrets", "helm-install", "helm-redis", "image-digest", "container"]
)
def test_a_block_that_is_only_judged_has_nothing_else_in_it(label: str) -> None:
    """No test would run any other program in such a block."""
    assert {words[0] for words in commands(one(label).text)} <= {"kubectl", "helm", "docker"}


@pytest.mark.parametrize("words", of_guides("helm"), ids=" ".join)
def test_helm_renders_what_the_command_asks_for(words: list[str]) -> None:
    """By Helm's own engine, with the values of the command over the chart's."""
    helm = pytest.importorskip("helm_python", reason="comes with `uv sync --group k8s` on Linux")
    verb, *rest = words[1:]
    assert verb in {"install", "upgrade"}
    values: dict[str, Any] = {}
    named: list[str] = []
    namespace = ""
    while rest:
        match rest.pop(0):
            case "--set":
                values = merged(values, helm.parse_set_string(rest.pop(0)))
            case "-f":
                values = merged(values, yaml.safe_load((ROOT / rest.pop(0)).read_text()))
            case "-n":
                namespace = rest.pop(0)
            case "--install":
                assert verb == "upgrade"
            case name:
                named.append(name)
    release, chart = named
    assert (release, namespace) == ("hub", "hub")
    with helm.Chart.load(ROOT / chart) as loaded:
        loaded.validate_schema(values)
        made = loaded.render(values, name=release, namespace=namespace)
    manifests = [
        each
        for name, text in made.items()
        if name.endswith(".yaml")
        for each in yaml.safe_load_all(text)
        if each
    ]
    assert "hub" in [each["metadata"]["name"] for each in of_kind(manifests, "Deployment")]


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """As Helm lays values over each other."""
    both = dict(below)
    for name, value in above.items():
        old = both.get(name)
        is_table = isinstance(old, dict) and isinstance(value, dict)
        both[name] = merged(old or {}, value) if is_table else value
    return both


# -- containers --------------------------------------------------------------------------------


@pytest.mark.parametrize("words", of_guides("docker"), ids=" ".join)
def test_docker_takes_the_command(words: list[str]) -> None:
    """docker accepts the command and tries to reach its daemon. The files and images that the
    command names exist."""
    docker = shutil.which("docker")
    if docker is None:
        pytest.skip("docker is not installed")
    if words[1] in {"compose", "buildx"} and ended(docker, words[1], "version").returncode:
        pytest.skip(f"docker has no {words[1]}")
    if "-t" in words and words[1] == "stop":
        words = [*words, "NAME"]
    asked = ended(docker, *words[1:], DOCKER_HOST=f"tcp://{NOWHERE}")
    assert "Cannot connect to the Docker daemon" in asked.stderr, asked.stderr


def test_commands_of_docker_name_files_and_images_that_belong_together() -> None:
    """Also where docker is not installed."""
    for words in of_guides("docker"):
        for option, value in pairwise(words):
            assert option != "-f" or (ROOT / value).is_file()
    build, run = commands(one("container").text)
    assert build[build.index("-t") + 1] == run[-1]
    assert {word for word in run if word.startswith("HUB_")} == set(KEYS)
    (image,) = {
        container["image"]
        for each in of_kind(built("dev"), "Deployment")
        for container in each["spec"]["template"]["spec"]["containers"]
        if each["metadata"]["name"] == "hub"
    }
    assert f"docker build -t {image} ." in one("kind").text
    assert f"kind load docker-image {image}" in one("kind").text


def with_stubs(block: Block, *names: str) -> Block:
    """The block where these programs do nothing, so that the requests behind them are sent."""
    stubs = "".join(f"{name}() {{ :; }}\n" for name in names)
    return Block("sh", block.label, stubs + block.text.replace(_RANDOM, KEY))


def test_the_request_behind_docker_compose_publishes() -> None:
    """With the key that the block has made."""
    with HubProcess(allow_tracebacks=False, **KEYS) as hub:
        assert '"offset":1' in finished(with_stubs(one("compose"), "docker"), hub.url)


def test_the_request_behind_kubectl_publishes_with_the_key_of_the_dev_overlay() -> None:
    """Which everybody knows, because it stands in the overlay."""
    data = the(built("dev"), "Secret", "hub-keys")["data"]
    key = base64.b64decode(data["HUB_PUBLISH_KEYS"]).decode()
    with HubProcess(HUB_PUBLISH_KEYS=key) as hub:
        printed = finished(with_stubs(one("kind"), "docker", "kind", "kubectl"), hub.url)
        assert '"offset":1' in printed


def test_the_first_look_of_the_runbook_shows_readiness_and_nodes() -> None:
    with HubProcess(allow_tracebacks=False, **KEYS) as hub:
        block = with_stubs(one("first-look"), "kubectl", "grep")
        operator = {"OPERATOR_KEY": KEYS["HUB_OPERATOR_KEYS"]}
        printed = finished(block, hub.url, variables=operator)
    assert '"ready":true' in printed
    assert '"nodes":[' in printed


# -- the machine -------------------------------------------------------------------------------


def test_the_unit_with_a_reload_is_one_that_systemd_takes(tmp_path: Path) -> None:
    """The unit of one page with the line of the other."""
    systemd = shutil.which("systemd-analyze")
    if systemd is None:
        pytest.skip("systemd is not installed")
    (reload,) = re.findall(r"# with (ExecReload=.*)", one("workers-replaced").text)
    text = one("systemd").text.replace("/usr/local/bin/hub", sys.executable)
    path = tmp_path / "hub.service"
    path.write_text(text.replace("[Service]\n", f"[Service]\n{reload}\n"))
    verified = ended(systemd, "verify", str(path))
    assert (verified.returncode, verified.stderr) == (0, "")
    unit = ConfigParser(strict=False, interpolation=None)
    unit.read_string(path.read_text())
    assert unit["Service"]["ExecReload"].endswith("-HUP $MAINPID")


def test_the_commands_for_workers_start_as_many_as_they_say() -> None:
    """`hub config` in place of `hub serve` shows what each would use."""
    text = one("workers").text.replace("hub serve", "hub config --json")
    shown = finished(Block("sh", "", text))
    four, auto = re.findall(r'"HUB_WORKERS",\s*"value": (\d+),\s*"source": "flag"', shown)
    assert four == "4"
    assert int(auto) >= 1


def test_the_signal_for_new_workers_is_one_that_replaces_them() -> None:
    """Sent by the documented command; the log names each worker that was replaced."""
    kill = one("workers-replaced").text.splitlines()[0]
    with HubProcess("--workers", "2", allow_tracebacks=False) as hub:
        finished(Block("sh", "", kill.replace("PID", str(hub.pid))))
        eventually_blocking(
            lambda: hub.stderr.count('"worker_replaced"') == 2, seconds=60, what="two workers"
        )


def test_the_first_command_serves_the_demo() -> None:
    """The hub is started as the document says; pip's line is only compared,
    because it needs an index."""
    install, serve = commands(one("start").text)
    assert install == ["pip", "install", "uv"]
    assert serve[:4] == ["uv", "run", "hub", "serve"]
    with HubProcess(*serve[4:]) as hub:
        assert "demo" in httpx.get(f"{hub.url}/", timeout=SECONDS).text


def test_the_command_for_all_checks_is_a_script() -> None:
    (words,) = commands(one("all-checks").text)
    path = ROOT / words[0]
    assert os.access(path, os.X_OK)
    assert ended("bash", "-n", str(path)).returncode == 0


def test_the_file_server_serves_the_page(tmp_path: Path) -> None:
    """On a free port here."""
    (tmp_path / "index.html").write_text("the page")
    port = free_port()
    text = one("file-server").text.replace("8080", str(port))

    def page() -> str:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/", timeout=SECONDS).text
        except httpx.TransportError:
            return ""

    with running(tmp_path / "log", *shlex.split(text), cwd=tmp_path):
        assert eventually_blocking(page, seconds=SECONDS, what="the page") == "the page"


# -- keys and tokens ---------------------------------------------------------------------------


def test_a_token_is_made_by_the_shell_and_checked_by_it() -> None:
    """The second command says what the first one has put in."""
    make, check = one("token-made").text.splitlines(keepends=True)
    token = finished(Block("sh", "", make), variables=KEYS).strip()
    told = finished(Block("sh", "", check), variables=KEYS | {"TOKEN": token})
    for part in ("anna", "prices", "chat:*", "chat:42"):
        assert part in told


def test_a_key_with_a_name_is_taken_by_its_digest_for_its_channels(tmp_path: Path) -> None:
    """The digest is that of the command beside it; the variable may hold the same."""
    text = one("named-key").text
    (digest,) = re.findall(r'sha256 = "([0-9a-f]{64})"', text)
    page = (DOCS / "access.md").read_text()
    (made_by,) = re.findall(r"`(printf %s [^`]+)`", page)
    made = finished(Block("sh", "", made_by), variables={"KEY": KEY}).split()[0]
    assert made == sha256(KEY.encode()).hexdigest()
    path = tmp_path / "hub.toml"
    path.write_text(text.replace(digest, made))
    assert tomllib.loads(path.read_text())["publish_keys"].keys() == {"shop"}
    (variable,) = re.findall(r"`(shop:sha256:DIGEST=[^`]+)`", page)
    for arguments, settings in (
        (("--config", str(path)), {}),
        ((), {"HUB_PUBLISH_KEYS": variable.replace("DIGEST", made)}),
    ):
        with HubProcess(*arguments, allow_tracebacks=False, **settings) as hub:
            answers = [
                httpx.post(f"{hub.url}/api/publish/{channel}", json=1, headers={"X-API-Key": KEY})
                for channel in ("stock", "orders:17", "prices")
            ]
        assert [each.status_code for each in answers] == [200, 200, 403]


def test_the_settings_for_a_provider_are_settings(tmp_path: Path) -> None:
    """With values that the hub takes, and no warning."""
    printed = finished(Block("sh", "", one("provider").text + "env\n"))
    given = dict(line.split("=", 1) for line in printed.splitlines() if line.startswith("HUB_"))
    given.pop("HUB_URL")
    assert len(given) == 4
    settings = load_settings(config_file=None, flags={}, environ=given)
    assert settings.warnings() == []
