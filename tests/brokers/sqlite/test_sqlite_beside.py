"""Files beside the history are lost or exchanged, and the history is
replaced while the hub runs."""

import asyncio
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, closing, contextmanager
from pathlib import Path

import pytest

from hub.brokers.sqlite.backup import copy
from hub.brokers.sqlite.beside import HistoryLock, Note
from hub.brokers.sqlite.faults import Fault, FileError, translated
from hub.brokers.sqlite.file import HistoryFile
from hub.brokers.sqlite.layout import record, records
from hub.brokers.sqlite.reading import FileReader
from hub.core.publication import Position
from hub.errors import NotPublishedError
from tests.brokers.sqlite.nodes import StoredNode
from tests.core.fakes import FakeClock
from tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("quick_retries")


def killed(path: Path, where: Path, *suffixes: str) -> Path:
    """Copies the files as they are now, as a kill would leave them."""
    where.mkdir()
    for suffix in ("", *suffixes):
        shutil.copy(f"{path}{suffix}", where / f"{path.name}{suffix}")
    return where / path.name


async def test_a_second_name_of_the_file_is_the_same_file(path: Path) -> None:
    """Two hubs on it would give the same offsets out, by whatever path they came."""
    other = path.parent / "other" / "link.db"
    other.parent.mkdir()
    other.symlink_to(path)
    async with StoredNode(path) as first:
        await first.publish()
        async with StoredNode(other, clock=first.clock) as second:
            assert "another hub" in second.stored.problems()[0]
            with pytest.raises(NotPublishedError):
                await second.publish()


async def test_a_history_without_its_wal_begins_new_epochs(path: Path, tmp_path: Path) -> None:
    """Offsets that only the WAL had were given out, and must not come again with other data."""
    async with StoredNode(path) as node:
        writer, upkeep = node.stored._writer, node.stored._tending
        await node.publish()
        node.a_second_passes()
        await eventually(lambda: writer.settled and not upkeep._checkpointing)
        # No checkpoint comes behind this one, which is all that is in the file itself.
        left = killed(path, tmp_path / "killed")
        last = [await node.publish() for _ in range(9)][-1]
        shutil.copy(f"{path}-lock", f"{left}-lock")
        whole = killed(path, tmp_path / "whole", "-wal", "-lock")
    async with StoredNode(left, clock=node.clock) as node:
        made = await node.publish()
        assert made.offset <= last.offset
        assert made.epoch != last.epoch
        (lost,) = [each for each in node.logged.entries if each["event"] == "history_lost"]
        assert lost["commits"] == last.offset - made.offset + 1
    async with StoredNode(left, clock=node.clock) as node:
        assert (await node.publish()).position == Position(made.epoch, made.offset + 1)
    async with StoredNode(whole, clock=node.clock) as node:
        assert (await node.publish()).position == Position(last.epoch, last.offset + 1)
        assert "history_lost" not in node.events()


async def test_an_older_file_in_its_place_begins_new_epochs(path: Path, tmp_path: Path) -> None:
    """The older file may be a copy that `hub backup` has not marked, put
    there while no hub runs."""
    async with StoredNode(path) as node:
        await node.publish()
    shutil.copy(path, tmp_path / "older.db")
    async with StoredNode(path, clock=node.clock) as node:
        last = await node.publish()
    shutil.copy(tmp_path / "older.db", path)
    async with StoredNode(path, clock=node.clock) as node:
        made = await node.publish()
        assert (made.offset, made.epoch == last.epoch) == (2, False)


@pytest.mark.parametrize("note", [b"", b"\0" * 64, b"x", b"a b", b"a 1 2", b"\xff 1"])
async def test_a_note_that_cannot_be_read_says_nothing(path: Path, note: bytes) -> None:
    """Such as that of an earlier hub, which made none."""
    async with StoredNode(path) as node:
        first = await node.publish()
    Path(f"{path}-lock").write_bytes(note)
    async with StoredNode(path, clock=node.clock) as node:
        assert (await node.publish()).position == Position(first.epoch, 2)


async def test_the_note_follows_the_commits(path: Path) -> None:
    """The note is never ahead of what is on the disk."""
    async with StoredNode(path) as node:
        for _ in range(3):
            await node.publish()
        file = node.stored._writer.file
        assert file is not None
        expected = Note(file._fact("line"), 3)
        assert file._lock.noted() == expected
    with closing(HistoryLock(str(path))) as lock:
        assert lock.noted() == expected
    assert Path(f"{path}-lock").stat().st_mode & 0o077 == 0


