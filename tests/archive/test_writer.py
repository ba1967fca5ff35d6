"""The thread that writes: nothing is lost without being counted, and trouble is said once."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import CapturingLogger

from hub.archive import writer as writer_module
from hub.archive.store import EVENT, NoteRow, Store
from hub.archive.writer import MAX_WAITING_ROWS, Writer
from hub.core.options import MIN_JOURNAL_BYTES
from tests.support.waiting import eventually


class Disk:
    """Stores that fail while it is full, and hang while it is held."""

    def __init__(self) -> None:
        self.full = False

    def open(self, path: Path, max_bytes: int) -> Store:
        disk = self

        class Fragile(Store):
            def write(self, rows: Any) -> None:
                if disk.full:
                    raise sqlite3.OperationalError("database or disk is full")
                super().write(rows)

        return Fragile(path, max_bytes)


class Rig:
    def __init__(self, path: Path) -> None:
        self.disk = Disk()
        self.log = CapturingLogger()
        self.lost = 0
        self.writer = Writer(
            path, MIN_JOURNAL_BYTES, log=self.log, on_lost=self._lose, open_store=self.disk.open
        )

    def _lose(self, rows: int) -> None:
        self.lost += rows

    @property
    def said(self) -> list[str]:
        return [call.args[0] for call in self.log.calls]


def rows(begin: int, count: int) -> list[NoteRow]:
    return [
        NoteRow(EVENT, n, "c", channel="a", first=n, last=n) for n in range(begin, begin + count)
    ]


async def test_a_full_disk_is_one_line_and_a_number_and_never_an_outage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the disk has room again, the store notes the stretch of time that it lost."""
    monkeypatch.setattr(writer_module, "_RETRY_SECONDS", 0.0)
    rig = Rig(tmp_path)
    rig.writer.start()
    rig.writer.put(rows(1, 10))
    assert len(await rig.writer.ask(lambda store: store.events("c", 99)) or ()) == 10
    rig.disk.full = True
    for turn in range(3):
        rig.writer.put(rows(100 + 10 * turn, 10))
    await eventually(lambda: rig.lost == 30, what="three batches are lost")
    assert rig.said == ["journal_not_written"]
    rig.disk.full = False
    rig.writer.put(rows(200, 5))
    found = await rig.writer.ask(lambda store: store.events("c", 99)) or []
    assert [row.first for row in found] == [*range(1, 11), *range(200, 205)]
    assert await rig.writer.ask(lambda store: store.forgotten_ms(50, 105)) is not None
    assert rig.said == ["journal_not_written", "journal_written_again"]
    await rig.writer.stop()
    assert rig.lost == 30


async def test_rows_that_wait_for_the_disk_are_bounded(tmp_path: Path) -> None:
    """Rows beyond that are lost at once, and the loop waits for nothing."""
    rig = Rig(tmp_path)
    rig.writer.put(rows(1, MAX_WAITING_ROWS + 7))
    assert rig.lost == 7
    rig.writer.start()
    found = await rig.writer.ask(lambda store: store.forgotten_ms(0, MAX_WAITING_ROWS + 7))
    assert found == MAX_WAITING_ROWS + 7
    rig.writer.put(rows(MAX_WAITING_ROWS + 10, 1))
    assert rig.lost == 7
    await rig.writer.stop()


async def test_a_path_that_cannot_be_is_said_at_the_start(tmp_path: Path) -> None:
    """Questions are answered with nothing, and the end waits for nobody."""
    (tmp_path / "file").write_text("")
    rig = Rig(tmp_path / "file" / "below")
    rig.writer.start()
    assert await rig.writer.ask(lambda store: store.events("c", 9)) is None
    await eventually(lambda: rig.said == ["journal_not_written"], what="the line")
    async with asyncio.timeout(30):
        await rig.writer.stop()
    assert await rig.writer.ask(lambda store: store.events("c", 9)) is None


async def test_all_that_was_put_is_written_before_the_end(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.writer.start()
    rig.writer.put(rows(1, 5000))
    await rig.writer.stop()
    store = Store(tmp_path, MIN_JOURNAL_BYTES)
    assert len(store.events("c", 10_000)) == 5000
    store.close()
