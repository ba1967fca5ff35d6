"""`SyncSubscription` yields the messages of a subscription to one thread."""

import concurrent.futures
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any, Generic, Self, cast

from hub_client.feed import ItemT_co, Subscription, position_after
from hub_client.messages import Gap, Item, Position

# What one turn between the two threads brings at most: a turn costs as much as ten messages. Guess.
_MAX_TAKEN = 100
OnGap = Callable[[Gap], object]
Submit = Callable[[Coroutine[Any, Any, list[Item]]], "concurrent.futures.Future[list[Item]] | None"]


class SyncSubscription(Generic[ItemT_co]):
    """Messages of one channel, in order: `for message in subscription`.

    The iteration ends with `close()`, at the end of `with`, or when the object is garbage. One
    thread iterates. An interrupted wait, such as by Ctrl-C, loses no message.
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
        self._positions = dict(subscription.positions)
        self._taken: deque[Item] = deque()
        self._asked: concurrent.futures.Future[list[Item]] | None = None

    @property
    def channel(self) -> str:
        return self._subscription.channel

    @property
    def position(self) -> Position | None:
        """The position behind the last item taken from the iteration, to be saved and passed as
        `since`.

        A pattern has `positions` instead.
        """
        return self._positions.get(self.channel)

    @property
    def positions(self) -> Mapping[str, Position]:
        """The position of each channel, also of one that has brought no message yet."""
        return {**self._subscription.starts, **self._positions}

    @property
    def data(self) -> Any:
        """The same as `Subscription.data`."""
        return self._subscription.data

    def __iter__(self) -> "Iterator[ItemT_co]":
        return self

    def __next__(self) -> ItemT_co:
        item = self.receive()
        if item is None:
            raise StopIteration
        return item

    def receive(self, *, timeout_seconds: float | None = None) -> ItemT_co | None:
        """Return the next item; None when the client was closed.

        Raises:
            TimeoutError: No item came within `timeout_seconds`.
            HubClientError: The error that ended the subscription.
        """
        while True:
            if not self._taken and not self._take(timeout_seconds):
                return None
            item = self._taken[0]
            if isinstance(item, Gap) and self._on_gap is not None:
                self._on_gap(item)
            self._taken.popleft()
            if (place := position_after(item)) is not None:
                self._positions[item.channel] = place
            if self._gaps or not isinstance(item, Gap):
                # The overloads of `subscribe` promise exactly the kinds that pass here.
                return cast("ItemT_co", item)

    def _take(self, timeout_seconds: float | None) -> bool:
        """Take waiting items; return whether there are more."""
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
        """Unsubscribe and drop the waiting items. It is harmless when called twice."""
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
    """Return the waiting items, at least one; none at the end."""
    first = await anext(subscription, None)
    items: list[Item] = [] if first is None else [first]
    while items and len(items) < _MAX_TAKEN and subscription.statistics().waiting:
        items.append(await anext(subscription))
    return items