_READER = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
for _ in sys.stdin:
    print(*db.execute("SELECT value FROM fact WHERE name = 'line'").fetchone(), flush=True)
"""


@contextmanager
def another_process(path: Path) -> Iterator[Callable[[], str]]:
    """Yields a function with which another process reads the file, and keeps it open."""
    command = [sys.executable, "-c", _READER, str(path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        asking, answers = reader.stdin, reader.stdout

        def read() -> str:
            asking.write("\n")
            return answers.readline().strip()

        yield read
        asking.close()


@pytest.mark.parametrize("meanwhile", ["nobody", "another program"])
async def test_an_index_of_the_wal_that_is_deleted_while_the_hub_runs_is_made_anew(
    path: Path, tmp_path: Path, meanwhile: str
) -> None:
    """Another program would make one of its own, and the hub write over the pages that it reads.
    The hub does not go on with such an index either: that lacks the hub's commits since."""
    index = Path(f"{path}-shm")
    async with StoredNode(path) as node, AsyncExitStack() as stack:
        await node.subscribe("a")
        first = await node.publish()
        file = node.stored._writer.file
        assert file is not None
        index.unlink()
        if meanwhile != "nobody":
            read = stack.enter_context(another_process(path))
            assert await asyncio.to_thread(read) == file._fact("line")
        for _ in range(5):
            await node.publish()
        node.a_second_passes()
        await eventually(lambda: "history_written_again" in node.events())
        assert "the index of its WAL was moved away" in str(node.logged.entries)
        assert (await node.publish()).position == Position(first.epoch, 7)
        assert node.resets == []
        copied = tmp_path / "copy.db"
        await asyncio.to_thread(copy, str(path), str(copied))
        left = killed(path, tmp_path / "killed", "-wal", "-lock")
    for made in (left, copied):
        async with StoredNode(made, clock=node.clock) as node:
            assert await node.offsets() == [3, 4, 5, 6, 7]


@pytest.mark.parametrize("read_by", ["the hub", "another program too"])
async def test_a_wal_that_is_deleted_while_the_hub_runs_loses_nothing(
    path: Path, tmp_path: Path, read_by: str
) -> None:
    """The hub still has it open: it puts its content into the file, and begins another.

    SQLite itself does so only where no other program has the file open.
    """
    async with StoredNode(path) as node, AsyncExitStack() as stack:
        await node.subscribe("a")
        before = [await node.publish() for _ in range(4)][-1]
        if read_by != "the hub":
            other = stack.enter_context(closing(sqlite3.connect(path)))
            other.execute("SELECT count(*) FROM recent").fetchall()
        Path(f"{path}-wal").unlink()
        node.a_second_passes()
        await eventually(lambda: "history_written_again" in node.events())
        assert "its WAL was moved away" in str(node.logged.entries)
        assert (await node.publish()).position == Position(before.epoch, 5)
        assert node.resets == []
        left = killed(path, tmp_path / "killed", "-wal", "-lock")
    async with StoredNode(left, clock=node.clock) as node:
        assert await node.offsets() == [1, 2, 3, 4, 5]
        assert (await node.publish()).position == Position(before.epoch, 6)


async def test_the_wal_of_the_file_before_is_not_read_into_a_copy(
    path: Path, tmp_path: Path
) -> None:
    """The hub reports a problem and publishes nothing while another file's WAL is beside the
    copy, and changes neither file."""
    backup = tmp_path / "copy.db"
    async with StoredNode(path) as node:
        await node.publish()
        copy(str(path), str(backup))
        await node.publish()
        left = killed(path, tmp_path / "killed", "-wal")
    shutil.copy(backup, left)
    wal = Path(f"{left}-wal")
    before = left.read_bytes(), wal.read_bytes()
    async with StoredNode(left, clock=node.clock) as node:
        assert "hub.db-wal beside it is of another file" in node.stored.problems()[0]
        with pytest.raises(NotPublishedError):
            await node.publish()
        assert (left.read_bytes(), wal.read_bytes()) == before
        wal.unlink()
        await eventually(lambda: not node.stored.problems())
        assert (await node.publish()).offset == 2


