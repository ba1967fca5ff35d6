"""The hub and its commands without a terminal, or with a standard stream closed or full.

Interpreters that begin so are few, as each takes half a second or more of a core: one command with
each redirection, and a hub with the worst of them. What else is tried is forked
(`tests.support.fork_server`), and finds its streams as an interpreter that begins leaves them.
"""

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.support.fork_server import Forked, fork_server, ran
from tests.support.hub_process import STOP_SECONDS, HubProcess
from tests.support.waiting import eventually_blocking

SECONDS = 40.0
FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("HUB_")}


def shell(redirections: str) -> tuple[str, ...]:
    """Returns the arguments with which a shell starts `python -m hub` with these redirections."""
    return ("sh", "-c", f'exec "$@" {redirections}', "sh", sys.executable, "-m", "hub")


# The interpreter has None for a stream that is closed when it begins.
CLOSING = """
import os, runpy, sys
numbers, *sys.argv[1:] = sys.argv[1:]
for number, name in enumerate(("stdin", "stdout", "stderr")):
    if str(number) in numbers:
        os.close(number)
        setattr(sys, name, None)
        setattr(sys, f"__{name}__", None)
runpy.run_module("hub", run_name="__main__", alter_sys=True)
"""
_REDIRECTION = re.compile(r"(?P<number>[0-2]?)(?P<way>[<>])(?:&-|(?P<file>\S+))")


def forked(
    redirections: str,
    *arguments: str,
    environment: Mapping[str, str],
    stdout: int | None = None,
    stderr: int | None = None,
) -> Forked:
    """`python -m hub` so redirected, where a descriptor is not already as said here."""
    streams = {1: stdout, 2: stderr}
    closed = ""
    with contextlib.ExitStack() as stack:
        for found in _REDIRECTION.finditer(redirections):
            number = int(found["number"] or (found["way"] == ">"))
            if found["file"] is None:
                closed += str(number)
            else:
                file = os.open(found["file"], os.O_WRONLY)
                stack.callback(os.close, file)
                streams[number] = file
        program = ("-c", CLOSING, closed, *arguments) if closed else ("-m", "hub", *arguments)
        return fork_server().start(program, environment, stdout=streams[1], stderr=streams[2])


# -- serving -------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


FRESH_HUBS = {("<&- >&- 2>&-", "console"), (">/dev/full 2>/dev/full", "json")}


