"""The file of notes: what goes in comes out, and it never grows beyond its bound."""

import sqlite3
from pathlib import Path

import pytest

from hub.archive.store import CLOSED, EVENT, FILE_NAME, HOLE, SENT, NoteRow, Store
from hub.core.options import MIN_JOURNAL_BYTES


def event(number: int, *, connection: str = "c", body: bytes = b"x") -> NoteRow:
    return NoteRow(EVENT, number, connection, channel="a", epoch="e", first=number, last=number,
               body=body)  # fmt: skip


def test_notes_that_were_written_are_read_after_a_restart(tmp_path: Path) -> None:
    """Connections of a subject by time, events in order, what was sent around an offset."""
    path = tmp_path / "notes.sqlite3"
    store = Store(path, MIN_JOURNAL_BYTES)
    store.write([event(1), event(2), event(3, connection="d")])
    store.write(
        [NoteRow(CLOSED, 50, "c", "ada", first=10), NoteRow(CLOSED, 90, "d", "ada", first=60)]
    )
    store.write([NoteRow(SENT, 20 * n, channel="a", epoch="e", first=10 * n + 1, last=10 * n + 10)
                 for n in range(5)])  # fmt: skip
    store.close()
    store = Store(path, MIN_JOURNAL_BYTES)
    assert [row.first for row in store.events("c", 10)] == [1, 2]
    assert [row.first for row in store.events("c", 1)] == [2]
    every = store.closed_of("ada", from_ms=0, to_ms=100, limit=9)
    assert [row.connection for row in every] == ["c", "d"]
    assert [r.connection for r in store.closed_of("ada", from_ms=51, to_ms=70, limit=9)] == ["d"]
    assert [r.connection for r in store.closed_of("ada", from_ms=0, to_ms=40, limit=9)] == ["c"]
    assert [r.first for r in store.sent_around("a", "e", 12, 2)] == [11, 21]
    assert [r.first for r in store.sent("a", "e", from_ms=20, to_ms=50, limit=9)] == [11, 21, 31]
    assert store.closed("d") == every[1]
    assert store.closed("nobody") is None
    assert store.forgotten_ms(0, 100) is None
    store.close()


def test_the_file_keeps_to_its_bound_and_says_what_it_forgot(tmp_path: Path) -> None:
    """The oldest goes first; its log counts too."""
    store = Store(tmp_path / "notes.sqlite3", MIN_JOURNAL_BYTES)
    most = 0
    for turn in range(60):
        begin = turn * 1000
        store.write([event(begin + n, body=bytes(400)) for n in range(1000)])
        most = max(most, store.bytes)
    assert most <= MIN_JOURNAL_BYTES
    kept = store.events("c", 100_000)
    assert kept[-1].first == 59_999
    assert 2000 < len(kept) < 59_000
    forgotten = store.forgotten_ms(0, 10**6)
    assert forgotten is not None
    assert kept[0].at_ms == forgotten + 1
    assert store.forgotten_ms(forgotten + 1, 10**6) is None
    store.close()


def test_a_hole_makes_forgotten_what_it_overlaps(tmp_path: Path) -> None:
    store = Store(tmp_path / "notes.sqlite3", MIN_JOURNAL_BYTES)
    store.write([NoteRow(HOLE, 30, first=20, last=30)])
    assert [store.forgotten_ms(*times) for times in ((0, 19), (0, 25), (25, 99), (31, 99))] == [
        None, 30, 30, None,
    ]  # fmt: skip
    store.close()


def test_processes_of_one_machine_have_a_file_each(tmp_path: Path) -> None:
    """Each process finds its own file again after a restart; the setting may
    name a directory or a file."""
    one, two = Store(tmp_path, MIN_JOURNAL_BYTES), Store(tmp_path, MIN_JOURNAL_BYTES)
    assert (one.path.name, two.path.name) == (FILE_NAME, "hub-journal-2.sqlite3")
    one.close()
    again = Store(tmp_path, MIN_JOURNAL_BYTES)
    assert again.path == one.path
    again.close()
    two.close()
    deep = Store(Path(f"{tmp_path}/not/there/yet.db"), MIN_JOURNAL_BYTES)
    assert deep.path.exists()
    assert deep.path.stat().st_mode & 0o777 == 0o600
    deep.close()


def test_a_file_of_another_program_is_left_as_it_is(tmp_path: Path) -> None:
    """A slip in a setting must not cost anybody's data."""
    text = tmp_path / "letter.txt"
    text.write_text("Dear Ada, " * 1000)
    other = tmp_path / "other.sqlite3"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE notes (id INTEGER)")
    connection.close()
    before = text.read_bytes(), other.read_bytes()
    for path in (text, other):
        with pytest.raises(sqlite3.DatabaseError):
            Store(path, MIN_JOURNAL_BYTES)
    assert (text.read_bytes(), other.read_bytes()) == before
    # Nothing is held: the next attempt is refused for the same reason.
    with pytest.raises(sqlite3.DatabaseError, match="no journal"):
        Store(other, MIN_JOURNAL_BYTES)
