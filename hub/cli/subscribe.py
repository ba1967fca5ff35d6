"""`hub subscribe` prints the pushes of channels as JSON lines on stdout, through every outage.

The command ends with 1 when the hub refuses, 2 when the call itself is wrong, 130 when interrupted,
and 0 when stdout is closed or all channels have ended.
"""

import asyncio
import json
import os
import select
import sys
import threading
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from hub.cli.ending import INTERRUPTED, WRONG_USE, fail, say
from hub.cli.flags import DEFAULT_URL, Url
from hub.observe.background import until_one_ends
from hub.observe.terminal import visible_json_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hub_client import (
        ConnectionState,
        Gap,
        HubClient,
        Message,
        Presence,
        State,
        Subscription,
    )

    Pushes = Subscription[Message | Gap | Presence | State]

_REFUSED = 1
_ALL_TRANSPORTS = ("websocket", "sse", "poll")
_TRANSPORTS = {"auto": _ALL_TRANSPORTS} | {name: (name,) for name in _ALL_TRANSPORTS}
# What may wait for a stdout that is not read. Then the client stops reading, and the hub
# decides by the channel's overflow policy what a slow reader misses.
_MAX_WAITING_BYTES = 256 * 1024
# How often an idle printer looks whether anybody still reads, in seconds.
_LOOK_SECONDS = 1.0
_FLUSH_SECONDS = 2.0


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("subscribe")(subscribe)


def subscribe(
    channels: Annotated[
        list[str] | None, typer.Argument(metavar="CHANNEL", help="Channels to read.")
    ] = None,
    pattern: Annotated[
        list[str] | None,
        typer.Option(help="All channels that match, now and later: 'prices:*', 'prices:**'."),
    ] = None,
    url: Url = DEFAULT_URL,
    since: Annotated[
        list[str] | None,
        typer.Option(help="CHANNEL=POSITION to resume from; POSITION with one channel."),
    ] = None,
    last: Annotated[
        int | None, typer.Option(min=0, help="Begin with the newest N of each channel.")
    ] = None,
    fill: Annotated[
        bool,
        typer.Option("--fill", help="Get messages that were read too slowly again from history."),
    ] = False,
    state: Annotated[
        bool,
        typer.Option("--state", help="The rows first, of channels in a keyed namespace."),
    ] = False,
    wanted: Annotated[
        str | None,
        typer.Option("--filter", help='Only messages whose tags match, as \'{"league":"nba"}\'.'),
    ] = None,
    every_ms: Annotated[
        int | None,
        typer.Option(
            min=1, max=3_600_000, help="At most one batch per interval, the newest of each key."
        ),
    ] = None,
    token: Annotated[
        str | None, typer.Option(envvar="HUB_TOKEN", help="The subscriber's token.")
    ] = None,
    transport: Annotated[str, typer.Option(help="auto, websocket, sse or poll.")] = "auto",
) -> None:
    """Print messages, gaps, rows and presence of channels, one JSON line each, as they come.

    The command survives restarts of the hub and of the network: it reconnects and resumes, and a
    loss stands in the stream as a gap. Diagnostics go to stderr.
    """
    try:
        names, patterns = unique(channels), unique(pattern)
        check_patterns(names, patterns, state=state, every_ms=every_ms)
        plan = SubscribeArguments(
            names,
            patterns,
            url,
            positions(names, patterns, since or []),
            last,
            fill,
            state,
            None if wanted is None else conditions(wanted),
            every_ms,
            token,
            transports(transport),
        )
        asyncio.run(_print_pushes(plan))
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        raise typer.Exit from None
    except ValueError as error:
        raise fail(WRONG_USE, str(error)) from None


def unique(names: list[str] | None) -> tuple[str, ...]:
    """Return each name once, in the order given."""
    return tuple(dict.fromkeys(names or ()))


