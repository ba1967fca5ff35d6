"""A line of input has up to a MiB, whole and in pieces, for `hub publish` and for `hub ingest`."""

import os
from pathlib import Path

import pytest

from hub.cli.lines import LineSplitter
from hub.ingest.lines import LineReader

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
