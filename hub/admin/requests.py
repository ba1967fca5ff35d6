"""What may be asked of a node, as frozen structs: each says its answer's type and who may ask.

A request is a class here or in the modules beside this one, which also carry it out at this node
(`Handler`). `hub.admin.cluster` brings it to where it belongs. Its `tag` is its name between nodes.
How a request came, and how bytes reach another node, is not known here.
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
    """Who may ask. The node that is asked first checks it."""

    OPERATOR = auto()
    SESSION = auto()
    """Each caller that has the secret of the session's welcome, which the request carries."""


class AdminRequest(msgspec.Struct, Generic[A], frozen=True):
    """A question about a node, or something to be done there; `A` is what the answer is."""

    rights: ClassVar[Rights] = Rights.OPERATOR
    lasts: ClassVar[bool] = False
    """Whether the node may wait before it answers. Such requests are bounded by themselves, so that
    they take no room from others, and end when their asker does."""

    @classmethod
    def tag(cls) -> str:
        """Its name between nodes."""
        return str(cls.__struct_config__.tag)

    @classmethod
    def answer_type(cls) -> Any:
        """What `A` is."""
        return get_args(cls.__dict__["__orig_bases__"][0])[0]

    def wait_seconds(self) -> float:
        """How long the node may wait before it begins to answer."""
        return 0.0

    def to_travel(self) -> "AdminRequest[A]":
        """The request as it goes to another node."""
        return self

    def fitting(self, answer: A) -> A:
        """As much of the answer as may travel at once."""
        return answer

    def without_answer(self, why: str) -> HubError:
        """What the asker is told where the node may have done it and has not answered."""
        return UnavailableError(f"the node cannot be asked: {why}")


Handler = Callable[[Any], Awaitable[Any]]
"""Carries out a request of one class at this node; raises only `HubError`."""
Handlers = Mapping[type[AdminRequest[Any]], Handler]


# -- where a request is carried out ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Here:
    """At this node, whatever holds between it and the others."""


@dataclass(frozen=True, slots=True)
class AtConnection:
    """At the node that holds a connection, or held it."""

    connection: str


@dataclass(frozen=True, slots=True)
class AtNode:
    """At every node of that name, which is one unless misnamed."""

    name: str


@dataclass(frozen=True, slots=True)
class AtTag:
    """At the node whose connections begin so."""

    tag: str


@dataclass(frozen=True, slots=True)
class Everywhere:
    """At all nodes, or those of one name."""

    name: str | None = None


One = Here | AtConnection | AtNode | AtTag
HERE = Here()


@dataclass(frozen=True, slots=True)
class Answers(Generic[A]):
    """What all nodes said, by tag; of one that has just ended nothing."""

    by_tag: Mapping[str, A]
    unanswered: tuple[str, ...] = ()
    """Names of the nodes that did not answer in time, sorted."""
    unknown: HubError | None = None
    """Why it could not be asked which nodes there are: this one alone has answered."""

    @property
    def complete(self) -> bool:
        """Whether every node has answered."""
        return self.unknown is None and not self.unanswered


class Admin(Protocol):
    """Carries a request to where it belongs; `hub.admin.cluster.Cluster`."""

    @overload
    async def call(self, request: AdminRequest[A], at: One = HERE) -> A: ...

    @overload
    async def call(self, request: AdminRequest[A], at: Everywhere) -> Answers[A]: ...

    async def call(self, request: AdminRequest[A], at: One | Everywhere = HERE) -> A | Answers[A]:
        """The answer of one node, or those of all.

        Raises only `HubError`: what the node refused with, `NotFoundError` where it lives no more,
        `UnavailableError` where it does not answer or the others are not known now. What all nodes
        are asked raises nothing: `Answers` says whose is missing.
        """
        ...

    async def nodes(self) -> Mapping[str, NodeRecord]:
        """The nodes that live by tag, this one among them; raise `UnavailableError`."""
        ...

    def last_known(self) -> Mapping[str, NodeRecord]:
        """This node as it is now, the others as they were when they were known last."""
        ...
