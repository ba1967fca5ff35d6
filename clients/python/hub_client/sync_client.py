"""`SyncHubClient` subscribes without asyncio, in scripts and threads.

A `HubClient` runs in a thread of its own, and each call here waits for it. Nothing is read ahead
beyond the client's own bounded queue, so a slow reader is told in a gap which messages were
dropped.
"""

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, Literal, Self, TypeVar, Unpack, overload

from hub_client.client import HubClient
from hub_client.errors import ClosedError, HubClientError
from hub_client.feed import Subscription
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
from hub_client.publishing import PublishOptions
from hub_client.sync_subscription import OnGap, SyncSubscription
from hub_client.tokens import Token

ResultT = TypeVar("ResultT")


class SyncHubClient:
    """Subscribe to a hub and command it; used with `with`, shared by threads.

    It stays connected as `HubClient` does, and raises the same errors.
    """

    def __init__(
        self,
        url: str,
        *,
        token: Token = None,
        transports: tuple[str, ...] = ("websocket", "sse", "poll"),
        options: ClientOptions | None = None,
    ) -> None:
        """Take the arguments of `HubClient`; the client's own thread calls `token` and
        `options.on_state`."""
        self._client = HubClient(url, token=token, transports=transports, options=options)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Start to connect, without waiting for it. Raises as entering a `HubClient` does."""
        if self._loop is not None:
            raise ClosedError("this client is open already: make another one")
        self._loop = asyncio.new_event_loop()
        # A daemon, so that a script that forgets to close still ends.
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="hub_client", daemon=True
        )
        self._thread.start()
        try:
            self._run(self._connect())
        except BaseException:
            self._stop()
            raise
        return self

    async def _connect(self) -> None:
        self._client.connect()

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect; iterations in other threads end quietly. Harmless when called twice."""
        if self._loop is not None:
            try:
                self._run(self._client.close())
            finally:
                self._stop()

    def _stop(self) -> None:
        loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    def wait_connected(self, *, timeout_seconds: float = 10.0) -> None:
        """Return once connected; raise `TimeoutError`, or the error that ended the client."""
        self._run(self._client.wait_connected(timeout_seconds=timeout_seconds))

    @property
    def data(self) -> Any:
        """The same as `HubClient.data`."""
        return self._client.data

    @overload
    def subscribe(
        self,
        channel: str,
        *,
        state: bool,
        gaps: bool = False,
        presence: bool = False,
        on_gap: OnGap | None = None,
        **options: Unpack[SubscribeOptions],
    ) -> "SyncSubscription[Item]": ...

    @overload
    def subscribe(
        self,
        channel: str,
        *,
        gaps: Literal[False] = False,
        presence: Literal[False] = False,
        get_state: Callable[[], Mapping[str, Any]] | None = None,
        on_gap: OnGap | None = None,
        **options: Unpack[SubscribeOptions],
    ) -> "SyncSubscription[Message]": ...

    @overload
    def subscribe(
        self,
        channel: str,
        *,
        gaps: bool = False,
        presence: bool = False,
        get_state: Callable[[], Mapping[str, Any]] | None = None,
        on_gap: OnGap | None = None,
        **options: Unpack[SubscribeOptions],
    ) -> "SyncSubscription[Message | Gap | Presence]": ...

    def subscribe(  # noqa: PLR0913 - as there
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
        get_state: Callable[[], Mapping[str, Any]] | None = None,
        state: bool = False,
        joined: bool = False,
        on_gap: OnGap | None = None,
    ) -> "SyncSubscription[Any]":
        """Begin a subscription now, as `HubClient.subscribe` does.

        The thread that iterates calls `on_gap`.
        """

        async def begin() -> Subscription[Item]:
            return self._client.subscribe(
                channel,
                since=since,
                last=last,
                fill=fill,
                filter=filter,
                gaps=True,
                presence=presence,
                presence_data=presence_data,
                every_ms=every_ms,
                get_state=None if get_state is None else partial(asyncio.to_thread, get_state),
                state=state,
                joined=joined,
            )

        return SyncSubscription[Any](self._run(begin()), self._submit, gaps=gaps, on_gap=on_gap)

    @overload
    def subscribe_pattern(
        self,
        pattern: str,
        *,
        gaps: Literal[False] = False,
        presence: Literal[False] = False,
        on_gap: OnGap | None = None,
        **options: Unpack[SubscribePatternOptions],
    ) -> "SyncSubscription[Message]": ...

    @overload
    def subscribe_pattern(
        self,
        pattern: str,
        *,
        gaps: bool = False,
        presence: bool = False,
        on_gap: OnGap | None = None,
        **options: Unpack[SubscribePatternOptions],
    ) -> "SyncSubscription[Message | Gap | Presence]": ...

    def subscribe_pattern(  # noqa: PLR0913 - as there
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
    ) -> "SyncSubscription[Any]":
        """Subscribe to a pattern, as `HubClient.subscribe_pattern` does."""

        async def begin() -> Subscription[Item]:
            return self._client.subscribe_pattern(
                pattern,
                since=since,
                last=last,
                fill=fill,
                filter=filter,
                gaps=True,
                presence=presence,
            )

        return SyncSubscription[Any](self._run(begin()), self._submit, gaps=gaps, on_gap=on_gap)

    @overload
    def publish(
        self, channel: str, data: object, *, echo: bool = True, **options: Unpack[PublishOptions]
    ) -> Published: ...

    @overload
    def publish(
        self,
        channel: ManyChannels,
        data: object,
        *,
        echo: bool = True,
        **options: Unpack[PublishOptions],
    ) -> tuple[Published | HubClientError, ...]: ...

    def publish(
        self,
        channel: str | ManyChannels,
        data: object,
        *,
        echo: bool = True,
        **options: Unpack[PublishOptions],
    ) -> Published | tuple[Published | HubClientError, ...]:
        """Publish as `HubClient.publish` does; back ends use `SyncPublisher`, which retries."""
        if isinstance(channel, str):
            return self._run(self._client.publish(channel, data, echo=echo, **options))
        return self._run(self._client.publish(channel, data, echo=echo, **options))

    def history(
        self,
        channel: str,
        *,
        since: Position | str | None = None,
        limit: int | None = None,
        from_time: Moment | None = None,
        reverse: bool = False,
    ) -> HistoryPage:
        """Return a page of history, as `HubClient.history` does."""
        return self._run(
            self._client.history(
                channel, since=since, limit=limit, from_time=from_time, reverse=reverse
            )
        )

    def presence(self, channel: str) -> tuple[Member, ...]:
        """Return the present members."""
        return self._run(self._client.presence(channel))

    def presence_count(self, channel: str) -> int:
        """Return the number of present members."""
        return self._run(self._client.presence_count(channel))

    def presence_update(self, channel: str, data: object) -> None:
        """Replace this member's own data."""
        self._run(self._client.presence_update(channel, data))

    def ping(self) -> float:
        """Return the seconds that a command takes to the hub and back."""
        return self._run(self._client.ping())

    def _submit(
        self, call: "Coroutine[Any, Any, ResultT]"
    ) -> "concurrent.futures.Future[ResultT] | None":
        """Run `call` in the client's thread; return None where the client is closed."""
        if self._loop is None:
            call.close()
            return None
        return asyncio.run_coroutine_threadsafe(call, self._loop)

    def _run(self, call: "Coroutine[Any, Any, ResultT]") -> ResultT:
        asked = self._submit(call)
        if asked is None:
            raise ClosedError("the client is not entered: use `with SyncHubClient(...)`")
        try:
            return asked.result()
        except BaseException:
            asked.cancel()
            raise
