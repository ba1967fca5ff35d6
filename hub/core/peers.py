"""What nodes ask each other, and operators of any of them, as protocols.

A connection lives at one node, and a request about it may come to any. `hub.brokers` has the
adapters: one for a node that is alone, one for several behind one Redis.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from hub.core.listing import ConnectionPage, ConnectionQuery, Listed
from hub.core.polling import PollRequest
from hub.core.records import NodeRecord, SessionRecord


class Connections(Protocol):
    """What only the node that holds a connection can do. Raises only `HubError`."""

    async def command(self, connection: str, secret: str, raw: bytes) -> bytes:
        """Carry out a command for a session; return the encoded reply.

        Raises `NotFoundError` for a connection that is not open, `UnauthorizedError` for a
        wrong secret, `OutcomeUnknownError` for a publish whose reply did not come.
        """
        ...

    async def check(self, connection: str, secret: str) -> None:
        """Raise as `command` does for a wrong secret or a connection that is not open."""
        ...

    async def poll(self, request: PollRequest) -> bytes:
        """Answer a poll that goes on with one of these sessions.

        Raises `NotFoundError` and `UnauthorizedError` like `command`, `BadRequestError` for a
        session that does not poll.
        """
        ...

    async def connection(self, connection: str) -> SessionRecord | None: ...

    async def disconnect(self, connection: str, *, code: int, reason: str) -> bool:
        """Close that session; False where there is none."""
        ...


class OwnConnections(Connections, Protocol):
    """Those of this node."""

    async def listed(self, query: ConnectionQuery) -> Listed:
        """This node's part of a page."""
        ...


Scalar = str | int | float | None
Arguments = Mapping[str, Scalar]
Told = Mapping[str, object]
"""Plain values, as JSON and MessagePack know them."""
Operate = Callable[[str, Arguments], Awaitable[Told]]
"""Carries out an operator's request of that name at this node; raises `HubError`."""


class Peers(Protocol):
    """The nodes of this hub. Raises only `HubError`."""

    async def operate(self, tag: str, name: str, arguments: Arguments) -> Told:
        """Carry out an operator's request at the node `tag`.

        Raises `NotFoundError` where it lives no more, `UnavailableError` where it does not
        answer.
        """
        ...

    async def by_tag(self) -> Mapping[str, NodeRecord]:
        """Like `nodes`, by what each node's connections begin with."""
        ...

    def tag_of(self, connection: str) -> str:
        """The tag of the node that holds it, or would."""
        ...

    async def connections(self, query: ConnectionQuery) -> ConnectionPage:
        """A page over all nodes; it says whose part did not come."""
        ...

    async def nodes(self) -> Sequence[NodeRecord]:
        """Those that live, this one among them."""
        ...

    def holder(self, connection: str) -> Connections:
        """Whom to ask about a connection: this node or another."""
        ...
