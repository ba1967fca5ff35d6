"""What a session has of each of its channels.

Nearly every session is in one, and a dictionary takes 184 bytes for it: a sixth of all that the hub
itself holds of an idle connection. This takes 56, and makes the dictionary for the second.
"""

from collections.abc import ItemsView, Iterator, MutableMapping, ValuesView
from typing import TypeVar, overload

Value = TypeVar("Value")
Default = TypeVar("Default")


class ByChannel(MutableMapping[str, Value]):
    """A dictionary in all but its size; None is no value."""

    __slots__ = ("_channel", "_many", "_value")

    def __init__(self) -> None:
        self._channel = ""
        self._value: Value | None = None
        """Of that channel, where it is the only one and there never were two; else None."""
        self._many: dict[str, Value] | None = None

    def __getitem__(self, channel: str) -> Value:
        if (found := self.get(channel)) is None:
            raise KeyError(channel)
        return found

    @overload
    def get(self, key: str, default: None = None, /) -> Value | None: ...
    @overload
    def get(self, key: str, default: Default, /) -> Value | Default: ...
    def get(self, key: str, default: Default | None = None, /) -> Value | Default | None:
        if (many := self._many) is not None:
            return many.get(key, default)
        value = self._value
        return value if value is not None and self._channel == key else default

    def __contains__(self, channel: object) -> bool:
        if (many := self._many) is not None:
            return channel in many
        return self._value is not None and self._channel == channel

    def __setitem__(self, channel: str, value: Value) -> None:
        if (many := self._many) is not None:
            many[channel] = value
        elif (only := self._value) is None or self._channel == channel:
            self._channel, self._value = channel, value
        else:
            self._many = {self._channel: only, channel: value}
            self._value = None

    def __delitem__(self, channel: str) -> None:
        if (many := self._many) is not None:
            del many[channel]
        elif channel in self:
            self._value = None
        else:
            raise KeyError(channel)

    def __len__(self) -> int:
        if (many := self._many) is not None:
            return len(many)
        return 0 if self._value is None else 1

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def values(self) -> ValuesView[Value]:
        return self._all().values()

    def items(self) -> ItemsView[str, Value]:
        return self._all().items()

    def _all(self) -> dict[str, Value]:
        if (many := self._many) is not None:
            return many
        value = self._value
        return {} if value is None else {self._channel: value}
