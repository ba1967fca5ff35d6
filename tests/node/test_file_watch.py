"""A change of a file counts once all of it has stood still between two looks."""

import os
from pathlib import Path

import pytest

from hub.node.file_watch import FileWatch


class Watch:
    """Watches one file and counts what it is told."""

    def __init__(self, *paths: Path) -> None:
        self.changes = 0
        self.watch = FileWatch(paths, self._changed)

    async def _changed(self) -> None:
        self.changes += 1

    async def look(self, times: int = 1) -> int:
        for _ in range(times):
            await self.watch.look()
        return self.changes


@pytest.fixture
def path(tmp_path: Path) -> Path:
    written = tmp_path / "keys"
    written.write_text("before")
    return written


async def test_a_file_that_stays_as_it_is_tells_nothing(path: Path) -> None:
    """However often it is looked at."""
    assert await Watch(path).look(5) == 0


async def test_a_change_is_told_once_it_has_stood_still(path: Path) -> None:
    """The look that sees it first may see half of it."""
    watched = Watch(path)
    path.write_text("after it")
    assert await watched.look() == 0
    assert await watched.look() == 1
    assert await watched.look(3) == 1


async def test_a_file_that_is_still_being_written_is_not_told(path: Path) -> None:
    """Each part puts it off until the next look."""
    watched = Watch(path)
    for size in range(10, 15):
        path.write_text("x" * size)
        assert await watched.look() == 0
    assert await watched.look() == 1


async def test_one_change_of_two_files_is_told_once(path: Path, tmp_path: Path) -> None:
    """A certificate and its key are renewed one after the other."""
    key = tmp_path / "key"
    key.write_text("before")
    watched = Watch(path, key)
    path.write_text("after it")
    assert await watched.look() == 0
    key.write_text("after it")
    assert await watched.look() == 0
    assert await watched.look(3) == 1


async def test_a_file_that_goes_and_one_that_is_put_in_its_place_are_changes(path: Path) -> None:
    """As an editor and a mounted secret do it: another file under the same name."""
    watched = Watch(path)
    path.unlink()
    assert await watched.look(2) == 1
    other = path.with_suffix(".new")
    other.write_text("before")
    os.utime(other, (1, 1))
    other.rename(path)
    assert await watched.look(2) == 2
