"""The node's sessions: opened, warned, and ended.

Transports call it, and write to sessions. What a session asks for goes into its `commands`
(`hub.core.command_queue`).
"""

import random
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from hmac import compare_digest
from typing import Protocol

from hub.core.command_handler import CommandHandler
from hub.core.command_queue import CommandQueue
from hub.core.commands import InUrl, Subscribe, SubscribePattern
from hub.core.counters import Counters, Counts
from hub.core.identity import Identity
from hub.core.limits import party
from hub.core.options import NodeOptions
from hub.core.ports import Dialect, Monotonic, Spawn
from hub.core.pushes import Welcome
from hub.core.records import Origin, session_record
from hub.core.session.link import Link, SessionContext
from hub.core.session.session import Session
from hub.core.time.deadlines import Deadline, Deadlines
from hub.core.time.heartbeats import Heartbeats
from hub.core.time.lifetimes import Aging, Expiry
from hub.errors import (
    HubError,
    NotFoundError,
    UnauthorizedError,
    UnavailableError,
)


@dataclass(frozen=True, slots=True)
class Runtime:
    """What the process lends the core: tasks, time, and somebody to tell of faults."""

    spawn: Spawn
    deadlines: Deadlines
    wall_clock: Callable[[], float]
    on_fault: Callable[[Session, Exception], None]
    """An error that is the hub's own; the peer gets a neutral one."""


class SessionWatch(Protocol):
    """Sees sessions come and go."""

    def opened(self, session: Session) -> None: ...

    def closed(self, session: Session, code: int, reason: str) -> None: ...


