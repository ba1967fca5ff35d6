"""Requests brought to where they belong: here, to a connection's node, to one node, or to all.

A connection's id begins with its node's tag, so no table is needed to find its node. A request
about a connection of this node needs no other node, which may be the one that fails. The way of
bytes to another node is the broker's (`NodeBus`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, Union, overload

import msgspec
from structlog.typing import FilteringBoundLogger

from hub import errors
from hub.admin.requests import (
    HERE,
    A,
    AdminRequest,
    Answers,
    AtConnection,
    AtNode,
    AtTag,
    Everywhere,
    Handlers,
    Here,
    One,
)
from hub.core.node_records import NodeRecord
from hub.errors import (
    BadRequestError,
    HubError,
    NotFoundError,
    OutcomeUnknownError,
    UnavailableError,
)

Serve = Callable[[bytes], Awaitable[bytes]]
"""Answers the request of another node, both as bytes."""


class NodeBus(Protocol):
    """The other nodes of this hub: which of them live, and one question at a time."""

    alone: bool
    """Whether there can be no other node: then every connection is this one's."""

    async def start(self, serve: Serve, record: Callable[[], NodeRecord]) -> None:
        """Make this node known to the others, with the record that `record` returns."""
        ...

    async def stop(self) -> None: ...

    async def others(self) -> Mapping[str, NodeRecord]:
        """Return the other nodes that live, by tag; raise `UnavailableError`."""
        ...

    def known_others(self) -> Mapping[str, NodeRecord]:
        """Return the other nodes of the last `others` that succeeded; records have its time."""
        ...

    async def ask(
        self, tag: str, question: bytes, *, wait_seconds: float = 0.0, lasts: bool = False
    ) -> bytes | None:
        """Return the answer of the node; None where it lives no more.

        Args:
            wait_seconds: how long the node may wait before it begins to answer.
            lasts: whether it counts among the questions that last, and ends there when cancelled
            here.

        Raises:
            UnavailableError: the node has not seen the question.
            OutcomeUnknownError: it may have carried the request out.
        """
        ...


class NoOtherNodes:
    """The bus of a node that is alone."""

    alone = True

    async def start(self, serve: Serve, record: Callable[[], NodeRecord]) -> None:
        """Do nothing: there is no other node."""

    async def stop(self) -> None:
        """Do nothing: there is no other node."""

    async def others(self) -> Mapping[str, NodeRecord]:
        return {}

    def known_others(self) -> Mapping[str, NodeRecord]:
        return {}

    async def ask(
        self,
        tag: str,  # noqa: ARG002 - the port's
        question: bytes,  # noqa: ARG002
        *,
        wait_seconds: float = 0.0,  # noqa: ARG002
        lasts: bool = False,  # noqa: ARG002
    ) -> bytes | None:
        return None


class _Reply(msgspec.Struct, frozen=True):
    """An answer between nodes, or the error of the refusal."""

    answer: msgspec.Raw = msgspec.Raw(b"\xc0")
    error: str = ""
    message: str = ""


