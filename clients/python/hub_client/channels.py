"""The channels that a client wants, and those that the present connection carries.

It holds an open client's channels, commands and connections, as the browser client does
(clients/js/src/client.js).
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Mapping

import msgspec

from hub_client import frames
from hub_client.channel import PushSource, SubscribedChannel
from hub_client.commands import Command, Commands, Outcome
from hub_client.connection import Connections
from hub_client.errors import (
    AlreadySubscribedError,
    ClosedError,
    CommandError,
    ConnectionLostError,
)
from hub_client.feed import OVERFULL, Feed
from hub_client.feeds import Feeds
from hub_client.link import ClientLink
from hub_client.messages import ConnectionState, Position
from hub_client.opening import make_dialers
from hub_client.options import ClientOptions
from hub_client.outages import OutageLog
from hub_client.pattern import Pattern, key_of
from hub_client.tokens import TokenSource
from hub_client.transport import Target, public_url

_LOG = logging.getLogger("hub_client")
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
        self._feeds = Feeds()
        self._link: ClientLink | None = None
        self._before: set[ClientLink] = set()
        """Former connections that may still bring pushes."""
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
        """The data that the application gave with the present connection; None without one."""
        return None if self._link is None else self._link.given

    def trouble(self) -> str:
        """Return to which hub there is no connection, and why; empty where there is one."""
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
        """Return once there is a connection; raise the error that ended the client."""
        await self._up.wait()
        self.check_open()

    def check_open(self) -> None:
        """Raise the error that ended the client, if it has ended."""
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

    def subscribe(self, channel: SubscribedChannel | Pattern, *, joined: bool = False) -> Feed:
        """Raise `AlreadySubscribedError`, `ValueError` as `Feed` does, or the error that ended the
        client."""
        self.check_open()
        feed = Feed(channel, limits=self._options.feed, joined=joined)
        former = self._feeds.get(channel.key)
        if former is not None and not former.abandoned:
            raise AlreadySubscribedError(f"subscribed to {channel.name!r} already")
        if former is not None:
            self._drop(former)
        self._add(feed)
        return feed

    def said(self, name: str, data: object) -> None:
        """Note a member's new data, for its next subscribe command."""
        if (known := self._feeds.by_name(name)) is not None:
            known[1].presence_data = data

    def take_over(self, former: "Channels") -> None:
        """Go on with the subscriptions of a client that was closed."""
        for feed in former._feeds:
            if not feed.abandoned:
                feed.reopen()
                self._add(feed)

    def _add(self, feed: Feed) -> None:
        feed.on_room = self._room.set
        self._feeds.add(feed)
        if self._link is not None:
            self._ask(feed)

    def release(self, feed: Feed) -> None:
        """Unsubscribe soon; may be called in any thread, and after the loop has ended."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._drop, feed)

    def _ask(self, feed: Feed) -> None:
        """Subscribe by command. A subscription that is refused for now is asked for again, at once
        on a new connection; one that is refused for good has ended."""
        link, channel = self._link, feed.channel
        if link is None:
            return

        def told(outcome: Outcome) -> None:
            if not self._feeds.has(feed):
                return
            if isinstance(outcome, frames.Frame):
                if link.wire.starts_in_reply:
                    self._told(feed, outcome.ok, link)
            elif isinstance(outcome, CommandError) and outcome.retryable:
                # The stream may have told already: of a reply that comes later, or was lost.
                if channel.key not in link.epochs:
                    self._ask_later(feed, link, outcome)
            # Where it came twice, the stream tells where the first one started.
            elif isinstance(outcome, CommandError) and outcome.code != "conflict":
                self._end_feed(feed, outcome)

        fields = channel.request()
        link.send(self._commands.make("subscribe", told, own=True, **fields))

    def _ask_later(self, feed: Feed, link: ClientLink, error: CommandError) -> None:
        def again() -> None:
            self._later.discard(timer)
            if link is self._link and self._feeds.has(feed):
                self._ask(feed)

        pause = random.uniform(*ask_again_between(error.retry_after_seconds))
        timer = self._loop.call_later(pause, again)
        self._later.add(timer)

    def _told(self, feed: Feed, ok: msgspec.Raw, link: ClientLink) -> None:
        """Take the answer to a subscribe command, in the order of the stream."""
        if isinstance(feed.channel, Pattern):
            self._pattern_starts(feed, feed.channel, frames.begun_positions(ok), link)
        else:
            start, replayed, given = frames.subscribed(ok)
            name = feed.channel.name
            self._starts(name, start, link, of=feed.channel, replayed=replayed, given=given)

    def _pattern_starts(
        self, feed: Feed, pattern: Pattern, positions: Mapping[str, Position], link: ClientLink
    ) -> None:
        link.epochs[pattern.key] = ""
        pattern.begun = True
        for name, start in positions.items():
            self._starts(name, start, link, of=pattern.place(name))
        for by_name in [each.channel for each in self._feeds if each.channel.key in link.epochs]:
            # A channel without a publication is brought by the subscription by name alone.
            at = by_name.position
            if (
                isinstance(by_name, SubscribedChannel)
                and at is not None
                and pattern.matches(by_name.name)
            ):
                place = pattern.place(by_name.name)
                if place.position is None:
                    self._starts(by_name.name, at, link, of=place)
        feed.started.set()

    def _starts(
        self,
        name: str,
        start: Position,
        link: ClientLink,
        *,
        of: SubscribedChannel | None = None,
        replayed: int = 0,
        given: object = None,
    ) -> None:
        """Begin a channel on this connection: for the one subscription `of` that asked, or for any,
        and for each other one that misses nothing of the stream."""
        wanted = list(self._feeds.wanting(name))
        shared = any(place.key in link.epochs for _, place in wanted if place is not of)
        for feed, place in wanted:
            by_name = place is feed.channel
            is_new = not by_name and place.position is None
            if place is of or (of is None and by_name) or is_new or place.follows(start):
                feed.starts(start, replayed)
                feed.put(place.subscribed(start, self._source(place, link, shared=shared)))
                if by_name:
                    feed.given = given or feed.given
                    feed.started.set()

    def _end_feed(self, feed: Feed, error: Exception | None) -> None:
        self._feeds.remove(feed)
        feed.end(error)

    def _drop(self, feed: Feed) -> None:
        feed.abandoned = True
        feed.end()
        channel = feed.channel
        if not self._feeds.has(feed):
            return
        self._feeds.remove(feed)
        for link in (*self._before, self._link):
            if link is not None:
                for key in (channel.key, *channel.keys()):
                    link.epochs.pop(key, None)
        if self._link is not None:
            self._unsubscribe(channel.kind, channel.name, self._link)

    def _unsubscribe(self, kind: str, name: str, link: ClientLink) -> None:
        """Send an unsubscribe command; its answer changes nothing."""
        link.send(self._commands.make("unsubscribe", lambda _: None, own=True, **{kind: name}))

    def _is_brought(self, place: SubscribedChannel) -> bool:
        """Return whether a former connection still brings the channel."""
        return any(place.key in link.epochs for link in self._before)

    def _source(
        self, place: SubscribedChannel, link: ClientLink, *, shared: bool = False
    ) -> PushSource:
        # While two connections bring a channel, one is for what has no offset to compare.
        current = link is self._link
        carried = self._link is not None and place.key in self._link.epochs
        newer = current and self._is_brought(place)
        return PushSource(link.epochs, current or not carried, newer, shared)

    # -- what the connections tell ---------------------------------------------------------

    def wanted(self) -> tuple[Mapping[str, object], ...]:
        """Return the subscriptions that a URL may hold."""
        return tuple(channel.request() for channel in self._feeds.of_urls())

    def up(self, link: ClientLink) -> None:
        if self._link is not None:
            self._before.add(self._link)
        self._link = link
        self._commands.forget_own()
        for name in link.wire.in_url:
            if self._feeds.get(name) is None:
                self._unsubscribe("channel", name, link)
        for feed in self._feeds.in_order():
            if feed.channel.key not in link.wire.in_url:
                self._ask(feed)
        # After the subscribes: a publisher may wait for its own message.
        for command in self._commands.unsent():
            link.send(command)
        self._up.set()

    def down(self, link: ClientLink) -> None:  # noqa: ARG002 - port
        self._up.clear()
        self._link = None

    def over(self, link: ClientLink) -> None:
        text = f"the connection to {self._hub} ended before the reply"
        self._commands.lost(link, ConnectionLostError(text))
        if link in self._before:
            self._before.remove(link)
            for feed in self._feeds:
                for place in feed.channel.all_places():
                    if not self._is_brought(place):
                        feed.put(place.release(everything=True))

    def on_frame(self, frame: frames.Frame, raw: bytes, link: ClientLink) -> None:
        if frame.op == "reply":
            self._commands.reply(frame)
        elif frame.op == "subscribed" and frame.pattern:
            if (known := self._feeds.by_pattern(frame.pattern)) is not None:
                self._pattern_starts(*known, frames.places(frame.positions or {}), link)
        elif frame.op == "subscribed":
            start, given = frames.position(frame.position), frames.given(frame)
            self._starts(frame.channel, start, link, replayed=frame.replayed, given=given)
        elif frame.op == "unsubscribed":
            self._left(frame, link)
        elif frame.op in _OF_A_CHANNEL:
            for feed, place in self._feeds.places(frame.channel):
                feed.put(place.push(frame, raw, self._source(place, link)))
                if frame.op == "state" and link is self._link:
                    self._only_here(place)

    def _only_here(self, place: SubscribedChannel) -> None:
        """Note that a table begins anew: the former connection's pushes may be part of it
        already."""
        for former in self._before:
            former.epochs.pop(place.key, None)

    def _left(self, frame: frames.Frame, link: ClientLink) -> None:
        """End a subscription that an operator ended, without asking again, or whose channel has
        ended."""
        key = key_of(frame.pattern) if frame.pattern else frame.channel
        feed = self._feeds.get(key)
        if feed is not None and frame.reason == _ENDED:
            feed.put(feed.channel.release(everything=True))
            self._end_feed(feed, None)
        elif feed is not None:
            self._end_feed(feed, CommandError("unsubscribed", frame.reason))
        for _, place in self._feeds.places(frame.channel):
            # Its pattern goes on.
            if link.epochs.pop(place.key, None) is not None and frame.reason != _ENDED:
                _LOG.warning("%s: out of %r (%s)", self._hub, frame.channel, frame.reason)

    async def room(self, channel: str) -> None:
        """Wait until the application has room, without a time-out: the application decides how long
        it takes."""
        for feed, _ in list(self._feeds.places(channel)):
            while feed.holds(OVERFULL if self._commands.asking else 1):
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
        for feed in self._feeds:
            feed.end(for_feeds)
        self._commands.fail(error)
        # Wakes those that wait for a connection, to find out that there will be none.
        self._up.set()
        if first:
            # The application's own code comes last: its errors must leave no caller waiting.
            self._report(ConnectionState("closed", str(error)))


def ask_again_between(told_seconds: float) -> tuple[float, float]:
    """Return the bounds, in seconds, of the pause before a refused subscription is asked for again.

    The pause adds to the hub's own, because many clients are refused in the same second. The bounds
    are guesses, not measured.
    """
    return told_seconds + 1.0, told_seconds + 3.0
