"""Text from strangers, fit for a terminal: it moves no cursor, changes no colour, turns no line.

Besides ESC (C0) terminals obey the C1 controls (U+0080 to U+009F: 0x9B alone is what ESC [ is), and
show text in another order for bidi characters (U+202E; "Trojan Source", CVE-2021-42574). Zero-width
characters and line separators hide or break text as well. `str.isprintable` is false for all of
these characters, so each character for which it is false is replaced. It is false for others too
(private use, unassigned, wide spaces); an escape does not hurt them.

JSON gets escapes, so that it stays the same document. Text for people gets U+FFFD.
"""

import re

# Whitespace of JSON. Strings hold none of these raw (RFC 8259 section 7), so a line break stands
# between tokens, where a space is as good.
_LINE_BREAKS = str.maketrans("\r\n", "  ")
_MAX_OF_ONE_ESCAPE = 0xFFFF


def visible(text: str, *, keep: str = "") -> str:
    """`text` with U+FFFD for each character that is not printable, except those in `keep`."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or character in keep else "\N{REPLACEMENT CHARACTER}"
        for character in text
    )


def visible_json(document: str) -> str:
    """A JSON document, the same one, as one line of printable characters (and tabs)."""
    if document.isprintable():
        return document
    return _NOT_PRINTABLE.sub(_escaped, document.translate(_LINE_BREAKS))


def visible_json_bytes(document: bytes) -> bytes:
    """Return the same for UTF-8; bytes that are none are no JSON either, and become U+FFFD."""
    # Printable ASCII is most of what there is, and needs no decoding.
    if _PLAIN.fullmatch(document):
        return document
    return visible_json(document.decode("utf-8", "replace")).encode()


def to_json(document: object, *, indented: bool = False) -> str:
    """JSON of printable characters; indented over several lines, else one line.

    Raises:
        TypeError: `orjson` cannot write `document`.
    """
    import orjson  # noqa: PLC0415 - `hub --help` loads this module and needs no JSON

    if not indented:
        return visible_json(orjson.dumps(document).decode())
    text = orjson.dumps(document, option=orjson.OPT_INDENT_2).decode()
    return "\n".join(map(visible_json, text.split("\n")))


# Candidates only, which `_escaped` looks at: a class of all of them would list thousands.
_NOT_PRINTABLE = re.compile(r"[^\t -~]")
_PLAIN = re.compile(rb"[\t -~]*")


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    if character.isprintable():
        return character
    number = ord(character)
    if number <= _MAX_OF_ONE_ESCAPE:
        return f"\\u{number:04x}"
    # RFC 8259 section 7: beyond it, a surrogate pair.
    high, low = divmod(number - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
