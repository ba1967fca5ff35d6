"""The sessions of a node: opens them, counts them, and ends them.

Transports call the registry, and write to sessions. The commands of sessions go through its
`commands` (`hub.core.command_queue`), those of one read through its `publish_run`.
"""

import random
import secrets
from collections.abc import Callable, Collection, Iterable, Sequence
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
from hub.core.ports import Defer, Dialect, Monotonic, Spawn
from hub.core.publish_run import PublishRun
from hub.core.pushes import Welcome
from hub.core.records import RowSource, session_record
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
    """Tasks, time and fault reporting, which the process lends the core."""

    spawn: Spawn
    defer: Defer
    deadlines: Deadlines
    wall_clock: Callable[[], float]
    on_fault: Callable[[Session, Exception], None]
    """Called with an error of the hub itself; the peer gets a neutral one."""


class SessionWatch(Protocol):
    """Called when sessions open and close."""

    def opened(self, session: Session) -> None: ...

    def closed(self, session: Session, code: int, reason: str) -> None: ...


class SessionRegistry:
    """The sessions of a node; owned by the event loop."""

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
        self.spawn = runtime.spawn
        self.limiter = context.limiter
        self.commands = CommandQueue(
            context,
            command_handler,
            spawn=runtime.spawn,
            defer=runtime.defer,
            on_fault=runtime.on_fault,
            failed=self.failed,
            authenticated=self._authenticated,
        )
        self.publish_run = PublishRun(self.commands, on_fault=runtime.on_fault)
        self.origin = RowSource(options.node, self.clock, runtime.wall_clock() - self.clock())
        # Secrets are derived from a key, so that they take no memory.
        self._keyed = blake2b(key=secrets.token_bytes(32), digest_size=16)
        self._our_fault = context.close_code(HubError.code, HubError.retryable)
        self.sessions: dict[str, Session] = {}
        self.by_transport = Counts()
        self.by_address = Counts()
        """Sessions by `hub.core.limits.party`, also those that leave; counted only with a limit for
        addresses."""
        self.by_subject = Counts()
        """Sessions by subject; counted only with a limit for subjects."""
        self.leaving: dict[Session, Deadline] = {}
        """Sessions that sent a goodbye and whose connections are not gone yet."""
        self.draining = False
        self.watch: SessionWatch | None = None
        """Called when sessions open and close; None without webhooks."""

    @property
    def counters(self) -> Counters:
        return self._context.counters

    @property
    def max_connections(self) -> int:
        """The largest number of sessions."""
        return self._options.max_connections

    @property
    def clock(self) -> Monotonic:
        return self._context.clock

    # -- opening ---------------------------------------------------------------------------

    def check_open(self, address: str | None) -> None:
        """Raise `UnavailableError` when the node takes no new sessions now.

        Raise `RateLimitedError` when it takes none from `address`. `address` is None where that was
        checked before for the same handshake.
        """
        if self.draining:
            raise UnavailableError("the node is draining, come back in a moment")
        if len(self.sessions) >= self._options.max_connections:
            why = f"the node holds {self._options.max_connections:,} connections"
            raise self.limiter.full(address or "", why)
        if address is None:
            return
        self.limiter.check_handshake(address)
        if self.limiter.counts_addresses:
            self.limiter.check_address(self.by_address[party(address)], address)

    def check_subject(self, subject: str | None, address: str) -> None:
        """Raise `RateLimitedError` when `subject` may have no further session."""
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
        """Open a session, welcome it and begin its subscriptions.

        Call `check_open` before answering the handshake. An error on the way ends the session as
        any other would, so the returned session may be closing.

        Args:
            head: the transport's own answer. It, the welcome, and the messages that the broker has
                at once leave in one write.
            named: an id from `new_id`; None makes a new one.
            given: the application's data for the welcome, as JSON.
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
        """Begin the subscriptions of the URL, its patterns last."""
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
        """Open a session only to send its peer a refusal, over a link that other servers carry.

        Browsers, for example, cannot read the status of a refused handshake.
        """
        session = self._take_in(link, dialect, NOBODY, head)
        try:
            session.close_error(error)
        except Exception as fault:  # noqa: BLE001 - as above
            self.failed(session, fault)
        finally:
            session.uncork()
        return session

    def count_turned_away(self, transport: str, code: int, size: int) -> None:
        """Count a peer that was refused in `size` bytes, as a session that ended with `code`."""
        counters = self._context.counters
        counters.opened[transport] += 1
        counters.closed[str(int(code))] += 1
        counters.bytes_sent += size

    def new_id(self) -> str:
        """Return a new id for a session."""
        # It may be guessed: a session's secret is the proof, not its id.
        return self._options.tag + random.getrandbits(64).to_bytes(8).hex()

    def _take_in(
        self,
        link: Link,
        dialect: Dialect,
        identity: Identity,
        head: bytes,
        named: str | None = None,
    ) -> Session:
        """Make a session whose link gathers its frames behind `head` until `uncork`."""
        context, transport = self._context, link.transport
        id_ = self.new_id() if named is None else named
        session = Session(link, dialect, identity, id=id_, context=context)
        self.sessions[id_] = session
        self.by_transport[transport] += 1
        self._count_address(session, 1)
        if self.limiter.counts_subjects and (subject := identity.subject) is not None:
            _add(self.by_subject, subject, 1)
        context.counters.opened[transport] += 1
        context.counters.bytes_sent += len(head)
        link.cork(head)
        return session

    def _count_address(self, session: Session, change: int) -> None:
        if self.limiter.counts_addresses:
            _add(self.by_address, party(session.link.address), change)

    def failed(self, session: Session, error: Exception) -> None:
        """End a session after a fault of the hub: with 4500, or at once where that fails too."""
        self._runtime.on_fault(session, error)
        try:
            session.close_error(HubError("internal error"))
        except Exception as fault:  # noqa: BLE001 - as above
            self._runtime.on_fault(session, fault)
            session.closing = True
            session.abort()
            self.ended(session, self._our_fault, "internal error")

    def _authenticated(self, session: Session, before: str | None) -> float | None:
        """Follow the session's new identity; return for how many seconds it holds."""
        if before is None:
            self._count_subject(session)
        return self._expiry.watch(session)

    def _count_subject(self, session: Session) -> None:
        """Count a session whose subject is known only now; end it where it is one too many."""
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
        # A copy: hashing the key again costs as much as all the rest.
        keyed = self._keyed.copy()
        keyed.update(connection.encode())
        return keyed.hexdigest()

    def find(self, connection: str, secret: str) -> Session:
        """Return the session whose welcome carried `secret`.

        Raises `UnauthorizedError` when the secret belongs to another connection, and
        `NotFoundError` when the session has ended.
        """
        if not compare_digest(self._secret(connection).encode(), secret.encode()):
            raise UnauthorizedError("the secret does not belong to this connection")
        if (session := self.sessions.get(connection)) is None:
            raise NotFoundError(f"connection {connection!r} is not open")
        return session

    # -- ending ----------------------------------------------------------------------------

    @property
    def parting(self) -> Collection[str]:
        """The ended connections that have still to leave some of their channels. They do so in
        the next turns of the loop, and the journal has all notes about them then."""
        return self._command_handler.parting

    def ended(self, session: Session, code: int, reason: str) -> None:
        """Forget a closing session, and abort it if its peer takes too long to go."""
        if self.sessions.pop(session.id, None) is None:
            return
        record = session_record(session, self.origin, subscriptions=False)
        self.by_transport[session.link.transport] -= 1
        if self.limiter.counts_subjects and (subject := session.identity.subject) is not None:
            _add(self.by_subject, subject, -1)
        self._context.counters.closed[str(code)] += 1
        self._heartbeats.remove(session)
        self._aging.remove(session)
        self._expiry.remove(session)
        self._command_handler.ended(session)
        self._context.journal.ended(session, record, code, reason)
        if self.watch is not None and session.identity is not NOBODY:
            self.watch.closed(session, code, reason)
        if session.gone:
            self._count_address(session, -1)
        else:
            # Its connection still is one of its address.
            due = self.clock() + self._options.close_timeout_seconds
            self.leaving[session] = self._runtime.deadlines.at(due, lambda: self.abort(session))

    def abort(self, session: Session) -> None:
        """End a session's connection without waiting for the link to report its end."""
        try:
            session.abort()
        finally:
            session.lost(self._our_fault, "aborted")

    def gone(self, session: Session) -> None:
        """Cancel the abort of a session whose connection is gone."""
        if (deadline := self.leaving.pop(session, None)) is not None:
            deadline.cancel()
            self._count_address(session, -1)

    def disconnect(self, connection: str, *, code: int, reason: str) -> bool:
        """Close one session for an operator; return False when it is not open here."""
        if (session := self.sessions.get(connection)) is None:
            return False
        session.close(code, reason)
        return True


NOBODY = Identity()
"""The identity of a session that is opened only for a refusal."""


def _add(counts: Counts, key: str, change: int) -> None:
    """Change a count, and drop its key at zero, because there may be any number of keys."""
    counts[key] += change
    if not counts[key]:
        del counts[key]
