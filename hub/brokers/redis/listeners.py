"""What nodes say to each other outside of channels: pub/sub names with a listener each."""

from collections.abc import Callable
from typing import Protocol

OnMessage = Callable[[bytes], None]


class Listening(Protocol):
    """What is needed of a subscriber connection."""

    def add(self, name: bytes) -> None: ...

    def remove(self, name: bytes) -> None: ...


class Listeners:
    """One per server."""

    def __init__(self, subscriber: Listening) -> None:
        self._subscriber = subscriber
        self._by_name: dict[bytes, OnMessage] = {}

    def listen(self, name: bytes, on_message: OnMessage) -> None:
        """Hand over what comes under `name`. Harmless when repeated."""
        if name not in self._by_name:
            self._by_name[name] = on_message
            self._subscriber.add(name)

    def ignore(self, name: bytes) -> None:
        """End what `listen` began."""
        if self._by_name.pop(name, None) is not None:
            self._subscriber.remove(name)

    def receive(self, name: bytes, raw: bytes) -> bool:
        """Whether somebody listens to `name`, and has it now."""
        if (on_message := self._by_name.get(name)) is None:
            return False
        on_message(raw)
        return True