async def test_no_reader_makes_a_file(path: Path) -> None:
    """One that was deleted stays so until the writing thread makes another, for its owner alone."""
    async with StoredNode(path) as node:
        await node.publish()
        file = node.stored._writer.file
        assert file is not None
        path.unlink()
        with pytest.raises(FileError) as raised:
            FileReader(file)
        assert raised.value.fault is Fault.MISSING
        assert not path.exists()
        node.a_second_passes()
        await eventually(lambda: "history_replaced" in node.events())
        assert path.stat().st_mode & 0o077 == 0


async def test_a_reader_of_the_file_before_is_not_used_again(path: Path) -> None:
    """A reader that returns to the pool just as its file is closed belongs to the
    former file, and is closed."""
    async with StoredNode(path) as node:
        await node.publish("long:a", b'"old"')
        file = node.stored._writer.file
        assert file is not None
        stale = FileReader(file)
        path.rename(path.with_name("away.db"))
        node.a_second_passes()
        await eventually(lambda: "history_replaced" in node.events())
        await eventually(lambda: not node.stored.problems())
        pages, file = node.stored._pages, node.stored._writer.file
        assert file is not None
        pages._idle.append(stale)
        with closing(pages._reader(file)) as reader:
            assert reader is not stale
        with pytest.raises(sqlite3.ProgrammingError):
            stale._db.execute("SELECT 1")


@pytest.mark.parametrize("odd", [RuntimeError("odd"), OverflowError("int too large")])
@pytest.mark.parametrize("at", ["the start", "a retry"])
async def test_an_error_that_nobody_thought_of_is_said_and_tried_again(
    path: Path, monkeypatch: pytest.MonkeyPatch, odd: Exception, at: str
) -> None:
    """The hub starts, refuses, and goes on by itself; the log has the traceback once."""
    load, left = HistoryFile.load, [True] * 5

    def fails(file: HistoryFile) -> object:
        if left and left.pop():
            raise odd
        return load(file)

    monkeypatch.setattr(HistoryFile, "load", fails)
    if at == "a retry":
        # Missing at the start, so that `load` is called by a retry first.
        path.mkdir()
    async with StoredNode(path) as node:
        assert node.stored.problems()
        with pytest.raises(NotPublishedError):
            await node.publish()
        if at == "a retry":
            path.rmdir()
        await eventually(lambda: not node.stored.problems())
        assert (await node.publish()).offset == 1
    assert node.events().count("history_writer_failed") == 1


async def test_a_schema_that_is_no_text_is_corrupt(path: Path) -> None:
    """SQLite quotes it in its message, which is no text then."""
    HistoryFile(str(path)).close()
    raw = path.read_bytes()
    at = raw.index(b"NULL", raw.index(b"CREATE TABLE row"))
    path.write_bytes(raw[: at + 4] + b"\xb6" + raw[at + 5 :])
    async with StoredNode(path) as node:
        assert "corrupt" in node.stored.problems()[0]


@pytest.mark.parametrize(
    "spoil",
    [
        "DROP TABLE recent",
        "DROP TABLE remembered",
        "DROP TABLE channel; CREATE TABLE channel (id)",
        "DROP TABLE recent; CREATE TABLE recent (id, data); INSERT INTO recent VALUES (9, NULL)",
        "UPDATE channel SET name = CAST(x'ff' AS TEXT)",
    ],
)
async def test_a_file_without_what_a_hub_has_made_is_corrupt(path: Path, spoil: str) -> None:
    """The hub says that the file is corrupt, and does not report a failing disk."""
    async with StoredNode(path) as node:
        await node.publish()
    HistoryFile(str(path)).close()
    with closing(sqlite3.connect(path)) as db:
        db.executescript(spoil)
    async with StoredNode(path) as node:
        assert "it is corrupt" in node.stored.problems()[0]


@pytest.mark.parametrize("fault", [Fault.CORRUPT, Fault.FOREIGN])
def test_a_file_that_the_hub_cannot_use_is_named_with_the_cure(fault: Fault) -> None:
    """The cure stands behind what SQLite says, which names no cure."""
    message = FileError(fault, "/h.db", "file is not a database").message
    _reason, _, cure = message.partition(" (file is not a database); ")
    assert "HUB_BROKER" in cure
    assert "move it away" in cure