def check_patterns(
    channels: tuple[str, ...], patterns: tuple[str, ...], *, state: bool, every_ms: int | None
) -> None:
    """Raise `ValueError` where no channel and no pattern is given, or where a pattern has an option
    that only channels have."""
    if not channels and not patterns:
        raise ValueError("nothing to read: name a CHANNEL, or give a --pattern such as 'prices:*'")
    for name in channels:
        if "*" in name:
            raise ValueError(f"{name!r} is no channel: --pattern {name!r} reads all that match")
    if patterns and state:
        raise ValueError("--state is of a channel, not of a --pattern: name the channels")
    if patterns and every_ms is not None:
        raise ValueError("--every-ms is of a channel, not of a --pattern: name the channels")


@dataclass(frozen=True, slots=True)
class SubscribeArguments:
    """The subscriptions as the command line describes them."""

    channels: tuple[str, ...]
    patterns: tuple[str, ...]
    url: str
    since: "Mapping[str, str]"
    last: int | None
    fill: bool
    state: bool
    filter: "Mapping[str, object] | None"
    every_ms: int | None
    token: str | None
    transports: tuple[str, ...]

    def subscribe(self, hub: "HubClient", channel: str) -> "Pushes":
        return hub.subscribe(
            channel,
            since=self.since.get(channel),
            last=self.last,
            fill=self.fill,
            filter=self.filter,
            every_ms=self.every_ms,
            state=self.state,
            gaps=True,
            presence=True,
        )

    def subscribe_pattern(self, hub: "HubClient", pattern: str) -> "Pushes":
        from hub.core.patterns import matches

        since = {name: at for name, at in self.since.items() if matches(pattern, name)}
        return hub.subscribe_pattern(
            pattern,
            since=since or None,
            last=self.last,
            fill=self.fill,
            filter=self.filter,
            gaps=True,
            presence=True,
        )


