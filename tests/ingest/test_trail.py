"""Files under one name that come and go between two looks, with a clock that the test sets."""

import asyncio
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.ingest import trail as trails
from hub.ingest.checkpoint import FilePlace
from hub.ingest.finding import Succession, mark, succession
from hub.ingest.opened import OpenFile
from hub.ingest.source import FileSource
from hub.ingest.trail import Trail

GRACE_SECONDS = 5.0


class Log:
    """A log, its rotation, and a source that is asked step by step."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.told: list[str] = []
        self.now = 0.0
        self._written_ns = 1_000_000_000
        self._source: FileSource | None = None
        self.write("")

    def begin(self, place: FilePlace | None = None, *, follow: bool = True) -> FileSource:
        self._source = FileSource(
            self.path,
            place,
            follow=follow,
            tell=self.told.append,
            grace_seconds=GRACE_SECONDS,
            clock=lambda: self.now,
        )
        return self._source

    @property
    def source(self) -> FileSource:
        return self._source or self.begin()

    def close(self) -> None:
        if self._source is not None:
            self._source.close()

    def write(self, text: str, path: Path | None = None) -> None:
        """Append, a while after everything that was written before."""
        with (path or self.path).open("a") as file:
            file.write(text)
        self._written_ns += 1_000_000_000
        os.utime(path or self.path, ns=(self._written_ns, self._written_ns))

    def age(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")

    def _make_room(self, keep: int) -> None:
        self.age(keep).unlink(missing_ok=True)
        for number in range(keep - 1, 0, -1):
            if self.age(number).exists():
                self.age(number).rename(self.age(number + 1))

    def rename(self, text: str, *, keep: int = 3) -> None:
        """Rotate as logrotate does, and begin the new file with `text`."""
        self._make_room(keep)
        self.path.rename(self.age(1))
        self.write(text)

    def copy_away(self, text: str, *, keep: int = 3) -> None:
        """Rotate with copytruncate, and go on with `text`."""
        self._make_room(keep)
        shutil.copyfile(self.path, self.age(1))
        self.write("", self.age(1))
        self.path.write_text("")
        self.write(text)

    def read(self) -> list[str]:
        """Everything that can be had without waiting."""
        found: list[str] = []
        while chunk := self.source.step(10):
            found += [(line.data or b"").decode() for line in chunk.lines]
        return found

    def read_after_grace(self) -> list[str]:
        self.now += GRACE_SECONDS
        return self.read()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    made = Log(tmp_path / "app.log")
    yield made
    made.close()


# -- renaming --------------------------------------------------------------------------------


def test_renamed_files_wait_for_their_writers_together(log: Log) -> None:
    """Each waits from its renaming on, not from when it is read: five of them take 5 s in all."""
    log.write("0\n")
    assert log.read() == ["0"]
    for number in range(1, 6):
        log.rename(f"{number}\n", keep=9)
        assert log.read() == []
    assert log.read_after_grace() == ["1", "2", "3", "4", "5"]


def test_a_file_is_read_although_it_was_deleted_while_another_one_waited(log: Log) -> None:
    """One rotated file is kept; ten come while the first waits for its writer."""
    log.write("0\n")
    assert log.read() == ["0"]
    for number in range(1, 11):
        log.rename(f"{number}\n", keep=1)
        log.source.look()
    assert log.read_after_grace() == [str(number) for number in range(1, 11)]
    assert log.told == []


def test_lines_that_a_writer_adds_to_a_renamed_file_come_in_its_place(log: Log) -> None:
    """The wait of the renamed file begins again with the added line."""
    log.write("0\n")
    assert log.read() == ["0"]
    log.rename("2\n")
    log.source.look()
    log.now += GRACE_SECONDS - 1
    log.write("1\n", log.age(1))
    assert log.read() == ["1"]
    log.now += GRACE_SECONDS - 1
    assert log.read() == []
    log.now += 1
    assert log.read() == ["2"]


def test_rotations_between_two_looks_are_found_by_their_numbers(log: Log) -> None:
    """Also where the writer went on with the first of them, so that its time is the latest."""
    log.write("0\n")
    assert log.read() == ["0"]
    log.rename("2\n")
    log.rename("3\n")
    log.write("1\n", log.age(2))
    assert log.read() == ["1"]
    assert log.read_after_grace() == ["2", "3"]
    assert log.told == []


def test_a_rotation_in_the_moment_of_the_look_is_no_loss(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that was listed has another name when it is opened: it is looked for again."""
    log.write("0\n")
    assert log.read() == ["0"]
    log.rename("1\n")
    log.rename("2\n")
    rotated: list[bool] = []

    def rotate_once(*arguments: object) -> Succession:
        found = succession(*arguments)  # type: ignore[arg-type]
        if not rotated:
            rotated.append(True)
            log.rename("3\n")
        return found

    monkeypatch.setattr(trails, "succession", rotate_once)
    log.read()
    assert log.read_after_grace() == ["1", "2", "3"]
    assert log.told == []