async def test_offsets_that_go_back_within_a_page_are_corrupt(path: Path) -> None:
    """Two publications of a block have changed places: no subscriber gets a number twice, or an
    older one behind a newer one."""
    async with StoredNode(path) as node:
        for _ in range(70):
            await node.publish("long:a")
    with closing(HistoryFile(str(path))) as file:
        blocks = file._db.execute("SELECT id, data FROM block ORDER BY last").fetchall()
        id_, data = blocks[0]
        first, second, *others = records("long:a", data)
        spoiled = b"".join(map(record, (second, first, *others)))
        assert sorted(spoiled) == sorted(data)
        file._db.execute("UPDATE block SET data = ? WHERE id = ?", (spoiled, id_))
    async with StoredNode(path, clock=FakeClock()) as node:
        with pytest.raises(Exception, match="corrupt") as raised:
            await node.history("long:a", 0, 100)
        assert type(raised.value).__name__ == "UnavailableError"


async def test_a_block_that_ends_before_it_says_is_corrupt(path: Path) -> None:
    """Its reader does not look for the rest for ever."""
    async with StoredNode(path) as node:
        for _ in range(70):
            await node.publish("long:a")
    with closing(HistoryFile(str(path))) as file:
        file._db.execute("UPDATE block SET last = 1000 WHERE last = 70")
        file._db.execute("UPDATE channel SET offset = 75")
    async with StoredNode(path, clock=node.clock) as node:
        with pytest.raises(Exception, match="corrupt"):
            await asyncio.wait_for(node.history("long:a", 70, 100), 10)


def error_of(code: int, name: str) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode, error.sqlite_errorname = code, name
    return error


def test_an_error_behind_the_mark_of_a_commit_leaves_it_open(tmp_path: Path) -> None:
    """fsync, and the index of the WAL, which a full disk cannot make longer."""
    behind = ("IOERR_FSYNC", "IOERR_DIR_FSYNC", "IOERR_SHMSIZE", "IOERR_SHMMAP")
    for name in (*behind, "IOERR_WRITE", "FULL", "BUSY", "IOERR_READ"):
        code = getattr(sqlite3, f"SQLITE_{name}")
        found = translated(error_of(code, f"SQLITE_{name}"), str(tmp_path / "hub.db"))
        assert found.uncertain == (name in behind), name


def test_a_file_that_is_there_is_not_said_to_be_missing(path: Path) -> None:
    """SQLite says the same of a directory that takes no file, and of a process without rights."""
    error = error_of(sqlite3.SQLITE_CANTOPEN, "SQLITE_CANTOPEN")
    assert translated(error, str(path)).fault is Fault.MISSING
    path.touch()
    assert translated(error, str(path)).fault is Fault.IO


def test_a_directory_in_the_place_of_the_file_is_foreign(tmp_path: Path) -> None:
    """A hub that runs may find one later, where the file has gone."""
    with pytest.raises(FileError) as raised:
        HistoryFile(str(tmp_path))
    assert raised.value.fault is Fault.FOREIGN


@pytest.mark.parametrize(
    "what",
    [
        HistoryFile.trim_oldest,
        HistoryFile.vacuum,
        lambda file: file.trim_keys(1),
        lambda file: file.sift_keys({1: []}, 0, 1),
    ],
)
def test_a_commit_waits_for_the_disk_whatever_failed_before(
    path: Path, what: Callable[[HistoryFile], object]
) -> None:
    """Deletions do not wait; a failure in the middle of them does not leave it so."""
    with closing(HistoryFile(str(path))) as file:
        what(file)
        assert file._db.execute("PRAGMA synchronous").fetchone() == (2,)
        file._db.execute("PRAGMA synchronous = NORMAL")  # as where the way back has failed
        file.check()
        assert file._db.execute("PRAGMA synchronous").fetchone() == (2,)


async def test_many_readers_and_a_deleted_wal_spoil_nothing(path: Path) -> None:
    """Pages may fail for a moment; the file is whole afterwards."""
    async with StoredNode(path) as node:
        for _ in range(200):
            await node.publish("long:a", b'"' + b"x" * 2000 + b'"')
        memory = node.stored._commits.memory
        assert memory is not None
        memory._history.max_bytes = 0
        Path(f"{path}-wal").unlink()
        await asyncio.gather(
            *(node.history("long:a", after, 9) for after in range(0, 100, 7)),
            return_exceptions=True,
        )
        node.a_second_passes()
        await eventually(lambda: "history_written_again" in node.events())
    async with StoredNode(path, clock=node.clock) as node:
        page = await node.history("long:a", limit=1000, max_bytes=1 << 30)
        assert [each.offset for each in page.publications] == list(range(1, 201))
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
