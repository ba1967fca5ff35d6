"""Reads parts of JSON that a parser refuses: the value of one field, or the items of an array.

Half an emoji in one item of a thousand is the fault of that item only. A command with a raw control
character in its data still has a readable id. Parsers refuse such a document as a whole, so these
functions look only at its quotes and brackets. The parts that they return may be invalid, and their
callers check each part.
"""

import re
from collections.abc import Iterator

import msgspec

_WHITESPACE = b" \t\r\n"  # RFC 8259 section 2
# A token takes 0.5 us, so all take at most 10 ms, or 22 ms with groups that turn out too deep
# (measured on 256 KiB of `["a",`).
MAX_TOKENS = 20_000
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
# Above so many quotes a faulty array is refused as a whole. Cutting at a quote takes 0.1 us and 40
# bytes. A full batch of 1,000 publications may have 20 strings in each.
MAX_QUOTES = 40_000
# Strings, runs of brackets, separators. A quote that begins no whole string is a token of its own,
# so that no part is read twice. Searching takes ten times as long as matching.
_TOKEN = re.compile(rb'[^"\[\]{},:]*+(?P<token>%b|"|[\[{]++|[\]}]++|[,:])' % _STRING, re.DOTALL)


def _group(levels: int) -> bytes:
    """Return a pattern for a pair of brackets and its content of at most `levels` levels."""
    inner = rb"|" + _group(levels - 1) if levels else b""
    return rb'[\[{](?:[^"\[\]{}]++|%b%b)*+[\]}]' % (_STRING, inner)


# Within a value only brackets are tokens, and groups of up to five levels are skipped as a whole.
# Deeper groups take eleven bytes, so 64 KiB of them have fewer than `MAX_TOKENS` tokens.
_NEXT_BRACKETS = re.compile(
    rb'(?:[^"\[\]{}]++|%b|%b)*+(?P<token>[\[{]++|[\]}]++|")' % (_STRING, _group(4)), re.DOTALL
)
_BETWEEN_ITEMS = re.compile(rb"[ \t\r\n,]*")
# Maps the remaining backslashes, and control characters, which no string may hold, to allowed ones.
_HARMLESS = bytes.maketrans(b"\\" + bytes(range(32)), b"x" + b" " * 32)
# Maps all bytes outside of strings but separators and white space to a digit.
_DIGITS = bytes(byte if byte in b'[]{},:" \t\r\n' else ord("1") for byte in range(256))

_CLOSERS = {b'"': b'"', b"[": b"]", b"{": b"}"}


def find_member(raw: bytes, name: bytes, *, max_tokens: int = MAX_TOKENS) -> bytes | None:
    """Return the raw value of the field `name` of the object `raw`; of several, the last one.

    None where no such value ends before the document is cut off, or where it comes after more than
    `max_tokens` tokens.
    """
    if not raw.lstrip(_WHITESPACE).startswith(b"{"):
        return None
    value: bytes | None = None
    last = b""
    start = 0
    for depth, token, begin, end in _tokens(raw, max_tokens):
        if depth > 1:
            continue
        if depth == 0 or token == b",":
            if start:
                # The object's own bracket is the last of a run.
                value = raw[start : begin if depth else end - 1].strip(_WHITESPACE)
            if depth == 0:
                break
            start = 0
        elif token == b":":
            start = end if _is_named(last, name) else 0
        else:
            last = token
    return value


def _is_named(token: bytes, name: bytes) -> bool:
    """Return whether the quoted `token` is `name`, also where it is written with escapes."""
    if b"\\" not in token:
        return token == b'"%b"' % name
    try:
        # An escape takes six characters.
        return len(token) <= 6 * len(name) + 2 and msgspec.json.decode(token) == name.decode()
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False


def split_array(raw: bytes) -> tuple[bytes, ...] | None:
    """Return the raw items of the array `raw`; None where its brackets and quotes do not match.

    None also where it has more than `MAX_TOKENS` tokens, or where a comma seems to be missing.
    """
    text = raw.strip(_WHITESPACE)
    if not text.startswith(b"["):
        return None
    items: list[bytes] = []
    start = 1
    values = 0
    for depth, token, begin, end in _tokens(text, MAX_TOKENS):
        # The array's own bracket is the last of a run.
        values += (depth == 1 and token[0] in b'"]}') or (depth == 0 and len(token) > 1)
        if depth == 0 or (depth == 1 and token == b","):
            item = text[start : begin if depth else end - 1].strip(_WHITESPACE)
            if not _is_one_value(item, values):
                return None
            items.append(item)
            start, values = end, 0
        if depth == 0:
            return tuple(items) if end == len(text) else None
    return None


def _is_one_value(item: bytes, values: int) -> bool:
    """Return whether `item` may be one faulty value, and not two without a comma.

    `values` is the number of its strings and groups in brackets at the top level.
    """
    if item[:1] in _CLOSERS:
        return values == 1 and item[-1:] == _CLOSERS[item[:1]]
    return values == 0 and len(item.split(None, 1)) == 1 and b":" not in item


def _tokens(raw: bytes, max_tokens: int) -> Iterator[tuple[int, bytes, int, int]]:
    """Yield each token with the depth after it, its begin and its end.

    The iteration stops early where a string has no end, a bracket closes nothing, or the tokens are
    too many.
    """
    depth = place = 0
    for _ in range(max_tokens):
        match = (_TOKEN if depth < 2 else _NEXT_BRACKETS).match(raw, place)
        if match is None:
            return
        token, begin, place = match["token"], match.start("token"), match.end()
        if token == b'"':
            return
        if token[0] in b"[{":
            depth += len(token)
        elif token[0] in b"]}":
            depth -= len(token)
            if depth < 0:
                return
        yield depth, token, begin, place


def shape(raw: bytes) -> bytes:
    """Return a document of the same length with the same brackets and separators.

    Its strings are all valid, and its other words are numbers. The caller counts the quotes first
    (`MAX_QUOTES`).
    """
    escaped = raw.replace(b"\\\\", b"xx").replace(b'\\"', b"xx")
    parts = escaped.translate(_HARMLESS).split(b'"')
    parts[::2] = b'"'.join(parts[::2]).translate(_DIGITS).split(b'"')
    return b'"'.join(parts)


def cut_like(raw: bytes, shaped: bytes, parts: list[bytes]) -> tuple[bytes, ...] | None:
    """Return the parts of the array `raw` at the places of `parts`, the items of its shape.

    None where other bytes are between them than JSON allows.
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
