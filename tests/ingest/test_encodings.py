"""Text as it is found in log files: byte order marks, UTF-16, old code pages, filled with zeros."""

import codecs
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.cli.lines import MAX_LINE_BYTES, LineSplitter
from hub.cli.publishing import Payloads
from hub.errors import SettingsError
from hub.ingest.encoding import Encoding, named, seen
from hub.ingest.lines import Line, LineReader

# What a file holds, and what its lines are; the second one's characters hold the byte of a line
# feed in UTF-16 (U+0A0A, U+0A85, U+010A), the third one half a pair that would be a line's end.
LINES = ['{"n":1}', "\u0a0a \u0a85 \u010a\u0a00 x", "é漢字😀", "", "last"]
TEXT = "\r\n".join(LINES)
ENCODED = {
    "utf-8": TEXT.encode(),
    "utf-8 with a mark": codecs.BOM_UTF8 + TEXT.encode(),
    "utf-16 little": codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"),
    "utf-16 big": codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
    "utf-16 little without a mark": TEXT.encode("utf-16-le"),
    "utf-16 big without a mark": TEXT.encode("utf-16-be"),
    "utf-32 little": codecs.BOM_UTF32_LE + TEXT.encode("utf-32-le"),
    "utf-32 big": codecs.BOM_UTF32_BE + TEXT.encode("utf-32-be"),
}
encoded = pytest.mark.parametrize("raw", ENCODED.values(), ids=ENCODED.keys())


def lines_of(path: Path, encoding: Encoding | None = None, *, offset: int = 0) -> list[Line]:
    fd = os.open(path, os.O_RDONLY)
    try:
        reader = LineReader(fd, encoding=encoding, offset=offset)
        found: list[Line] = []
        while lines := reader.take(100, final=True):
            found += lines
        return found
    finally:
        os.close(fd)


def read(path: Path, encoding: Encoding | None = None, *, offset: int = 0) -> list[bytes | None]:
    return [line.data for line in lines_of(path, encoding, offset=offset)]


@encoded
def test_a_file_says_by_its_beginning_how_it_is_written(tmp_path: Path, raw: bytes) -> None:
    """The lines are read as UTF-8, and the first one comes without the mark."""
    path = tmp_path / "log"
    path.write_bytes(raw)
    assert read(path) == [line.encode() for line in LINES]


@encoded
@pytest.mark.parametrize("ended", [False, True])
def test_a_file_that_is_still_written_is_read_line_by_line(
    tmp_path: Path, raw: bytes, ended: bool
) -> None:
    """Byte by byte, as a slow writer would: no half character, no half mark, and each line once.

    The last line has no end: it is one only when nothing more can come.
    """
    path = tmp_path / "log"
    path.touch()
    fd = os.open(path, os.O_RDONLY)
    reader = LineReader(fd)
    found = []
    for place in range(len(raw)):
        with path.open("ab") as file:
            file.write(raw[place : place + 1])
        found += reader.take(9, final=False)
    assert [line.data for line in found] == [line.encode() for line in LINES[:-1]]
    found += reader.take(9, final=True)
    os.close(fd)
    assert [line.data for line in found] == [line.encode() for line in LINES]
    starts = [line.start for line in found]
    assert starts == [0, *(line.end for line in found[:-1])]
    # Where an earlier run ended is where the next one goes on.
    for line, rest in zip(found, range(1, len(found) + 1), strict=True):
        assert read(path, offset=line.end) == [each.encode() for each in LINES[rest:]]


@encoded
@given(st.integers(1, 40))
def test_stdin_is_read_as_a_file_is(raw: bytes, size: int) -> None:
    """In pieces of any size."""
    splitter = LineSplitter()
    found: list[bytes | None] = []
    for place in range(0, len(raw), size):
        found += splitter.feed(raw[place : place + size])
    found += splitter.finish()
    assert found == [line.encode() for line in LINES]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("latin-1", "é"),
        ("cp1252", "„é“ €"),
        ("shift_jis", "表示"),
        ("gb18030", "漢字"),
        ("euc-kr", "한글"),
        ("utf-16-le", "é漢"),
        ("utf-16-be", "é漢"),
        ("utf-32-le", "é漢"),
    ],
)
def test_another_encoding_is_taken_by_its_name(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / "log"
    path.write_bytes(f"{text}\nb".encode(name))
    assert read(path, named(name)) == [text.encode(), b"b"]


@pytest.mark.parametrize(
    "name", ["utf-16", "utf16", "klingon", "rot13", "base64", "hex", "", "\ud800"]
)
def test_a_name_that_is_no_encoding_of_lines_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=r"--encoding is .*allowed are auto"):
        named(name)
    assert named("auto") is None
    assert named("UTF8") == named("utf-8-sig") == Encoding("utf-8")


