"""Carries out and answers the commands of sessions one after another, in the order they came.

A command that need not wait is carried out in the call that brings it. The first command that waits
gets a short-lived task, and later ones queue behind it. An idle session has no task and no queue.
`hub.core.command_handler` does the work of a command.

Publications do not wait for each other. A broker that answers later gets one after the other, keeps
their order, and calls back, so a publisher with one connection need not wait for an answer to each.
Example: `publish`, `publish`, `history`, `publish`. The first two go to the broker at once. The
history is read when both are answered, and the last goes out after that.
"""

from collections.abc import Callable
from functools import partial

from hub.core.command_handler import CommandHandler
from hub.core.commands import Authenticate, Command, InUrl, Publish, Subscribe
from hub.core.eager import Rest, begin
from hub.core.ports import Defer, PublishResult, Spawn
from hub.core.publish_commands import published_ok
from hub.core.pushes import Reply
from hub.core.session.inbox import Inbox, PendingPublish, Respond
from hub.core.session.link import SessionContext
from hub.core.session.session import Session
from hub.errors import HubError, RateLimitedError

# Bound on an error's message while its peer takes no writes. The replies to all commands that may
# wait then fit into the control lane.
_BRIEF_BYTES = 100
# Waiting publications that go to the broker in one step, some 10 us each.
_BEGUN_AT_ONCE = 64


