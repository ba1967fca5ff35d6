"""`hub tail` shows a human the pushes of channels, or those of one connection's channels, live.

With --connection the command subscribes by itself to the channels of that connection, and watches
its record beside: messages that its outbox drops, a backlog, its end. The command does not see the
bytes that are written to the connection; `hub explain` tells what became of a single publication.
"""

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from hub.cli.columns import shown
from hub.cli.ending import WRONG_USE, fail, say
from hub.cli.flags import DEFAULT_URL, Url
from hub.cli.operator import Json, Key, Operator, OperatorError, operate
from hub.cli.subscribe import Printer, trouble
from hub.observe.background import until_one_ends
from hub.observe.terminal import to_json, visible_json_bytes

if TYPE_CHECKING:
    from hub_client import ConnectionState, Gap, HubClient, Message, Presence, Subscription

    Item = Message | Gap | Presence


# -- one line per push or observation --------------------------------------------------------------


Observed = dict[str, object]
"""A change in a connection's record; its `op` is `observed`, which no push of the hub is."""


@dataclass(frozen=True, slots=True)
class Lines:
    """The format of lines."""

    as_json: bool
    color: bool = False

    @classmethod
    def for_stdout(cls, *, as_json: bool) -> "Lines":
        """Return lines with colour on a terminal, unless NO_COLOR is set (no-color.org)."""
        return cls(as_json, color=sys.stdout.isatty() and not os.environ.get("NO_COLOR"))

    def pushed(self, item: "Message | Gap | Presence") -> bytes:
        """Return a push as it came; characters that a terminal would obey are escaped."""
        from hub_client import Gap, Message

        if self.as_json:
            return visible_json_bytes(item.frame)
        if isinstance(item, Message):
            key = "" if item.key is None else f" [{shown(item.key)}]"
            data = shown(item.raw_data.decode("utf-8", "replace"))
            offset = "-" if item.offset is None else str(item.offset)
            return f"{_clock(item.time_ms)} {shown(item.channel)} {offset}{key} {data}".encode()
        if isinstance(item, Gap):
            return self._marked(f"{_clock(None)} {item.channel} GAP {_gap(item)}")
        who = "" if item.member is None else f" {shown(item.member.id)}"
        return shown(f"{_clock(None)} {item.channel} {item.change.upper()}{who}").encode()

    def observed(self, observed: Observed) -> bytes:
        """Return a line for a change of a connection."""
        if self.as_json:
            return to_json(observed).encode()
        return self._marked(f"{_clock(observed['at_ms'])} ! {_sentence(observed)}")

    def _marked(self, line: str) -> bytes:
        line = shown(line)
        return (typer.style(line, fg="yellow") if self.color else line).encode()


def _gap(gap: "Gap") -> str:
    if gap.reason == "reset":
        return f"reset, goes on after {gap.position}"
    if gap.unsequenced:
        return f"{gap.unsequenced} without an offset, {gap.reason}"
    return f"{gap.first} to {gap.last}, {gap.reason}"


def _sentence(observed: Observed) -> str:
    what, channel = observed["what"], observed.get("channel")
    match what:
        case "dropped":
            return (
                f"its outbox dropped {observed['count']:,} of {channel} after {observed['after']}"
            )
        case "subscription":
            state, position = observed["state"], observed["position"]
            dropped = f", {observed['dropped']:,} dropped so far" if observed["dropped"] else ""
            waiting = f", {observed['waiting']:,} wait" if observed["waiting"] else ""
            return f"{channel} is {state} at {position}{waiting}{dropped}"
        case "unsubscribed":
            return f"it has left {channel}"
        case _:
            code = "" if observed.get("code") is None else f": {observed['code']}"
            return f"it has ended{code} {shown(observed.get('reason'))}"


def _clock(at_ms: object) -> str:
    """Return the local time to the millisecond; None stands for now."""
    seconds = at_ms / 1000 if isinstance(at_ms, int | float) else time.time()
    return f"{time.strftime('%H:%M:%S', time.localtime(seconds))}.{int(seconds * 1000) % 1000:03}"