class AdminRpc:
    """Carries requests to the nodes that answer them (`hub.admin.requests.Admin`); one per node.

    Args:
        tag: begins the ids of this node's connections, and of no other's.
        handlers: carry requests out at this node.
        record: returns this node's record for the others.
    """

    def __init__(
        self,
        *,
        tag: str,
        bus: NodeBus,
        handlers: Handlers,
        record: Callable[[], NodeRecord],
        log: FilteringBoundLogger,
    ) -> None:
        self._tag = tag
        self._bus = bus
        self._handlers = handlers
        self._record = record
        self._log = log
        # One class alone would be read without its tag.
        known = Union[tuple(handlers)]  # type: ignore[valid-type]  # noqa: UP007 - made here
        self._requests: msgspec.msgpack.Decoder[AdminRequest[Any]] = msgspec.msgpack.Decoder(known)
        self._answers = {each: msgspec.msgpack.Decoder(each.answer_type()) for each in handlers}

    async def start(self) -> None:
        """Make this node known to the others, and answer them."""
        await self._bus.start(self._serve, self._record)

    async def stop(self) -> None:
        await self._bus.stop()

    async def nodes(self) -> Mapping[str, NodeRecord]:
        return {self._tag: self._record(), **await self._bus.others()}

    def last_known(self) -> Mapping[str, NodeRecord]:
        return {self._tag: self._record(), **self._bus.known_others()}

    def holds(self, connection: str) -> bool:
        """Return whether the connection's id is one of this node."""
        return self._tag_of(connection) == self._tag

    def _tag_of(self, connection: str) -> str:
        if self._bus.alone:
            return self._tag
        tag = connection[: len(self._tag)]
        return tag if len(tag) == len(self._tag) and tag.isalnum() else self._tag

    # -- asking ------------------------------------------------------------------------------

    @overload
    async def call(self, request: AdminRequest[A], at: One = HERE) -> A: ...

    @overload
    async def call(self, request: AdminRequest[A], at: Everywhere) -> Answers[A]: ...

    async def call(self, request: AdminRequest[A], at: One | Everywhere = HERE) -> A | Answers[A]:
        match at:
            case Here():
                return await self._here(request)
            case AtTag(tag):
                return await self._at_tag(request, tag, "the node lives no more")
            case AtConnection(connection):
                gone = f"connection {connection[:80]!r} is not open"
                return await self._at_tag(request, self._tag_of(connection), gone)
            case AtNode(name):
                return await self._at_node(request, name)
            case Everywhere(name):
                return await self._everywhere(request, name)

    async def _here(self, request: AdminRequest[A]) -> A:
        answer: A = await self._handlers[type(request)](request)
        return answer

    async def _at_node(self, request: AdminRequest[A], name: str) -> A:
        try:
            nodes = await self.nodes()
        except UnavailableError:
            # A request about this node needs no other.
            nodes = {self._tag: self._record()}
            if nodes[self._tag].node != name:
                raise
        tags = [tag for tag, record in nodes.items() if record.node == name]
        if not tags:
            raise NotFoundError(f"no node {name[:80]!r} lives")
        gone = f"node {name[:80]!r} lives no more"
        answers = [await self._at_tag(request, tag, gone) for tag in tags]
        return answers[0]

    async def _at_tag(self, request: AdminRequest[A], tag: str, gone: str) -> A:
        if tag == self._tag:
            return await self._here(request)
        raw = msgspec.msgpack.encode(request.to_travel())
        try:
            reply = await self._bus.ask(
                tag, raw, wait_seconds=request.wait_seconds(), lasts=request.lasts
            )
        except OutcomeUnknownError as error:
            raise request.without_answer(error.message) from None
        except UnavailableError as error:
            raise UnavailableError(f"the node cannot be asked: {error.message}") from None
        if reply is None:
            raise NotFoundError(gone)
        return self._read(request, reply)

    def _read(self, request: AdminRequest[A], raw: bytes) -> A:
        try:
            reply = msgspec.msgpack.decode(raw, type=_Reply)
            if not reply.error:
                answer: A = self._answers[type(request)].decode(reply.answer)
                return answer
        except (ValueError, RecursionError) as error:
            raise UnavailableError(f"the node's answer cannot be read: {error}") from None
        raise errors.of_code(reply.error, reply.message)

    async def _everywhere(self, request: AdminRequest[A], name: str | None) -> Answers[A]:
        unknown: HubError | None = None
        try:
            others = await self._bus.others()
        except HubError as error:
            others, unknown = {}, error
        nodes = {self._tag: self._record(), **others}
        asked = [tag for tag, record in nodes.items() if name in {None, record.node}]
        answers = await asyncio.gather(
            *(self._at_tag(request, tag, "") for tag in asked), return_exceptions=True
        )
        pairs = list(zip(asked, answers, strict=True))
        for tag, answer in pairs:
            if isinstance(answer, BaseException) and (
                tag == self._tag or not isinstance(answer, HubError)
            ):
                raise answer
        silent = [
            nodes[tag].node
            for tag, answer in pairs
            if isinstance(answer, HubError) and not isinstance(answer, NotFoundError)
        ]
        told = {tag: answer for tag, answer in pairs if not isinstance(answer, BaseException)}
        return Answers(told, tuple(sorted(silent)), unknown)

    # -- answering ---------------------------------------------------------------------------

    async def _serve(self, raw: bytes) -> bytes:
        """Return the reply to another node: the answer, or why there is none."""
        try:
            request = self._requests.decode(raw)
        except (ValueError, RecursionError):
            return _refused(BadRequestError("this node does not know the request"))
        try:
            answer = request.fitting(await self._here(request))
            return msgspec.msgpack.encode(_Reply(msgspec.Raw(msgspec.msgpack.encode(answer))))
        except HubError as error:
            return _refused(error)
        except Exception:  # noqa: BLE001 - the border: logged with traceback, neutral to the peer
            self._log.exception("peer_question_failed", what=request.tag())
            return _refused(HubError("internal error"))


def by_name(nodes: Mapping[str, NodeRecord]) -> Sequence[NodeRecord]:
    """Return the records in the order in which they are shown."""
    return sorted(nodes.values(), key=lambda record: (record.node, record.started_ms))


def _refused(error: HubError) -> bytes:
    return msgspec.msgpack.encode(_Reply(error=error.code, message=error.message))
