"""Carries out what a session or the HTTP API asks for: one method per command.

Checks grants, asks the broker, and returns what the reply says. It knows no wire format and
no connection.
"""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any, NoReturn, get_args

from hub.core import commands
from hub.core.commands import Command
from hub.core.counters import Counters
from hub.core.fanout.fanout import Fanout
from hub.core.fanout.membership import Membership
from hub.core.fanout.presence import page_of
from hub.core.fanout.presence_commands import PresenceCommands
from hub.core.hooks import Asker, Hooks
from hub.core.identity import Identity
from hub.core.look_back import Found, LookBack, look_back
from hub.core.ports import (
    Broker,
    HistoryPage,
    OnPublished,
    Policy,
    PublishNow,
    PublishRequest,
    PublishResult,
    PublishSoon,
    StatePage,
    UndecidedError,
)
from hub.core.publication import REMOVES, Position
from hub.core.pushes import JsonText, Reply
from hub.core.recovery.pattern_subscribing import PatternSubscribing
from hub.core.recovery.subscribing import Subscribing
from hub.core.session.session import Session
from hub.errors import BadRequestError, ForbiddenError, HubError, UnavailableError

MAX_HISTORY_LIMIT = 1000
# A history answer is one frame and leaves nothing else through while it is written.
MAX_HISTORY_BYTES = 1024 * 1024

_NAMES = {kind: kind.__name__.lower().removesuffix("pattern") for kind in get_args(Command)} | {
    commands.PresenceUpdate: "presence_update"
}
"""As metrics call them."""
_ASK_NOBODY = (
    commands.Ping
    | commands.Unsubscribe
    | commands.UnsubscribePattern
    | commands.Authenticate
    | commands.PresenceUpdate
)

Ok = Mapping[str, object] | None
"""What the reply says; None when it already stands in the stream."""


