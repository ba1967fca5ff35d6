"""`SyncHubClient`: subscribe without asyncio, in scripts and threads.

A `HubClient` runs in a thread of its own, and each call here waits for it. Nothing is read ahead
beyond the client's own bounded queue: who is slower than the channel learns what was dropped.
"""

import asyncio
import concurrent.futures
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Mapping
from functools import partial
from typing import Any, Generic, Literal, Self, TypeVar, cast, overload

from hub_client.client import HubClient
from hub_client.errors import ClosedError
from hub_client.feed import ItemT_co, Subscription, position_after
from hub_client.messages import (
    Filter,
    Gap,
    HistoryPage,
    Item,
    Member,
    Message,
    Position,
    Presence,
    Published,
    Tags,
)
from hub_client.options import ClientOptions
from hub_client.tokens import Token

# What one turn between the two threads brings at most: a turn costs as much as ten messages. Guess.
_MAX_TAKEN = 100
OnGap = Callable[[Gap], object]
ResultT = TypeVar("ResultT")


class SyncHubClient:
    """Subscribes to a hub and commands it; used with `with`, shared by threads.

    It stays connected as `HubClient` does, and raises what that raises.
    """

    def __init__(
        self,
        url: str,
        *,
        token: Token = None,
        transports: tuple[str, ...] = ("websocket", "sse", "poll"),
        options: ClientOptions | None = None,
    ) -> None:
        """As `HubClient`; `token` and `options.on_state` are called in the client's own thread."""
        self._client = HubClient(url, token=token, transports=transports, options=options)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Start connecting; does not wait for it. Raises as entering a `HubClient` does."""
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
        """As of `HubClient`."""
        return self._client.data

    @overload
    def subscribe(
        self,
        channel: str,
        *,
        state: bool,
        since: Position | str | None = None,
        last: int | None = None,
        fill: bool = False,
        filter: Filter | None = None,
        gaps: bool = False,
        presence: bool = False,
        presence_data: object = None,
        every_ms: int | None = None,
        on_gap: OnGap | None = None,
    ) -> "SyncSubscription[Item]": ...

    @overload
    def subscribe(
        self,
        channel: str,
        *,
        since: Position | str | None = None,
        last: int | None = None,
        fill: bool = False,
        filter: Filter | None = None,
        gaps: Literal[False] = False,
        presence: Literal[False] = False,
        presence_data: object = None,
        every_ms: int | None = None,
        get_state: Callable[[], Mapping[str, Any]] | None = None,
        on_gap: OnGap | None = None,
    ) -> "SyncSubscription[Message]": ...

    @overload
    def subscribe(
        self,
        channel: str,
        *,
        since: Position | str | None = None,
        last: int | None = None,
        fill: bool = False,
        filter: Filter | None = None,
        gaps: bool = False,
        presence: bool = False,
        presence_data: object = None,
        every_ms: int | None = None,
        get_state: Callable[[], Mapping[str, Any]] | None = None,
        on_gap: OnGap | None = None,
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
        on_gap: OnGap | None = None,
    ) -> "SyncSubscription[Any]":
        """Begin a subscription now; as `HubClient.subscribe`.

        `on_gap` is called in the thread that iterates.
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
            )

        return SyncSubscription[Any](self._run(begin()), self._submit, gaps=gaps, on_gap=on_gap)

    def publish(  # noqa: PLR0913 - as there
        self,
        channel: str,
        data: object,
        *,
        key: str | None = None,
        echo: bool = True,
        idempotency_key: str | None = None,
        tags: Tags | None = None,
        remove: bool = False,
        end: bool = False,
        ttl_seconds: float | None = None,
        history: bool = True,
    ) -> Published:
        """As `HubClient.publish`; backends publish with `SyncPublisher`, which tries again."""
        return self._run(
            self._client.publish(
                channel,
                data,
                key=key,
                echo=echo,
                idempotency_key=idempotency_key,
                tags=tags,
                remove=remove,
                end=end,
                ttl_seconds=ttl_seconds,
                history=history,
            )
        )

    def history(
        self, channel: str, *, since: Position | str | None = None, limit: int = 100
    ) -> HistoryPage:
        """At most `limit` messages after `since`, oldest first; from the oldest without it."""
        return self._run(self._client.history(channel, since=since, limit=limit))

    def presence(self, channel: str) -> tuple[Member, ...]:
        """The members that are present now."""
        return self._run(self._client.presence(channel))

    def presence_count(self, channel: str) -> int:
        """How many members are present now."""
        return self._run(self._client.presence_count(channel))

    def presence_update(self, channel: str, data: object) -> None:
        """Say something else of this member."""
        self._run(self._client.presence_update(channel, data))

    def ping(self) -> float:
        """Seconds that a command takes to the hub and back."""
        return self._run(self._client.ping())

    def _submit(
        self, call: "Coroutine[Any, Any, ResultT]"
    ) -> "concurrent.futures.Future[ResultT] | None":
        """None where the client is closed."""
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


