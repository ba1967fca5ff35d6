"""The parts of `hub ingest` that need neither a hub nor a process."""

import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from hub.ingest.checkpoint import (
    FORGOTTEN_SECONDS,
    Checkpoint,
    clear_forgotten,
    load,
    locked,
    save,
)
from hub.ingest.finding import continues, find, mark, rotations_after
from hub.ingest.lines import MAX_LINE_BYTES, LineReader
from hub.ingest.pace import Pace

CHECKPOINT = Checkpoint(
    file="/f", channel="a", id="x", inode=1, offset=0, digest="", lines=0, settled=True, saved_at=0
)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A file, and a descriptor to read it."""
    path = tmp_path / "app.log"
    path.touch()
    fd = os.open(path, os.O_RDONLY)
    yield path, fd
    os.close(fd)


def test_lines_come_with_their_number_and_their_bytes(opened: tuple[Path, int]) -> None:
    """From any place; the end of one is the start of the next."""
    path, fd = opened
    path.write_bytes(b"one\ntwo\r\n\nlast")
    lines = LineReader(fd, offset=4, number=1).take(10, final=True)
    assert [(line.number, line.start, line.end, line.data) for line in lines] == [
        (2, 4, 9, b"two"),
        (3, 9, 10, b""),
        (4, 10, 14, b"last"),
    ]


def test_a_line_without_its_end_waits_until_nothing_more_can_come(
    opened: tuple[Path, int],
) -> None:
    """Its writer may be in the middle of it."""
    path, fd = opened
    reader = LineReader(fd)
    path.write_bytes(b"ab")
    assert reader.take(10, final=False) == []
    path.write_bytes(b"abc\n")
    assert [line.data for line in reader.take(10, final=False)] == [b"abc"]


@pytest.mark.parametrize("length", [MAX_LINE_BYTES, MAX_LINE_BYTES + 1, 5 * MAX_LINE_BYTES])
def test_a_line_over_the_limit_is_not_kept_and_the_next_is_found(
    opened: tuple[Path, int], length: int
) -> None:
    """The longest that is allowed still is."""
    path, fd = opened
    path.write_bytes(b"x" * length + b"\nnext\n")
    reader = LineReader(fd)
    lines = [*reader.take(1, final=False), *reader.take(1, final=False)]
    assert [(line.start, line.data is None) for line in lines] == [
        (0, length > MAX_LINE_BYTES),
        (length + 1, False),
    ]


def test_a_take_holds_a_bounded_number_of_bytes(opened: tuple[Path, int]) -> None:
    """250 lines of a megabyte would be more than a request holds."""
    path, fd = opened
    path.write_bytes((b"x" * 100_000 + b"\n") * 10)
    assert 1 <= len(LineReader(fd).take(250, final=False)) < 10


def test_a_checkpoint_is_replaced_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash before the renaming leaves what was saved before."""
    path = tmp_path / "checkpoint.json"
    save(path, CHECKPOINT)
    synced: list[int] = []

    def crash(fd: int) -> None:
        synced.append(fd)
        raise OSError("no power")

    monkeypatch.setattr(os, "fsync", crash)
    with pytest.raises(OSError, match="no power"):
        save(path, CHECKPOINT.model_copy(update={"offset": 9}))
    assert synced
    assert load(path, channel="a") == CHECKPOINT


def test_a_checkpoint_that_is_replaced_is_never_written_into(tmp_path: Path) -> None:
    """A reader that opened the former checkpoint still reads all of it: the
    new one came by its name."""
    path = tmp_path / "checkpoint.json"
    save(path, CHECKPOINT)
    former = path.read_bytes()
    with path.open("rb") as opened:
        save(path, CHECKPOINT.model_copy(update={"offset": 9}))
        assert opened.read() == former
    assert path.read_bytes() != former


def test_checkpoints_of_files_that_are_long_gone_are_removed(tmp_path: Path) -> None:
    """Their locks go too. A checkpoint stays if its file exists, or it was saved lately or is in
    use; a file that is no checkpoint stays too."""
    there = tmp_path / "app.log"
    there.touch()
    gone, now = str(tmp_path / "gone.log"), FORGOTTEN_SECONDS + 1
    kept = {"there": (str(there), 0.0), "lately": (gone, 2.0), "used": (gone, 0.0)}
    for name, (file, saved_at) in {**kept, "old": (gone, 0.0)}.items():
        with locked(tmp_path / f"{name}.json"):
            update = {"file": file, "saved_at": saved_at}
            save(tmp_path / f"{name}.json", CHECKPOINT.model_copy(update=update))
    (tmp_path / "other.json").write_text("{}")
    with locked(tmp_path / "used.json"):
        assert clear_forgotten(tmp_path, now=now) == [gone]
    left = sorted(path.name for path in tmp_path.glob("*.json*"))
    expected = [f"{name}.json{end}" for name in kept for end in ("", ".lock")]
    assert left == sorted(["other.json", *expected])


def test_a_file_is_told_by_what_was_read_of_it(tmp_path: Path) -> None:
    """Renamed, copied and grown it is the same; with another first or last byte it is not."""
    path = tmp_path / "app.log"
    path.write_bytes(b"a" * 5000)
    fd = os.open(path, os.O_RDONLY)
    known = mark(fd, 5000)
    os.close(fd)
    for content, same in [
        (b"a" * 6000, True),
        (b"a" * 4999, False),
        (b"b" + b"a" * 5999, False),
        (b"a" * 4999 + b"b" + b"a" * 1000, False),
    ]:
        path.write_bytes(content)
        fd = os.open(path, os.O_RDONLY)
        assert continues(fd, known) is same
        os.close(fd)
        assert (find(path, known) == path) is same


def test_rotated_files_are_those_with_a_number_or_a_date(tmp_path: Path) -> None:
    """Not the compressed ones, nor files that only begin alike; oldest first."""
    path = tmp_path / "app.log"
    names = ["app.log.2", "app.log.1", "app-20260102.log", "app.log.3.gz", "apple.log.1", "app.txt"]
    for age, name in enumerate(names):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, ns=(age, age))
    found = [each.name for each in rotations_after(path, 0)]
    assert found == ["app.log.1", "app-20260102.log"]


@pytest.mark.parametrize(("rate", "lines"), [(0.5, 1), (1000, 100), (100_000, 250)])
async def test_the_rate_is_kept_whatever_came_before(rate: float, lines: int) -> None:
    """A pause saves nothing up: after it there is no burst."""
    now = 0.0

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    pace = Pace(rate, clock=lambda: now, sleep=sleep)
    assert pace.lines == lines
    now = 1000.0
    took = [now]
    for _ in range(10):
        await pace.wait(lines)
        took.append(now)
    assert _steps(took[1:]) == pytest.approx([lines / rate] * 9)


def _steps(moments: Sequence[float]) -> list[float]:
    return [later - earlier for earlier, later in itertools.pairwise(moments)]