class CommandHandler:
    """One per node."""

    def __init__(  # noqa: PLR0913 - made once, of all that has a say
        self,
        *,
        broker: Broker,
        fanout: Fanout,
        membership: Membership,
        subscribing: Subscribing,
        patterns: PatternSubscribing,
        presence: PresenceCommands,
        policy: Policy,
        counters: Counters,
        max_backlog_bytes: int,
        on_refused: Callable[[Session, HubError], None] = lambda *_: None,
        hooks: Hooks | None = None,
    ) -> None:
        """`on_refused` is told of tokens that a session sent and that do not hold."""
        self._hooks = hooks
        self._broker = broker
        self.publishes_now = broker.answers_at_once and broker.publish_now is not None
        """Whether publications are done in a plain call."""
        self._fanout = fanout
        self._membership = membership
        self._subscribing = subscribing
        self._patterns = patterns
        self._presence = presence
        self._policy = policy
        self._counters = counters
        self._max_backlog_bytes = max_backlog_bytes
        self._on_refused = on_refused

    def publishes_for(self, session: Session) -> bool:
        """Whether `publish_for` may be used: nothing is waited for, and nobody is asked."""
        hooks = self._hooks
        return self.publishes_now and (hooks is None or not hooks.asks_publish(session.identity))

    def may_begin(self, command: Command) -> bool:
        """Whether `execute` may be begun without a task (`hub.core.eager`).

        Commands that never ask the broker always may.
        """
        return self._broker.answers_at_once or isinstance(command, _ASK_NOBODY)

    def subscribe_now(self, session: Session, subscribe: Sequence[commands.Subscribe]) -> bool:
        """Begin the channels of a URL where that waits for nothing; return whether it did.

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

    async def execute(  # noqa: C901, PLR0912 - a case per command
        self, session: Session, command: Command, *, reply_in_stream: bool
    ) -> Ok:
        """Carry out one command of a session; raise `HubError` where it cannot be."""
        self._counters.commands[_NAMES[type(command)]] += 1
        if session.identity.awaits_token and not isinstance(command, commands.Authenticate):
            session.identity.check_known()
        if self._hooks is not None:
            command = await self._judged(self._hooks, session, command)
        match command:
            case commands.Publish():
                result = self.publish(_asked(session, command))
                if not isinstance(result, PublishResult):
                    result = await result
                return _published(command, result)
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
                return self._patterns.unsubscribe(session, command, reply_in_stream=reply_in_stream)
            case commands.History():
                session.identity.check_subscribe(command.channel)
                page = await self.history(command.channel, command.since, command.limit)
                return history_ok(command.channel, page)
            case commands.Presence():
                return await self._members(session, command)
            case commands.PresenceUpdate():
                self._presence.update(session, command.channel, command.data)
                return {"channel": command.channel}
            case commands.Authenticate():
                return await self._authenticate(session, command)
            case commands.Ping():
                return {}

    # -- the application's word ------------------------------------------------------------

    async def _judged(self, hooks: Hooks, session: Session, command: Command) -> Command:
        """The command as the application lets it be carried out; raise what it refuses by."""
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
                # It was asked about before the session was opened.
                return command
            case commands.Subscribe():
                given = await self._ask_to_read(hooks, session, command.channel)
                return replace(command, judged=True, given=given)
            case commands.History() | commands.Presence():
                await self._ask_to_read(hooks, session, command.channel)
                return command
            case _:
                return command

    async def _ask_to_read(self, hooks: Hooks, session: Session, channel: str) -> bytes | None:
        """What the application gives along with its yes."""
        identity = session.identity
        if channel in session.subscriptions or not hooks.asks_subscribe(identity):
            return None
        identity.check_subscribe(channel)
        given = await hooks.check_subscribe(_asker(session, identity), channel)
        _check_goes_on(session, identity)
        return given

    async def _asked_publish(
        self, hooks: Hooks, session: Session, command: commands.Publish
    ) -> commands.Publish:
        identity, channel = session.identity, command.channel
        if not hooks.asks_publish(identity):
            return command
        identity.check_publish(channel)
        data = await hooks.check_publish(_asker(session, identity), channel, command.data)
        _check_goes_on(session, identity)
        # What takes a row away has no data.
        same = data is command.data or command.marks & REMOVES
        return command if same else replace(command, data=data)

    # -- publishing ------------------------------------------------------------------------

    def publish_for(self, session: Session, command: commands.Publish) -> Ok:
        """As `execute`, where `publishes_for` says so."""
        self._counters.commands["publish"] += 1
        result = self.publish(_asked(session, command))
        assert isinstance(result, PublishResult)  # noqa: S101 - the caller has asked
        return _published(command, result)

    def publish(
        self, request: PublishRequest
    ) -> PublishResult | Coroutine[Any, Any, PublishResult]:
        """Publish for a session, the HTTP API or the application in this process.

        It is done when this returns where the broker publishes in a plain call, else when what
        is returned has ended. Calls made one after another are carried out in that order.

        Raises `UnavailableError` while the node has more to write than it may queue, and what
        the broker raises.
        """
        return self._publish_now(request) if self.publishes_now else self._publish_later(request)

    @property
    def publish_now(self) -> PublishNow | None:
        """`publish` where it is always done when it returns; None elsewhere."""
        return self._publish_now if self.publishes_now else None

    def _publish_now(self, request: PublishRequest) -> PublishResult:
        publish_now = self._broker.publish_now
        assert publish_now is not None  # noqa: S101 - `publishes_now` says so
        counters = self._counters
        try:
            if self._fanout.backlog_bytes > self._max_backlog_bytes:
                self._refuse_more()
            result = publish_now(request)
        except HubError as error:
            counters.publish_errors[error.code] += 1
            raise
        if result.duplicate:
            counters.duplicates += 1
        else:
            counters.publications += 1
        return result

    @property
    def publish_soon(self) -> PublishSoon | None:
        """`publish` with a call back; None where the broker has none."""
        return None if self._broker.publish_soon is None else self._publish_soon

    def _publish_soon(self, request: PublishRequest, on_done: OnPublished) -> None:
        publish_soon = self._broker.publish_soon
        assert publish_soon is not None  # noqa: S101 - as above

        def done(outcome: PublishResult | HubError) -> None:
            if isinstance(outcome, PublishResult):
                self._count(outcome)
            else:
                self._counters.publish_errors[outcome.code] += 1
            on_done(outcome)

        try:
            if self._fanout.backlog_bytes > self._max_backlog_bytes:
                self._refuse_more()
            publish_soon(request, done)
        except HubError as error:
            self._counters.publish_errors[error.code] += 1
            raise

    def publish_many_now(
        self, requests: Sequence[PublishRequest]
    ) -> Sequence[PublishResult | HubError] | None:
        """As `publish` for each in their order, with what it returns or raises.

        None, and nothing is done, where they have to be published one by one: the broker has no
        call for many, or what waits to be written may reach its bound between two of them.
        """
        many = self._broker.publish_many_now if self.publishes_now else None
        size = sum([len(request.data) for request in requests])
        if many is None or self._fanout.backlog_bytes + size > self._max_backlog_bytes:
            return None
        outcomes = many(requests)
        made = duplicates = 0
        for outcome in outcomes:
            if isinstance(outcome, HubError):
                self._counters.publish_errors[outcome.code] += 1
            elif outcome.duplicate:
                duplicates += 1
            else:
                made += 1
        self._counters.publications += made
        self._counters.duplicates += duplicates
        return outcomes

    async def _publish_later(self, request: PublishRequest) -> PublishResult:
        try:
            if self._fanout.backlog_bytes > self._max_backlog_bytes:
                self._refuse_more()
            result = await self._broker.publish(request)
        except HubError as error:
            self._counters.publish_errors[error.code] += 1
            raise
        return self._count(result)

    @property
    def publishes_many(self) -> bool:
        """Whether `publish_many` may be used: the broker takes several as cheaply as one."""
        return self._broker.publish_many is not None

    async def publish_many(
        self, requests: Sequence[PublishRequest]
    ) -> Sequence[PublishResult | HubError]:
        """Publish in this order; each has its result, or why there is none."""
        publish_many = self._broker.publish_many
        assert publish_many is not None  # noqa: S101 - the caller has asked
        outcomes: Sequence[PublishResult | HubError]
        try:
            if self._fanout.backlog_bytes > self._max_backlog_bytes:
                self._refuse_more()
            outcomes = await publish_many(requests)
        except HubError as error:
            outcomes = [error] * len(requests)
        for outcome in outcomes:
            if isinstance(outcome, PublishResult):
                self._count(outcome)
            else:
                self._counters.publish_errors[outcome.code] += 1
        return outcomes

    def _refuse_more(self) -> NoReturn:
        raise UnavailableError(
            f"{self._fanout.backlog_bytes:,} bytes wait to be written, "
            f"limit is {self._max_backlog_bytes:,}: publish more slowly"
        )

    def _count(self, result: PublishResult) -> PublishResult:
        if result.duplicate:
            self._counters.duplicates += 1
        else:
            self._counters.publications += 1
        return result

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

    async def history(self, channel: str, since: Position | None, limit: int) -> HistoryPage:
        """At most `limit` publications (1 to 1,000) and 1 MiB after `since`, oldest first.

        Without `since`, or when it belongs to another epoch, from the oldest that is held.
        """
        if not 1 <= limit <= MAX_HISTORY_LIMIT:
            raise BadRequestError(f"limit is {limit}, allowed is 1 to {MAX_HISTORY_LIMIT}")
        after = 0 if since is None else since.offset
        page = await self._broker.history(channel, after, limit, max_bytes=MAX_HISTORY_BYTES)
        if since is not None and since.epoch != page.head.epoch and after:
            page = await self._broker.history(channel, 0, limit, max_bytes=MAX_HISTORY_BYTES)
        return await self._lengthened(channel, page, limit)

    async def look_back(self, channel: str, asked: LookBack) -> Found:
        """Part of history, from a moment on or backwards."""
        return await look_back(self._broker, channel, asked)

    async def clear_history(self, channel: str) -> None:
        """Let go of what was published before; raise what the broker raises."""
        await self._broker.clear(channel)

    async def _lengthened(self, channel: str, page: HistoryPage, limit: int) -> HistoryPage:
        """`page` and what follows it: a broker gives as much as it likes at a time.

        It ends before a hole, so that the next request shows it.
        """
        found = list(page.publications)
        room = MAX_HISTORY_BYTES - sum(len(publication.data) for publication in found)
        last, head = page.last, page.head
        while 0 < last < head.offset and len(found) < limit and room > 0:
            more = await self._broker.history(channel, last, limit - len(found), max_bytes=room)
            if more.head.epoch != head.epoch or more.oldest > last + 1 or not more.publications:
                break
            head = more.head
            for publication in more.publications:
                room -= len(publication.data)
                if room >= 0:
                    found.append(publication)
                    last = publication.offset
        return HistoryPage(head, page.oldest, tuple(found))

    def check_keyed(self, channel: str) -> None:
        """Raise `BadRequestError` where the channel's namespace keeps no state."""
        self._membership.channels.options(channel).check_keyed(channel)

    async def state(self, channel: str, after: str, limit: int) -> StatePage:
        """At most `limit` rows with keys above `after`, and 1 MiB, in the order of their keys.

        With what follows the head of its answer they are what is so at any later position.
        """
        self.check_keyed(channel)
        page = await self._broker.state(channel, after, limit, max_bytes=MAX_HISTORY_BYTES)
        head, rows = page.head, list(page.rows)
        room = MAX_HISTORY_BYTES - sum(len(row.data) for row in rows)
        while page.next is not None and len(rows) < limit and room > 0:
            more = await self._broker.state(
                channel, page.next, limit - len(rows), upto=head.offset, max_bytes=room
            )
            if more.head.epoch != head.epoch:
                break
            page = more
            rows += page.rows
            room -= sum(len(row.data) for row in page.rows)
        return StatePage(head, tuple(rows), page.next, page.dropped)

    async def _members(self, session: Session, command: commands.Presence) -> Ok:
        session.identity.check_subscribe(command.channel)
        everybody = await self._presence.members(command.channel)
        if command.count:
            return {"channel": command.channel, "count": len(everybody)}
        members, after = page_of(everybody, command.limit, command.after)
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
                # Its word about this peer must not end with the peer's next token.
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

    def ended(self, session: Session) -> None:
        """The session is gone: it leaves its channels."""
        self._patterns.leave_all(session)
        self._membership.leave_all(session)


