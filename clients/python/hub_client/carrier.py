"""What a client holds while it is entered: its feeds, its open commands, its one runner."""

import asyncio
import contextlib

import msgspec

from hub_client.errors import (
    AlreadySubscribedError,
    ClosedError,
    ConnectionLostError,
    NotConnectedError,
)
from hub_client.feed import OVERFULL, Feed
from hub_client.messages import ConnectionState
from hub_client.opening import Opener
from hub_client.options import ClientOptions
from hub_client.outages import OutageLog
from hub_client.poll import PollDialer
from hub_client.replies import Replies, timed_out
from hub_client.runner import Runner
from hub_client.sequence import Sequence
from hub_client.session import Answered, Delivered, Event, Refused, Session, Started
from hub_client.sse import SseDialer
from hub_client.tokens import TokenSource
from hub_client.transport import ABNORMAL_CLOSE, Dialer, DisconnectedError, Target, public_url
from hub_client.websocket import WebSocketDialer


class Carrier:
    """Carries out what the session decides. Made and used in one event loop."""

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
        self._session = Session()
        self._feeds: dict[str, Feed] = {}
        self._replies = Replies()
        self._connected = asyncio.Event()
        self._room = asyncio.Event()
        self._end: Exception | None = None
        self._opener = Opener(
            make_dialers(transports),
            target,
            tokens=tokens,
            session=self._session,
            timeout_seconds=options.timing.open_timeout_seconds,
        )
        self._runner = Runner(
            self._opener,
            self,
            session=self._session,
            tokens=tokens,
            timing=options.timing,
            report=self._report,
        )
        self._job = asyncio.create_task(self._keep_connected())

    def trouble(self) -> str:
        """To which hub there is no connection, and why; empty where there is one."""
        if self._connected.is_set():
            return ""
        why = f" ({self._runner.trouble})" if self._runner.trouble else ""
        return f"no connection to {self._hub}{why}"

    async def close(self) -> None:
        """Disconnect; iterations end quietly, commands with `ClosedError`."""
        self._job.cancel()
        self._finish(ClosedError("the client is closed"), for_feeds=None)
        try:
            # Not awaited itself: who cancels this wait must not cut the clean-up short.
            await asyncio.wait({self._job})
        finally:
            await self._opener.close()

    def open_feed(self, sequence: Sequence) -> Feed:
        """Subscribe; raise `AlreadySubscribedError`, or what ended the client."""
        self._check_open()
        former = self._feeds.get(sequence.channel)
        if former is not None and not former.abandoned:
            raise AlreadySubscribedError(f"subscribed to {sequence.channel!r} already")
        if former is not None:
            self._drop(former)
        feed = Feed(sequence, limits=self._options.feed, on_room=self._room.set)
        self._feeds[sequence.channel] = feed
        self._session.sequences[sequence.channel] = sequence
        if self._connected.is_set():
            self._runner.send(*self._session.subscribe(sequence.channel))
        return feed

    def release(self, feed: Feed) -> None:
        """Unsubscribe soon; may be called in any thread, and after the loop has ended."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._drop, feed)

    async def wait_connected(self) -> None:
        """Return once there is a connection; raise what ended the client."""
        await self._connected.wait()
        self._check_open()

    async def request(self, op: str, **fields: object) -> msgspec.Raw:
        """Send a command and return its reply's `ok`.

        Raises:
            CommandError: the hub refused it.
            ConnectionLostError: the connection ended first; the outcome is unknown.
            CommandTimeoutError: no reply within `command_timeout_seconds`; as
                `NotConnectedError` where there was no connection to send it on.
            ClosedError, RejectedError: the client has ended.
        """
        self._check_open()
        seconds = self._options.command_timeout_seconds
        sent = False
        try:
            async with asyncio.timeout(seconds):
                await self.wait_connected()
                sent = True
                return await self._ask(op, fields)
        except TimeoutError:
            if not sent:
                text = f"{self.trouble()} in {seconds:g} seconds; {op} was not sent"
                raise NotConnectedError(text) from None
            raise timed_out(op, self._hub, seconds) from None

    async def _ask(self, op: str, fields: dict[str, object]) -> msgspec.Raw:
        command_id, raw = self._session.command(op, **fields)
        reply = self._replies.expect(command_id)
        # Lets a reader that waits for room go on: see `hub_client.feed`.
        self._room.set()
        self._runner.send(command_id, raw)
        try:
            return (await reply).ok
        finally:
            self._replies.forget(command_id)

    def awaits(self, command_id: int) -> bool:
        return command_id in self._replies

    def on_connected(self, subscribed: frozenset[str], carried: frozenset[str]) -> None:
        self._connected.set()
        for channel in subscribed - (carried & self._feeds.keys()):
            self._runner.send(*self._session.command("unsubscribe", channel=channel))
        for channel in self._feeds.keys() - carried:
            self._runner.send(*self._session.subscribe(channel))

    def on_disconnected(self) -> None:
        self._connected.clear()
        text = f"the connection to {self._hub} ended before the reply"
        self._replies.fail(ConnectionLostError(text))

    async def on_event(self, event: Event) -> None:
        match event:
            case Delivered(channel, items):
                feed = self._feeds[channel]
                feed.put(items)
                await self._wait_for_room(feed)
            case Started(channel):
                self._feeds[channel].started.set()
            case Answered(command_id, frame):
                self._replies.answer(command_id, frame)
            case Refused():
                self._refused(event)
            case _:
                pass

    def _refused(self, event: Refused) -> None:
        if event.error.retryable:
            # What keeps the hub from serving one channel keeps it from serving the others.
            raise DisconnectedError(ABNORMAL_CLOSE, f"{event.channel}: {event.error}")
        feed = self._feeds.pop(event.channel, None)
        self._session.sequences.pop(event.channel, None)
        if feed is not None:
            feed.end(event.error)

    async def _wait_for_room(self, feed: Feed) -> None:
        """The one wait without a time-out: how long the application takes is its own affair."""
        while feed.holds(OVERFULL if len(self._replies) else 1):
            self._room.clear()
            await self._room.wait()

    def _drop(self, feed: Feed) -> None:
        feed.abandoned = True
        feed.end()
        channel = feed.sequence.channel
        if self._feeds.get(channel) is feed:
            del self._feeds[channel]
            del self._session.sequences[channel]
            if self._connected.is_set():
                self._runner.send(*self._session.command("unsubscribe", channel=channel))

    async def _keep_connected(self) -> None:
        try:
            await self._runner.run()
        except Exception as error:  # noqa: BLE001 - a defect must end iterations, not hang them
            error.add_note(f"hub: {self._hub}")
            self._finish(error, for_feeds=error)

    def _finish(self, error: Exception, *, for_feeds: Exception | None) -> None:
        first = self._end is None
        self._end = self._end or error
        for feed in self._feeds.values():
            feed.end(for_feeds)
        self._replies.fail(error)
        # Wakes whoever waits for a connection, to find out that there will be none.
        self._connected.set()
        if first:
            # The application's own code comes last: what it raises must not leave anybody waiting.
            self._report(ConnectionState("closed", str(error)))

    def _check_open(self) -> None:
        if self._end is not None:
            raise self._end


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
