"""Connections, open and ended, and those of one subject: operators list, inspect and close them."""

import asyncio
from typing import Any

from hub.admin.listing import (
    Listing,
    ListRequest,
    Page,
    Part,
    Query,
    Selection,
    look_at_slices,
    merge,
)
from hub.admin.requests import Admin, AdminRequest, Answers, Everywhere, Handlers
from hub.core.each_session import each_session
from hub.core.fanout.membership import Membership
from hub.core.forensics.journal import Journal
from hub.core.forensics.noted import ClosedSession
from hub.core.records import Column, RowSource, SessionRecord, columns, plain, session_record
from hub.core.registry import SessionRegistry
from hub.core.session.session import Session
from hub.errors import NotFoundError, UnavailableError

# Sessions looked at before other work gets its turn: 1 ms; 50,000 take 30 ms in all (measured).
_SLICE_SESSIONS = 1000


def _closed_ms(gone: ClosedSession, _origin: RowSource) -> int:
    return gone.closed_ms


CONNECTIONS: Listing[Session] = Listing(
    name="connections",
    named_by="connection",
    name_of=lambda session: session.id,
    columns=columns(SessionRecord),
    filters={
        "subject": lambda session, subject: session.identity.subject == subject,
        "channel": lambda session, channel: channel in session.subscriptions,
        "pattern": lambda session, pattern: (
            session.patterns is not None and pattern in session.patterns.by_text
        ),
        "transport": lambda session, transport: session.link.transport == transport,
        "address": lambda session, address: session.link.address == address,
    },
)
CLOSED: Listing[ClosedSession] = Listing(
    name="closed",
    named_by="connection",
    name_of=lambda gone: gone.record.connection,
    columns={
        "closed_ms": Column(_closed_ms, _closed_ms),
    },
    filters={"subject": lambda gone, subject: gone.record.subject == subject},
)


class ListConnections(ListRequest[SessionRecord], frozen=True, tag="connections"):
    """Asks for this node's part of a page."""


class ListClosed(ListRequest[dict[str, Any]], frozen=True, tag="closed"):
    """Asks for this node's part of a page of ended connections."""


class GetConnection(AdminRequest[SessionRecord], frozen=True, tag="connection"):
    """Asks for its state now; raises `NotFoundError` where it is not open."""

    connection: str


class Disconnect(AdminRequest[None], frozen=True, tag="disconnect"):
    """Closes it with that code, which the peer sees; raises `NotFoundError` like the others."""

    connection: str
    code: int
    reason: str


class UnsubscribeConnection(AdminRequest[None], frozen=True, tag="unsubscribe"):
    """Takes it out of a channel; the session gets a push `unsubscribed`."""

    connection: str
    channel: str


class ConnectionHandlers:
    """Carries the requests about connections out; one per node, owned by the event loop."""

    def __init__(self, registry: SessionRegistry, membership: Membership, journal: Journal) -> None:
        self._registry = registry
        self._journal = journal
        self._membership = membership
        self._listing = asyncio.Lock()
        """Held while a list is made: many callers must not multiply the work of the loop."""

    def handlers(self) -> Handlers:
        return {
            ListConnections: self.listed,
            ListClosed: self._closed,
            GetConnection: self._get,
            Disconnect: self._disconnect,
            UnsubscribeConnection: self._unsubscribe,
        }

    async def listed(self, asked: ListConnections) -> Part[SessionRecord]:
        origin = self._registry.origin
        async with self._listing:
            selection = Selection(CONNECTIONS, asked.query, origin, count=asked.query.limit)
            sessions = list(self._registry.sessions.values())
            await look_at_slices(selection, sessions, at_once=_SLICE_SESSIONS)
            return selection.part(lambda session: session_record(session, origin))

    async def _closed(self, asked: ListClosed) -> Part[dict[str, Any]]:
        async with self._listing:
            count = asked.query.limit
            selection = Selection(CLOSED, asked.query, self._registry.origin, count=count)
            ended = list(self._journal.closed.values())
            await look_at_slices(selection, ended, at_once=_SLICE_SESSIONS)
            return selection.part(_ended)

    async def _get(self, asked: GetConnection) -> SessionRecord:
        return session_record(self._found(asked.connection), self._registry.origin)

    async def _disconnect(self, asked: Disconnect) -> None:
        if not self._registry.disconnect(asked.connection, code=asked.code, reason=asked.reason):
            raise _not_open(asked.connection)

    async def _unsubscribe(self, asked: UnsubscribeConnection) -> None:
        session = self._found(asked.connection)
        if asked.channel not in session.subscriptions:
            raise NotFoundError(
                f"connection {asked.connection!r} is not subscribed to {asked.channel[:200]!r}"
            )
        self._membership.expel(session, asked.channel, "unsubscribed by operator")

    def _found(self, connection: str) -> Session:
        if (session := self._registry.sessions.get(connection)) is None:
            raise _not_open(connection)
        return session


