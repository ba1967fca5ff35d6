"""Which channels are wanted, and what of them the present connection carries.

It holds what a client has while it is open: its channels, its commands, its connections. As in
the browser client (clients/js/src/client.js).
"""

import asyncio
import contextlib
import random
from collections.abc import Mapping

import msgspec

from hub_client import frames
from hub_client.channel import Channel, Source
from hub_client.commands import Command, Commands, Outcome
from hub_client.connection import Connections
from hub_client.errors import (
    AlreadySubscribedError,
    ClosedError,
    CommandError,
    ConnectionLostError,
)
from hub_client.feed import OVERFULL, Feed
from hub_client.link import Link
from hub_client.messages import ConnectionState, Position
from hub_client.options import ClientOptions
from hub_client.outages import OutageLog
from hub_client.poll import PollDialer
from hub_client.sse import SseDialer
from hub_client.tokens import TokenSource
from hub_client.transport import Dialer, Target, public_url
from hub_client.websocket import WebSocketDialer

# Why a subscription ends of which the last publication came: no error.
_ENDED = "ended"
_OF_A_CHANNEL = frozenset({"message", "gap", "state", "join", "leave", "update", "presence_reset"})


class Channels:
    """Made and used in one event loop."""

    def __init__(
        self,
        target: Target,
        tokens: TokenSource,
        transports: tuple[str, ...],
        options: ClientOptions,
    ) -> None:
        self._options = options
        self._hub = public_url(target.base_url)
        self._report = options.on_state or OutageLog(self._hub)
        self._loop = asyncio.get_running_loop()
        self._feeds: dict[str, Feed] = {}
        self._link: Link | None = None
        self._before: set[Link] = set()
        """Connections that were it before, and may still bring something."""
        self._commands = Commands(
            self._hub, timeout_seconds=options.command_timeout_seconds, trouble=self.trouble
        )
        self._later: set[asyncio.TimerHandle] = set()
        self._up = asyncio.Event()
        self._room = asyncio.Event()
        self._end: Exception | None = None
        self._connections = Connections(
            make_dialers(transports),
            target,
            tokens=tokens,
            timing=options.timing,
            host=self,
            report=self._report,
        )
        self._job = asyncio.create_task(self._keep_connected())

    @property
    def given(self) -> object:
        """What the application gives with the present connection; None without one."""
        return None if self._link is None else self._link.given

    def trouble(self) -> str:
        """To which hub there is no connection, and why; empty where there is one."""
        if self._up.is_set():
            return ""
        why = f" ({self._connections.trouble})" if self._connections.trouble else ""
        return f"no connection to {self._hub}{why}"

    async def close(self) -> None:
        """Disconnect; iterations end quietly, commands with `ClosedError`."""
        self._job.cancel()
        self._finish(ClosedError("the client is closed"), for_feeds=None)
        # Not awaited itself: a cancellation of this wait must not cut the clean-up short.
        await asyncio.wait({self._job})

    async def wait_connected(self) -> None:
        """Return once there is a connection; raise what ended the client."""
        await self._up.wait()
        self.check_open()

    def check_open(self) -> None:
        """Raise what ended the client."""
        if self._end is not None:
            raise self._end

    @property
    def is_open(self) -> bool:
        return self._end is None

    async def request(self, op: str, **fields: object) -> msgspec.Raw:
        """Send a command and return its reply's `ok`; raises as `Commands.request`."""
        self.check_open()
        return await self._commands.request(op, self._send, **fields)

    def _send(self, command: Command) -> None:
        self.check_open()
        # Lets a reader that waits for room go on: see `hub_client.feed`.
        self._room.set()
        if self._link is not None:
            self._link.send(command)

    # -- subscriptions ---------------------------------------------------------------------

    def subscribe(self, channel: Channel) -> Feed:
        """Raise `AlreadySubscribedError`, or what ended the client."""
        self.check_open()
        former = self._feeds.get(channel.name)
        if former is not None and not former.abandoned:
            raise AlreadySubscribedError(f"subscribed to {channel.name!r} already")
        if former is not None:
            self._drop(former)
        feed = Feed(channel, limits=self._options.feed)
        self._add(feed)
        return feed

    def said(self, name: str, data: object) -> None:
        """A member said something else of itself: so does its next subscribe."""
        if (feed := self._feeds.get(name)) is not None:
            feed.channel.presence_data = data

    def take_over(self, former: "Channels") -> None:
        """The subscriptions of a client that was closed go on here."""
        for feed in former._feeds.values():
            if not feed.abandoned:
                feed.reopen()
                self._add(feed)

    def _add(self, feed: Feed) -> None:
        feed.on_room = self._room.set
        self._feeds[feed.channel.name] = feed
        if self._link is not None:
            self._ask(feed)

    def release(self, feed: Feed) -> None:
        """Unsubscribe soon; may be called in any thread, and after the loop has ended."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._drop, feed)

    def _ask(self, feed: Feed) -> None:
        """Subscribe by command. A subscription that is refused for now is asked for again, at
        once on a new connection; one that is refused for good has ended."""
        link, channel = self._link, feed.channel
        if link is None:
            return

        def told(outcome: Outcome) -> None:
            # The stream may have told already: of a reply that comes later, or was lost.
            if self._feeds.get(channel.name) is not feed or channel.name in link.epochs:
                return
            if isinstance(outcome, frames.Frame):
                if link.wire.starts_in_reply:
                    self._started(feed, *frames.subscribed(outcome.ok), link)
            elif isinstance(outcome, CommandError) and outcome.retryable:
                self._ask_later(feed, link, outcome)
            # Where it came twice, the stream tells where the first one started.
            elif isinstance(outcome, CommandError) and outcome.code != "conflict":
                self._end_feed(feed, outcome)

        fields = channel.request()
        link.send(self._commands.make("subscribe", told, own=True, **fields))

    def _ask_later(self, feed: Feed, link: Link, error: CommandError) -> None:
        def again() -> None:
            self._later.discard(timer)
            if link is self._link and self._feeds.get(feed.channel.name) is feed:
                self._ask(feed)

        pause = random.uniform(*ask_again_between(error.retry_after_seconds))
        timer = self._loop.call_later(pause, again)
        self._later.add(timer)

    def _started(self, feed: Feed, position: Position, given: object, link: Link) -> None:
        feed.given = given
        source = self._source(feed, link, newer=link is self._link and self._is_brought(feed))
        feed.put(feed.channel.subscribed(position, source))
        feed.started.set()

    def _end_feed(self, feed: Feed, error: Exception | None) -> None:
        del self._feeds[feed.channel.name]
        feed.end(error)

    def _drop(self, feed: Feed) -> None:
        feed.abandoned = True
        feed.end()
        name = feed.channel.name
        if self._feeds.get(name) is not feed:
            return
        del self._feeds[name]
        for former in self._before:
            former.epochs.pop(name, None)
        if self._link is not None:
            self._link.epochs.pop(name, None)
            self._unsubscribe(name, self._link)

    def _unsubscribe(self, name: str, link: Link) -> None:
        """The answer changes nothing."""
        link.send(self._commands.make("unsubscribe", lambda _: None, own=True, channel=name))

    def _is_brought(self, feed: Feed) -> bool:
        """Whether a connection that was taken over from still brings the channel."""
        return any(feed.channel.name in link.epochs for link in self._before)

    def _source(self, feed: Feed, link: Link, *, newer: bool) -> Source:
        # While two connections bring a channel, one is for what has no offset to compare.
        carried = self._link is not None and feed.channel.name in self._link.epochs
        return Source(link.epochs, link is self._link or not carried, newer)

    # -- what the connections tell ---------------------------------------------------------

    def wanted(self) -> tuple[Mapping[str, object], ...]:
        return tuple(feed.channel.request() for feed in self._feeds.values())

    def up(self, link: Link) -> None:
        if self._link is not None:
            self._before.add(self._link)
        self._link = link
        self._commands.forget_own()
        for name in link.wire.in_url - self._feeds.keys():
            self._unsubscribe(name, link)
        for name, feed in self._feeds.items():
            if name not in link.wire.in_url:
                self._ask(feed)
        # After the subscribes: a publisher may wait for its own message.
        for command in self._commands.unsent():
            link.send(command)
        self._up.set()

    def down(self, link: Link) -> None:  # noqa: ARG002 - port
        self._up.clear()
        self._link = None

    def over(self, link: Link) -> None:
        text = f"the connection to {self._hub} ended before the reply"
        self._commands.lost(link, ConnectionLostError(text))
        if link in self._before:
            self._before.remove(link)
            for feed in self._feeds.values():
                if not self._is_brought(feed):
                    feed.put(feed.channel.release(everything=True))

    def heard(self, frame: frames.Frame, raw: bytes, link: Link) -> None:
        feed = self._feeds.get(frame.channel)
        if frame.op == "reply":
            self._commands.reply(frame)
        elif feed is None:
            return
        elif frame.op == "subscribed":
            self._started(feed, frames.position(frame.position), frames.given(frame), link)
        elif frame.op == "unsubscribed":
            # An operator's doing, which must not be undone by asking again, or its natural end.
            if frame.reason == _ENDED:
                feed.put(feed.channel.release(everything=True))
                self._end_feed(feed, None)
            else:
                self._end_feed(feed, CommandError("unsubscribed", frame.reason))
        elif frame.op in _OF_A_CHANNEL:
            newer = link is self._link and self._is_brought(feed)
            source = self._source(feed, link, newer=newer)
            feed.put(feed.channel.push(frame, raw, source))

    async def room(self, channel: str) -> None:
        """The one wait without a time-out: how long the application takes is its own affair."""
        feed = self._feeds.get(channel)
        while feed is not None and feed.holds(OVERFULL if self._commands.asking else 1):
            self._room.clear()
            await self._room.wait()

    # -- the end ---------------------------------------------------------------------------

    async def _keep_connected(self) -> None:
        try:
            await self._connections.run()
        except Exception as error:  # noqa: BLE001 - a defect must end iterations, not hang them
            error.add_note(f"hub: {self._hub}")
            self._finish(error, for_feeds=error)

    def _finish(self, error: Exception, *, for_feeds: Exception | None) -> None:
        first = self._end is None
        self._end = self._end or error
        for timer in self._later:
            timer.cancel()
        for feed in self._feeds.values():
            feed.end(for_feeds)
        self._commands.fail(error)
        # Wakes those that wait for a connection, to find out that there will be none.
        self._up.set()
        if first:
            # The application's own code comes last: what it raises must leave nobody waiting.
            self._report(ConnectionState("closed", str(error)))


def ask_again_between(told_seconds: float) -> tuple[float, float]:
    """When a subscription that was refused for now is asked for again, in seconds.

    On top of what the hub says, because many clients are told the same second. The rest is a
    guess, not measured.
    """
    return told_seconds + 1.0, told_seconds + 3.0


def make_dialers(transports: tuple[str, ...]) -> dict[str, Dialer]:
    """In the order given; raise `ValueError` for a name that is no transport."""
    kinds: dict[str, type[WebSocketDialer | SseDialer | PollDialer]] = {
        WebSocketDialer.transport: WebSocketDialer,
        SseDialer.transport: SseDialer,
        PollDialer.transport: PollDialer,
    }
    unknown = set(transports) - kinds.keys()
    if unknown or not transports:
        raise ValueError(f"transports are {transports!r}, allowed are {', '.join(kinds)}")
    return {name: kinds[name]() for name in transports}
