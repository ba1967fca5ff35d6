"""Carries out the commands of sessions.

It checks grants, asks the application where a hook is set, calls the part that does the work, and
returns the content of the reply. It knows no wire format and no connection.
"""

from collections.abc import Callable, Collection, Mapping, Sequence

from hub.core import commands
from hub.core.commands import Command
from hub.core.counters import Counters
from hub.core.fanout.membership import Membership
from hub.core.fanout.presence import PresenceCommands, page_in_turns
from hub.core.hooks import Asker, Hooks, judged
from hub.core.identity import Identity
from hub.core.ports import (
    TokenPolicy,
    UndecidedError,
)
from hub.core.publish_commands import PublishCommands
from hub.core.publishing import Publishing
from hub.core.pushes import JsonText, Reply
from hub.core.reading import ChannelReading, LookBack, history_ok, look_back_ok
from hub.core.recovery.pattern_subscribing import PatternSubscribing
from hub.core.recovery.subscribing import Subscribing
from hub.core.session.session import Session
from hub.core.values import replace
from hub.errors import BadRequestError, ForbiddenError, HubError, UnavailableError

_NAMES: Mapping[type[Command], str] = {
    commands.Subscribe: "subscribe",
    commands.SubscribePattern: "subscribe",
    commands.Unsubscribe: "unsubscribe",
    commands.UnsubscribePattern: "unsubscribe",
    commands.Publish: "publish",
    commands.History: "history",
    commands.ListMembers: "presence",
    commands.PresenceUpdate: "presence_update",
    commands.Authenticate: "authenticate",
    commands.Ping: "ping",
}
"""Names of commands in metrics."""
_ASK_NOBODY = (
    commands.Ping
    | commands.Unsubscribe
    | commands.UnsubscribePattern
    | commands.Authenticate
    | commands.PresenceUpdate
)

Ok = Mapping[str, object] | None
"""The content of the reply; None when the reply is in the stream already."""


