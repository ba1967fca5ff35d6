"""Each bound of the notes on disk."""

import fcntl
import os
from pathlib import Path

import pytest
from structlog.testing import CapturingLogger

from hub.archive.store import EVENT, NoteRow, Store
from hub.archive.writer import Writer
from hub.core.forensics.noted import Event, What
from hub.errors import SettingsError
from hub.settings import Settings
from tests.archive.test_disk_journal import kept, story

MIB = 1024 * 1024


def test_a_journal_takes_8_mib_of_the_disk_at_least() -> None:
    assert Settings(journal_disk_bytes=8 * MIB).journal_disk_bytes == 8 * MIB
    with pytest.raises(SettingsError, match="from 8MiB to 1024GiB"):
        Settings(journal_disk_bytes=8 * MIB - 1)


def test_256_processes_write_beside_one_another(tmp_path: Path) -> None:
    """The one after them is told so."""
    names = ["notes", *(f"notes-{number}" for number in range(2, 256))]
    held = [os.open(tmp_path / f"{name}.sqlite3.lock", os.O_RDWR | os.O_CREAT) for name in names]
    try:
        for lock in held:
            fcntl.flock(lock, fcntl.LOCK_EX)
        last = Store(tmp_path / "notes.sqlite3", 8 * MIB)
        assert last.path.name == "notes-256.sqlite3"
        with pytest.raises(OSError, match="256 processes write beside"):
            Store(tmp_path / "notes.sqlite3", 8 * MIB)
        last.close()
    finally:
        for lock in held:
            os.close(lock)


def rows(count: int) -> list[NoteRow]:
    return [NoteRow(EVENT, n, "c", channel="a", epoch="e", first=n, last=n) for n in range(count)]


def test_20000_rows_wait_for_the_disk_and_the_next_are_counted_as_lost(tmp_path: Path) -> None:
    lost: list[int] = []
    writer = Writer(tmp_path, 8 * MIB, log=CapturingLogger(), on_lost=lost.append)
    writer.put(rows(19_999))
    writer.put(rows(1))
    assert lost == []
    writer.put(rows(3))
    assert lost == [3]


@pytest.mark.parametrize("count", [50_000, 50_001])
async def test_50000_notes_wait_to_be_rows_and_then_the_older_half_is_lost(
    tmp_path: Path, count: int
) -> None:
    async with kept(tmp_path) as rig:
        story(rig.node)
        waiting = rig.archive._pending
        waiting.extend(waiting[0] for _ in range(count - len(waiting)))
        rig.archive.tick()
        assert rig.lost == (0 if count == 50_000 else 25_000)
        waiting.clear()


@pytest.mark.parametrize("count", [9_999, 10_000])
async def test_of_one_connection_fewer_than_10000_events_are_read_as_all_of_them(
    tmp_path: Path, count: int
) -> None:
    async with kept(tmp_path) as rig:
        event = Event(What.LATE, "a", "e", 1, 1, 1.0, 1.0)
        body = rig.archive._row_of(("c", event)).body
        rig.archive._writer.put([row._replace(body=body) for row in rows(count)])
        notes = await rig.archive.notes("c", rig.node.clock() - 1e9)
        assert notes is not None
        assert (len(notes.events), notes.complete) == (count, count < 10_000)
