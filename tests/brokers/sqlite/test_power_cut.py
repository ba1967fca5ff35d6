"""After a power cut at any moment the history file holds every acknowledged publication.

A disk may keep any of the writes since the last fsync of their file, and lose any. So the writes of
a real run are recorded by strace, in one order with its acknowledgements; then the power is cut at
random moments: of each file stays what was fsynced, and of the rest whatever chance says, torn
at sectors. From what lies there then a broker is opened, which has to hold all that was
acknowledged before that moment, each once, and goes on.
"""

import json
import random
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hub.brokers.sqlite.layout import VERSION
from tests.brokers.sqlite.golden.make import content
from tests.brokers.sqlite.nodes import StoredNode
from tests.core.fakes import FakeClock

ROUNDS, CUTS = 30, 25
GOLDEN = Path(__file__).parent / "golden"
# What a disk writes whole (https://www.sqlite.org/atomiccommit.html, "sector").
_SECTOR = 512
_CALL = re.compile(
    r"^(?:\[pid +\d+\] |\d+ +)?(?P<name>pwrite64|write|fsync|fdatasync|ftruncate|unlink|openat)"
    r"\((?P<arguments>.*)\) += +(?P<result>\S+)"
)
_BYTES = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")


@dataclass
class Lying:
    """One file on the disk: what is sure, and what is on its way."""

    sure: bytearray = field(default_factory=bytearray)
    under_way: list[tuple[int, bytes] | int] = field(default_factory=list)
    """Writes with their places, or the size that it was cut to."""

    def synced(self) -> None:
        for change in self.under_way:
            _change(self.sure, change)
        self.under_way.clear()

    def after_a_cut(self, chance: random.Random) -> bytes:
        left = bytearray(self.sure)
        for change in self.under_way:
            if isinstance(change, int):
                if chance.random() < 0.5:
                    _change(left, change)
                continue
            at, data = change
            whole = chance.choice((0.0, 0.5, 1.0))
            for begin in range(0, len(data), _SECTOR):
                if chance.random() < whole:
                    _change(left, (at + begin, data[begin : begin + _SECTOR]))
        return bytes(left)


def _change(content: bytearray, change: tuple[int, bytes] | int) -> None:
    if isinstance(change, int):
        del content[change:]
        content.extend(b"\0" * (change - len(content)))
        return
    at, data = change
    content.extend(b"\0" * (at - len(content)))
    content[at : at + len(data)] = data


@dataclass(frozen=True)
class Acknowledged:
    channel: str
    epoch: str
    offset: int
    number: int


@dataclass
class Disk:
    """The files as the recorded calls have left them so far."""

    path: Path
    files: dict[str, Lying] = field(default_factory=dict)
    acknowledged: list[Acknowledged] = field(default_factory=list)
    synced: int = 0

    def carry_out(self, name: str, arguments: str) -> None:
        if name == "write":
            if arguments.startswith("1<"):
                told = _data(arguments).decode()
                _, channel, epoch, offset, number = told.split()
                self.acknowledged.append(Acknowledged(channel, epoch, int(offset), int(number)))
            return
        found = re.search(rf"[<\"]{re.escape(str(self.path))}(-wal|-lock)?[>\"]", arguments)
        if found is None:
            return
        suffix = found[1] or ""
        lying = self.files.setdefault(suffix, Lying())
        if name == "unlink":
            del self.files[suffix]
        elif name == "pwrite64":
            lying.under_way.append((int(arguments.rsplit(",", 1)[1]), _data(arguments)))
        elif name == "ftruncate":
            lying.under_way.append(int(arguments.rsplit(",", 1)[1]))
        elif name in {"fsync", "fdatasync"}:
            lying.synced()
            self.synced += 1

    def cut(self, where: Path, chance: random.Random) -> Path:
        where.mkdir()
        for suffix, lying in self.files.items():
            (where / f"hub.db{suffix}").write_bytes(lying.after_a_cut(chance))
        return where / "hub.db"


def _data(arguments: str) -> bytes:
    found = _BYTES.search(arguments)
    assert found is not None, arguments[:200]
    return bytes.fromhex(found[1].replace("\\x", ""))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of the run that is recorded."""
    return tmp_path_factory.mktemp("run") / "hub.db"


@pytest.fixture(scope="module")
def recorded(path: Path) -> Sequence[tuple[str, str]]:
    """The calls of a run, each with its arguments, in the order they ended."""
    return _calls(path, str(ROUNDS))


def _calls(path: Path, *arguments: str) -> Sequence[tuple[str, str]]:
    """Returns the system calls of `publisher` that change files."""
    log = path.parent / "calls"
    command = (
        "strace", "-f", "-y", "-xx", "-s", "200000", "-o", str(log),
        "-e", "trace=pwrite64,write,fsync,fdatasync,ftruncate,unlink",
        sys.executable, "-m", "tests.brokers.sqlite.publisher", str(path), *arguments,
    )  # fmt: skip
    ran = subprocess.run(command, check=False, capture_output=True, text=True)
    if "ptrace" in ran.stderr:
        pytest.skip("may not trace")
    assert ran.returncode == 0, ran.stderr[-2000:]
    return list(_whole(log.read_text(errors="replace")))


def _whole(text: str) -> "list[tuple[str, str]]":
    """Calls that another thread's interrupted are put together, at the place of their end."""
    begun: dict[str, str] = {}
    calls: list[tuple[str, str]] = []
    for line in text.splitlines():
        pid, _, rest = line.partition(" ")
        rest = rest.strip()
        if rest.endswith("<unfinished ...>"):
            begun[pid] = rest.removesuffix("<unfinished ...>").strip()
            continue
        if (resumed := re.match(r"<\.\.\. \w+ resumed>", rest)) is not None:
            rest = begun.pop(pid, "") + rest[resumed.end() :]
        found = _CALL.match(_plain(rest))
        if found is not None and not found["result"].startswith("-"):
            calls.append((found["name"], found["arguments"]))
    return calls


