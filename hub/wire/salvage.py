"""What can still be read of JSON that a parser refuses: the value of one field, an array's items.

Half an emoji in one item of a thousand is the fault of that item; a command with a raw control
character in its data still says which command it is. The parsers here refuse such a document as a
whole, so these functions look only at its quotes and brackets. Nothing that is found here is
taken for valid: who asked judges each part by itself.
"""

import re
from collections.abc import Iterator

_WHITESPACE = b" \t\r\n"  # RFC 8259 section 2
# Looking at a token takes 0.5 us (measured): at most 10 ms for what a peer may send. A payload of
# 64 KiB has about as many where all of it is short numbers.
MAX_TOKENS = 20_000
# Strings, runs of brackets, separators. A quote that begins no whole string stands alone, so that
# no part is looked at twice.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|"|[\[{]++|[\]}]++|[,:]', re.DOTALL)
_BETWEEN_ITEMS = re.compile(rb"[ \t\r\n,]*")
# Backslashes that are left and control characters, which no string may hold, to something it may.
_HARMLESS = bytes.maketrans(b"\\" + bytes(range(32)), b"x" + b" " * 32)


def find_member(raw: bytes, name: bytes) -> bytes | None:
    """The raw value of the field `name` of the object `raw`, the first of that name.

    None where there is none, where the document is cut off before its end is seen, or where it
    comes behind more than `MAX_TOKENS` tokens.
    """
    if not raw.lstrip(_WHITESPACE).startswith(b"{"):
        return None
    quoted = b'"%b"' % name
    last = found = b""
    start = 0
    for depth, token, begin, end in _tokens(raw):
        if depth > 1:
            continue
        if depth == 0 or token == b",":
            if found == quoted:
                # The object's own bracket is the last of a run.
                return raw[start : begin if depth else end - 1].strip(_WHITESPACE)
            if depth == 0:
                return None
            found = b""
        elif token == b":":
            found, start = last, end
        else:
            last = token
    return None


def split_array(raw: bytes) -> tuple[bytes, ...] | None:
    """The raw items of the array `raw`; None where its brackets and quotes tell of none.

    Also None where the array has more than `MAX_TOKENS` tokens.
    """
    text = raw.strip(_WHITESPACE)
    if not text.startswith(b"["):
        return None
    items: list[bytes] = []
    start = 1
    for depth, token, begin, end in _tokens(text):
        if depth == 0:
            items.append(text[start : end - 1])
            return _whole(items) if end == len(text) else None
        if depth == 1 and token == b",":
            items.append(text[start:begin])
            start = end
    return None


def _whole(items: list[bytes]) -> tuple[bytes, ...] | None:
    found = tuple(item.strip(_WHITESPACE) for item in items)
    return found if all(found) else None


def _tokens(raw: bytes) -> Iterator[tuple[int, bytes, int, int]]:
    """Depth after the token, the token, where it begins and ends. Ends early where a string has
    no end, a bracket closes nothing, or there are too many."""
    depth = 0
    for count, match in enumerate(_TOKEN.finditer(raw)):
        token = match[0]
        if count == MAX_TOKENS or token == b'"':
            return
        if token[0] in b"[{":
            depth += len(token)
        elif token[0] in b"]}":
            depth -= len(token)
            if depth < 0:
                return
        yield depth, token, match.start(), match.end()


def shape(raw: bytes) -> bytes:
    """A document of the same length, with its brackets in the same places, whose strings are all
    allowed."""
    escaped = raw.replace(b"\\\\", b"xx").replace(b'\\"', b"xx")
    return escaped.translate(_HARMLESS)


def cut_like(raw: bytes, shaped: bytes, parts: list[bytes]) -> tuple[bytes, ...] | None:
    """What stands in the array `raw` where `parts`, its items, stand in its shape.

    None where something else stands between them than JSON allows there.
    """
    found: list[bytes] = []
    place = raw.index(b"[") + 1
    for part in parts:
        if between := _BETWEEN_ITEMS.match(raw, place):
            place = between.end()
        end = place + len(part)
        if shaped[place:end] != part:
            return None
        found.append(raw[place:end])
        place = end
    return tuple(found) if raw[place:].strip(_WHITESPACE) == b"]" else None