def test_more_rotations_than_are_kept_between_two_looks_are_told(log: Log) -> None:
    """Nobody can know how many there were."""
    log.write("0\n")
    assert log.read() == ["0"]
    for number in range(1, 5):
        log.rename(f"{number}\n", keep=2)
    log.read()
    assert log.read_after_grace() == ["2", "3", "4"]
    [told] = log.told
    assert "its former one is no longer beside it" in told
    assert "is not published" in told


def test_a_rotated_file_that_was_taken_away_is_told_by_its_number(log: Log) -> None:
    """As compression does with `app.log.1` before it was seen."""
    log.write("0\n")
    assert log.read() == ["0"]
    log.rename("1\n")
    log.rename("2\n")
    log.age(1).rename(log.path.with_name("app.log.1.gz"))
    log.read()
    assert log.read_after_grace() == ["2"]
    [told] = log.told
    assert "number 1 is not there: what it held is not published" in told


def test_files_that_were_rotated_before_the_start_are_none_of_its(log: Log) -> None:
    """Although a writer still adds to one of them while the new one is empty."""
    log.write("old\n")
    log.rename("")
    assert log.read() == []
    log.write("late\n", log.age(1))
    log.write("1\n")
    assert log.read() == ["1"]
    log.rename("2\n")
    log.write("later\n", log.age(2))
    log.read()
    assert log.read_after_grace() == ["2"]


def test_no_more_files_are_held_open_than_may_be(log: Log) -> None:
    """Beyond that those that are still there are found later, and those that are not are told."""
    log.write("0\n")
    trail = Trail(log.path, None, tell=log.told.append, clock=lambda: log.now, max_held=3)
    for number in range(1, 10):
        log.rename(f"{number}\n", keep=4)
        trail.look(follow=True)
    found: list[int] = []
    assert trail.is_full
    while True:
        while chunk := trail.first.take(10, final=True):
            found += [int(line.data or b"") for line in chunk.lines]
        if not trail.goes_on:
            break
        trail.advance()
        trail.look(follow=True)
    trail.close()
    assert found == [0, 1, 2, 5, 6, 7, 8, 9]
    [told] = log.told
    assert "no longer beside it" in told


