"""`hub publish` sends one JSON document, or every line of stdin, to channels over HTTP.

The command ends with 0 when all was published, 1 when something surely was not, 2 when the call
itself is wrong, 3 when an outcome is unknown, and 130 when interrupted.
"""

import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from hub.cli.ending import INTERRUPTED, UNKNOWN, WRONG_USE, fail, say
from hub.cli.flags import DEFAULT_URL, PublishKey, Url
from hub.cli.lines import MAX_LINE_BYTES, LineSource
from hub.cli.publishing import NOT_PUBLISHED, Payloads, check_kinds
from hub.cli.token import seconds_of
from hub.ingest.encoding import without_zeros
from hub.ingest.lines import CODES_OF_ONE_LINE
from hub.observe.terminal import to_json

if TYPE_CHECKING:
    from hub_client import Outgoing, Published, Publisher, PublishError, Retrying
    from hub_client.messages import Tags
    from hub_client.publishing import PublishOptions


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("publish")(publish)


def publish(
    channel: Annotated[
        str,
        typer.Argument(metavar="CHANNEL", help="The channel; several with commas: a,b,c."),
    ],
    data: Annotated[
        str | None, typer.Argument(metavar="JSON|-", help="The payload; - sends stdin's lines.")
    ] = None,
    url: Url = DEFAULT_URL,
    key: PublishKey = None,
    message_key: Annotated[
        str | None,
        typer.Option(help="The message's key: its row; slow readers get the newest of each."),
    ] = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove the row of --message-key.")
    ] = False,
    tag: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="A tag for filters; true, false and numbers keep their type."
        ),
    ] = None,
    ttl: Annotated[
        str | None, typer.Option(help="The longest time in history: 30, 90s, 15m, 1h.")
    ] = None,
    no_history: Annotated[
        bool, typer.Option("--no-history", help="Do not keep the message in history.")
    ] = False,
    end: Annotated[
        bool,
        typer.Option(
            "--end", help="Mark the channel's last message; with - it is null after the lines."
        ),
    ] = False,
    idempotency_key: Annotated[
        str | None, typer.Option(help="The hub publishes once per key within 5 minutes.")
    ] = None,
    as_text: Annotated[
        bool, typer.Option("--text", help="Send the payload or every line as a JSON string.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="With -: refuse lines that are not JSON.")
    ] = False,
    retry_seconds: Annotated[
        float, typer.Option(min=0, help="Seconds of retries while the hub is away.")
    ] = 30.0,
) -> None:
    """Publish JSON, or with - each line of stdin: a line of JSON as it is, another as a string.

    Without a payload one JSON document is read from stdin. Prints the position of a single
    publication as a line of JSON, one for each channel; with - a summary goes to stderr.
    """
    check_kinds(as_text=as_text, as_json=as_json)
    lines = data == "-"
    to_payload = Payloads(as_text=as_text, as_json=as_json or not lines)
    try:
        options: PublishOptions = {
            "key": message_key,
            "remove": remove,
            "tags": tags(tag or []),
            "ttl_seconds": None if ttl is None else seconds_of(ttl, "--ttl"),
            "history": not no_history,
            "end": end,
            "idempotency_key": idempotency_key,
        }
        _check(options, lines=lines)
        call = PublishArguments(
            tuple(channel.split(",")), url, key, options, retry_seconds, to_payload
        )
        asyncio.run(_publish_lines(call) if lines else _publish_one(call, _document(data, options)))
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except ValueError as error:
        raise fail(WRONG_USE, str(error)) from None


def _check(options: "PublishOptions", *, lines: bool) -> None:
    """Raise `ValueError` for flags that exclude each other."""
    if options["remove"] and options["key"] is None:
        raise ValueError("--remove needs --message-key, which names the row")
    if options["remove"] and lines:
        raise ValueError("--remove removes one row and reads no lines: leave - out")
    if options["idempotency_key"] is not None and lines:
        raise ValueError("--idempotency-key is for one message: leave it out with -")