class SessionRegistry:
    """One per node; owned by the event loop."""

    def __init__(
        self,
        *,
        options: NodeOptions,
        context: SessionContext,
        command_handler: CommandHandler,
        heartbeats: Heartbeats,
        aging: Aging,
        expiry: Expiry,
        runtime: Runtime,
    ) -> None:
        self._options = options
        self._context = context
        self._command_handler = command_handler
        self._heartbeats = heartbeats
        self._aging = aging
        self._expiry = expiry
        self._runtime = runtime
        self.limiter = context.limiter
        self.commands = CommandQueue(
            context,
            command_handler,
            spawn=runtime.spawn,
            on_fault=runtime.on_fault,
            failed=self.failed,
            authenticated=self._authenticated,
        )
        self.origin = Origin(options.node, self.clock, runtime.wall_clock() - self.clock())
        # Secrets are derived, so that they cost no memory and any node that shares the key
        # can check them.
        self._keyed = blake2b(key=secrets.token_bytes(32), digest_size=16)
        self._our_fault = context.close_code(HubError.code, HubError.retryable)
        self.sessions: dict[str, Session] = {}
        self.by_transport = Counts()
        self.by_address = Counts()
        """By `hub.core.limits.party`, where the connections of an address are limited."""
        self.by_subject = Counts()
        """Where the connections of a subject are limited."""
        self.leaving: dict[Session, Deadline] = {}
        """Sessions that said goodbye and whose connections are not gone yet."""
        self.draining = False
        self.watch: SessionWatch | None = None
        """Told of sessions that were let in; None where nobody wants to know."""

    @property
    def counters(self) -> Counters:
        return self._context.counters

    @property
    def max_connections(self) -> int:
        """How many sessions it holds at most."""
        return self._options.max_connections

    @property
    def clock(self) -> Monotonic:
        return self._context.clock

    # -- opening ---------------------------------------------------------------------------

    def check_open(self, address: str | None) -> None:
        """Raise `UnavailableError` when the node takes no new sessions now.

        Raises `RateLimitedError` when it takes none from `address`, which is None where that was
        asked before of the same handshake.
        """
        if self.draining:
            raise UnavailableError("the node is draining, come back in a moment")
        if len(self.sessions) >= self._options.max_connections:
            raise UnavailableError(f"the node holds {self._options.max_connections:,} connections")
        if address is None:
            return
        self.limiter.check_handshake(address)
        if self.limiter.counts_addresses:
            self.limiter.check_address(self.by_address[party(address)], address)

    def check_subject(self, subject: str | None, address: str) -> None:
        """Raise `RateLimitedError` when `subject` may have no other session."""
        if self.limiter.counts_subjects and subject is not None:
            self.limiter.check_subject(self.by_subject[subject], subject, address)

    def open(
        self,
        link: Link,
        dialect: Dialect,
        identity: Identity,
        *,
        head: bytes = b"",
        subscriptions: Iterable[InUrl] = (),
        named: str | None = None,
        given: bytes | None = None,
    ) -> Session:
        """Take a session in, welcome it and begin its subscriptions.

        `named` is what `new_id` gave it before; None gives it a new one. `given` is what the
        application says with its welcome, as JSON.

        Call `check_open` before answering the handshake. `head` is the transport's own answer:
        it, the welcome, and what the broker has at once for the subscriptions leave in one write.

        What fails on the way ends the session, which is told so like any other; nothing of it is
        kept. So the session that is returned may be closing.
        """
        session = self._take_in(link, dialect, identity, head, named)
        if self.watch is not None:
            self.watch.opened(session)
        try:
            self._heartbeats.add(session)
            self._aging.add(session)
            if identity.expires_at is not None:
                self._expiry.watch(session)
            session.control(dialect.encode(self.welcome(session, given), ""))
            self._subscribe(session, tuple(subscriptions))
        except Exception as error:  # noqa: BLE001 - logged with traceback, neutral to the peer
            self.failed(session, error)
        finally:
            session.uncork()
        return session

    def _subscribe(self, session: Session, in_url: Sequence[InUrl]) -> None:
        """Begin what the URL asks for, its patterns last."""
        asked = [each for each in in_url if isinstance(each, Subscribe)]
        if asked:
            self._subscribe_channels(session, asked)
        if len(asked) < len(in_url):
            for each in in_url:
                if isinstance(each, SubscribePattern):
                    self.commands.submit(session, each)

    def _subscribe_channels(self, session: Session, asked: Sequence[Subscribe]) -> None:
        for subscription in asked:
            session.places.expect(subscription)
        try:
            if self._command_handler.subscribe_now(session, asked):
                return
        except HubError as error:
            self.commands.fail(session, asked[0], error)
            return
        for subscription in asked:
            self.commands.submit(session, subscription)

    def turn_away(
        self, link: Link, dialect: Dialect, error: HubError, *, head: bytes = b""
    ) -> Session:
        """Open a session only to tell a peer why it gets none.

        For peers that cannot read the status of a refused handshake, as browsers cannot.
        """
        session = self._take_in(link, dialect, NOBODY, head)
        try:
            session.close_error(error)
        except Exception as fault:  # noqa: BLE001 - as above
            self.failed(session, fault)
        finally:
            session.uncork()
        return session

    def new_id(self) -> str:
        """What a session may be called."""
        # Nobody has to guess it: the secret is what proves whose it is.
        return self._options.tag + random.getrandbits(64).to_bytes(8).hex()

    def _take_in(
        self,
        link: Link,
        dialect: Dialect,
        identity: Identity,
        head: bytes,
        named: str | None = None,
    ) -> Session:
        """Have a session whose link gathers what it says, behind `head`, until `uncork`."""
        context, transport = self._context, link.transport
        id_ = self.new_id() if named is None else named
        session = Session(link, dialect, identity, id=id_, context=context)
        self.sessions[id_] = session
        self.by_transport[transport] += 1
        self._count_peer(session, 1)
        context.counters.opened[transport] += 1
        context.counters.bytes_sent += len(head)
        link.cork(head)
        return session

    def _count_peer(self, session: Session, change: int) -> None:
        if self.limiter.counts_addresses:
            _add(self.by_address, party(session.link.address), change)
        if self.limiter.counts_subjects and (subject := session.identity.subject) is not None:
            _add(self.by_subject, subject, change)

    def failed(self, session: Session, error: Exception) -> None:
        """A fault of the hub's: the session ends with 4500, or at once where that fails too."""
        self._runtime.on_fault(session, error)
        try:
            session.close_error(HubError("internal error"))
        except Exception as fault:  # noqa: BLE001 - as above
            self._runtime.on_fault(session, fault)
            session.closing = True
            session.abort()
            self.ended(session, self._our_fault, "internal error")

    def _authenticated(self, session: Session, before: str | None) -> float | None:
        """Its time begins anew."""
        if before is None:
            self._count_subject(session)
        return self._expiry.watch(session)

    def _count_subject(self, session: Session) -> None:
        """A session says only now whose it is: as at its opening, one too many ends."""
        subject = session.identity.subject
        if subject is None or not self.limiter.counts_subjects or session.closing:
            return
        others = self.by_subject[subject]
        self.by_subject[subject] += 1
        try:
            self.limiter.check_subject(others, subject, session.link.address)
        except HubError as error:
            session.close_error(error)

    def welcome(self, session: Session, given: bytes | None = None) -> Welcome:
        options = self._options
        return Welcome(
            session.id,
            options.node,
            options.heartbeat_seconds,
            options.version,
            self._secret(session.id),
            given,
        )

    def _secret(self, connection: str) -> str:
        # A copy: to take the key in again costs as much as all the rest.
        keyed = self._keyed.copy()
        keyed.update(connection.encode())
        return keyed.hexdigest()

    def find(self, connection: str, secret: str) -> Session:
        """The session whose welcome carried `secret`.

        Raises `UnauthorizedError` when the secret is not its own, `NotFoundError` when the
        session has ended.
        """
        if not compare_digest(self._secret(connection).encode(), secret.encode()):
            raise UnauthorizedError("the secret does not belong to this connection")
        if (session := self.sessions.get(connection)) is None:
            raise NotFoundError(f"connection {connection!r} is not open")
        return session

    # -- ending ----------------------------------------------------------------------------

    def ended(self, session: Session, code: int, reason: str) -> None:
        """The session is closing: forget it, and abort it if its peer takes too long to go."""
        if self.sessions.pop(session.id, None) is None:
            return
        record = session_record(session, self.origin, subscriptions=False)
        self.by_transport[session.link.transport] -= 1
        self._count_peer(session, -1)
        self._context.counters.closed[str(code)] += 1
        self._heartbeats.remove(session)
        self._aging.remove(session)
        self._expiry.remove(session)
        self._command_handler.ended(session)
        self._context.journal.ended(session, record, code, reason)
        if self.watch is not None and session.identity is not NOBODY:
            self.watch.closed(session, code, reason)
        if not session.gone:
            due = self.clock() + self._options.close_timeout_seconds
            self.leaving[session] = self._runtime.deadlines.at(due, lambda: self.abort(session))

    def abort(self, session: Session) -> None:
        """End a session's connection, and wait for no word of its end: there may be none left."""
        try:
            session.abort()
        finally:
            session.lost(self._our_fault, "aborted")

    def gone(self, session: Session) -> None:
        """The session's connection is gone too: there is nothing left to abort."""
        if (deadline := self.leaving.pop(session, None)) is not None:
            deadline.cancel()

    def disconnect(self, connection: str, *, code: int, reason: str) -> bool:
        """Close one session on an operator's word; False when it is not open here."""
        if (session := self.sessions.get(connection)) is None:
            return False
        session.close(code, reason)
        return True


NOBODY = Identity()
"""Of a session that is opened only to be told why it is closed."""


def _add(counts: Counts, key: str, change: int) -> None:
    """Change a count that may have any number of keys: one at zero is not kept."""
    counts[key] += change
    if not counts[key]:
        del counts[key]