class CommandHandler:
    """Carries out the commands of a node's sessions."""

    def __init__(  # noqa: PLR0913 - made once, of all parts that do the work
        self,
        *,
        publishing: Publishing,
        reading: ChannelReading,
        membership: Membership,
        subscribing: Subscribing,
        patterns: PatternSubscribing,
        presence: PresenceCommands,
        policy: TokenPolicy,
        counters: Counters,
        answers_at_once: bool,
        on_refused: Callable[[Session, HubError], None] = lambda *_: None,
        hooks: Hooks | None = None,
    ) -> None:
        """Make the handler of a node.

        Args:
            answers_at_once: as `hub.core.ports.Broker` has it.
            on_refused: called with a session and the error of a token that it sent, or of another
                command. It leaves out errors that are about no right.
        """
        self._hooks = hooks
        self.publishes = PublishCommands(publishing, reading, counters=counters, hooks=hooks)
        self._reading = reading
        self._membership = membership
        self._subscribing = subscribing
        self._patterns = patterns
        self._presence = presence
        self._policy = policy
        self._counters = counters
        self._answers_at_once = answers_at_once
        self._on_refused = on_refused

    def may_begin(self, command: Command) -> bool:
        """Return whether `execute` may begin without a task (`hub.core.eager`).

        Commands that never call the broker always may.
        """
        return self._answers_at_once or isinstance(command, _ASK_NOBODY)

    def subscribe_now(self, session: Session, subscribe: Sequence[commands.Subscribe]) -> bool:
        """Begin the channels of a URL where nothing has to be awaited; return whether it did.

        Raises `HubError` as `execute` does.
        """
        if self._hooks is not None and not all(each.judged for each in subscribe):
            return False
        opened = self._subscribing.open_now(subscribe)
        if opened is None:
            return False
        self._counters.commands[_NAMES[commands.Subscribe]] += len(opened)
        self._subscribing.begin_now(session, opened)
        return True

    async def execute(  # noqa: C901 - a case per command
        self, session: Session, command: Command, *, reply_in_stream: bool
    ) -> Ok:
        """Carry out one command of a session; raise `HubError` where that fails."""
        self._counters.commands[_NAMES[type(command)]] += 1
        if session.identity.awaits_token and not isinstance(command, commands.Authenticate):
            session.identity.check_known()
        if self._hooks is not None:
            command = await self._judged(self._hooks, session, command)
        match command:
            case commands.Publish():
                return await self.publishes.execute(session, command)
            case commands.Subscribe():
                ok = await self._subscribing.subscribe(
                    session, command, reply_in_stream=reply_in_stream
                )
                return None if reply_in_stream or command.in_url else ok
            case commands.Unsubscribe():
                return self._unsubscribe(session, command, reply_in_stream=reply_in_stream)
            case commands.SubscribePattern():
                ok = await self._patterns.subscribe(
                    session, command, reply_in_stream=reply_in_stream
                )
                return None if reply_in_stream or command.in_url else ok
            case commands.UnsubscribePattern():
                return await self._patterns.unsubscribe(
                    session, command, reply_in_stream=reply_in_stream
                )
            case commands.History():
                return await self._history(session, command)
            case commands.ListMembers():
                return await self._members(session, command)
            case commands.PresenceUpdate():
                self._presence.update(session, command.channel, command.data)
                return {"channel": command.channel}
            case commands.Authenticate():
                return await self._authenticate(session, command)
            case commands.Ping():
                return {}

    # -- asking the application ------------------------------------------------------------

    async def _judged(self, hooks: Hooks, session: Session, command: Command) -> Command:
        """Return the command as the application allows it; raise its refusal."""
        match command:
            case commands.Publish():
                return await self._asked_publish(hooks, session, command)
            case commands.SubscribePattern():
                if hooks.asks_subscribe(session.identity):
                    raise ForbiddenError(
                        "the application is asked about each channel: a pattern names none"
                    )
                return command
            case commands.Subscribe(judged=True):
                # The application was asked before the session was opened.
                return command
            case commands.Subscribe():
                given = await self._ask_to_read(hooks, session, command.channel, command.presence)
                return replace(command, judged=True, given=given)
            case commands.PresenceUpdate() if command.channel in session.subscriptions:
                # Data that would have been refused with the subscription must not come in later.
                await self._ask_to_read(hooks, session, command.channel, command.data)
                return command
            case commands.History() | commands.ListMembers():
                await self._ask_to_read(hooks, session, command.channel)
                return command
            case _:
                return command

    async def _ask_to_read(
        self, hooks: Hooks, session: Session, channel: str, presence: bytes | None = None
    ) -> bytes | None:
        """Ask whether the session may read `channel`; return the data the application adds."""
        identity = session.identity
        if not hooks.asks_subscribe(identity):
            return None
        if channel in session.subscriptions and presence is None:
            return None
        identity.check_subscribe(channel)
        given = await hooks.check_subscribe(_asker(session, identity), channel, presence)
        _check_goes_on(session, identity)
        return given

    async def _asked_publish(
        self, hooks: Hooks, session: Session, command: commands.Publish
    ) -> commands.Publish:
        identity = session.identity
        if not hooks.asks_publish(identity):
            return command
        # The application is asked about nothing that the hub itself refuses.
        self.publishes.check(identity, command)
        command = await judged(hooks, _asker(session, identity), command)
        _check_goes_on(session, identity)
        return command

    # -- the others ------------------------------------------------------------------------

    def _unsubscribe(
        self, session: Session, command: commands.Unsubscribe, *, reply_in_stream: bool
    ) -> Ok:
        held = session.subscriptions.get(command.channel)
        if held is not None and held.through_pattern:
            raise BadRequestError(
                f"{command.channel!r} comes through a pattern: unsubscribe the pattern"
            )
        patterns = session.patterns
        if held is not None and patterns is not None and patterns.covers(command.channel):
            self._subscribing.only_through_pattern(subscription := held)
        else:
            subscription = self._membership.unsubscribe(session, command.channel)
        ok = {"channel": command.channel}
        if not reply_in_stream:
            return ok
        session.push_in_order(subscription, Reply(command.id, ok))
        return None

    async def _history(self, session: Session, command: commands.History) -> Ok:
        channel, since = command.channel, command.since
        session.identity.check_subscribe(channel)
        if command.from_ms is None and not command.reverse:
            return history_ok(channel, await self._reading.history(channel, since, command.limit))
        asked = LookBack(command.limit, command.from_ms, since, command.reverse)
        return look_back_ok(channel, await self._reading.look_back(channel, asked))

    async def _members(self, session: Session, command: commands.ListMembers) -> Ok:
        session.identity.check_subscribe(command.channel)
        everybody = await self._presence.members(command.channel)
        if command.count:
            return {"channel": command.channel, "count": len(everybody)}
        members, after = await page_in_turns(everybody, command.limit, command.after)
        ok: dict[str, object] = {"channel": command.channel, "members": members}
        return ok if after is None else ok | {"next": after}

    async def _authenticate(self, session: Session, command: commands.Authenticate) -> Ok:
        given = None
        try:
            try:
                identity = self._policy.authenticate(command.token)
            except UndecidedError as undecided:
                await undecided.wait()
                identity = self._policy.authenticate(command.token)
            if self._hooks is not None:
                # The application's decision about this peer must hold for its next token too.
                admission = await self._hooks.admit(_asker(session, identity))
                identity, given = admission.identity, admission.given
            self._change_identity(session, identity)
        except HubError as error:
            self._on_refused(session, error)
            raise
        return None if given is None else {"data": JsonText(given)}

    def _change_identity(self, session: Session, identity: Identity) -> None:
        before = session.identity.subject
        if before is not None and identity.subject != before:
            raise ForbiddenError("the token belongs to another subject")
        for name in session.subscriptions:
            identity.check_subscribe(name)
        for pattern in () if session.patterns is None else session.patterns.by_text:
            identity.check_pattern(pattern)
        self._presence.change_identity(session, identity)

    def refused(self, session: Session, command: Command, error: HubError) -> None:
        """Note the error of a command; that of a token is noted where it is judged."""
        if not isinstance(command, commands.Authenticate):
            self._on_refused(session, error)

    def ended(self, session: Session) -> None:
        """Take an ended session out of its channels and patterns."""
        self._membership.leave_all(session)
        self._patterns.leave_all(session)

    @property
    def parting(self) -> Collection[str]:
        """The ended connections that have still to leave some of their channels."""
        return self._membership.parting


def _asker(session: Session, identity: Identity) -> Asker:
    return Asker(
        identity, session.id, session.link.address, {"user-agent": session.link.user_agent}
    )


def _check_goes_on(session: Session, asked_for: Identity) -> None:
    """Raise `UnavailableError` where the session has changed while the application was asked."""
    if session.closing or session.identity.subject != asked_for.subject:
        raise UnavailableError("the session changed while the application was asked")