def _not_open(connection: str) -> NotFoundError:
    return NotFoundError(f"connection {connection[:80]!r} is not open")


def _ended(gone: ClosedSession) -> dict[str, Any]:
    record = plain(gone.record)
    del record["subscriptions"]
    return {**record, "closed_ms": gone.closed_ms, "code": int(gone.code), "reason": gone.reason}


# -- over all nodes --------------------------------------------------------------------------------


async def list_connections(admin: Admin, query: Query, node: str | None = None) -> Page[Any]:
    """Return a page of the connections of all nodes, or of those of one name."""
    return merge(query, await admin.call(ListConnections(query), Everywhere(node)))


async def list_closed(
    admin: Admin, *, limit: int, subject: str | None = None
) -> Page[dict[str, Any]]:
    """Return the connections that ended last on all nodes, newest first."""
    where = {} if subject is None else {"subject": subject}
    query = Query(sort="closed_ms", descending=True, limit=limit, where=where)
    return merge(query, await admin.call(ListClosed(query), Everywhere()))


class DisconnectSubject(AdminRequest[int], frozen=True, tag="disconnect_subject"):
    """Closes this node's connections of a subject; the answer is how many."""

    subject: str
    code: int
    reason: str


class UnsubscribeSubject(AdminRequest[int], frozen=True, tag="unsubscribe_subject"):
    """Takes them out of a channel; each gets a push `unsubscribed`."""

    subject: str
    channel: str


class SubjectHandlers:
    """Carries the requests about a subject's connections out; one per node."""

    def __init__(self, registry: SessionRegistry, membership: Membership) -> None:
        self._registry = registry
        self._membership = membership
        self._acting = asyncio.Lock()
        """Held while sessions are gone through: many callers must not multiply the work."""

    def handlers(self) -> Handlers:
        return {DisconnectSubject: self._disconnect, UnsubscribeSubject: self._unsubscribe}

    async def _disconnect(self, asked: DisconnectSubject) -> int:
        def close(session: Session) -> bool:
            if found := session.identity.subject == asked.subject:
                session.close(asked.code, asked.reason)
            return found

        async with self._acting:
            return await each_session(self._registry, close)

    async def _unsubscribe(self, asked: UnsubscribeSubject) -> int:
        def expel(session: Session) -> bool:
            mine = session.identity.subject == asked.subject
            if found := mine and asked.channel in session.subscriptions:
                self._membership.expel(session, asked.channel, "unsubscribed by operator")
            return found

        async with self._acting:
            return await each_session(self._registry, expel)


async def everywhere(admin: Admin, asked: AdminRequest[int]) -> int:
    """Carry the request out at all nodes; return how many connections it concerned.

    Raises `UnavailableError` where a node did not answer: its connections may be as they were.
    """
    answers: Answers[int] = await admin.call(asked, Everywhere())
    if not answers.complete:
        silent = ", ".join(answers.unanswered) or "nodes that are not known now"
        raise UnavailableError(f"not done everywhere: no answer from {silent}; do it again")
    return sum(answers.by_tag.values())
