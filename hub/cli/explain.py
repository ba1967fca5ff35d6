"""`hub explain` tells why a subscriber did not get a message.

For one connection and one publication it prints a sentence. For a subject (`--subject`) it prints
all its connections on one line of time: which messages they got, which they missed, and why. The
command ends with 1 where nothing is known of the question, so that a mistyped name does not look
like an answer.
"""

import datetime as dt
import time
from typing import Annotated

import typer

from hub.cli.columns import TerminalColumn, clock, of, print_rows, shown
from hub.cli.ending import FAILED, WRONG_USE, fail, say
from hub.cli.flags import DEFAULT_URL, Url
from hub.cli.operating import tell_silent
from hub.cli.operator import AsJson, Json, Key, Operator, operate, print_json

_DAY = dt.timedelta(days=1)
# Answers about publications and connections that never were, or that no node remembers.
_NOTHING = frozenset({"unknown", "not_published"})
_TIMES = "17:20, 17:20:30 or 2026-11-29 17:20"


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("explain")(explain)


def explain(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CONNECTION] [CHANNEL] [OFFSET]",
            help="A connection's id, the publication's channel, and its offset or its position "
            "EPOCH:OFFSET. With --subject no connection, and what is left out is not asked.",
        ),
    ] = None,
    subject: Annotated[
        str | None, typer.Option(help="All connections of this subject, on one time line.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--from", metavar="TIME", help=f"Events since this time, such as {_TIMES}."),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="Events until this time.")
    ] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
) -> None:
    """Say what became of a publication on its way to a connection, or of all messages of a subject.

    The hub knows open connections, those that ended in the last ten minutes, and with a journal on
    disk those of as long as nodes keep it; anything else is `unknown`. Without an epoch the
    channel's present one is meant. The command ends with 1 where nothing is known: no such
    connection, subject or publication, or its record is gone.
    """
    given = words or []
    if subject is not None:
        question = _of_subject(subject, given, since, until)
    elif since is not None or until is not None:
        raise fail(WRONG_USE, "--from and --to need --subject")
    elif len(given) == 3:
        connection, channel, offset = given
        question = {"connection": connection, "channel": channel, **_position(offset)}
    else:
        raise fail(WRONG_USE, "give CONNECTION CHANNEL OFFSET, or --subject [CHANNEL] [OFFSET]")

    async def act(operator: Operator) -> None:
        told = await operator.ask("explain", **question)
        if as_json:
            print_json(told)
        elif subject is None:
            typer.echo(sentence(told))
        else:
            _print_line(told)
        if not is_known(told):
            raise typer.Exit(FAILED)

    operate(url, key, act)


def _of_subject(
    subject: str, words: list[str], since: str | None, until: str | None
) -> dict[str, object]:
    if len(words) > 2:
        raise fail(WRONG_USE, "with --subject give at most CHANNEL and OFFSET")
    try:
        begin = None if since is None else moment(since, time.time())
        end = None if until is None else moment(until, time.time(), after=begin)
    except ValueError as error:
        raise fail(WRONG_USE, str(error)) from None
    if begin is not None and end is not None and end < begin:
        raise fail(WRONG_USE, f"--to {until} is before --from {since}")
    return {
        "subject": subject,
        "channel": words[0] if words else None,
        **(_position(words[1]) if len(words) == 2 else {}),
        "from_ms": None if begin is None else int(begin * 1000),
        "to_ms": None if end is None else int(end * 1000),
    }


def _position(offset: str) -> dict[str, object]:
    epoch, _, number = offset.rpartition(":")
    return {"offset": number, "epoch": epoch or None}


def moment(text: str, now_seconds: float, *, after: float | None = None) -> float:
    """Return seconds since 1970 UTC of a local time.

    A time of day means its latest occurrence before now, or the first one behind `after`. Raises
    `ValueError` for a text that is no time.
    """
    now = dt.datetime.fromtimestamp(now_seconds).astimezone()
    try:
        day = dt.time.fromisoformat(f"0{text}" if text[1:2] == ":" else text)
    except ValueError:
        try:
            return dt.datetime.fromisoformat(text).astimezone().timestamp()
        except ValueError:
            raise ValueError(f"{text!r} is no time; allowed: {_TIMES}") from None
    if after is None:
        found = dt.datetime.combine(now.date(), day).astimezone()
        if found > now:
            found = dt.datetime.combine(now.date() - _DAY, day).astimezone()
        return found.timestamp()
    begin = dt.datetime.fromtimestamp(after).astimezone()
    found = dt.datetime.combine(begin.date(), day).astimezone()
    if found < begin:
        found = dt.datetime.combine(begin.date() + _DAY, day).astimezone()
    return found.timestamp()


def is_known(told: Json) -> bool:
    """Return whether the answer explains anything."""
    verdict = told if "answer" in told else told.get("explained")
    if verdict is not None:
        return verdict.get("answer") not in _NOTHING
    return bool(told.get("events") or told.get("connections"))


def sentence(told: Json) -> str:
    """Return a line such as `dropped: dropped because ... (12:00:01 to 12:00:02)`."""
    first, last = clock(told.get("from_ms")), clock(told.get("to_ms"))
    when = first if first == last else f"{first} to {last}"
    by = "" if told.get("by") is None else f"replaced by offset {told['by']}"
    by = "" if not by or by in str(told.get("detail")) else f", {by}"
    known = "" if told.get("from_ms") is None else f" ({when})"
    return f"{shown(told.get('answer'))}: {shown(told.get('detail'))}{by}{known}"


# -- a line of time --------------------------------------------------------------------------------


def _print_line(told: Json) -> None:
    if (verdict := told.get("explained")) is not None:
        by = told.get("connection")
        on = "" if by is None else f", connection {shown(by)}"
        typer.echo(f"{sentence(verdict)}{on}")
    if told.get("events"):
        print_rows(LINE, told["events"])
    elif not told.get("connections"):
        say(f"no connection of {told.get('subject')} is open, or among those that are remembered")
    if forgotten := [
        each for each in told.get("connections", ()) if not each.get("complete", True)
    ]:
        names = ", ".join(str(each.get("connection")) for each in forgotten)
        say(f"a part of what happened is forgotten: {names}")
    if told.get("more"):
        say("there is more; narrow it with --from, --to or a channel")
    tell_silent(told)


def _when(row: Json) -> str:
    at, until = row.get("at_ms"), row.get("to_ms")
    if at is None:
        return "-"
    day = time.strftime("%Y-%m-%d", time.localtime(at / 1000))
    today = time.strftime("%Y-%m-%d", time.localtime())
    begun = clock(at) if day == today else f"{day} {clock(at)}"
    return begun if until is None or clock(until) == clock(at) else f"{begun} to {clock(until)}"


def _offsets(row: Json) -> str:
    first, last = row.get("first"), row.get("last")
    if first is None:
        return ""
    return str(first) if first == last else f"{first} to {last}"


LINE = (
    TerminalColumn("TIME", _when, width=8),
    TerminalColumn("CONNECTION", of("connection"), width=10, rank=2),
    TerminalColumn("WHAT", lambda row: shown(str(row.get("what")).replace("_", " ")), width=10),
    TerminalColumn("CHANNEL", of("channel"), width=8),
    TerminalColumn("OFFSETS", _offsets, width=8),
    TerminalColumn("WHY", of("detail"), width=20, rank=1),
)
"""The columns of the events of `GET /api/explain` of a subject."""
