"""Flags that are numbers take plain decimals, in every command."""

from typing import get_args, get_type_hints

import pytest
from typer.main import get_command

from hub.cli import build

NO_NUMBERS = ["1_0", "-0", "+5", " 5", "٣", "\uff11\uff12", "nan", "inf", "1e1", "0x10", "5.", ""]


# Made once: a hundred calls would make every command of the hub a hundred times.
COMMAND = get_command(build())


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Calls the command wrongly and returns its message as one line without its frame."""
    with pytest.raises(SystemExit) as ended:
        COMMAND.main(arguments, prog_name="hub")
    assert ended.value.code == 2, arguments
    return " ".join(capsys.readouterr().err.replace("│", " ").split())


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Typer reads this once in a process, and other tests look for whole flags."""
    monkeypatch.setenv("COLUMNS", "200")


def numeric_flags() -> list[tuple[str, str]]:
    """Each command's flags that are numbers, by what its function declares."""
    found = []
    for each in build().registered_commands:
        assert each.callback is not None
        for name, kind in get_type_hints(each.callback).items():
            if {int, float} & {kind, *get_args(kind)}:
                found.append((str(each.name), "--" + name.replace("_", "-")))
    return found


def test_there_are_flags_that_are_numbers() -> None:
    """The search finds those that are known to be some."""
    known = {("ingest", "--rate"), ("channels", "--limit"), ("top", "--every"), ("bench", "--pid")}
    assert known <= set(numeric_flags())


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_a_text_that_is_no_plain_number_is_refused_by_every_flag(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error names the flag, the value and what is allowed, before anything is done."""
    needed = {"ingest": ["f", "c"], "publish": ["c"], "subscribe": ["c"], "drain": ["n"]}
    for command, flag in numeric_flags():
        arguments = [command, *needed.get(command, []), f"{flag}={text}"]
        told = refusal(capsys, *arguments)
        assert f"'{flag}': {text!r} is not a plain number: allowed are digits" in told


def test_a_plain_number_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    """A number out of range is read too, and the error then tells the range."""
    assert "greater than or equal to 1" in refusal(capsys, "channels", "--limit=0")