async def test_the_name_is_looked_at_while_no_line_is_taken(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub may be away for minutes, and rotation goes on: here one former file is kept."""
    log.write("0\n")
    loop = asyncio.get_running_loop()
    looked = asyncio.Event()
    plain = Trail.look

    def look(trail: Trail, *, follow: bool) -> None:
        plain(trail, follow=follow)
        loop.call_soon_threadsafe(looked.set)

    chunk = await log.source.take(10)
    monkeypatch.setattr(Trail, "look", look)
    assert chunk is not None
    for number in range(1, 6):
        log.rename(f"{number}\n", keep=1)
        looked.clear()
        await looked.wait()  # which may have begun before the renaming
        looked.clear()
        await looked.wait()
    log.now += GRACE_SECONDS
    assert log.read() == ["1", "2", "3", "4", "5"]
    assert log.told == []


# -- copying and emptying --------------------------------------------------------------------


def test_a_file_that_is_copied_away_again_and_again_loses_nothing(log: Log) -> None:
    """Copies need no wait. That lines may fall between copying and emptying is said, once."""
    log.write("0\n")
    assert log.read() == ["0"]
    for number in range(1, 6):
        log.write(f"rest {number}\n")
        log.copy_away(f"{number}\n", keep=1)
        log.source.look()
    found = log.read()
    assert found == [each for number in range(1, 6) for each in (f"rest {number}", str(number))]
    [told] = log.told
    assert "rotated by copying and emptying it" in told


def test_several_copies_between_two_looks_are_read_in_order(log: Log) -> None:
    """The oldest by what it begins with, the others by their numbers."""
    log.write("0\n")
    assert log.read() == ["0"]
    for number in range(1, 4):
        log.copy_away(f"{number}\n")
    assert log.read() == ["1", "2", "3"]


def test_lines_written_copied_and_emptied_between_two_looks_are_read(log: Log) -> None:
    """The file was empty at both looks, so the lines are found in the copy."""
    assert log.read() == []
    log.write("1\n")
    log.copy_away("")
    assert log.read() == ["1"]
    log.write("2\n")
    assert log.read() == ["2"]
    assert log.told == []


def test_lines_that_were_seen_and_emptied_without_a_copy_are_counted(log: Log) -> None:
    """Ten bytes of lines were there; the new content is read from its beginning."""
    log.write("0\n")
    assert log.read() == ["0"]
    log.write("123456789\n")
    log.source.look()
    log.path.write_text("new\n")
    assert log.read() == ["new"]
    [told] = log.told
    assert "what it held after byte 2 (line 1) is not published, 10 bytes at the least" in told


def test_an_emptied_file_that_was_read_to_its_end_is_no_loss_that_is_known(log: Log) -> None:
    """Whether more had been written nobody knows, and so it is said."""
    log.write("0\n")
    assert log.read() == ["0"]
    log.path.write_text("")
    log.write("1\n")
    assert log.read() == ["1"]
    [told] = log.told
    assert "If more was written to it, what it held after byte 2" in told


def test_a_copy_without_the_end_that_was_seen_is_told(log: Log) -> None:
    """The writer was quicker than who copied."""
    log.write("0\n1\n")
    assert log.read() == ["0", "1"]
    shutil.copyfile(log.path, log.age(1))
    log.write("", log.age(1))
    log.write("2\n")
    log.source.look()
    log.path.write_text("3\n")
    log.write("", log.age(1))
    assert log.read() == ["3"]
    assert "its copy" in log.told[0]
    assert "2 bytes of lines are not published" in log.told[0]


def test_lines_that_were_read_while_the_file_was_emptied_do_not_count(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes behind the place belong to the new content, so they are
    read again from its start."""
    log.write("one\n")
    assert log.read() == ["one"]
    log.write("two\n")
    log.source.look()
    log.copy_away("of the new content\n")
    with monkeypatch.context() as patch:
        patch.setattr(OpenFile, "look", lambda *_: True)
        assert log.read() == []
    assert log.read() == ["two", "of the new content"]


# -- from one run to the next ----------------------------------------------------------------


def test_rotations_after_a_file_that_is_gone_are_read_in_the_next_run(log: Log) -> None:
    """Its rest is lost, and said so; those that came after it are not left out."""
    log.write("0\n")
    assert log.read() == ["0"]
    place = log.source.place
    log.close()
    for number in range(1, 5):
        log.rename(f"{number}\n", keep=3)
    log.begin(place, follow=False)
    assert log.read() == ["1", "2", "3", "4"]
    assert any("no file beside it does" in each for each in log.told)


def test_an_earlier_file_is_not_read_again_in_the_next_run(log: Log) -> None:
    """The place tells when its file was written, and what is older was before it."""
    log.write("old\n")
    log.rename("0\n")
    assert log.read() == ["0"]
    place = log.source.place
    log.close()
    log.write("1\n")
    log.rename("2\n")
    log.begin(place, follow=False)
    assert log.read() == ["1", "2"]
    assert log.told == []


def test_the_place_of_a_line_is_one_in_its_own_file(log: Log) -> None:
    """Although the file was emptied while the line was on its way."""
    log.write("0\n1\n")
    chunk = log.source.step(10)
    assert chunk is not None
    fd = os.open(log.path, os.O_RDONLY)
    expected = mark(fd, 2)
    os.close(fd)
    log.copy_away("2\n")
    log.source.look()
    place = log.source.place_before(chunk.lines[1])
    assert (place.id, place.mark.digest) == (chunk.before.id, expected.digest)