# -- one connection looked at again and again ------------------------------------------------------


# As many as the API gives: a connection that ended just now is among the last.
_CLOSED = 1000


class Follower(Protocol):
    """The printing side that `watch` needs; `hub.cli.tail.Followed` has it."""

    async def follow(self, channels: tuple[str, ...]) -> None: ...

    async def tell(self, observed: Observed) -> None: ...


async def watch(
    operator: Operator, connection: str, every_seconds: float, follower: Follower
) -> None:
    """Follow the channels of a connection and print its changes, until it has ended.

    Raises:
        OperatorError: There is no such connection, or the hub refuses this operator.
    """
    seen = await operator.ask("connections", connection)
    say(
        f"what the channels of {connection} carry, on a connection of this command's own; "
        "lines with ! are what its outbox does"
    )
    before: Json = {**seen, "subscriptions": []}
    while seen:
        # Before it is told: a reader takes "live" as "from here on you see what comes".
        await follower.follow(tuple(row["channel"] for row in seen["subscriptions"]))
        for observed in changes(before, seen):
            await follower.tell(observed)
        await asyncio.sleep(every_seconds)
        before, seen = seen, await _look(operator, connection, seen)
    await follower.tell(await _ending(operator, connection))


async def _look(operator: Operator, connection: str, before: Json) -> Json:
    """Return the present record; {} when the connection has ended; `before` where the hub does not
    answer."""
    try:
        return await operator.ask("connections", connection)
    except OperatorError as error:
        if error.code == "not_found":
            return {}
        say(f"cannot look at {connection}: {error}")
        return before


async def _ending(operator: Operator, connection: str) -> Observed:
    found: Observed = {}
    try:
        rows = (await operator.ask("closed", limit=_CLOSED))["closed"]
        found = next((row for row in rows if row["connection"] == connection), {})
    except OperatorError as error:
        say(f"cannot ask how it ended: {error}")
    reason = found.get("reason") or "how is not known"
    return _observed(connection, "ended", code=found.get("code"), reason=reason)


def changes(before: Json, now: Json) -> Iterator[Observed]:
    """Return the differences between two records of one connection."""
    connection = now["connection"]
    old = {row["channel"]: row for row in before["subscriptions"]}
    new = {row["channel"]: row for row in now["subscriptions"]}
    for channel in old.keys() - new.keys():
        yield _observed(connection, "unsubscribed", channel=channel)
    for channel, row in new.items():
        was = old.get(channel)
        # A connection that left and came back within one look counts from 0 again.
        dropped = row["dropped"] - (was["dropped"] if was else row["dropped"])
        if was and dropped > 0:
            after = was["position"]
            yield _observed(connection, "dropped", channel=channel, count=dropped, after=after)
        if was is None or was["state"] != row["state"]:
            yield _subscription(connection, row)


def _subscription(connection: str, row: Json) -> Observed:
    return _observed(
        connection,
        "subscription",
        channel=row["channel"],
        state=row["state"],
        position=row["position"],
        waiting=row["outbox_messages"],
        dropped=row["dropped"],
    )


def _observed(connection: str, what: str, **fields: object) -> Observed:
    common = {"op": "observed", "connection": connection, "at_ms": int(time.time() * 1000)}
    return {**common, "what": what, **fields}


# -- the command -----------------------------------------------------------------------------------


_FLUSH_SECONDS = 2.0


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("tail")(tail)


def tail(
    channels: Annotated[
        list[str] | None, typer.Argument(metavar="CHANNEL", help="Channels to follow.")
    ] = None,
    connection: Annotated[
        str | None, typer.Option(metavar="ID", help="Follow this connection instead.")
    ] = None,
    last: Annotated[
        int | None, typer.Option(min=0, help="Begin with the newest N of each channel.")
    ] = None,
    every: Annotated[
        float, typer.Option(min=0.2, max=60, help="Seconds between checks of the connection.")
    ] = 1.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Pushes as they come, one JSON line each.")
    ] = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
) -> None:
    """Follow channels, or the channels of one connection and what its outbox drops.

    With --connection it ends when that connection does. Ctrl-C ends it.
    """
    if bool(channels) == (connection is not None):
        raise fail(WRONG_USE, "give channels, or --connection ID")
    followed = tuple(dict.fromkeys(channels or ()))
    order = TailArguments(followed, connection, last, every, Lines.for_stdout(as_json=as_json))
    try:
        operate(url, key, order.carry_out)
    except BrokenPipeError:
        raise typer.Exit from None