@pytest.mark.parametrize("log_format", ["json", "console"])
@pytest.mark.parametrize(
    "redirections",
    [
        "2>&-",
        "<&-",
        ">&-",
        "<&- >&-",
        "<&- >&- 2>&-",
        pytest.param(">/dev/full 2>/dev/full", marks=needs_full),
    ],
)
def test_a_hub_starts_serves_and_stops_without_its_standard_streams(
    redirections: str, log_format: str
) -> None:
    """The hub ends with 0, and no socket of its own has the number of a standard stream."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    settings = {"HUB_PORT": str(port), "HUB_DRAIN_SECONDS": "0", "HUB_LOG_FORMAT": log_format}
    environment = clean_environment() | settings
    process: subprocess.Popen[bytes] | Forked
    if (redirections, log_format) in FRESH_HUBS:
        process = subprocess.Popen(
            [*shell(redirections), "serve"], env=environment, start_new_session=True
        )
    else:
        process = forked(redirections, "serve", environment=environment)
    try:
        eventually_blocking(lambda: is_ready(url), seconds=SECONDS, what="readiness")
        for fd in range(3):
            opened = str(Path(f"/proc/{process.pid}/fd/{fd}").readlink())
            assert not opened.startswith(("socket", "anon_inode")), opened
        answer = httpx.post(f"{url}/api/publish/a", content=b"1", trust_env=False)
        assert answer.status_code == 200
        process.terminate()
        assert process.wait(STOP_SECONDS) == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_end_is_a_drain(number: signal.Signals) -> None:
    """Also the terminal that closes: its readers are asked to come back, and it ends with 0."""
    with HubProcess() as hub:
        hub.signal(number)
        assert hub.wait() == 0
        assert f'"signal":"{number.name}"' in hub.stderr
        assert '"event":"stopped"' in hub.stderr


async def test_a_hub_that_is_hung_up_says_goodbye() -> None:
    with HubProcess(HUB_DRAIN_SECONDS="0.5") as hub:
        async with httpx.AsyncClient(base_url=hub.url, trust_env=False) as http:
            async with http.stream("GET", "/sse?channel=a") as stream:
                lines = stream.aiter_lines()
                await anext(lines)
                hub.signal(signal.SIGHUP)
                async with asyncio.timeout(SECONDS):
                    assert any([line == "event: goodbye" async for line in lines])
        assert await asyncio.to_thread(hub.wait) == 0


def test_under_nohup_it_stays() -> None:
    """A hub that was started under nohup outlives its terminal."""
    ignoring = "import os,signal,sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); "
    program = f"{ignoring} os.execv(sys.executable, [sys.executable, '-m', 'hub', 'serve'])"
    with _Nohup(program) as hub:
        hub.signal(signal.SIGHUP)
        assert is_ready(hub.url)
        assert hub.stop() == 0


class _Nohup(HubProcess):
    is_forked = False

    def __init__(self, program: str) -> None:
        super().__init__()
        self.program = ("-c", program)


# -- commands ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    with HubProcess() as process:
        httpx.post(f"{process.url}/api/publish/a", json=1, trust_env=False)
        yield process


def run(
    redirections: str, *arguments: str, url: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs a command and returns its result; one of `FRESH` gets a new interpreter."""
    given = clean_environment() | ({"HUB_URL": url} if url else {}) | environment
    if arguments in FRESH:
        return subprocess.run(
            [*shell(redirections), *arguments],
            env=given,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        command = forked(
            redirections, *arguments, environment=given, stdout=out.fileno(), stderr=err.fileno()
        )
        try:
            code = command.wait(SECONDS)
        finally:
            command.kill()
        printed, told = (os.pread(each.fileno(), 1 << 24, 0).decode() for each in (out, err))
    return subprocess.CompletedProcess(command.args, code, printed, told)


FRESH = {("version",), ("publish", "a", "-"), ("publish", "not ok", "1")}


PRINTING = [
    ("--help",),
    ("version",),
    ("--version",),
    ("config",),
    ("config", "--json"),
    ("nodes",),
    ("nodes", "--json"),
    ("connections",),
    ("closed",),
    ("channels",),
    ("top",),
    ("publish", "a", "1"),
    ("subscribe", "a", "--last", "1"),
    ("tail", "a", "--last", "1"),
]
printing = pytest.mark.parametrize("arguments", PRINTING, ids=" ".join)


@printing
@pytest.mark.parametrize(
    ("redirections", "why"),
    [
        pytest.param(">/dev/full", "No space left on device", marks=needs_full),
        (">&-", "Bad file descriptor"),
    ],
)
def test_output_that_cannot_be_written_is_one_line_and_a_code(
    hub: HubProcess, arguments: tuple[str, ...], redirections: str, why: str
) -> None:
    """The command prints no traceback and reports no success, because
    the output has not arrived."""
    ended = run(redirections, *arguments, url=hub.url)
    assert ended.returncode == 1, ended
    last = ended.stderr.splitlines()[-1]
    assert last == f"hub: stdout: {why}"
    assert "Traceback" not in ended.stderr
    assert "ignored" not in ended.stderr
    if arguments[0] != "subscribe":  # which says how it gets on
        assert ended.stderr.count("\n") == 1


@printing
def test_without_stderr_commands_do_what_they_do(
    hub: HubProcess, arguments: tuple[str, ...]
) -> None:
    if arguments[0] in {"subscribe", "tail"}:
        pytest.skip("has no end")
    for redirections in ("2>&-", "<&- 2>&-"):
        ended = run(redirections, *arguments, url=hub.url)
        assert (ended.returncode, bool(ended.stdout)) == (0, True), ended
    if FULL.exists():
        assert run("2>/dev/full", *arguments, url=hub.url).returncode == 0


def test_a_wrong_call_without_stderr_still_has_its_code(hub: HubProcess) -> None:
    """There is nowhere to say why."""
    for redirections in ("2>&-", "2>/dev/full"):
        for arguments in (("nodes", "--url", "x"), ("nope",), ("publish", "not ok", "1")):
            ended = run(redirections, *arguments, url=hub.url)
            expected = 1 if arguments[0] == "publish" else 2
            assert ended.returncode == expected, (arguments, redirections, ended)
            assert ended.stdout == ""


@pytest.mark.parametrize(
    "arguments", [("publish", "a", "-"), ("publish", "a"), ("ingest", "-", "a")], ids=" ".join
)
def test_a_stdin_that_cannot_be_read_is_said(hub: HubProcess, arguments: tuple[str, ...]) -> None:
    """Nothing was published, so that is no success; and nobody waits for ever."""
    ended = run("<&-", *arguments, url=hub.url)
    assert ended.returncode == 1, ended
    assert "hub: stdin: Bad file descriptor" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_reader_that_has_gone_needs_no_line(hub: HubProcess) -> None:
    """As of `hub config | head -1`."""
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(
        [sys.executable, "-m", "hub", "config"],
        stdout=writing,
        stderr=subprocess.PIPE,
        env=clean_environment(),
        text=True,
        timeout=SECONDS,
        check=False,
    )
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (1, "")


def test_a_terminal_that_lacks_characters_shows_them_escaped(hub: HubProcess) -> None:
    """A table has lines that ASCII has not."""
    for arguments, code in ((("config",), 0), (("nodes", "--url", "http://[é"), 2)):
        ended = subprocess.run(
            [sys.executable, "-m", "hub", *arguments],
            env=clean_environment() | {"PYTHONIOENCODING": "ascii"},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert ended.returncode == code
        assert bool(ended.stderr) == bool(code)
        assert "Traceback" not in ended.stderr


# -- no home, no place to write ------------------------------------------------------------

# As in a container that runs as a number.
NOBODY = """
import os, pwd, sys
os.environ.pop("HOME", None)
os.environ.pop("XDG_STATE_HOME", None)
def unknown(uid):
    raise KeyError(uid)
pwd.getpwuid = unknown
from hub.cli import main
main()
"""


def as_nobody(hub: HubProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = clean_environment() | {"HUB_URL": hub.url}
    return ran("-c", NOBODY, *arguments, environment=environment, seconds=SECONDS)


def test_somebody_without_a_home_publishes_and_is_told_what_needs_one(
    hub: HubProcess, tmp_path: Path
) -> None:
    ended = as_nobody(hub, "publish", "a", "2")
    assert (ended.returncode, ended.stderr) == (0, ""), ended
    file = tmp_path / "lines"
    file.write_text("3\n")
    ended = as_nobody(hub, "ingest", str(file), "a")
    assert ended.returncode == 2, ended
    (line,) = ended.stderr.splitlines()
    assert "--checkpoint" in line
    ended = as_nobody(hub, "ingest", str(file), "a", "--checkpoint", str(tmp_path / "place"))
    assert ended.returncode == 0, ended


def test_a_place_that_cannot_be_kept_is_one_line_and_a_code(hub: HubProcess) -> None:
    """As on a read-only system; root may write everywhere but there."""
    file, place = str(Path(__file__)), "/proc/self/place"
    ended = run("", "ingest", file, "a", "--checkpoint", place, url=hub.url)
    assert ended.returncode == 2, ended
    assert ended.stderr.startswith(f"hub: checkpoint {place}: ")
    assert ended.stderr.count("\n") == 1


def test_in_a_folder_that_is_gone_commands_work_or_say_why(hub: HubProcess, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    script = f'cd {gone} && rmdir {gone} && exec "$@"'
    hub_command = str(Path(sys.executable).with_name("hub"))
    for arguments, code in ((("publish", "a", "1"), 0), (("ingest", "lines", "a"), 1)):
        ended = subprocess.run(
            ["sh", "-c", script, "sh", hub_command, *arguments],
            env=clean_environment() | {"HUB_URL": hub.url},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert ended.returncode == code, ended
        assert "Traceback" not in ended.stderr
        gone.mkdir(exist_ok=True)