Submit = Callable[[Coroutine[Any, Any, list[Item]]], "concurrent.futures.Future[list[Item]] | None"]


class SyncSubscription(Generic[ItemT_co]):
    """Messages of one channel, in order: `for message in subscription`.

    It ends with `close()`, at the end of `with`, or when nobody refers to it any more. One thread
    iterates. What interrupts a wait, such as Ctrl-C, loses no message.
    """

    def __init__(
        self,
        subscription: Subscription[Item],
        submit: Submit,
        *,
        gaps: bool,
        on_gap: OnGap | None,
    ) -> None:
        self._subscription = subscription
        self._submit = submit
        self._gaps = gaps
        self._on_gap = on_gap
        self._position = subscription.position
        self._taken: deque[Item] = deque()
        self._asked: concurrent.futures.Future[list[Item]] | None = None

    @property
    def channel(self) -> str:
        return self._subscription.channel

    @property
    def position(self) -> Position | None:
        """After the last item taken from the iteration: what to save and pass as `since`."""
        return self._position

    @property
    def data(self) -> Any:
        """As of `Subscription`."""
        return self._subscription.data

    def __iter__(self) -> "Iterator[ItemT_co]":
        return self

    def __next__(self) -> ItemT_co:
        item = self.receive()
        if item is None:
            raise StopIteration
        return item

    def receive(self, *, timeout_seconds: float | None = None) -> ItemT_co | None:
        """The next item; None when the client was closed.

        Raises:
            TimeoutError: none came in `timeout_seconds`.
            HubClientError: what ended the subscription.
        """
        while True:
            if not self._taken and not self._take(timeout_seconds):
                return None
            item = self._taken[0]
            if isinstance(item, Gap) and self._on_gap is not None:
                self._on_gap(item)
            self._taken.popleft()
            self._position = position_after(item) or self._position
            if self._gaps or not isinstance(item, Gap):
                # The overloads of `subscribe` promise exactly what is let through here.
                return cast("ItemT_co", item)

    def _take(self, timeout_seconds: float | None) -> bool:
        """Whether there is more."""
        if self._asked is None:
            self._asked = self._submit(_some(self._subscription))
        if self._asked is None:
            return False
        try:
            self._taken.extend(self._asked.result(timeout_seconds))
        except concurrent.futures.CancelledError:
            return False
        finally:
            if self._asked.done():
                self._asked = None
        return bool(self._taken)

    def close(self) -> None:
        """Unsubscribe; what waits is dropped. Harmless when called twice."""
        self._subscription.close()
        if self._asked is not None:
            self._asked.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


async def _some(subscription: Subscription[Item]) -> list[Item]:
    """What there is, at least one; nothing at the end."""
    first = await anext(subscription, None)
    items: list[Item] = [] if first is None else [first]
    while items and len(items) < _MAX_TAKEN and subscription.statistics().waiting:
        items.append(await anext(subscription))
    return items
