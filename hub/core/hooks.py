"""The border between the core and the application's decisions about peers.

`hub.hooks` implements it. Without a configured hook its place is `None`.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

from hub.core.commands import Publish
from hub.core.identity import Identity
from hub.core.ports import PublishRequest
from hub.core.publication import REMOVES
from hub.core.values import Struct, field, replace

_Asked = TypeVar("_Asked", Publish, PublishRequest)


class Asker(Struct, frozen=True):
    """The peer that wants to do something."""

    identity: Identity
    connection: str | None
    """None where the request belongs to no session."""
    address: str
    headers: Mapping[str, str]
    """Headers of its request by lower-case name. The application gets few of them."""


class Admission(Struct, frozen=True):
    """The identity that the application admits, and its data for the peer."""

    identity: Identity
    given: bytes | None = None
    """Data for the peer's welcome, as JSON on one line."""
    of_channels: Mapping[str, bytes] = field(default_factory=dict)
    """Data for the subscriptions in the question, by channel."""


class Hooks(Protocol):
    """Asks the application. Its calls need no task before they first wait."""

    def asks_connect(self, identity: Identity) -> bool:
        """Return whether the application is asked about connections."""
        ...

    def asks_subscribe(self, identity: Identity) -> bool:
        """Return whether the application is asked about each channel that `identity` reads."""
        ...

    def asks_publish(self, identity: Identity) -> bool:
        """Return whether the application is asked about each publication of `identity`."""
        ...

    async def admit(
        self, asker: Asker, channels: Sequence[str] = (), *, nobody: bool = False
    ) -> Admission:
        """Return the identity that the application admits, which may subscribe to `channels`.

        `nobody` stands for a peer without the credentials that are needed. Its only rights are
        those that the application gives. Raises `ForbiddenError` where the application refuses, and
        `UnavailableError` where it does not answer.
        """
        ...

    async def check_subscribe(
        self, asker: Asker, channel: str, presence: bytes | None = None
    ) -> bytes | None:
        """Return the application's data for the subscription, as JSON on one line.

        `presence` is the data of the asker's member in the channel, as JSON. Raises as `admit` does
        unless the asker may read `channel`.
        """
        ...

    async def check_publish(self, asker: Asker, channel: str, data: bytes) -> bytes:
        """Return the data to publish: `data`, or the application's replacement.

        Raises as `admit` does.
        """
        ...


async def judged(hooks: Hooks, asker: Asker, asked: _Asked) -> _Asked:
    """Return `asked` with the data that the application allows. Raises as `Hooks.admit` does.

    The removal of a row has no data, so its data are never replaced.
    """
    data = await hooks.check_publish(asker, asked.channel, asked.data)
    same = data is asked.data or asked.marks & REMOVES
    return asked if same else replace(asked, data=data)
