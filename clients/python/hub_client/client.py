"""`HubClient`: one connection to a hub, shared by all its subscriptions and commands."""

import asyncio
from typing import Any, Literal, Self, Unpack, overload

from hub_client import calls
from hub_client.channel import Channel
from hub_client.channels import Channels
from hub_client.errors import ClosedError, HubClientError
from hub_client.feed import Feed, GetState, OnGap, Subscription, Wanted
from hub_client.messages import (
    Filter,
    Gap,
    HistoryPage,
    Item,
    ManyChannels,
    Member,
    Message,
    Moment,
    Position,
    Positions,
    Presence,
    Published,
)
from hub_client.options import ChannelOptions, ClientOptions, PatternOptions
from hub_client.pattern import Pattern
from hub_client.publishing import Outgoing, PublishOptions
from hub_client.route import find_route
from hub_client.tokens import Token, TokenSource
from hub_client.transport import Target, check_base_url


class HubClient:
    """Subscribes to a hub and commands it; used with `async with`.

    It connects in the background and stays connected: an iteration waits through outages
    and goes on where it was. Only what the hub forbids to repeat (close codes 44xx and the
    like) ends it, as a `RejectedError` in every iteration and command.
    """

    def __init__(
        self,
        url: str,
        *,
        token: Token = None,
        transports: tuple[str, ...] = ("websocket", "sse", "poll"),
        options: ClientOptions | None = None,
    ) -> None:
        """Remember what to connect to; entering it connects.

        Args:
            url: of the hub, `http` or `https`, with its base path if it has one.
            token: the subscriber's token, or a callable (async or not) that gives one. It is
                asked again before the token ends, and once after a refusal, and has a minute.
            transports: tried in this order; `websocket`, `sse` and `poll` exist.
            options: everything else.

        Raises:
            ValueError: the URL is not one of a hub, or the environment names a proxy or
                certificates for it that cannot be used.
        """
        self._options = options or ClientOptions()
        self._target = Target(
            check_base_url(url),
            token=None,
            max_frame_bytes=self._options.max_frame_bytes,
            headers=self._options.headers,
            route=find_route(url),
        )
        self._token = token
        self._transports = transports
        self._channels: Channels | None = None

    async def __aenter__(self) -> Self:
        """Start connecting; does not wait for it.

        Raises:
            ValueError: a transport does not exist.
            ClosedError: it was entered before and is open.
        """
        self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def connect(self) -> None:
        """Start connecting, also again: after `close`, or after an error that ended the client.

        The subscriptions that nobody closed go on after their last message, in a new `async for`
        over the same object. Raises as entering the client does.
        """
        former = self._channels
        if former is not None and former.is_open:
            raise ClosedError("this client is open already: make another one")
        tokens = TokenSource(self._token)
        self._channels = Channels(self._target, tokens, self._transports, self._options)
        if former is not None:
            self._channels.take_over(former)

    async def close(self) -> None:
        """Disconnect, in about a second at most; iterations under way end quietly."""
        await self._open_channels().close()

    async def wait_connected(self, *, timeout_seconds: float = 10.0) -> None:
        """Return once connected; raise `TimeoutError`, or the error that ended the client."""
        channels = self._open_channels()
        try:
            async with asyncio.timeout(timeout_seconds):
                await channels.wait_connected()
        except TimeoutError:
            raise TimeoutError(f"{channels.trouble()} in {timeout_seconds:g} seconds") from None

    @property
    def data(self) -> Any:
        """What the application that the hub asks gave with this connection; None for nothing."""
        return self._open_channels().given

    @overload
    def subscribe(
        self,
        channel: str,
        *,
        state: bool,
        gaps: bool = False,
        presence: bool = False,
        get_state: GetState | None = None,
        on_gap: OnGap | None = None,
        **options: Unpack[ChannelOptions],
    ) -> Subscription[Item]: ...

    @overload
    def subscribe(
        self,
        channel: str,
        *,
        gaps: Literal[False] = False,
        presence: Literal[False] = False,
        get_state: GetState | None = None,
        on_gap: OnGap | None = None,
        **options: Unpack[ChannelOptions],
    ) -> Subscription[Message]: ...

    @overload
    def subscribe(
        self,
        channel: str,
        *,
        gaps: Literal[True],
        presence: Literal[False] = False,
        get_state: GetState | None = None,
        on_gap: OnGap | None = None,
        **options: Unpack[ChannelOptions],
    ) -> Subscription[Message | Gap]: ...

    @overload
    def subscribe(
        self,
        channel: str,
        *,
        gaps: bool = False,
        presence: bool = False,
        get_state: GetState | None = None,
        on_gap: OnGap | None = None,
        **options: Unpack[ChannelOptions],
    ) -> Subscription[Message | Gap | Presence]: ...

    def subscribe(  # noqa: PLR0913 - what a subscription may ask for
        self,
        channel: str,
        *,
        since: Position | str | None = None,
        last: int | None = None,
        fill: bool = False,
        filter: Filter | None = None,  # noqa: A002 - as the wire calls it
        gaps: bool = False,
        presence: bool = False,
        presence_data: object = None,
        every_ms: int | None = None,
        get_state: GetState | None = None,
        state: bool = False,
        joined: bool = False,
        on_gap: OnGap | None = None,
    ) -> Subscription[Any]:
        """Begin a subscription now and return its iterator.

        Args:
            channel: one subscription per channel and client.
            since: resume after this position; wins over `last`.
            last: begin with the newest `last` messages.
            fill: have the hub refill from history what a slow reader missed.
            filter: only messages with such tags, as `{"league": "nba"}`.
            gaps: show `Gap` objects in the iteration, where the messages would have been.
            presence: show `Presence` objects in the iteration.
            presence_data: what this member says of itself, 4 KiB of JSON at most.
            every_ms: the newest of each key, or of the channel, at most that often.
            get_state: called (and awaited, if that is possible) at the start and whenever messages
                are missing; returns `{"data": ..., "position": ...}`, the application's own state,
                which comes as a `Message` with `state` before what follows that position.
            state: rows of a keyed channel first, as `State` objects, then what follows them; rows
                again where history cannot make a resume whole.
            joined: what a start or a resume replays comes as one `Message`, whose data is that of
                all, one after the other, where all of it is text; without `filter` and `state`.
            on_gap: called (and awaited, if that is possible) with each gap, in its place.

        Raises:
            AlreadySubscribedError: this client has a subscription to the channel.
            ValueError: `since` is not a position; `joined` has a `filter` or `state` beside it.
            ClosedError, RejectedError: the client is not entered, or has ended.
        """
        channels = self._open_channels()
        feed = channels.subscribe(
            Channel(
                channel,
                since=None if since is None else Position.of(since),
                last=last,
                fill=fill,
                filter=filter,
                presence_data=presence_data,
                every_ms=every_ms,
                state=state,
            ),
            joined=joined,
        )
        wanted = Wanted(
            gaps=gaps, presence=presence, on_gap=on_gap, get_state=get_state, joined=joined
        )
        return self._subscription(feed, wanted)

    @overload
    def subscribe_pattern(
        self,
        pattern: str,
        *,
        gaps: Literal[False] = False,
        presence: Literal[False] = False,
        on_gap: OnGap | None = None,
        **options: Unpack[PatternOptions],
    ) -> Subscription[Message]: ...

    @overload
    def subscribe_pattern(
        self,
        pattern: str,
        *,
        gaps: bool = False,
        presence: bool = False,
        on_gap: OnGap | None = None,
        **options: Unpack[PatternOptions],
    ) -> Subscription[Message | Gap | Presence]: ...

    def subscribe_pattern(  # noqa: PLR0913 - what a subscription may ask for
        self,
        pattern: str,
        *,
        since: Positions | None = None,
        last: int | None = None,
        fill: bool = False,
        filter: Filter | None = None,  # noqa: A002 - as the wire calls it
        gaps: bool = False,
        presence: bool = False,
        on_gap: OnGap | None = None,
    ) -> Subscription[Any]:
        """Subscribe to every channel that `pattern` matches, now and later, as `subscribe` does.

        `*` is one segment of a name between `:` or `.`, `**` at the end all the rest. Messages say
        their channel, and are in order within it. A channel comes here and to its own
        subscription, where there are both.

        Args:
            pattern: such as `prices:*`; one subscription per pattern and client.
            since: resume after these positions (`Subscription.positions`); a channel that they do
                not name is read from its beginning, as far as history holds. None: from now on.
            last, fill, filter, gaps, presence, on_gap: as of `subscribe`, in each channel.
        """
        places = None if since is None else {name: Position.of(at) for name, at in since.items()}
        feed = self._open_channels().subscribe(
            Pattern(pattern, since=places, last=last, fill=fill, filter=filter)
        )
        return self._subscription(feed, Wanted(gaps=gaps, presence=presence, on_gap=on_gap))

    def _subscription(self, feed: Feed, wanted: Wanted) -> Subscription[Any]:
        return Subscription[Item](
            feed,
            wanted,
            release=self._release,
            trouble=lambda: self._open_channels().trouble(),
            history=self._page,
        )

    @overload
    async def publish(
        self, channel: str, data: object, *, echo: bool = True, **options: Unpack[PublishOptions]
    ) -> Published: ...

    @overload
    async def publish(
        self,
        channel: ManyChannels,
        data: object,
        *,
        echo: bool = True,
        **options: Unpack[PublishOptions],
    ) -> tuple[Published | HubClientError, ...]: ...

    async def publish(
        self,
        channel: str | ManyChannels,
        data: object,
        *,
        echo: bool = True,
        **options: Unpack[PublishOptions],
    ) -> Published | tuple[Published | HubClientError, ...]:
        """Publish over this client's session; its token must grant it.

        Nothing is retried here: after `ConnectionLostError` or `CommandTimeoutError` the
        outcome is unknown, and a repeat is harmless only with an `idempotency_key`.
        Backends publish with `Publisher`, which does that by itself.

        In a list of channels it is published in each of them. What became of it in each is told
        in their order: `Published`, or the error that publishing in that channel alone raises.

        Args:
            channel: one channel, or a list of them.
            data: anything JSON can hold; a `msgspec.Raw` is sent byte for byte.
            echo: whether this client's own subscription gets it back.
            options: as of `Publisher.publish`.

        Raises:
            CommandError: the hub refuses it; it did not happen.
            TypeError, ValueError: `data` is nothing that JSON can hold; a channel is named twice.
        """
        request, key = self._open_channels().request, options.get("idempotency_key")
        if isinstance(channel, str):
            item = Outgoing.of(channel, data, **options)
            return await calls.publish(request, item, echo=echo, idempotency_key=key)
        items = Outgoing.to_each(channel, data, **options)
        return await calls.publish_each(request, items, echo=echo, idempotency_key=key)

    async def history(
        self,
        channel: str,
        *,
        since: Position | str | None = None,
        limit: int | None = None,
        from_time: Moment | None = None,
        reverse: bool = False,
    ) -> HistoryPage:
        """A page of what the hub holds; `since=page.next` asks for the page that goes on.

        Args:
            channel: of which.
            since: only what follows this position; with `reverse` what is before it.
            limit: at most so many messages, 1 to 1,000; None: 100.
            from_time: nothing older, by the hub's clock: a `datetime` with its time zone,
                milliseconds since 1970, or ISO 8601.
            reverse: newest first; without it oldest first.

        Raises:
            ValueError: `since` is not a position, or `from_time` has no time zone.
            CommandError: the hub refuses, as a channel without a grant.
        """
        request = self._open_channels().request
        return await calls.history(
            request, channel, since=since, limit=limit, from_time=from_time, reverse=reverse
        )

    async def _page(self, channel: str, since: Position) -> HistoryPage:
        return await self.history(channel, since=since, limit=1000)

    async def presence(self, channel: str) -> tuple[Member, ...]:
        """Who is present now; raise `CommandError` where the channel keeps no presence."""
        return await calls.members(self._open_channels().request, channel)

    async def presence_count(self, channel: str) -> int:
        """How many members are present now."""
        return await calls.member_count(self._open_channels().request, channel)

    async def presence_update(self, channel: str, data: object) -> None:
        """Say something else of this member; raise `CommandError` where it is none.

        Of several connections of one subject counts what was said last.
        """
        channels = self._open_channels()
        await calls.presence_update(channels.request, channel, data)
        channels.said(channel, data)

    async def ping(self) -> float:
        """Seconds that a command takes to the hub and back."""
        return await calls.ping(self._open_channels().request)

    def _release(self, feed: Feed) -> None:
        self._open_channels().release(feed)

    def _open_channels(self) -> Channels:
        if self._channels is None:
            raise ClosedError("the client is not entered: use `async with HubClient(...)`")
        return self._channels