def _plain(line: str) -> str:
    """The paths behind descriptors, which strace writes as it writes data, as text."""
    return re.sub(
        r"<((?:\\x[0-9a-f]{2})+)>",
        lambda found: f"<{bytes.fromhex(found[1].replace(chr(92) + 'x', '')).decode()}>",
        line,
    )


async def test_acknowledged_publications_survive_a_power_cut_at_any_moment(
    tmp_path: Path, path: Path, recorded: Sequence[tuple[str, str]]
) -> None:
    """The disk may keep or lose any write that no fsync had asked for."""
    chance = random.Random(7)
    moments = sorted(chance.sample(range(len(recorded) // 10, len(recorded)), CUTS))
    disk, done = Disk(path), 0
    for cut, moment in enumerate(moments):
        for name, arguments in recorded[done:moment]:
            disk.carry_out(name, arguments)
        done = moment
        await _judge(disk.cut(tmp_path / f"cut-{cut}", chance), disk.acknowledged)
    assert disk.synced > ROUNDS
    assert len(disk.acknowledged) > ROUNDS


async def test_without_fsync_the_same_cuts_lose_something(
    tmp_path: Path, path: Path, recorded: Sequence[tuple[str, str]]
) -> None:
    """A disk that ignores fsync loses acknowledged publications, so the test above can fail."""
    calls = [call for call in recorded if "sync" not in call[0]]
    chance = random.Random(7)
    disk = Disk(path)
    for name, arguments in calls[: len(calls) * 2 // 3]:
        disk.carry_out(name, arguments)
    lost = 0
    for cut in range(10):
        try:
            await _judge(disk.cut(tmp_path / f"cut-{cut}", chance), disk.acknowledged)
        except Exception:  # noqa: BLE001 - whatever way it shows
            lost += 1
    assert lost


@pytest.mark.parametrize("version", range(1, VERSION))
async def test_a_power_cut_within_an_upgrade_loses_nothing(tmp_path: Path, version: int) -> None:
    """The file is of the former format or of today's, with all that it had."""
    path = tmp_path / "hub.db"
    shutil.copy(GOLDEN / f"version-{version}.db", path)
    disk = Disk(path, {"": Lying(bytearray(path.read_bytes()))})
    expected = json.loads((GOLDEN / f"version-{version}.json").read_text())
    calls, chance, versions = _calls(path, "0"), random.Random(7), set()
    for cut, (name, arguments) in enumerate(calls):
        disk.carry_out(name, arguments)
        if chance.random() < 15 / len(calls):
            left = disk.cut(tmp_path / f"cut-{cut}", chance)
            with closing(sqlite3.connect(left)) as db:
                versions.add(db.execute("PRAGMA user_version").fetchone()[0])
            async with StoredNode(left) as node:
                assert await content(node) == expected
    assert disk.synced > 2
    assert versions >= {version, VERSION}, "no cut came within the upgrade"


async def _judge(path: Path, acknowledged: Sequence[Acknowledged]) -> None:
    """All of it is there, in order, once; and publishing goes on behind it."""
    async with StoredNode(path, clock=FakeClock()) as node:
        assert node.stored.problems() == ()
        # The note beside the file is not synced, and never above what is.
        assert "history_lost" not in node.events()
        for name in {each.channel for each in acknowledged}:
            held: dict[int, bytes] = {}
            page = await node.history(name, 0, 1000)
            while page.publications:
                held |= {each.offset: each.data for each in page.publications}
                page = await node.history(name, page.last, 1000)
            # Of `a` the newest five are kept.
            first = max(1, page.head.offset - 4) if name == "a" else 1
            assert list(held) == list(range(first, page.head.offset + 1))
            of_it = [each for each in acknowledged if each.channel == name]
            assert {each.epoch for each in of_it} == {page.head.epoch}
            for each in of_it:
                if each.offset >= first:
                    assert held[each.offset].startswith(b'"%d ' % each.number)
            assert page.head.offset >= of_it[-1].offset
            assert len(set(held.values())) == len(held)
            data = b'"%d %b"' % (of_it[-1].number, b"x" * 300)
            again = await node.publish(name, data, idempotency_key=f"key-{of_it[-1].number}")
            assert (again.duplicate, again.offset) == (True, of_it[-1].offset)
            assert (await node.publish(name)).offset == page.head.offset + 1
