"""`hub ingest --follow` while its file is renamed, copied away, truncated and made anew."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.ingesting import KEEP_ALL, Case
from tests.support.hub_process import HubProcess


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    with HubProcess(allow_tracebacks=False, **KEEP_ALL) as running:
        yield running


@pytest.fixture
def case(hub: HubProcess, channel: str, tmp_path: Path) -> Case:
    return Case(hub, channel, tmp_path / "app.log")


def rotate(case: Case, *, keep: int = 3) -> Path:
    """As logrotate does: app.log.1 becomes app.log.2, app.log becomes app.log.1."""
    names = [case.file, *(case.file.with_name(f"app.log.{age}") for age in range(1, keep + 1))]
    for older, newer in zip(reversed(names), reversed(names[:-1]), strict=False):
        if newer.exists():
            newer.rename(older)
    return names[1]


async def test_lines_are_published_as_they_are_written(case: Case) -> None:
    """One without its end waits for it."""
    case.append("one\ntw")
    async with case.following():
        await case.until(["one"])
        case.append("o\nthree\n")
        await case.until(["one", "two", "three"])


async def test_a_file_that_is_not_there_yet_is_waited_for(case: Case) -> None:
    """Its writer may start later; without --follow it is a mistake."""
    async with case.following() as process:
        assert process.stderr is not None
        assert b"waiting for it" in await process.stderr.readline()
        case.append("one\n")
        await case.until(["one"])


async def test_a_renamed_file_is_read_to_its_end_before_the_new_one(case: Case) -> None:
    """Also what its writer adds after the renaming, and a last line without an end."""
    case.append("one\n")
    async with case.following():
        await case.until(["one"])
        old = rotate(case)
        with old.open("a") as file:
            file.write("two\nthree")
        case.append("four\n")
        await case.until(["one", "two", "three", "four"])
        case.append("five\n")
        await case.until(["one", "two", "three", "four", "five"])


async def test_several_rotations_lose_no_file_in_between(case: Case) -> None:
    """Three renamings, each before its file could be read."""
    case.append("one\n")
    async with case.following():
        await case.until(["one"])
        for line in ("two", "three", "four"):
            rotate(case)
            case.append(f"{line}\n")
        await case.until(["one", "two", "three", "four"])


async def test_copying_and_truncating_loses_nothing(case: Case) -> None:
    """What stands in the copy alone is read there; an equal line in the new content counts."""
    case.append("one\ntwo\n")
    async with case.following():
        await case.until(["one", "two"])
        case.append("three\n")
        shutil.copyfile(case.file, case.file.with_name("app.log.1"))
        case.file.write_text("")
        case.append("one\n")
        await case.until(["one", "two", "three", "one"])


async def test_a_truncated_file_that_grew_past_the_place_is_noticed(case: Case) -> None:
    """Its size tells nothing, its content does; what cannot be found any more is told."""
    case.append("one\ntwo\n")
    async with case.following() as process:
        await case.until(["one", "two"])
        case.file.write_text("a new line that is longer than all before\nand another\n")
        expected = ["one", "two", "a new line that is longer than all before", "and another"]
        await case.until(list(expected))
        process.terminate()
        _, err = await process.communicate()
    assert "after byte 8 (line 2) is not published" in err.decode()


async def test_rotations_while_it_did_not_run_are_caught_up_with(case: Case) -> None:
    """The rest of the renamed file, the one after it, and then the present one."""
    case.append("one\n")
    await case.ingest()
    case.append("two\n")
    rotate(case)
    case.append("three\n")
    rotate(case)
    case.append("four\n")
    done = await case.ingest()
    assert done.code == 0
    assert await case.published() == ["one", "two", "three", "four"]


async def test_a_copy_made_while_it_did_not_run_is_found_by_its_content(case: Case) -> None:
    """It has another inode and nothing but its bytes to tell it by."""
    case.append("one\n")
    await case.ingest()
    case.append("two\n")
    shutil.copyfile(case.file, case.file.with_name("app-20260101.log"))
    case.file.write_text("three\n")
    await case.ingest()
    assert await case.published() == ["one", "two", "three"]


async def test_a_recreated_file_with_the_same_inode_and_line_is_another_one(case: Case) -> None:
    """Inodes are used again; keys made of them would take the second line for a repeat."""
    case.append("one\n")
    await case.ingest()
    case.file.write_text("")
    await case.ingest()
    case.append("one\n")
    done = await case.ingest()
    assert done.code == 0
    assert await case.published() == ["one", "one"]


async def test_a_file_that_vanished_with_its_rest_is_told(case: Case) -> None:
    """Nobody can know what it held; the new one is read from its beginning."""
    case.append("one\n")
    await case.ingest()
    case.file.unlink()
    case.file.write_text("other\n")
    done = await case.ingest()
    assert "what it held after byte 4 (line 1) is not published" in done.err
    assert await case.published() == ["one", "other"]
