"""`hub tail`: what channels carry, live, for a human; or what one connection's channels do.

With --connection it follows the channels that the connection is subscribed to, on a
connection of this command's own, and looks at the other's record besides: what its outbox
drops, where it falls behind, how it ends. It does not see the bytes that are written to it;
`hub explain` tells what became of a single publication.
"""

import asyncio
import sys
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from hub.cli.address import DEFAULT_URL, Url
from hub.cli.ending import WRONG_USE, fail, say
from hub.cli.operator import Key, Operator, OperatorError, operate
from hub.cli.subscribe import Printer
from hub.cli.tail_lines import Lines

if TYPE_CHECKING:
    from hub_client import ConnectionState, Gap, HubClient, Message, Presence

    Item = Message | Gap | Presence

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
        float, typer.Option(min=0.2, max=60, help="Seconds between looks at the connection.")
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
    order = Order(followed, connection, last, every, Lines.for_stdout(as_json=as_json))
    try:
        operate(url, key, order.carry_out)
    except BrokenPipeError:
        raise typer.Exit from None


@dataclass(frozen=True, slots=True)
class Order:
    """What was asked for on the command line."""

    channels: tuple[str, ...]
    connection: str | None
    last: int | None
    every: float
    lines: Lines

    async def carry_out(self, operator: Operator) -> None:
        """Print until the connection ends, the hub refuses, or nobody reads any more.

        Raises:
            OperatorError: the hub refuses, or there is no such connection.
            BrokenPipeError: nobody reads stdout any more.
        """
        from hub_client import ClientOptions, HubClient, HubClientError

        printer = Printer(sys.stdout.fileno())
        options = ClientOptions(on_state=_tell)
        try:
            async with HubClient(operator.url, token=operator.key, options=options) as hub:
                await _first_ended(
                    printer.wait_broken(), self._follow(Followed(hub, self, printer), operator)
                )
        except HubClientError as error:
            raise OperatorError(str(error)) from None
        finally:
            printer.flush(_FLUSH_SECONDS)

    async def _follow(self, followed: "Followed", operator: Operator) -> None:
        from hub.cli.tail_connection import watch

        try:
            if self.connection is None:
                followed.follow(self.channels)
                await followed.wait_failed()
            else:
                watching = watch(operator, self.connection, self.every, followed)
                await _first_ended(followed.wait_failed(), watching)
        finally:
            await followed.close()


class Followed:
    """The channels that are followed now, one task each, printed as they come."""

    def __init__(self, hub: "HubClient", order: Order, printer: Printer) -> None:
        self._hub = hub
        self._last = order.last
        self._lines = order.lines
        self._printer = printer
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def follow(self, channels: tuple[str, ...]) -> None:
        """Follow these and no others from now on."""
        for channel in self._tasks.keys() - set(channels):
            self._tasks.pop(channel).cancel()
        for channel in channels:
            if channel not in self._tasks:
                task = asyncio.create_task(self._print_all(channel))
                task.add_done_callback(self._ended)
                self._tasks[channel] = task

    async def tell(self, observed: dict[str, object]) -> None:
        """Print something that was seen of a connection."""
        await self._printer.print(self._lines.observed(observed))

    async def wait_failed(self) -> None:
        """Raise what ended a channel's iteration: the hub's refusal."""
        await self._failed

    async def close(self) -> None:
        """Follow nothing any more."""
        tasks = list(self._tasks.values())
        self.follow(())
        await asyncio.gather(*tasks, return_exceptions=True)
        self._failed.cancel()

    async def _print_all(self, channel: str) -> None:
        async with self._hub.subscribe(
            channel, last=self._last, gaps=True, presence=True
        ) as subscription:
            async for item in subscription:
                await self._printer.print(self._lines.pushed(item))

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if task.cancelled() or self._failed.done():
            return
        if (error := task.exception()) is not None:
            self._failed.set_exception(error)


async def _first_ended(*waits: Coroutine[None, None, None]) -> None:
    """Wait until one of them ends; end the others, and raise what it raised."""
    tasks = [asyncio.create_task(each) for each in waits]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


def _tell(state: "ConnectionState") -> None:
    """Only trouble: a tail that is well needs no comment."""
    if state.name == "waiting":
        say(f"{state.detail}; again in {state.retry_in_seconds:.1f} s")
