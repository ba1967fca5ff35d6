"""The `publish` commands of sessions: what may be published, and the three ways to the broker.

A broker of this process publishes in a plain call, alone or several at a time. A broker that
answers later calls back. `CommandHandler.execute` awaits all others, and those about which the
application is asked.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from hub.core.commands import Publish
from hub.core.counters import Counters
from hub.core.hooks import Hooks
from hub.core.identity import Identity
from hub.core.ports import OnPublished, PublishRequest, PublishResult
from hub.core.publication import REMOVES
from hub.core.publishing import Publishing
from hub.core.reading import ChannelReading
from hub.core.session.session import Session
from hub.errors import HubError

PublishOk = Mapping[str, object]
"""The content of the reply to a publish."""


PublishWay = Literal["now", "soon", "awaited"]
"""The way in which the publishes of a session are carried out.

`now`: by `publish_for` or `publish_run`, because the broker never waits. `soon`: by
`publish_soon_for`, because the broker calls back. `awaited`: by `execute`, because the broker or
the application has to be waited for.
"""


class PublishCommands:
    """Carries out the publish commands of a node's sessions."""

    def __init__(
        self,
        publishing: Publishing,
        reading: ChannelReading,
        *,
        counters: Counters,
        hooks: Hooks | None,
    ) -> None:
        self._publishing = publishing
        self._publish_now = publishing.publish_now
        self._publish_soon = publishing.publish_soon
        self._reading = reading
        self._counters = counters
        self._hooks = hooks
        self._way_of_broker: PublishWay = "awaited"
        if self._publish_now is not None:
            self._way_of_broker = "now"
        elif self._publish_soon is not None:
            self._way_of_broker = "soon"

    def way(self, session: Session) -> PublishWay:
        """Return the way of the broker, unless the application is asked about each publication."""
        hooks = self._hooks
        if hooks is None or not hooks.asks_publish(session.identity):
            return self._way_of_broker
        return "awaited"

    def publish_for(self, session: Session, command: Publish) -> PublishOk:
        """Carry out a publish in a plain call, where the way is `now`."""
        self._counters.commands["publish"] += 1
        publish_now = self._publish_now
        assert publish_now is not None  # noqa: S101 - the caller has asked
        self.check(session.identity, command)
        return published_ok(command, publish_now(_request(session, command)))

    def publish_soon_for(self, session: Session, command: Publish, on_done: OnPublished) -> None:
        """Begin a publish where the way is `soon`.

        It raises `HubError`, or calls `on_done` once after it has returned.
        """
        self._counters.commands["publish"] += 1
        publish_soon = self._publish_soon
        assert publish_soon is not None  # noqa: S101 - the caller has asked
        self.check(session.identity, command)
        publish_soon(_request(session, command), on_done)

    def publish_run(
        self, session: Session, run: Sequence[Publish]
    ) -> Sequence[PublishOk | HubError] | None:
        """Carry out several publishes in one channel, where the way is `now`.

        Return the reply's content or the error of each. Return None and publish nothing where they
        have to be carried out one by one. None of them removes a row.
        """
        try:
            session.identity.check_publish(run[0].channel)
        except HubError:
            # Each has a reply of its own, which says why.
            return None
        asked = [_request(session, command) for command in run]
        if (results := self._publishing.publish_many_now(asked)) is None:
            return None
        self._counters.commands["publish"] += len(run)
        return [
            result if isinstance(result, HubError) else published_ok(command, result)
            for command, result in zip(run, results, strict=True)
        ]

    async def execute(self, session: Session, command: Publish) -> PublishOk:
        """Carry out a publish by any broker. `CommandHandler.execute` counts it."""
        self.check(session.identity, command)
        result = self._publishing.publish(_request(session, command))
        if not isinstance(result, PublishResult):
            result = await result
        return published_ok(command, result)

    def check(self, identity: Identity, command: Publish) -> None:
        """Raise `ForbiddenError` without a grant, and `BadRequestError` where no rows are kept."""
        identity.check_publish(command.channel)
        if command.marks & REMOVES:
            self._reading.check_keyed(command.channel)


def _request(session: Session, command: Publish) -> PublishRequest:
    identity = session.identity
    return PublishRequest(
        command.channel,
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


def published_ok(command: Publish, result: PublishResult) -> PublishOk:
    """Return the content of the reply to a publish."""
    position = result.position
    ok: dict[str, object] = {
        "channel": command.channel,
        "epoch": position.epoch,
        "offset": position.offset,
    }
    if result.duplicate:
        ok["duplicate"] = True
    return ok
