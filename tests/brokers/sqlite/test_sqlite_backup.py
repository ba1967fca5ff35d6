"""`hub backup`: a copy that is whole although the hub writes on, and begins new epochs."""

import asyncio
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest

from hub.brokers.sqlite import backup
from hub.brokers.sqlite.backup import copy
from hub.brokers.sqlite.faults import Fault, FileError
from hub.brokers.sqlite.file import HistoryFile
from hub.core.ports import PublishRequest
from hub.core.publication import Position
from tests.brokers.sqlite.nodes import StoredNode
from tests.multi_node.stored_story import small_file_system
from tests.support.fork_server import ran
from tests.support.hub_process import HubProcess
from tests.support.programs import outside
from tests.support.snippets import blocks


def hub_backup(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return ran("-m", "hub", "backup", *arguments, environment=outside() | environment, seconds=30)


async def test_a_copy_taken_while_publications_go_on_is_whole(tmp_path: Path) -> None:
    """All that was acknowledged before it began is in it, in order, without a hole."""
    path, target = tmp_path / "hub.db", tmp_path / "copy.db"
    async with StoredNode(path) as node:
        for number in range(100):
            await node.publish("long:a", b'"%d %b"' % (number, b"x" * 5000))
        copying = asyncio.create_task(asyncio.to_thread(copy, str(path), str(target)))
        while not copying.done():
            await node.publish("long:a")
        assert await copying == target.stat().st_size
        before = (await node.history("long:a")).head
    assert sorted(each.name for each in tmp_path.iterdir() if "copy" in each.name) == ["copy.db"]
    assert target.stat().st_mode & 0o077 == 0
    async with StoredNode(target, clock=node.clock) as restored:
        head = (await restored.history("long:a")).head
        assert 100 <= head.offset <= before.offset
        page = await restored.history("long:a", limit=1000, max_bytes=1 << 30)
        offsets = [each.offset for each in page.publications]
        assert offsets == list(range(1, head.offset + 1))[-1000:]
        assert head.epoch != before.epoch


async def test_a_hub_on_a_copy_never_gives_an_offset_out_that_the_source_has(
    tmp_path: Path,
) -> None:
    """The copy has other epochs, so a session that resumes with an old one gets a reset.

    Later restarts on the copy keep its epochs.
    """
    path, target = tmp_path / "hub.db", tmp_path / "copy.db"
    async with StoredNode(path) as node:
        first = await node.publish(data=b'"x"', idempotency_key="i")
        unused = (await node.history("unused")).head
        copy(str(path), str(target))
        await node.publish(data=b'"source"')
    async with StoredNode(target, clock=node.clock) as restored:
        made = await restored.publish(data=b'"copy"')
        assert made.offset == 2
        assert made.epoch != first.epoch
        assert (await restored.history("unused")).head != unused
        # The answer was given in an epoch that nobody reads any more.
        again = await restored.publish(data=b'"x"', idempotency_key="i")
        assert not again.duplicate
    async with StoredNode(target, clock=node.clock) as once_more:
        assert (await once_more.publish()).position == Position(made.epoch, 4)


def test_the_command_copies_the_file_of_a_hub_that_runs(tmp_path: Path) -> None:
    """A hub that starts on the copy serves what was published."""
    path, target = tmp_path / "hub.db", tmp_path / "copy.db"
    broker = f"sqlite://{path}"
    with HubProcess(HUB_BROKER=broker) as hub:
        told = httpx.post(f"{hub.url}/api/publish/news", json={"hello": 1}).json()
        ran = hub_backup(str(target), HUB_BROKER=broker)
        assert ran.returncode == 0, ran.stderr
        assert str(target) in ran.stderr
        assert hub_backup(str(target), HUB_BROKER=broker).returncode == 2
        assert hub_backup(str(target), "--force", "--broker", broker).returncode == 0
    with HubProcess(HUB_BROKER=f"sqlite://{target}") as hub:
        page = httpx.get(f"{hub.url}/api/channels/news/history").json()
        assert [each["data"] for each in page["publications"]] == [{"hello": 1}]
        assert page["epoch"] != told["epoch"]


def test_the_documented_commands_serve_and_back_up(tmp_path: Path) -> None:
    """With the directories of this test in the place of theirs."""
    (serving,), (backing_up,) = blocks("durable"), blocks("backup")
    broker = f"sqlite://{tmp_path}/history.db"
    assert serving.text.replace("/var/lib/hub", str(tmp_path)).startswith(f"HUB_BROKER={broker} ")
    with HubProcess(HUB_BROKER=broker) as hub:
        httpx.post(f"{hub.url}/api/publish/news", json=1).raise_for_status()
        text = backing_up.against(hub.url).replace("/var/lib/hub", str(tmp_path))
        command = text.replace("/backup/", f"{tmp_path}/")
        subprocess.run(["bash", "-euc", command], env=outside(), check=True)
    (made,) = tmp_path.glob("hub-20*.db")
    assert made.stat().st_size > 0


@pytest.mark.parametrize("broker", ["memory://", "redis://127.0.0.1:1"])
def test_a_path_that_is_no_file_cannot_be_backed_up(tmp_path: Path, broker: str) -> None:
    ran = hub_backup(str(tmp_path / "copy.db"), HUB_BROKER=broker)
    assert ran.returncode == 2
    assert "HUB_BROKER names no file" in ran.stderr


def test_a_copy_into_a_missing_directory_names_the_directory_and_the_cure(tmp_path: Path) -> None:
    """The line is about the copy, and does not call it the history file."""
    path, target = tmp_path / "hub.db", tmp_path / "missing" / "copy.db"
    HistoryFile(str(path)).close()
    ran = hub_backup(str(target), HUB_BROKER=f"sqlite://{path}")
    assert ran.returncode == 2
    assert ran.stderr == f"hub: {target}: its directory {target.parent} is missing: make it\n"


def test_the_file_is_no_copy_of_itself(tmp_path: Path) -> None:
    """However its path is written, and with --force."""
    path = tmp_path / "hub.db"
    HistoryFile(str(path)).close()
    before = path.read_bytes()
    other = f"{tmp_path}/x/../hub.db"
    (tmp_path / "x").mkdir()
    ran = hub_backup(other, "--force", HUB_BROKER=f"sqlite://{path}")
    assert ran.returncode == 2
    assert path.read_bytes() == before


def test_a_copy_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    """No source, another program's source, nowhere to write, a source that is torn."""
    path, target = tmp_path / "hub.db", tmp_path / "copy.db"
    target.write_text("the copy of yesterday")
    with pytest.raises(FileError) as raised:
        copy(str(path), str(target))
    assert raised.value.fault is Fault.MISSING
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE theirs (x)")
    db.commit()
    db.close()
    with pytest.raises(FileError) as raised:
        copy(str(path), str(target))
    assert raised.value.fault is Fault.FOREIGN
    path.write_bytes(b"SQLite format 3\0" + json.dumps(list(range(3000))).encode())
    with pytest.raises(FileError) as raised:
        copy(str(path), str(target))
    assert raised.value.fault is Fault.CORRUPT
    path.unlink()
    HistoryFile(str(path)).close()
    with pytest.raises(FileError) as raised:
        copy(str(path), str(tmp_path / "nowhere" / "copy.db"))
    assert raised.value.fault is Fault.MISSING
    assert target.read_text() == "the copy of yesterday"
    assert not list(tmp_path.glob("*.partial*"))


async def test_a_copy_of_a_corrupt_history_is_not_kept(tmp_path: Path) -> None:
    """Better to know it now than when it is needed."""
    path, target = tmp_path / "hub.db", tmp_path / "copy.db"
    async with StoredNode(path) as node:
        requests = [PublishRequest("long:a", b'"' + b"x" * 3000 + b'"', "p")] * 50
        await node.stored.publish_many(requests)
    raw = bytearray(path.read_bytes())
    raw[4096 * 3 : 4096 * 6] = b"\xff" * 4096 * 3
    path.write_bytes(raw)
    with pytest.raises(FileError) as raised:
        copy(str(path), str(target))
    assert raised.value.fault is Fault.CORRUPT
    assert not target.exists()


async def test_two_backups_to_one_path_do_not_spoil_each_other(tmp_path: Path) -> None:
    """The second backup says that the first one has not ended, and leaves its file alone."""
    path, target = tmp_path / "hub.db", tmp_path / "copy.db"
    async with StoredNode(path) as node:
        await node.publish()
        with backup._reserved(f"{target}.partial", str(target)):
            with pytest.raises(FileError, match="another backup writes it") as raised:
                copy(str(path), str(target))
            assert raised.value.fault is Fault.LOCKED
            assert Path(f"{target}.partial").exists()
        assert copy(str(path), str(target)) == target.stat().st_size
    assert not list(tmp_path.glob("*.partial*"))


async def test_the_rest_that_a_killed_backup_has_left_is_replaced(tmp_path: Path) -> None:
    """The rest is not continued, and a link that somebody put there is not written through."""
    path, target = tmp_path / "hub.db", tmp_path / "copy.db"
    partial = Path(f"{target}.partial")
    async with StoredNode(path) as node:
        await node.publish()
        partial.write_bytes(b"half a copy" * 1000)
        Path(f"{partial}-journal").write_bytes(b"x")
        partial.chmod(0o666)
        copy(str(path), str(target))
        assert target.stat().st_mode & 0o077 == 0
        assert not list(tmp_path.glob("*.partial*"))
        other = tmp_path / "other"
        other.write_text("untouched")
        partial.symlink_to(other)
        with pytest.raises(FileError):
            copy(str(path), str(target))
        assert other.read_text() == "untouched"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A directory on a file system of 1 MB."""
    with small_file_system(tmp_path / "small", 1) as directory:
        yield directory


async def test_a_full_disk_is_said_of_the_copy(tmp_path: Path, small: Path) -> None:
    """The message is about the copy and not about the history, which has room; nothing is left."""
    path, target = tmp_path / "hub.db", small / "copy.db"
    async with StoredNode(path) as node:
        data = b'"' + b"x" * 3000 + b'"'
        await node.stored.publish_many([PublishRequest("long:a", data, "p")] * 500)
        with pytest.raises(FileError) as raised:
            copy(str(path), str(target))
    assert raised.value.fault is Fault.FULL
    assert str(target) in raised.value.message
    assert not list(small.iterdir())


@pytest.mark.parametrize("left", ["killed", "killed, without its index", "stopped"])
async def test_a_snapshot_that_is_read_only_can_be_copied(
    tmp_path: Path, small: Path, left: str
) -> None:
    """As the documents say, also where SQLite cannot make its files beside it."""
    path = tmp_path / "hub.db"
    async with StoredNode(path) as node:
        for _ in range(5):
            last = await node.publish("long:a")
        if left != "stopped":
            suffixes = ("", "-wal", "-shm") if left == "killed" else ("", "-wal")
            for suffix in suffixes:
                shutil.copy(f"{path}{suffix}", small / f"hub.db{suffix}")
    if left == "stopped":
        shutil.copy(path, small / "hub.db")
    subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
    target = tmp_path / "copy.db"
    assert copy(str(small / "hub.db"), str(target)) == target.stat().st_size
    assert not list(tmp_path.glob("*.partial*"))
    async with StoredNode(target, clock=node.clock) as restored:
        assert await restored.offsets("long:a") == [1, 2, 3, 4, 5]
        assert (await restored.publish("long:a")).epoch != last.epoch


async def test_a_user_without_rights_gets_the_cure(tmp_path: Path) -> None:
    """The message says that the user may not read the file, and does not say
    that the file is missing."""
    path = tmp_path / "there" / "hub.db"
    path.parent.mkdir()
    async with StoredNode(path) as node:
        await node.publish()
    owner = 65534
    for each in (path, path.parent):
        os.chown(each, owner, owner)
    ended = subprocess.run(
        [
            *("setpriv", "--bounding-set=-dac_override,-dac_read_search"),
            *(sys.executable, "-m", "hub", "backup", str(tmp_path / "copy.db")),
        ],
        env=outside() | {"HUB_BROKER": f"sqlite://{path}"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "setpriv" in ended.stderr:
        pytest.skip(ended.stderr)
    assert ended.returncode == 1
    assert "may not be written (this user may not read it" in ended.stderr
