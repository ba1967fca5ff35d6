"""Requests to a node, as frozen structs: each has its answer's type and the rights it needs.

A request is a class here or in the modules beside this one, which also carry it out at this node
(`Handler`). `hub.admin.rpc` brings it to where it belongs. Its `tag` is its name between nodes.
The way of a request to the hub, and of bytes to another node, is not known here.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, ClassVar, Generic, Protocol, TypeVar, get_args, overload

import msgspec

from hub.core.node_records import NodeRecord
from hub.errors import HubError, UnavailableError

A = TypeVar("A")


class Rights(Enum):
    """Rights that a request needs. The node that is asked first checks them."""

    OPERATOR = auto()
    SESSION = auto()
    """The secret of the session's welcome, which the request carries."""


class AdminRequest(msgspec.Struct, Generic[A], frozen=True):
    """A question to a node, or an order; `A` is the type of its answer."""

    rights: ClassVar[Rights] = Rights.OPERATOR
    lasts: ClassVar[bool] = False
    """Whether the node may wait before it answers. Such requests are bounded by themselves, so that
    they take no room from others, and end when their asker does."""

    @classmethod
    def tag(cls) -> str:
        """Return its name between nodes."""
        return str(cls.__struct_config__.tag)

    @classmethod
    def answer_type(cls) -> Any:
        """Return the type `A`."""
        return get_args(cls.__dict__["__orig_bases__"][0])[0]

    def wait_seconds(self) -> float:
        """Return how long the node may wait before it begins to answer."""
        return 0.0

    def to_travel(self) -> "AdminRequest[A]":
        """Return the request as it goes to another node."""
        return self

    def fitting(self, answer: A) -> A:
        """Return as much of the answer as may travel at once."""
        return answer

    def without_answer(self, why: str) -> HubError:
        """Return the error for the caller where the node may have done it and has not answered."""
        return UnavailableError(f"the node cannot be asked: {why}")


Handler = Callable[[Any], Awaitable[Any]]
"""Carries out a request of one class at this node; raises only `HubError`."""
Handlers = Mapping[type[AdminRequest[Any]], Handler]


# -- the node that carries a request out -----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Here:
    """The request is for this node, also where the others cannot be reached."""


@dataclass(frozen=True, slots=True)
class AtConnection:
    """The request is for the node that holds a connection, or held it."""

    connection: str


@dataclass(frozen=True, slots=True)
class AtNode:
    """The request is for every node of that name, which is one unless misnamed."""

    name: str


@dataclass(frozen=True, slots=True)
class AtTag:
    """The request is for the node whose connections' ids begin with the tag."""

    tag: str


@dataclass(frozen=True, slots=True)
class Everywhere:
    """The request is for all nodes, or those of one name."""

    name: str | None = None


One = Here | AtConnection | AtNode | AtTag
HERE = Here()


@dataclass(frozen=True, slots=True)
class Answers(Generic[A]):
    """The answers of all nodes by tag, without a node that has just ended."""

    by_tag: Mapping[str, A]
    unanswered: tuple[str, ...] = ()
    """Names of the nodes that did not answer in time, sorted."""
    unknown: HubError | None = None
    """Why the other nodes are not known: this one alone has answered."""

    @property
    def complete(self) -> bool:
        """Return whether every node has answered."""
        return self.unknown is None and not self.unanswered


class Admin(Protocol):
    """Carries a request to where it belongs; `hub.admin.rpc.AdminRpc`."""

    @overload
    async def call(self, request: AdminRequest[A], at: One = HERE) -> A: ...

    @overload
    async def call(self, request: AdminRequest[A], at: Everywhere) -> Answers[A]: ...

    async def call(self, request: AdminRequest[A], at: One | Everywhere = HERE) -> A | Answers[A]:
        """Return the answer of one node, or those of all.

        Raises only `HubError`: the node's refusal, `NotFoundError` where it lives no more,
        `UnavailableError` where it does not answer or the others are not known now. A request to
        all nodes raises nothing: `Answers` names those that are missing.
        """
        ...

    async def nodes(self) -> Mapping[str, NodeRecord]:
        """Return the nodes that live by tag, with this one; raise `UnavailableError`."""
        ...

    def last_known(self) -> Mapping[str, NodeRecord]:
        """Return this node as it is now, the others as they were when they were known last."""
        ...