class CommandQueue:
    """Orders the commands of a node's sessions. A session's queue is its `inbox`.

    Args:
        on_fault: called with errors of the hub itself; the peer gets a neutral one.
        failed: ends a session to which not even that reply can be sent.
        authenticated: called when a session sent a valid token, with its subject before; returns
            for how many seconds the token holds, None for ever.
    """

    def __init__(
        self,
        context: SessionContext,
        command_handler: CommandHandler,
        *,
        spawn: Spawn,
        defer: Defer,
        on_fault: Callable[[Session, Exception], None],
        failed: Callable[[Session, Exception], None],
        authenticated: Callable[[Session, str | None], float | None],
    ) -> None:
        self._context = context
        self._limiter = context.limiter
        self._command_handler = command_handler
        self.publishes = command_handler.publishes
        self._spawn = spawn
        self._defer = defer
        self._on_fault = on_fault
        self._failed = failed
        self._authenticated = authenticated

    @property
    def limits_each_publish(self) -> bool:
        """Whether a limit looks at each publication, so that none may be made with others."""
        return self._limiter.meters_commands or self._limiter.limits_publishes

    def over_limit(self, session: Session, size: int) -> RateLimitedError | None:
        """Count a command of `size` bytes against the session's limits; return the refusal.

        A peer that goes on sending for ten seconds is closed.
        """
        if not self._limiter.meters_commands:
            return None
        if (meter := session.meter) is None:
            meter = session.meter = self._limiter.new_meter()
        address = session.link.address
        if (over := self._limiter.check_command(meter, size, session.id, address)) is None:
            return None
        error, goes_on = over
        if goes_on:
            session.close_error(error)
        return error

    def submit(self, session: Session, command: Command, respond: Respond | None = None) -> None:
        """Carry out a command after those before it.

        The reply goes into the stream, or to `respond`. Where no command waits and this one need
        not wait, it is done when this returns. Once the inbox is full, the hub stops reading
        from the peer until all commands in it are done. A command with `respond` did not come by
        that connection, and raises `RateLimitedError` then.
        """
        if session.closing and respond is None:
            return
        if session.inbox is not None:
            self._queue(session, command, respond)
        elif isinstance(command, Publish) and self.publishes.way(session) == "now":
            self._publish(session, command, respond)
        elif self._goes_soon(session, command) or not self._begins(session, command, respond):
            self._queue(session, command, respond)

    def _begins(self, session: Session, command: Command, respond: Respond | None) -> bool:
        """Begin a command at once; return False where that takes a task."""
        if not self._command_handler.may_begin(command):
            return False
        rest = begin(self._carry_out(session, command, respond))
        if rest is not None:
            inbox = session.inbox = Inbox(self._context.limits)
            self._begin_work(session, inbox, rest)
        return True

    def _queue(self, session: Session, command: Command, respond: Respond | None) -> None:
        """Carry out a command behind those that are not done."""
        if (inbox := session.inbox) is None:
            inbox = session.inbox = Inbox(self._context.limits)
        elif respond is not None and inbox.crowded:
            raise RateLimitedError(f"{len(inbox)} commands of this session wait already")
        if inbox.passes and isinstance(command, Publish) and self._goes_soon(session, command):
            self._publish_soon(session, inbox, command, respond)
            filled = inbox.has_filled()
        else:
            filled = inbox.add(command, respond)
        if filled:
            session.link.pause_reading()
        if inbox.next is not None and not inbox.is_worked:
            self._go_on(session, inbox)

    def _goes_soon(self, session: Session, command: Command) -> bool:
        """Return whether the broker takes the command and calls back."""
        return isinstance(command, Publish) and self.publishes.way(session) == "soon"

    def _publish(self, session: Session, command: Publish, respond: Respond | None) -> None:
        """Carry out a publish in a plain call: the usual command, with a broker in this process."""
        try:
            if self._limiter.limits_publishes:
                self._check_publish(session)
            ok = self.publishes.publish_for(session, command)
            reply = Reply(command.id, ok)
            if respond is None:
                session.control(session.dialect.encode(reply, ""))
            else:
                respond(reply)
        except HubError as error:
            self.fail(session, command, error, respond)
        except Exception as error:  # noqa: BLE001 - the border, as in `_carry_out`
            self._on_fault(session, error)
            self.fail_for_us(session, command, respond)

    def _check_publish(self, session: Session) -> None:
        publisher, address = session.identity.publisher_or(session.id), session.link.address
        self._limiter.check_publish(publisher, connection=session.id, address=address)

    def _publish_soon(
        self, session: Session, inbox: Inbox, command: Publish, respond: Respond | None
    ) -> None:
        """Give a publication to the broker, which calls back."""
        sent = PendingPublish(command, respond)
        inbox.send(sent)
        try:
            if self._limiter.limits_publishes:
                self._check_publish(session)
            on_done = partial(self._answered, session, inbox, sent)
            self.publishes.publish_soon_for(session, command, on_done)
        except HubError as error:
            self._answered(session, inbox, sent, error)
        except Exception as error:  # noqa: BLE001 - the border, as in `_carry_out`
            self._on_fault(session, error)
            self._answered(session, inbox, sent, HubError("internal error"))

    def _answered(
        self,
        session: Session,
        inbox: Inbox,
        sent: PendingPublish,
        outcome: PublishResult | HubError,
    ) -> None:
        """Take the outcome of a publication. Those of one turn of the loop are replied together."""
        sent.outcome = outcome
        if inbox.under_way[0] is sent:
            self._defer(partial(self._reply_in_order, session, inbox))

    def _reply_in_order(self, session: Session, inbox: Inbox) -> None:
        """Reply to the publications that are answered, and go on behind the last one."""
        answered = inbox.answered()
        if len(answered) > 1:
            session.link.cork()
        try:
            for sent in answered:
                self._reply(session, sent)
        finally:
            if len(answered) > 1:
                session.uncork()
            if not inbox.under_way and not inbox.is_worked:
                self._go_on(session, inbox)

    def _reply(self, session: Session, sent: PendingPublish) -> None:
        """Reply to a publication; the peer of a closing session gets no reply."""
        command, respond, outcome = sent.command, sent.respond, sent.outcome
        if session.closing and respond is None:
            return
        try:
            if isinstance(outcome, PublishResult):
                (respond or session.push)(Reply(command.id, published_ok(command, outcome)))
            elif outcome is not None:
                self.fail(session, command, outcome, respond)
        except Exception as error:  # noqa: BLE001 - the border, as in `_carry_out`
            self._on_fault(session, error)
            self.fail_for_us(session, command, respond)

    def _go_on(self, session: Session, inbox: Inbox) -> None:
        """Begin what waits in the inbox and need not wait longer; drop an empty inbox."""
        for _ in range(_BEGUN_AT_ONCE):
            if (job := inbox.next) is None or not self._goes_soon(session, job[0]):
                break
            inbox.take()
            command, respond = job
            if isinstance(command, Publish) and not (session.closing and respond is None):
                self._publish_soon(session, inbox, command, respond)
        if inbox.under_way:
            return
        if len(inbox):
            self._begin_work(session, inbox, None)
        else:
            self._drop(session, inbox)

    def _drop(self, session: Session, inbox: Inbox) -> None:
        session.inbox = None
        # A closing session reads on too: its peer's close frame must not wait unread.
        if inbox.full:
            session.read_on()

    def _begin_work(self, session: Session, inbox: Inbox, rest: Rest[None] | None) -> None:
        inbox.is_worked = True
        self._spawn(self._work(session, inbox, rest))

    async def _work(self, session: Session, inbox: Inbox, rest: Rest[None] | None) -> None:
        """Carry out the waiting commands, after the `rest` of the one that began at once.

        It ends before a publication that the broker answers by a call.
        """
        try:
            if rest is not None:
                await rest.run()
            while (job := inbox.next) is not None and not self._goes_soon(session, job[0]):
                inbox.take()
                command, respond = job
                if session.closing and respond is None:
                    continue
                await self._carry_out(session, command, respond)
        except BaseException:
            # The process ends.
            self._drop(session, inbox)
            raise
        inbox.is_worked = False
        self._go_on(session, inbox)

    async def _carry_out(self, session: Session, command: Command, respond: Respond | None) -> None:
        try:
            before = session.identity.subject
            if isinstance(command, Publish) and self._limiter.limits_publishes:
                self._check_publish(session)
            ok = await self._command_handler.execute(
                session, command, reply_in_stream=respond is None and not _in_url(command)
            )
            if isinstance(command, Authenticate):
                left = self._authenticated(session, before)
                ok = {"expires_in_seconds": None if left is None else round(left), **(ok or {})}
            if ok is not None:
                (respond or session.push)(Reply(command.id, ok))
        except HubError as error:
            self.fail(session, command, error, respond)
        except Exception as error:  # noqa: BLE001 - the border: logged with traceback, neutral to the peer
            self._on_fault(session, error)
            self.fail_for_us(session, command, respond)

    def fail_for_us(
        self, session: Session, command: Command, respond: Respond | None = None
    ) -> None:
        """Reply with an internal error; end the session where not even that is possible."""
        try:
            self.fail(session, command, HubError("internal error"), respond)
        except Exception as fault:  # noqa: BLE001 - as above
            self._failed(session, fault)

    def fail(
        self, session: Session, command: Command, error: HubError, respond: Respond | None = None
    ) -> None:
        """Reply that a command could not be carried out."""
        self._context.counters.command_errors[error.code] += 1
        self._command_handler.refused(session, command, error)
        if isinstance(command, Subscribe) and command.channel not in session.subscriptions:
            self._context.journal.refused(session, command.channel, error.code)
        if _in_url(command) or session.identity.awaits_token:
            session.close_error(error)
        else:
            sent = error if respond else _brief(session, error)
            (respond or session.push)(Reply(command.id, error=sent))

    def refuse(self, session: Session, error: HubError) -> None:
        """Reply to a message that could not be read as a command."""
        self._context.counters.command_errors[error.code] += 1
        session.push(Reply(error.command_id, error=_brief(session, error)))


def _in_url(command: Command) -> bool:
    return isinstance(command, InUrl) and command.in_url


def _brief(session: Session, error: HubError) -> HubError:
    """Return the error with a short message while the peer takes no writes.

    So a peer that sends many commands before it reads is not closed for the size of the replies,
    which repeat parts of the commands.
    """
    return error if session.writable else error.brief(_BRIEF_BYTES)