def test_zeros_before_a_line_are_none_of_it(tmp_path: Path) -> None:
    """A file that is truncated under a writer begins with zeros, and may have more of them
    than a line may be long."""
    path = tmp_path / "log"
    path.write_bytes(b"\0" * 5 + b'{"n":1}\n')
    assert read(path) == [b'{"n":1}']
    path.write_bytes(b"\0" * (3 * MAX_LINE_BYTES) + b'{"n":1}\n{"n":2}\n')
    assert read(path) == [b'{"n":1}', b'{"n":2}']


def test_each_line_says_how_many_zeros_stood_before_it(tmp_path: Path) -> None:
    """Its place begins with them, so that what was left out is told as what it is."""
    path = tmp_path / "log"
    many = 3 * MAX_LINE_BYTES + 7
    text = b"y" * MAX_LINE_BYTES
    path.write_bytes(b"x\n" + b"\0" * many + text + b"\n" + b"\0" * 900_000 + text + b"\n\0\0z\n")
    found = lines_of(path)
    assert [(line.data, line.zeros) for line in found] == [
        (b"x", 0),
        (text, many),
        (text, 900_000),
        (b"z", 2),
    ]
    assert [line.start for line in found] == [0, *(line.end for line in found[:-1])]
    assert found[-1].end == path.stat().st_size


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
@pytest.mark.parametrize(
    ("zeros", "data"),
    [(1, b""), (MAX_LINE_BYTES - 2, b""), (MAX_LINE_BYTES + 1, None), (5 * MAX_LINE_BYTES, None)],
)
def test_a_line_of_nothing_but_zeros_is_a_line(
    tmp_path: Path, zeros: int, data: bytes | None, end: bytes
) -> None:
    """Nobody can tell what was to stand there: an empty line that says so, or, over the size, one
    that is not kept. Also at the end of the file, where its line has no end."""
    path = tmp_path / "log"
    path.write_bytes(b"first\n" + b"\0" * zeros + end)
    found = lines_of(path)
    assert [line.data for line in found] == [b"first", data]
    assert (found[1].start, found[1].end, found[1].zeros) == (6, 6 + zeros + len(end), zeros)


@pytest.mark.parametrize("unit", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("zeros", [3, MAX_LINE_BYTES])
def test_zeros_in_utf_16_are_left_out_and_counted_in_bytes(
    tmp_path: Path, unit: str, zeros: int
) -> None:
    """Also where the next character's first byte is a zero too."""
    path = tmp_path / "log"
    path.write_bytes(("a\n" + "\0" * zeros + "é\nb\n").encode(unit))
    assert [(line.data, line.zeros) for line in lines_of(path, named(unit))] == [
        (b"a", 0),
        ("é".encode(), 2 * zeros),
        (b"b", 0),
    ]


@pytest.mark.parametrize("unit", ["utf-16-le", "utf-16-be"])
def test_a_line_of_utf_16_over_the_limit_is_not_kept_and_the_next_is_found(
    tmp_path: Path, unit: str
) -> None:
    path = tmp_path / "log"
    text = "x\n" + "y" * MAX_LINE_BYTES + "\nz\n"
    path.write_bytes(text.encode(unit))
    assert read(path) == [b"x", None, b"z"]
    splitter = LineSplitter()
    found = [*splitter.feed(text.encode(unit)[:3_000_001]), *splitter.feed(b"")]
    assert found[:2] == [b"x", None]


@pytest.mark.parametrize(
    ("head", "final", "name"),
    [
        (b"", False, None),
        (b"", True, "utf-8"),
        (b"\xff", False, None),
        (b"\xff\xfe", False, None),
        (b"\xff\xfe", True, "utf-16-le"),
        (b"\xef\xbb", False, None),
        (b"\xef\xbb", True, "utf-8"),
        (b"ab", False, None),
        (b"1\n", False, "utf-8"),
        (b"\0a\0\n", False, "utf-16-be"),
        (b"a\0\n", False, None),
        (b"a\0\n\0", False, "utf-16-le"),
        (b"\0" * 100 + b"a\n", False, "utf-8"),
        (b"\xff\xff\n", False, "utf-8"),
    ],
)
def test_no_more_is_waited_for_than_is_needed_to_tell(
    head: bytes, final: bool, name: str | None
) -> None:
    """Half a mark may become one; a whole line is enough."""
    assert seen(head, final=final) == (None if name is None else Encoding(name))


def test_a_document_with_a_mark_is_json_all_the_same() -> None:
    """As `hub publish a < file.json` sends it."""
    to_payload = Payloads(as_text=False, as_json=True)
    assert to_payload(codecs.BOM_UTF8 + b'{"n":1}') == b'{"n":1}'
    assert Payloads(as_text=True, as_json=False)(codecs.BOM_UTF8 + b"a") == b'"a"'
