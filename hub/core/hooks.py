"""What the application is asked before a peer may do something, as a border of the core.

`hub.hooks` has the shape. Where no hook is configured, `None` stands in its place.
"""

from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from typing import Protocol, TypeVar

from hub.core.commands import Publish
from hub.core.identity import Identity
from hub.core.ports import PublishRequest
from hub.core.publication import REMOVES
from hub.core.values import value

_Asked = TypeVar("_Asked", Publish, PublishRequest)


@value(frozen=True, slots=True)
class Asker:
    """The peer that wants to do something."""

    identity: Identity
    connection: str | None
    """None where the request belongs to no session."""
    address: str
    headers: Mapping[str, str]
    """Of its request, by lower-case name; few of them are told to the application."""


@value(frozen=True, slots=True)
class Admission:
    """The identity that comes in by the application's word, and what it is given with that."""

    identity: Identity
    given: bytes | None = None
    """For the peer's welcome, as JSON on one line."""
    of_channels: Mapping[str, bytes] = field(default_factory=dict)
    """The same for the subscriptions that were asked about."""


class Hooks(Protocol):
    """Asks the application. Its calls need no task of their own before they first wait."""

    def asks_connect(self, identity: Identity) -> bool:
        """Whether it is asked who comes in, and what they may."""
        ...

    def asks_subscribe(self, identity: Identity) -> bool:
        """Whether it is asked about each channel that this identity wants to read."""
        ...

    def asks_publish(self, identity: Identity) -> bool:
        """Whether it is asked about each publication of this identity."""
        ...

    async def admit(
        self, asker: Asker, channels: Sequence[str] = (), *, nobody: bool = False
    ) -> Admission:
        """The peer's identity, which may subscribe to `channels`, by the application's word.

        `nobody` is for a peer that sent no credentials where some are needed: it has no rights
        but those that the application gives. Raises `ForbiddenError` where the application
        refuses, `UnavailableError` where it does not answer.
        """
        ...

    async def check_subscribe(
        self, asker: Asker, channel: str, presence: bytes | None = None
    ) -> bytes | None:
        """What the application gives along with its yes, as JSON on one line.

        `presence` is what the asker wants to say of itself there, as JSON.

        Raises as `admit` does unless the asker may read `channel`.
        """
        ...

    async def check_publish(self, asker: Asker, channel: str, data: bytes) -> bytes:
        """What is published: `data`, or what the application puts in its place. Raises as `admit`
        does."""
        ...


async def judged(hooks: Hooks, asker: Asker, asked: _Asked) -> _Asked:
    """What is published of `asked` by the application's word. Raises as `Hooks.admit` does.

    What takes a row away has no data, so nothing is put in its place.
    """
    data = await hooks.check_publish(asker, asked.channel, asked.data)
    same = data is asked.data or asked.marks & REMOVES
    return asked if same else replace(asked, data=data)
