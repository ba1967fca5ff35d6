"""The node's sessions: opened, given commands to carry out, warned, and ended.

Transports call it; it writes to sessions and asks `Commands`. A session's commands are
carried out one after another, in the order they came, by one short-lived task: an idle
session has none.
"""

import secrets
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from hmac import compare_digest

from hub.core.aging import Aging
from hub.core.commands import Authenticate, Command, Subscribe
from hub.core.deadlines import Deadline, Deadlines
from hub.core.executor import Executor
from hub.core.expiry import Expiry
from hub.core.heartbeats import Heartbeats
from hub.core.identity import Identity
from hub.core.options import NodeOptions
from hub.core.ports import Dialect, Link, Monotonic, Spawn
from hub.core.pushes import Reply, Welcome
from hub.core.records import SessionRecord
from hub.core.session import Session
from hub.core.session_context import Job, Respond, SessionContext
from hub.core.views import session_record
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


class Engine:
    """One per node; owned by the event loop."""

    def __init__(
        self,
        *,
        options: NodeOptions,
        context: SessionContext,
        executor: Executor,
        heartbeats: Heartbeats,
        aging: Aging,
        expiry: Expiry,
        runtime: Runtime,
    ) -> None:
        self._options = options
        self._context = context
        self._executor = executor
        self._heartbeats = heartbeats
        self._aging = aging
        self._expiry = expiry
        self._runtime = runtime
        # Secrets are derived, so that they cost no memory and any node that shares the key
        # can check them.
        self._key = secrets.token_bytes(32)
        self.sessions: dict[str, Session] = {}
        self.by_transport: Counter[str] = Counter()
        self.leaving: dict[Session, Deadline] = {}
        """Sessions that said goodbye and whose connections are not gone yet."""
        self.draining = False

    @property
    def clock(self) -> Monotonic:
        return self._context.clock

    # -- opening ---------------------------------------------------------------------------

    def check_open(self) -> None:
        """Raise `UnavailableError` when the node takes no new sessions now."""
        if self.draining:
            raise UnavailableError("the node is draining, come back in a moment")
        if len(self.sessions) >= self._options.max_connections:
            raise UnavailableError(f"the node holds {self._options.max_connections:,} connections")

    def open(
        self,
        link: Link,
        dialect: Dialect,
        identity: Identity,
        *,
        head: bytes = b"",
        welcome: bool = True,
    ) -> Session:
        """Take a session in and welcome it. Call `check_open` before answering the handshake.

        `head` is the transport's own answer; it goes out with the welcome in one write, which
        saves a fifth of what a connect costs.
        """
        id_ = self._options.tag + secrets.token_hex(8)
        session = Session(link, dialect, identity, id=id_, context=self._context)
        self.sessions[id_] = session
        self.by_transport[link.transport] += 1
        self._context.tally.opened[link.transport] += 1
        self._heartbeats.add(session)
        self._aging.add(session)
        self._expiry.watch(session)
        session.control(head + dialect.encode(self.welcome(session), "") if welcome else head)
        return session

    def welcome(self, session: Session) -> Welcome:
        options = self._options
        return Welcome(
            session.id,
            options.node,
            options.heartbeat_seconds,
            options.version,
            self._secret(session.id),
        )

    def _secret(self, connection: str) -> str:
        return blake2b(connection.encode(), key=self._key, digest_size=16).hexdigest()

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

    # -- commands --------------------------------------------------------------------------

    def submit(self, session: Session, command: Command, respond: Respond | None = None) -> None:
        """Have a command carried out behind those before it.

        The reply goes into the stream, or to `respond`. With `inbox_max_commands` waiting the
        session is not read from until they are done.
        """
        if session.inbox is None:
            session.inbox = deque()
            self._runtime.spawn(self._work(session, session.inbox))
        session.inbox.append((command, respond))
        if len(session.inbox) == self._context.limits.inbox_max_commands:
            session.link.pause_reading()

    async def _work(self, session: Session, inbox: deque[Job]) -> None:
        paused_at = self._context.limits.inbox_max_commands
        most = 0
        try:
            while inbox:
                most = max(most, len(inbox))
                command, respond = inbox.popleft()
                if session.closing and respond is None:
                    continue
                await self._carry_out(session, command, respond)
        finally:
            session.inbox = None
            # Also of a session that is closing: its peer's farewell must not wait unread.
            if most >= paused_at:
                session.link.resume_reading()

    async def _carry_out(self, session: Session, command: Command, respond: Respond | None) -> None:
        try:
            ok = await self._executor.execute(
                session, command, reply_in_stream=respond is None and not _in_url(command)
            )
            if isinstance(command, Authenticate):
                # Its time begins anew.
                left = self._expiry.watch(session)
                ok = {"expires_in_seconds": None if left is None else round(left)}
            if ok is not None:
                (respond or session.push)(Reply(command.id, ok))
        except HubError as error:
            self._fail(session, command, error, respond)
        except Exception as error:  # noqa: BLE001 - the border: logged with traceback, neutral to the peer
            self._runtime.on_fault(session, error)
            self._fail_for_us(session, command, respond)

    def _fail_for_us(self, session: Session, command: Command, respond: Respond | None) -> None:
        """The fault is the hub's; where not even the reply can be made, the session ends."""
        error = HubError("internal error")
        try:
            self._fail(session, command, error, respond)
        except Exception as fault:  # noqa: BLE001 - as above
            self._runtime.on_fault(session, fault)
            session.close_error(error)

    def _fail(
        self, session: Session, command: Command, error: HubError, respond: Respond | None
    ) -> None:
        self._context.tally.command_errors[error.code] += 1
        if isinstance(command, Subscribe) and command.channel not in session.subscriptions:
            self._context.journal.refused(session, command.channel, error.code)
        if _in_url(command):
            session.close_error(error)
        else:
            (respond or session.push)(Reply(command.id, error=error))

    def refuse(self, session: Session, error: HubError) -> None:
        """Reply to what could not be read as a command."""
        self._context.tally.command_errors[error.code] += 1
        session.push(Reply(error.command_id, error=error))

    # -- ending ----------------------------------------------------------------------------

    def ended(self, session: Session, code: int, reason: str) -> None:
        """The session is closing: forget it, and abort it if its peer takes too long to go."""
        if self.sessions.pop(session.id, None) is None:
            return
        record = self.record(session)
        self.by_transport[session.link.transport] -= 1
        self._context.tally.closed[str(code)] += 1
        self._heartbeats.remove(session)
        self._aging.remove(session)
        self._expiry.remove(session)
        self._executor.ended(session)
        self._context.journal.ended(session, record, code, reason)
        if not session.gone:
            due = self.clock() + self._options.close_timeout_seconds
            self.leaving[session] = self._runtime.deadlines.at(due, session.link.abort)

    def record(self, session: Session) -> SessionRecord:
        """The session as operators see it now."""
        return session_record(
            session,
            node=self._options.node,
            now_seconds=self.clock(),
            wall_seconds=self._runtime.wall_clock(),
        )

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


def _in_url(command: Command) -> bool:
    return isinstance(command, Subscribe) and command.in_url
