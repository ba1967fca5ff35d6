"""The encoding of a file's text, and the ends of its lines.

The command line names an encoding, or the file's beginning shows it: by a byte order mark, or by
zeros in every other byte as in UTF-16 without one. Any other file is read as UTF-8, where a wrong
byte is replaced later and counted.
"""

import codecs
from dataclasses import dataclass

from hub.errors import SettingsError

# Enough to see a byte order mark, and zeros in every other place; a guess.
HEAD_BYTES = 512
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before that of UTF-16, which it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_UNITS = {"utf-16-le": 2, "utf-16-be": 2, "utf-32-le": 4, "utf-32-be": 4}


@dataclass(frozen=True, slots=True)
class Encoding:
    """An encoding of text, as Python names it."""

    name: str = "utf-8"

    @property
    def unit(self) -> int:
        """The bytes of a unit: ends of lines are searched at multiples of it."""
        return _UNITS.get(self.name, 1)

    @property
    def newline(self) -> bytes:
        return "\n".encode(self.name) if self.unit > 1 else b"\n"

    def utf8(self, line: bytes) -> bytes:
        """Return a line as UTF-8, without its end and a byte order mark.

        Bytes of UTF-8 stay as they are, also wrong ones.
        """
        if self.name != "utf-8":
            line = line.decode(self.name, "replace").encode()
        return line.removesuffix(b"\n").removesuffix(b"\r").removeprefix(codecs.BOM_UTF8)


UTF8 = Encoding()


def without_zeros(line: bytes) -> tuple[bytes, int]:
    """Return a line without the zeros before its text, and their number.

    A file that was truncated under a writer that keeps its place (`copytruncate`) is filled with
    zeros. The caller that leaves them out reports it.
    """
    text = line.lstrip(b"\x00")
    if len(text) == len(line):
        return line, 0
    return text.removeprefix(codecs.BOM_UTF8), len(line) - len(text)


def named(name: str) -> Encoding | None:
    """Return the encoding that a user names; None for `auto`. Raise `SettingsError` for an unknown
    name."""
    if name == "auto":
        return None
    try:
        found = codecs.lookup(name).name
        bytes(4).decode(found)  # a whole number of units, whatever the unit
    except (LookupError, UnicodeError, TypeError, ValueError, AssertionError):
        found = ""
    # A bare UTF-16 or UTF-32 has a mark that says the order of its bytes, on its first line only.
    if not found or found in {"utf-16", "utf-32"}:
        allowed = "auto, utf-8, utf-16-le, utf-16-be, latin-1, cp1252, shift_jis, gb18030, ..."
        raise SettingsError(f"--encoding is {name!r}, allowed are {allowed}")
    return UTF8 if found == "utf-8-sig" else Encoding(found)


def seen(head: bytes, *, final: bool) -> Encoding | None:
    """Return the encoding of a file that begins with `head`; None while more bytes are needed.

    `final` says that no more bytes come. A whole line always suffices.
    """
    if not final and any(mark != head and mark.startswith(head) for mark, _ in _MARKS):
        return None
    for mark, name in _MARKS:
        if head.startswith(mark):
            return Encoding(name)
    if not final and len(head) < HEAD_BYTES and not _has_whole_line(head):
        return None
    return Encoding(_without_mark(head))


def _has_whole_line(head: bytes) -> bool:
    place = head.find(b"\n")
    if place < 0 or b"\x00" not in head:
        return place >= 0
    # In UTF-16 the other half of the line's end may still be on its way.
    return place % 2 == 1 or len(head) > place + 1


def _without_mark(head: bytes) -> str:
    """Decide by the places of zeros: text of most scripts has some ASCII, at least its line
    ends."""
    pairs = len(head) // 2
    first, second = head[: 2 * pairs : 2].count(0), head[1 : 2 * pairs : 2].count(0)
    if second * 3 > pairs and first * 10 < pairs:
        return "utf-16-le"
    if first * 3 > pairs and second * 10 < pairs:
        return "utf-16-be"
    return "utf-8"
