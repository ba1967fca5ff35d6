"""`hub ingest` publishes the lines of a file to one channel, each once, through crashes and
rotations.

The command ends with 0 when all lines were published, 1 when a line surely was not, 2 when the call
itself is wrong, 3 when the outcome of a line is unknown, 130 when interrupted, 143 when terminated
and 129 when its terminal closes (with --follow that is the usual end: 0 or 1).
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hub.cli.ending import INTERRUPTED, WRONG_USE, fail, reason, say
from hub.cli.flags import DEFAULT_URL, PublishKey, Url
from hub.cli.publishing import NOT_PUBLISHED, Payloads, check_kinds

if TYPE_CHECKING:
    from hub.ingest.assembly import IngestArguments


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("ingest")(ingest)


def ingest(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The file; - reads stdin once.")],
    channel: Annotated[str, typer.Argument(metavar="CHANNEL", help="Channel to publish on.")],
    follow: Annotated[
        bool, typer.Option("--follow", help="Wait for new lines, also after rotations.")
    ] = False,
    rate: Annotated[
        float, typer.Option(min=0.01, max=100_000, help="The largest number of messages a second.")
    ] = 1000.0,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="File of the checkpoint; default: below ~/.local/state/hub."),
    ] = None,
    url: Url = DEFAULT_URL,
    key: PublishKey = None,
    message_key: Annotated[
        str | None, typer.Option(help="The publications' key, for latest_per_key channels.")
    ] = None,
    as_text: Annotated[
        bool, typer.Option("--text", help="Send every line as a JSON string.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Refuse lines that are not JSON.")
    ] = False,
    stop_at_refused: Annotated[
        bool, typer.Option("--stop", help="End at a refused line instead of skipping it.")
    ] = False,
    encoding: Annotated[
        str, typer.Option(help="Encoding of the text; auto detects UTF-8, UTF-16 and UTF-32.")
    ] = "auto",
    retry_seconds: Annotated[
        float, typer.Option(min=0, max=240, help="Seconds of retries while the hub is away.")
    ] = 240.0,
) -> None:
    """Publish each line of a file once: JSON as it is, another line as a JSON string.

    The command saves its place after every request, so that the same command goes on from there,
    also after a crash. Lines that are refused (too large, or no JSON with --json) are named on
    stderr, counted and skipped. Text is read as UTF-8 (bytes that are not become U+FFFD) or, where
    the file begins with a mark of UTF-16, as that; --encoding names another encoding.
    """
    check_kinds(as_text=as_text, as_json=as_json)
    if file == "-" and (follow or checkpoint):
        raise fail(WRONG_USE, "stdin cannot be read again: no --follow, no --checkpoint with -")
    from hub.errors import SettingsError
    from hub.ingest.assembly import IngestArguments
    from hub.ingest.encoding import named
    from hub.ingest.run import LineTarget

    target = LineTarget(channel, Payloads(as_text, as_json), message_key)
    try:
        known = named(encoding)
        order = IngestArguments(
            target, url, key, rate, retry_seconds, follow, stop_at_refused, known
        )
        code = _ingest(order, file, checkpoint)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except (SettingsError, ValueError) as error:
        raise fail(WRONG_USE, str(error)) from None
    except OSError as error:
        raise fail(NOT_PUBLISHED, reason(error)) from None
    raise typer.Exit(code)


def _ingest(order: "IngestArguments", file: str, checkpoint: Path | None) -> int:
    from hub.cli.lines import LineSource
    from hub.ingest.assembly import ingest_file, ingest_stdin

    if file == "-":
        return ingest_stdin(order, lambda: LineSource(sys.stdin.fileno(), order.encoding).take, say)
    return ingest_file(order, file, checkpoint, say)
