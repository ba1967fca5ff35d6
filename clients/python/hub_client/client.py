"""`HubClient`: one connection to a hub, shared by all its subscriptions and commands."""

import asyncio
from typing import Any, Literal, Self, Unpack, overload

from hub_client import calls
from hub_client.channel import SubscribedChannel
from hub_client.channels import Channels
from hub_client.errors import ClosedError, HubClientError
from hub_client.feed import Feed, GetState, OnGap, Subscription, WantedItems
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
from hub_client.options import ClientOptions, SubscribeOptions, SubscribePatternOptions
from hub_client.pattern import Pattern
from hub_client.publishing import Outgoing, PublishOptions
from hub_client.route import find_route
from hub_client.tokens import Token, TokenSource
from hub_client.transport import Target, check_base_url


class HubClient:
    """Subscribe to a hub and command it; used with `async with`.

    The client connects in the background and stays connected: an iteration waits through outages
    and goes on behind its last message. It ends only where the hub forbids to come back (close
    codes 44xx and the like); then every iteration and command raises a `RejectedError`.
    """

    def __init__(
        self,
        url: str,
        *,
        token: Token = None,
        transports: tuple[str, ...] = ("websocket", "sse", "poll"),
        options: ClientOptions | None = None,
    ) -> None:
        """Remember the hub's address; entering the client connects.

        Args:
            url: The hub's URL, `http` or `https`, with its base path if it has one.
            token: The subscriber's token, or a callable (async or not) that returns one within
                60 s. It is called again before the token expires, and once after a refusal.
            transports: The transports `websocket`, `sse` and `poll`, tried in this order.
            options: All other settings.

        Raises:
            ValueError: `url` is no URL of a hub, or the environment names a proxy or certificates
                that cannot be used.
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
        """Start to connect, without waiting for the connection.

        Raises:
            ValueError: A transport does not exist.
            ClosedError: The client is open already.
        """
        self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def connect(self) -> None:
        """Start to connect, also again: after `close`, or after an error that ended the client.

        The subscriptions that were not closed go on behind their last message, in a new `async for`
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
        """The data that the application gave with this connection; None where it gave none."""
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
        **options: Unpack[SubscribeOptions],
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
        **options: Unpack[SubscribeOptions],
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
        **options: Unpack[SubscribeOptions],
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
        **options: Unpack[SubscribeOptions],
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
            channel: The channel's name; a client has one subscription to each channel.
            since: Resume behind this position; `last` is then ignored.
            last: Begin with the newest `last` messages.
            fill: Have the hub refill from history the messages that a slow reader missed.
            filter: Bring only messages with such tags, as `{"league": "nba"}`.
            gaps: Yield `Gap` objects too, in the place of the missing messages.
            presence: Yield `Presence` objects too.
            presence_data: This member's own data, at most 4 KiB of JSON.
            every_ms: Bring the newest message of each key, or of the channel, at most that often.
            get_state: The application's own state. It is called (and awaited if it can be) at the
                start and whenever messages are missing, and returns `{"data": ..., "position":
                ...}`. The state comes as a `Message` with `state`, before the messages behind its
                position.
            state: Yield the rows of a keyed channel first, as `State` objects, then the changes;
                the rows come again where history cannot make a resume whole.
            joined: Join the messages that a start or a resume replays into one `Message`, where all
                their data is text. It excludes `filter` and `state`.
            on_gap: It is called (and awaited if it can be) with each gap, in its place.

        Raises:
            AlreadySubscribedError: This client has a subscription to the channel.
            ValueError: `since` is not a position; `joined` has a `filter` or `state` beside it.
            ClosedError, RejectedError: The client is not entered, or has ended.
        """
        channels = self._open_channels()
        feed = channels.subscribe(
            SubscribedChannel(
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
        wanted = WantedItems(
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
        **options: Unpack[SubscribePatternOptions],
    ) -> Subscription[Message]: ...

    @overload
    def subscribe_pattern(
        self,
        pattern: str,
        *,
        gaps: bool = False,
        presence: bool = False,
        on_gap: OnGap | None = None,
        **options: Unpack[SubscribePatternOptions],
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

        In a pattern `*` stands for one segment of a name between `:` or `.`, and `**` at the end
        for all the rest. Each message names its channel, and messages are in order within a
        channel. A channel with a subscription of its own comes to both.

        Args:
            pattern: Such as `prices:*`; a client has one subscription to each pattern.
            since: Resume behind these positions (`Subscription.positions`). A channel without a
                position is read from its beginning, as far as history holds. None: from now on.
            last, fill, filter, gaps, presence, on_gap: As in `subscribe`, for each channel.
        """
        places = None if since is None else {name: Position.of(at) for name, at in since.items()}
        feed = self._open_channels().subscribe(
            Pattern(pattern, since=places, last=last, fill=fill, filter=filter)
        )
        return self._subscription(feed, WantedItems(gaps=gaps, presence=presence, on_gap=on_gap))

    def _subscription(self, feed: Feed, wanted: WantedItems) -> Subscription[Any]:
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

        Nothing is retried here. After `ConnectionLostError` or `CommandTimeoutError` the outcome is
        unknown, and a repetition is harmless only with an `idempotency_key`. Back ends publish with
        `Publisher`, which retries.

        With a list of channels the data is published in each of them. The answer has one entry for
        each channel, in the same order: `Published`, or the error that publishing in that channel
        alone would raise.

        Args:
            channel: One channel, or a list of channels.
            data: Any JSON value; a `msgspec.Raw` is sent byte for byte.
            echo: Whether this client's own subscription receives the message.
            options: As of `Publisher.publish`.

        Raises:
            CommandError: The hub refuses the publication; it did not happen.
            TypeError, ValueError: `data` is no JSON value; a channel is named twice.
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
        """Return a page of history; `since=page.next` asks for the next page.

        Args:
            channel: The channel's name.
            since: Return only messages behind this position; with `reverse` those before it.
            limit: At most so many messages, 1 to 1,000; None stands for 100.
            from_time: Return no older messages, by the hub's clock: a `datetime` with its time
                zone, milliseconds since 1970, or ISO 8601.
            reverse: Newest first; without it oldest first.

        Raises:
            ValueError: `since` is not a position, or `from_time` has no time zone.
            CommandError: The hub refuses, such as for a channel without a grant.
        """
        request = self._open_channels().request
        return await calls.history(
            request, channel, since=since, limit=limit, from_time=from_time, reverse=reverse
        )

    async def _page(self, channel: str, since: Position) -> HistoryPage:
        return await self.history(channel, since=since, limit=1000)

    async def presence(self, channel: str) -> tuple[Member, ...]:
        """Return the present members; raise `CommandError` where the channel keeps no presence."""
        return await calls.members(self._open_channels().request, channel)

    async def presence_count(self, channel: str) -> int:
        """Return the number of present members."""
        return await calls.member_count(self._open_channels().request, channel)

    async def presence_update(self, channel: str, data: object) -> None:
        """Replace this member's own data; raise `CommandError` where it is no member.

        Among several connections of one subject the latest data counts.
        """
        channels = self._open_channels()
        await calls.presence_update(channels.request, channel, data)
        channels.said(channel, data)

    async def ping(self) -> float:
        """Return the seconds that a command takes to the hub and back."""
        return await calls.ping(self._open_channels().request)

    def _release(self, feed: Feed) -> None:
        self._open_channels().release(feed)

    def _open_channels(self) -> Channels:
        if self._channels is None:
            raise ClosedError("the client is not entered: use `async with HubClient(...)`")
        return self._channels
