"""A session's subscriptions by channel.

Nearly every session has one, and a dictionary takes 184 bytes for it: a sixth of all that the hub
itself holds of an idle connection. This takes 48, and makes the dictionary for the second.
"""

from collections.abc import ItemsView, Iterator, MutableMapping, ValuesView
from typing import TypeVar, overload

from hub.core.session.subscription import Subscription

Default = TypeVar("Default")


class Subscriptions(MutableMapping[str, Subscription]):
    """In the order they began; the key is always the channel's name."""

    __slots__ = ("_only", "_several")

    def __init__(self) -> None:
        self._only: Subscription | None = None
        """Where there is one and there never were two."""
        self._several: dict[str, Subscription] | None = None

    def __getitem__(self, channel: str) -> Subscription:
        if (found := self.get(channel)) is None:
            raise KeyError(channel)
        return found

    @overload
    def get(self, key: str, default: None = None, /) -> Subscription | None: ...
    @overload
    def get(self, key: str, default: Default, /) -> Subscription | Default: ...
    def get(self, key: str, default: Default | None = None, /) -> Subscription | Default | None:
        if (several := self._several) is not None:
            return several.get(key, default)
        only = self._only
        return only if only is not None and only.channel.name == key else default

    def __contains__(self, channel: object) -> bool:
        if (several := self._several) is not None:
            return channel in several
        only = self._only
        return only is not None and only.channel.name == channel

    def __setitem__(self, channel: str, subscription: Subscription) -> None:
        if (several := self._several) is not None:
            several[channel] = subscription
        elif (only := self._only) is None or only.channel.name == channel:
            self._only = subscription
        else:
            self._several = {only.channel.name: only, channel: subscription}
            self._only = None

    def __delitem__(self, channel: str) -> None:
        if (several := self._several) is not None:
            del several[channel]
        elif channel in self:
            self._only = None
        else:
            raise KeyError(channel)

    def __len__(self) -> int:
        if (several := self._several) is not None:
            return len(several)
        return 0 if self._only is None else 1

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def values(self) -> ValuesView[Subscription]:
        return self._all().values()

    def items(self) -> ItemsView[str, Subscription]:
        return self._all().items()

    def _all(self) -> dict[str, Subscription]:
        if (several := self._several) is not None:
            return several
        only = self._only
        return {} if only is None else {only.channel.name: only}