def tags(pairs: list[str]) -> "Tags | None":
    """Return the tags of NAME=VALUE pairs, or None for no pairs; raise `ValueError` for another
    text.

    A value that is a number, true or false in JSON becomes that; any other value is text.
    """
    found: dict[str, str | int | float | bool] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise ValueError(f"--tag {pair!r} is not of the form NAME=VALUE, such as league=nba")
        if name in found:
            raise ValueError(f"--tag names {name!r} twice")
        found[name] = _scalar(value)
    return found or None


def _scalar(text: str) -> str | int | float | bool:
    try:
        found = json.loads(text, parse_constant=lambda _: None)
    except ValueError:
        return text
    return found if isinstance(found, str | int | float) else text


@dataclass(frozen=True, slots=True)
class PublishArguments:
    """The publication as the command line describes it."""

    channels: tuple[str, ...]
    url: str
    key: str | None
    options: "PublishOptions"
    retry_seconds: float
    to_payload: Callable[[bytes], bytes]

    def publisher(self) -> "Publisher":
        from hub_client import Publisher, PublisherOptions, PublishRetry

        # No circuit breaker: the user of a terminal has asked for so many seconds.
        options = PublisherOptions(
            retry=PublishRetry(self.retry_seconds), breaker=None, on_retry=self._tell
        )
        return Publisher(self.url, key=self.key, options=options)

    def failed(self, error: "PublishError") -> str:
        """Return whether the publication happened, why not, in which channel, and a cure."""
        from hub_client import PublishRefusedError
        from hub_client.transport import public_url

        verdict = "outcome unknown" if _exit_code(error) == UNKNOWN else "not published"
        # The verdict says already what these two codes say.
        why = error.message if error.code in {"not_published", "outcome_unknown"} else error
        hint = " (--key or HUB_PUBLISH_KEY)" if error.code == "unauthorized" else ""
        # Who has tried for long says where by itself.
        where = f", at {public_url(self.url)}" if isinstance(error, PublishRefusedError) else ""
        return f"{verdict}: {why}{hint}{where}"

    def _tell(self, retrying: "Retrying") -> None:
        """Print the first retry: a command that is silent for half a minute seems to hang."""
        if retrying.attempt == 1:
            seconds = f"{self.retry_seconds:g} s"
            say(f"{retrying.why}; trying again for up to {seconds}, at {retrying.hub}")

    def outgoing(self, raw: bytes) -> "tuple[Outgoing, ...]":
        """Return a publication for each channel; raise `ValueError` where one cannot be made."""
        import msgspec

        from hub_client import Outgoing

        payload = msgspec.Raw(self.to_payload(raw))
        return Outgoing.to_each(self.channels, payload, **self.options)

    def line(self, raw: bytes) -> "Iterator[Outgoing]":
        """Return the publications of one line out of many: lines travel together, and `end` follows
        them."""
        import msgspec

        from hub_client import Outgoing

        payload = msgspec.Raw(self.to_payload(raw))
        options: PublishOptions = {**self.options, "end": False}
        return (Outgoing.of(channel, payload, **options) for channel in self.channels)


def _document(data: str | None, options: "PublishOptions") -> bytes:
    if data is not None:
        return data.encode("utf-8", "surrogateescape")
    if options["remove"]:
        return b"null"
    if sys.stdin.isatty():
        raise fail(WRONG_USE, "nothing to publish: give JSON, or - to send the lines of stdin")
    try:
        document = sys.stdin.buffer.read(MAX_LINE_BYTES + 1)
    except OSError as error:
        raise OSError(error.errno, error.strerror, "stdin") from None
    if len(document) > MAX_LINE_BYTES:
        raise fail(WRONG_USE, f"stdin is over {MAX_LINE_BYTES:,} bytes; - sends it by lines")
    return document


async def _publish_one(call: PublishArguments, raw: bytes) -> None:
    from hub_client import PublishError

    items = call.outgoing(raw)
    async with call.publisher() as publisher:
        outcomes = await publisher.publish_many(items)
    exit_code = 0
    for item, outcome in zip(items, outcomes, strict=True):
        if isinstance(outcome, PublishError):
            exit_code = max(exit_code, _exit_code(outcome))
            of_which = f"{item.channel}: " if len(items) > 1 else ""
            say(f"{of_which}{call.failed(outcome)}")
        else:
            typer.echo(to_json(_answer(outcome)))
    if exit_code:
        raise typer.Exit(exit_code)