def _asker(session: Session, identity: Identity) -> Asker:
    return Asker(
        identity, session.id, session.link.address, {"user-agent": session.link.user_agent}
    )


def _check_goes_on(session: Session, asked_for: Identity) -> None:
    """Raise `UnavailableError` where the session is not any more whom the application judged."""
    if session.closing or session.identity.subject != asked_for.subject:
        raise UnavailableError("the session changed while the application was asked")


def _asked(session: Session, command: commands.Publish) -> PublishRequest:
    """What a session's command asks of the broker; raises `ForbiddenError` without a grant."""
    identity, channel = session.identity, command.channel
    identity.check_publish(channel)
    return PublishRequest(
        channel,
        command.data,
        identity.publisher,
        command.key,
        identity.subject,
        None if command.echo else session.id,
        command.idempotency_key,
        None,
        command.tags,
        command.marks,
        command.keep_ms,
    )


def _published(command: commands.Publish, result: PublishResult) -> Ok:
    position = result.position
    ok: dict[str, object] = {
        "channel": command.channel,
        "epoch": position.epoch,
        "offset": position.offset,
    }
    if result.duplicate:
        ok["duplicate"] = True
    return ok


def history_ok(channel: str, page: HistoryPage) -> dict[str, object]:
    """A history answer as the wire shows it."""
    return {
        "channel": channel,
        "position": str(page.head),
        "oldest": page.oldest,
        "publications": page.publications,
    }
