"""Each bound of the commands.

A line of input has up to a MiB, whole and in pieces, for `hub publish` and for `hub ingest`.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from hub.cli import history, tail, top_taking
from hub.cli.columns import TerminalColumn, fitted, of
from hub.cli.lines import LineSource, LineSplitter
from hub.cli.subscribe import Printer
from hub.cli.top_view import pressed, shown_at_first
from hub.core.reading import MAX_HISTORY_LIMIT
from hub.ingest.lines import LineReader
from hub.transports.http.parameters import MAX_PAGE
from tests.support.waiting import eventually

LIMIT = 1000


@pytest.fixture(autouse=True)
def _short_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """A MiB takes its time."""
    for module in ("hub.cli.lines", "hub.ingest.lines"):
        assert __import__(module, fromlist=["lines"]).MAX_LINE_BYTES == 1024 * 1024
        monkeypatch.setattr(f"{module}.MAX_LINE_BYTES", LIMIT)


@pytest.mark.parametrize("step", [1, 7, 5000])
@pytest.mark.parametrize(("size", "kept"), [(LIMIT, True), (LIMIT + 1, False)])
def test_a_line_of_stdin_is_kept_up_to_its_bound(size: int, step: int, *, kept: bool) -> None:
    stream = b"x" * size + b"\nnext\n"
    splitter = LineSplitter()
    lines = [
        line for at in range(0, len(stream), step) for line in splitter.feed(stream[at : at + step])
    ]
    assert [*lines, *splitter.finish()] == [b"x" * size if kept else None, b"next"]


@pytest.mark.parametrize("step", [64, 999, 65_536])
@pytest.mark.parametrize(("size", "kept"), [(LIMIT, True), (LIMIT + 1, False)])
def test_a_line_of_a_file_is_kept_up_to_its_bound(
    size: int, step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, kept: bool
) -> None:
    monkeypatch.setattr("hub.ingest.lines._READ_BYTES", step)
    file = tmp_path / "lines"
    file.write_bytes(b"first\n" + b"x" * size + b"\nnext\n")
    fd = os.open(file, os.O_RDONLY)
    try:
        reader = LineReader(fd)
        found = [line for _ in range(3) for line in reader.take(1, final=True)]
    finally:
        os.close(fd)
    assert [line.data for line in found] == [b"first", b"x" * size if kept else None, b"next"]
    assert found[-1].end == file.stat().st_size


# -- what waits on its way in and out --------------------------------------------------------------


@asynccontextmanager
async def stdin_of(path: Path) -> AsyncIterator[LineSource]:
    """A source that has read as much of the file as may wait."""
    fd = os.open(path, os.O_RDONLY)
    source = LineSource(fd)
    await eventually(lambda: not source._has_room())
    yield source
    while await source.take():
        pass
    os.close(fd)


async def test_1000_lines_of_stdin_wait_and_a_request_has_250(tmp_path: Path) -> None:
    (tmp_path / "lines").write_bytes(b"x\n" * 1200)
    async with stdin_of(tmp_path / "lines") as source:
        assert len(source._lines) == 1000
        assert len(await source.take()) == 250


async def test_4_mib_of_stdin_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.cli.lines.MAX_LINE_BYTES", 65_536)
    (tmp_path / "lines").write_bytes((b"x" * 65_536 + b"\n") * 70)
    async with stdin_of(tmp_path / "lines") as source:
        assert (len(source._lines), source._waiting_bytes) == (64, 4 * 1024 * 1024)


@pytest.mark.parametrize(("size", "waits"), [(256 * 1024 - 1, False), (256 * 1024, True)])
async def test_256_kib_wait_for_a_stdout_that_is_not_read(
    size: int, monkeypatch: pytest.MonkeyPatch, *, waits: bool
) -> None:
    monkeypatch.setattr(Printer, "_write", lambda _: None)
    printer = Printer(1)
    await printer.print(b"x" * (size - 1))
    second = asyncio.create_task(printer.print(b"y"))
    for _ in range(5):
        await asyncio.sleep(0)
    assert second.done() is not waits
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)


def test_lists_of_commands_ask_for_as_much_as_the_api_gives() -> None:
    assert MAX_PAGE == MAX_HISTORY_LIMIT == 1000
    assert (tail._CLOSED, top_taking.MOST_ROWS, history._PAGE) == (1000, 1000, 1000)


def test_a_cell_of_a_table_has_up_to_40_places() -> None:
    columns = [TerminalColumn(name, of(name)) for name in ("a", "b")]
    rows = [{"a": "x" * 100, "b": "y"}]
    assert len(fitted(columns, rows, 40 + 4 + 2)) == 2
    assert len(fitted(columns, rows, 40 + 4 + 1)) == 1


def test_a_filter_of_a_list_has_up_to_60_characters() -> None:
    shown = replace(shown_at_first("connections", None), filter="", is_typing=True)
    for _ in range(61):
        shown = pressed(shown, "x") or shown
    assert shown.filter == "x" * 60