def _answer(published: "Published") -> dict[str, object]:
    fields: dict[str, object] = {
        "channel": published.channel,
        "epoch": published.position.epoch,
        "offset": published.position.offset,
    }
    return {**fields, "duplicate": True} if published.duplicate else fields


async def _publish_lines(call: PublishArguments) -> None:
    # First, because a call that is wrong has nothing to sum up.
    publisher = call.publisher()
    source = LineSource(sys.stdin.fileno())
    stream = LinePublisher(call)
    try:
        async with publisher:
            while lines := await source.take():
                await stream.publish(publisher, lines)
            if call.options["end"]:
                await stream.end(publisher)
    finally:
        stream.summarize()
    if stream.exit_code:
        raise typer.Exit(stream.exit_code)


class LinePublisher:
    """Publish lines in their order, one request at a time, and count the outcomes.

    Lines that arrive while a request is under way travel together in the next one: a single line
    does not wait, and a flood fills whole requests.
    """

    def __init__(self, call: PublishArguments) -> None:
        self._call = call
        self._published = 0
        self._failed = 0
        self._zeros = 0
        self._number = 0
        self._under_way = 0
        self._last: Published | None = None
        self._pointless = False
        self.exit_code = 0

    async def publish(self, publisher: "Publisher", lines: list[bytes | None]) -> None:
        """Publish a batch; raise `typer.Exit` where every further line would fail too."""
        await self._send(publisher, list(self._readable(lines)))

    async def end(self, publisher: "Publisher") -> None:
        """Publish the last message of each channel."""
        self._number += 1
        items = self._call.outgoing(b"null")
        await self._send(publisher, [(self._number, item) for item in items])

    async def _send(self, publisher: "Publisher", numbered: "list[tuple[int, Outgoing]]") -> None:
        self._under_way = len(numbered)
        outcomes = await publisher.publish_many([item for _, item in numbered])
        self._under_way = 0
        for (number, _), outcome in zip(numbered, outcomes, strict=True):
            self._count(number, outcome)
        if self._pointless:
            raise typer.Exit(self.exit_code)

    def _readable(self, lines: list[bytes | None]) -> Iterator[tuple[int, "Outgoing"]]:
        for line in lines:
            self._number += 1
            try:
                text, zeros = without_zeros(_present(line))
                self._zeros += zeros
                for item in self._call.line(text):
                    yield self._number, item
            except ValueError as error:
                self._reject(self._number, NOT_PUBLISHED, str(error))

    def _count(self, number: int, outcome: "Published | PublishError") -> None:
        from hub_client import Published

        if isinstance(outcome, Published):
            self._published += 1
            self._last = outcome
            return
        if self._pointless:
            self._failed += 1  # the same again, said once
            return
        self._reject(number, _exit_code(outcome), self._call.failed(outcome))
        self._pointless = outcome.code not in CODES_OF_ONE_LINE or self.exit_code == UNKNOWN

    def _reject(self, number: int, exit_code: int, why: str) -> None:
        self._failed += 1
        self.exit_code = max(self.exit_code, exit_code)
        say(f"line {number}: {why}")

    def summarize(self) -> None:
        """Say on stderr how many lines were published, refused or unknown."""
        where = f", the last at {self._last.position}" if self._last else ""
        unknown = f", {self._under_way} under way when it ended" if self._under_way else ""
        zeros = f", {self._zeros} zero bytes before lines left out" if self._zeros else ""
        lines = f"{self._published} published, {self._failed} not{zeros}{unknown}"
        say(f"{','.join(self._call.channels)}: {lines}{where}")


def _present(line: bytes | None) -> bytes:
    if line is None:
        raise ValueError(f"over {MAX_LINE_BYTES:,} bytes")
    return line


def _exit_code(error: "PublishError") -> int:
    from hub_client import OutcomeUnknownError

    return UNKNOWN if isinstance(error, OutcomeUnknownError) else NOT_PUBLISHED
