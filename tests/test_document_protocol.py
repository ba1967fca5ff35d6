"""The tables of `clients/PROTOCOL.md` are those of the hub and of the golden files."""

import re

from hub.core.pushes import GapReason
from hub.wire.codes import HTTP_STATUS, CloseCode
from tests.support.golden import golden
from tests.support.snippets import ROOT

PROTOCOL = (ROOT / "clients" / "PROTOCOL.md").read_text()

_NAME = re.compile(r"`([a-z_]+)`")


def section(title: str) -> str:
    """Returns the text under a heading, up to the next heading."""
    _, _, after = PROTOCOL.partition(f"# {title}\n")
    assert after, f"PROTOCOL.md has no heading {title!r}"
    return re.split(r"^#+ ", after, maxsplit=1, flags=re.MULTILINE)[0]


PUSHES, _, GAPS = section("Pushes").partition("**Gaps**")


def fields_by_op(tables: str) -> dict[str, set[str]]:
    """By the names in the first column of a table those in its second one."""
    rows = [line.split("|")[1:3] for line in tables.splitlines() if line.startswith("| `")]
    return {op: set(_NAME.findall(fields)) for ops, fields in rows for op in _NAME.findall(ops)}


def fields_used(kind: str) -> dict[str, set[str]]:
    """The same of a golden file."""
    used: dict[str, set[str]] = {}
    for case in golden(kind):
        used.setdefault(case["wire"]["op"], set()).update(set(case["wire"]) - {"op"})
    return used


def test_every_command_stands_there_with_its_fields() -> None:
    """The table lists no command that does not exist."""
    told, used = fields_by_op(section("Commands")), fields_used("commands")
    assert set(told) == set(used)
    assert {op: missing for op in used if (missing := used[op] - told[op] - {"id"})} == {}


def test_every_push_stands_there_with_its_fields() -> None:
    """All that one may hold, and nothing that none holds."""
    told, used = fields_by_op(PUSHES), fields_used("pushes")
    # A reply that stands in the stream is told of elsewhere.
    assert told == {op: fields for op, fields in used.items() if op != "reply"}


def test_every_reason_of_a_gap_stands_there() -> None:
    assert set(fields_by_op(GAPS)) == {reason.value for reason in GapReason}


def test_every_close_code_of_the_hub_stands_there_by_name() -> None:
    told = set(re.findall(r"\b(4\d{3}) (\w+)", section("Close codes").partition("\n\nA page")[0]))
    assert told == {(str(code.value), code.name.lower()) for code in CloseCode if code >= 4000}


def test_every_error_code_stands_there() -> None:
    """All but that of a wrong setting, which no peer ever sees."""
    assert set(_NAME.findall(section("Errors"))) - {"code", "retryable"} == (
        set(HTTP_STATUS) - {"settings"}
    )