def conditions(text: str) -> "Mapping[str, object]":
    """Return a filter from its text; raise `ValueError` for another text."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ValueError(f'--filter is no JSON ({error}), such as {{"league":"nba"}}') from None
    if not isinstance(found, dict):
        raise ValueError('--filter is a JSON object, such as {"league":"nba"}')  # noqa: TRY004
    return found


def positions(
    channels: tuple[str, ...], patterns: tuple[str, ...], since: list[str]
) -> dict[str, str]:
    """Return the position to resume from by channel; raise `ValueError` for a channel that is not
    asked for."""
    from hub.core.patterns import matches

    found: dict[str, str] = {}
    for text in since:
        channel, equals, position = text.rpartition("=")
        if not equals and (len(channels) != 1 or patterns):
            raise ValueError(f"--since {text} names no channel: write CHANNEL=POSITION")
        channel = channel if equals else channels[0]
        if channel not in channels and not any(matches(each, channel) for each in patterns):
            raise ValueError(f"--since {text} names a channel that is not among the CHANNELs")
        found[channel] = position
    return found


def transports(name: str) -> tuple[str, ...]:
    """Return the transports to try, in order; raise `ValueError` for an unknown name."""
    if name not in _TRANSPORTS:
        raise ValueError(f"--transport is {name!r}, allowed are {', '.join(_TRANSPORTS)}")
    return _TRANSPORTS[name]


async def _print_pushes(plan: SubscribeArguments) -> None:
    from hub_client import ClientOptions, HubClient, HubClientError
    from hub_client.transport import public_url

    printer = Printer(sys.stdout.fileno())
    shown_url = public_url(plan.url)
    options = ClientOptions(on_state=partial(_tell, shown_url))
    try:
        async with HubClient(
            plan.url, token=plan.token, transports=plan.transports, options=options
        ) as hub:
            # Patterns first: what both bring then goes on where it is.
            pushes = [plan.subscribe_pattern(hub, pattern) for pattern in plan.patterns]
            pushes += [plan.subscribe(hub, channel) for channel in plan.channels]
            await _follow_all(pushes, printer)
    except HubClientError as error:
        hint = " (--token or HUB_TOKEN)" if error.code == "unauthorized" else ""
        raise fail(_REFUSED, f"{error}{hint}, at {shown_url}") from None
    finally:
        printer.flush(_FLUSH_SECONDS)


async def _follow_all(pushes: "list[Pushes]", printer: "Printer") -> None:
    """Return when all subscriptions have ended; raise the error of one of them, or
    `BrokenPipeError`."""

    async def all_ended() -> None:
        await asyncio.gather(*(_follow(subscription, printer) for subscription in pushes))

    await until_one_ends(all_ended(), printer.wait_broken())


async def _follow(subscription: "Pushes", printer: "Printer") -> None:
    from hub_client import CommandError

    announced = asyncio.create_task(_announce(subscription))
    try:
        async for push in subscription:
            await printer.print(visible_json_bytes(push.frame))
        say(f"{subscription.channel} has ended")
    except CommandError as error:
        # Of several, which: not every reason names it.
        raise CommandError(error.code, f"{subscription.channel}: {error.message}") from None
    finally:
        announced.cancel()


async def _announce(subscription: "Pushes") -> None:
    from hub_client import HubClientError

    try:
        await subscription.wait_started(timeout_seconds=None)
    except HubClientError:
        return  # the iteration raises it
    say(f"subscribed to {subscription.channel}")


def _tell(url: str, state: "ConnectionState") -> None:
    """Print every change of the connection on stderr."""
    if state.name == "connected":
        say(f"connected over {state.transport}")
    elif state.name == "waiting":
        say(f"{trouble(state)} at {url}")


def trouble(state: "ConnectionState") -> str:
    """Return why there is no connection, and when it is tried again."""
    seconds = state.retry_in_seconds or 0.0
    return f"{state.detail}; again {'at once' if seconds < 0.05 else f'in {seconds:.1f} s'}"


class Printer:
    """Write lines to a file descriptor in a thread, each as soon as it is there.

    A thread, because a pipe without a reader blocks; `os.write`, because a blocked thread must not
    hold the lock of `sys.stdout` when the process ends. Lines that come while a write is under way
    go together in the next one.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._loop = asyncio.get_running_loop()
        self._waiting = bytearray()
        self._writing = False
        self._failure: OSError | None = None
        self._changed = threading.Condition()
        self._room = asyncio.Event()
        self._broken = asyncio.Event()
        threading.Thread(target=self._write, name="stdout", daemon=True).start()

    async def print(self, line: bytes) -> None:
        """Queue a line; wait while too many earlier bytes are not written."""
        while len(self._waiting) >= _MAX_WAITING_BYTES:
            self._room.clear()
            await self._room.wait()
        with self._changed:
            self._waiting += line + b"\n"
            self._changed.notify_all()

    async def wait_broken(self) -> None:
        """Raise `BrokenPipeError` when stdout has no reader any more, or the error of a write."""
        await self._broken.wait()
        raise self._failure or BrokenPipeError

    def flush(self, timeout_seconds: float) -> None:
        """Wait until all is written, for a limited time: a reader may have stopped reading."""
        with self._changed:
            self._changed.wait_for(self._is_idle, timeout_seconds)

    def _is_idle(self) -> bool:
        return self._failure is not None or (not self._waiting and not self._writing)

    def _write(self) -> None:
        try:
            while True:
                self._write_all(self._take())
        except OSError as error:
            with self._changed:
                self._failure = error
                self._failure.filename = self._failure.filename or "stdout"
                self._changed.notify_all()
            self._post(self._broken)

    def _take(self) -> bytes:
        with self._changed:
            self._writing = False
            self._changed.notify_all()
            while not self._changed.wait_for(lambda: self._waiting, _LOOK_SECONDS):
                self._check_read()
            lines, self._writing = bytes(self._waiting), True
            self._waiting.clear()
        self._post(self._room)
        return lines

    def _write_all(self, lines: bytes) -> None:
        view = memoryview(lines)
        while view:
            view = view[os.write(self._fd, view) :]

    def _check_read(self) -> None:
        """Raise `BrokenPipeError` where the other end of the pipe is closed."""
        poll = select.poll()
        poll.register(self._fd, 0)
        if any(events & select.POLLERR for _, events in poll.poll(0)):
            raise BrokenPipeError

    def _post(self, event: asyncio.Event) -> None:
        try:
            self._loop.call_soon_threadsafe(event.set)
        except RuntimeError:
            return  # the loop has ended, and with it whoever waited