@dataclass(frozen=True, slots=True)
class TailArguments:
    """The question as the command line asks it."""

    channels: tuple[str, ...]
    connection: str | None
    last: int | None
    every_seconds: float
    lines: Lines

    async def carry_out(self, operator: Operator) -> None:
        """Print until the connection ends, the hub refuses, or stdout is closed.

        Raises:
            OperatorError: The hub refuses, or there is no such connection.
            BrokenPipeError: stdout has no reader any more.
        """
        from hub_client import ClientOptions, HubClient, HubClientError

        printer = Printer(sys.stdout.fileno())
        options = ClientOptions(on_state=_tell)
        try:
            async with HubClient(operator.url, token=operator.key, options=options) as hub:
                await until_one_ends(
                    printer.wait_broken(), self._follow(Followed(hub, self, printer), operator)
                )
        except HubClientError as error:
            hint = " (--key or HUB_OPERATOR_KEY)" if error.code == "unauthorized" else ""
            raise OperatorError(f"{error}{hint}") from None
        finally:
            printer.flush(_FLUSH_SECONDS)

    async def _follow(self, followed: "Followed", operator: Operator) -> None:
        from hub.cli.tail import watch

        try:
            if self.connection is None:
                followed.keep(self.channels)
                await followed.wait_failed()
            else:
                watching = watch(operator, self.connection, self.every_seconds, followed)
                await until_one_ends(followed.wait_failed(), watching)
        finally:
            await followed.close()


class Followed:
    """The channels that are followed now, with one task each that prints."""

    def __init__(self, hub: "HubClient", order: TailArguments, printer: Printer) -> None:
        self._hub = hub
        self._last = order.last
        self._lines = order.lines
        self._printer = printer
        self._subscriptions: dict[str, Subscription[Item]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def follow(self, channels: tuple[str, ...]) -> None:
        """Follow exactly these channels; return when the hub has begun each subscription.

        Raises:
            HubClientError: The hub refuses one.
        """
        self.keep(channels)
        for channel in channels:
            await self._subscriptions[channel].wait_started(timeout_seconds=None)

    def keep(self, channels: tuple[str, ...]) -> None:
        """Follow exactly these channels from now on."""
        for channel in self._tasks.keys() - set(channels):
            self._subscriptions.pop(channel).close()
            self._tasks.pop(channel).cancel()
        for channel in channels:
            if channel not in self._tasks:
                subscription = self._hub.subscribe(
                    channel, last=self._last, gaps=True, presence=True
                )
                task = asyncio.create_task(self._print_all(subscription))
                task.add_done_callback(self._ended)
                self._subscriptions[channel] = subscription
                self._tasks[channel] = task

    async def tell(self, observed: dict[str, object]) -> None:
        """Print a change of a connection."""
        await self._printer.print(self._lines.observed(observed))

    async def wait_failed(self) -> None:
        """Raise the hub's refusal of a channel."""
        await self._failed

    async def close(self) -> None:
        """Follow no channel any more."""
        tasks = list(self._tasks.values())
        self.keep(())
        await asyncio.gather(*tasks, return_exceptions=True)
        self._failed.cancel()

    async def _print_all(self, subscription: "Subscription[Item]") -> None:
        async with subscription:
            async for item in subscription:
                await self._printer.print(self._lines.pushed(item))

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if task.cancelled() or self._failed.done():
            return
        if (error := task.exception()) is not None:
            self._failed.set_exception(error)


def _tell(state: "ConnectionState") -> None:
    """Print trouble alone: a working connection needs no line."""
    if state.name == "waiting":
        say(trouble(state))
