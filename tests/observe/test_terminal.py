"""Text from strangers cannot control a terminal or break a line, and JSON keeps its meaning."""

import io
import json
import logging
import sys
import unicodedata

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.cli.ending import say
from hub.cli.tail import Lines
from hub.observe.logs import adopt_stdlib, make_logger
from hub.observe.terminal import to_json, visible, visible_json, visible_json_bytes
from hub_client import Message
from tests.observe.test_logs import LogChoice, Terminal

TEXT = st.text(st.characters(codec="utf-8"))
# One of each kind that a terminal obeys or hides: C0, DEL, C1 (CSI, OSC, NEL), bidi embedding and
# isolate, marks, zero width, line separators, a byte order mark, tags, a soft hyphen.
NAMES = [
    *("\x00", "\a", "\b", "\x1b[31m", "\x7f", "\x85", "\x9b31m", "\x9d0;title\x9c"),
    *("\u202e", "\u2066", "\u200f", "\u061c", "\u200b", "\u2028", "\u2029", "\ufeff"),
    *("\U000e0041", "\u00ad"),
]
DOCUMENT = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=10,
)


def is_safe(text: str) -> bool:
    """Nothing but printable characters, line ends and tabs."""
    return all(character.isprintable() or character in "\n\t" for character in text)


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_characters_that_terminals_obey_do_not_pass(name: str) -> None:
    assert not name.isprintable()
    assert visible(f"a{name}b").isprintable()
    assert to_json([name]).isprintable()
    assert json.loads(to_json([name])) == [name]


def test_every_control_and_format_character_is_replaced() -> None:
    """All of Unicode's categories Cc and Cf, and separators of lines, by Python's own table."""
    obeyed = [
        chr(number)
        for number in range(sys.maxunicode + 1)
        if unicodedata.category(chr(number)) in {"Cc", "Cf", "Zl", "Zp"}
    ]
    assert len(obeyed) > 200
    assert set(visible("".join(obeyed))) == {"\N{REPLACEMENT CHARACTER}"}


def test_text_in_any_script_stays_as_it_is() -> None:
    text = "Grüße, Ελλάδα, Россия, 日本語, العربية, हिन्दी, 🎉 ~"
    assert visible(text) is text
    assert to_json([text]) == f'["{text}"]'


def test_line_ends_are_kept_where_they_are_meant() -> None:
    assert visible("a\nb\tc\rd", keep="\n\t") == "a\nb\tc\N{REPLACEMENT CHARACTER}d"


@given(DOCUMENT)
def test_json_of_anything_is_safe_and_the_same_document(document: object) -> None:
    for text in (to_json(document), visible_json(orjson.dumps(document).decode())):
        assert text.isprintable()
        assert json.loads(text) == document
    assert is_safe(to_json(document, indented=True))
    assert json.loads(to_json(document, indented=True)) == document
    raw = orjson.dumps(document)
    assert json.loads(visible_json_bytes(raw)) == document


@given(DOCUMENT, st.sampled_from(["\n", "\r\n", "\r"]))
def test_json_in_several_lines_becomes_one(document: object, end: str) -> None:
    """A publisher's payload may have been indented: one push is one line."""
    raw = orjson.dumps(document, option=orjson.OPT_INDENT_2).replace(b"\n", end.encode())
    line = visible_json_bytes(raw)
    assert b"\n" not in line
    assert b"\r" not in line
    assert json.loads(line) == document


def test_plain_json_is_not_even_copied() -> None:
    raw = b'{"n": 12345678901234567890123, "t":\t"a"}'
    assert visible_json_bytes(raw) is raw


def test_a_number_stays_as_it_was_written() -> None:
    """Escapes are made in the text, which no parser touches."""
    raw = '{"n": 12345678901234567890123, "m": 1.50, "t": "\x9b31m"}'.encode()
    assert (
        visible_json_bytes(raw) == b'{"n": 12345678901234567890123, "m": 1.50, "t": "\\u009b31m"}'
    )


@given(st.binary())
def test_bytes_that_are_no_json_are_safe_too(raw: bytes) -> None:
    assert is_safe(visible_json_bytes(raw).decode())


# -- where it is used ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_json_log_line_is_safe_and_says_the_same(name: str) -> None:
    stream = io.StringIO()
    make_logger(LogChoice(), stream).info("refused", origin=name, head={name: [name]})
    (line,) = stream.getvalue().splitlines()
    assert line.isprintable()
    event = json.loads(line)
    assert (event["origin"], event["head"]) == (name, {name: [name]})


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_log_line_on_a_terminal_is_safe(name: str) -> None:
    """In a text, inside others, in a traceback and in a library's own message."""
    stream = io.StringIO()
    log = make_logger(LogChoice(log_format="console"), stream)
    log.info("refused", origin=name, head={name: [name]}, spaced=f"a {name}")
    try:
        raise RuntimeError(name)  # noqa: TRY301 - the traceback is what is looked at
    except RuntimeError:
        log.exception("failed")
    assert is_safe(stream.getvalue())
    assert "Traceback" in stream.getvalue()


@pytest.mark.usefixtures("logging_as_before")
@pytest.mark.parametrize("form", ["json", "console"])
def test_a_librarys_log_line_is_safe(form: str) -> None:
    stream = io.StringIO()
    adopt_stdlib(LogChoice(log_format=form), stream)
    for name in NAMES:
        logging.getLogger("other").warning("refused %s", name)
    assert is_safe(stream.getvalue())
    assert stream.getvalue().count("\n") == len(NAMES)


def test_the_colours_of_a_terminal_stay() -> None:
    """They are the hub's own."""
    stream = Terminal()
    make_logger(LogChoice(log_format="auto"), stream).info("started", port=8000)
    assert "\x1b[" in stream.getvalue()


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_output_of_a_command_is_safe(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Much of it repeats what a hub or a file said; sentences may have several lines."""
    say(f"bad_request: no channel {name}\nsecond")
    said = capsys.readouterr().err
    assert is_safe(said)
    assert said.count("\n") == 2


@pytest.mark.parametrize("name", NAMES, ids=ascii)
@pytest.mark.parametrize("as_json", [True, False])
def test_output_of_a_channel_is_safe(name: str, as_json: bool) -> None:
    data = json.dumps({"text": name}, ensure_ascii=False).encode()
    frame = b'{"op":"message","data":%b}' % data
    message = Message("prices", "e", 1, data, key=name, time_ms=0, frame=frame)
    line = Lines(as_json=as_json).pushed(message).decode()
    assert line.isprintable()
    if as_json:
        assert json.loads(line)["data"] == {"text": name}


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_output_about_a_connection_is_safe(name: str) -> None:
    observed = {"op": "observed", "at_ms": 0, "what": "ended", "code": 4403, "reason": name}
    for as_json in (True, False):
        assert Lines(as_json=as_json).observed(observed).decode().isprintable()
