"""`hub ingest --follow` while its file is renamed, copied away, truncated and made anew."""

import shutil
from pathlib import Path

import pytest

from tests.ingest.ingesting import Case


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
    """Lines that only the copy has are read there, and an equal line in the new content counts."""
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
    """The copy has another inode and is recognised by its bytes."""
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


# -- links ---------------------------------------------------------------------------------


class Linked:
    """The case's file is a link to a file with a date, in a folder of its own."""

    def __init__(self, case: Case) -> None:
        self._link = case.file
        self._folder = case.file.parent / "logs"
        self._folder.mkdir()

    def write(self, day: int, text: str, *, lead: bool = True) -> None:
        """Append to that day's file, and have the link lead there."""
        target = self._folder / f"app-2026-11-{day}.log"
        with target.open("a") as file:
            file.write(text)
        if lead:
            made = self._link.with_name("made")
            made.symlink_to(target)
            made.rename(self._link)


async def test_a_link_that_is_led_elsewhere_is_followed_there(case: Case) -> None:
    """Lines that were written to the former file come first, and another log is left alone."""
    linked = Linked(case)
    linked.write(9, "one\n")
    linked.write(5, "of another week\n", lead=False)
    async with case.following():
        await case.until(["one"])
        linked.write(9, "two\n")
        linked.write(10, "three\n")
        await case.until(["one", "two", "three"])
        linked.write(11, "four\n")
        await case.until(["one", "two", "three", "four"])


async def test_where_a_link_led_while_it_did_not_run_is_caught_up_with(case: Case) -> None:
    """In the order of numbers, where 9 comes before 10; files of other days are not its."""
    linked = Linked(case)
    linked.write(8, "one\n")
    await case.ingest()
    linked.write(8, "two\n")
    linked.write(7, "older\n", lead=False)
    for day, text in ((9, "three\n"), (10, "four\n"), (11, "five\n")):
        linked.write(day, text)
    linked.write(12, "not led to yet\n", lead=False)
    done = await case.ingest()
    assert done.code == 0
    assert await case.published() == ["one", "two", "three", "four", "five"]


async def test_a_file_behind_a_link_is_rotated_where_it_is(case: Case) -> None:
    """As of `app.log`, which leads to `logs/server.log`."""
    folder = case.file.parent / "logs"
    folder.mkdir()
    target = folder / "server.log"
    target.write_text("one\n")
    case.file.symlink_to(target)
    await case.ingest()
    for ages in ((), (1,)):
        target.write_text(target.read_text() + f"rest {len(ages)}\n")
        for age in ages:
            target.with_name(f"server.log.{age}").rename(target.with_name(f"server.log.{age + 1}"))
        target.rename(target.with_name("server.log.1"))
        target.write_text(f"new {len(ages)}\n")
    done = await case.ingest()
    assert done.code == 0
    assert await case.published() == ["one", "rest 0", "new 0", "rest 1", "new 1"]


@pytest.mark.parametrize("target", ["gone.log", "app.log"])
async def test_a_link_that_leads_nowhere_is_said(case: Case, target: str) -> None:
    """To nothing, or to itself."""
    case.file.symlink_to(case.file.with_name(target))
    done = await case.ingest()
    assert done.code == 2
    assert done.err.startswith(f"hub: {case.file}: ")
    assert "Traceback" not in done.err


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16-le", "utf-16-be"])
async def test_each_file_says_how_it_is_written_through_rotations(
    case: Case, encoding: str
) -> None:
    """A last line without a line end waits for it until the file can grow no more."""
    mark = "" if encoding == "utf-8-sig" else "\ufeff"
    case.file.write_bytes(f'{mark}{{"n":1}}\r\n{{"n":'.encode(encoding))
    async with case.following():
        await case.until([{"n": 1}])
        with case.file.open("ab") as file:
            file.write("2}\r\nlast".encode(encoding.removesuffix("-sig")))
        await case.until([{"n": 1}, {"n": 2}])
        rotate(case)
        case.file.write_text("plain\n")
        await case.until([{"n": 1}, {"n": 2}, "last", "plain"])
