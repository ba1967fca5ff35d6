"""The application behind the hub: the objects that ask it and notify it, made from the settings.

Of a change that several nodes see, one node alone notifies the application. So nodes ask each other
which channels and members they had at a moment (`HeldAt`).
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hub.admin.requests import Admin, AdminRequest, Everywhere, Handlers
from hub.auth.grants import read_grants
from hub.auth.keys import KEY_PREFIX
from hub.auth.policy import Policy
from hub.core.identity import Identity
from hub.core.ports import Roster
from hub.errors import HubError, SettingsError
from hub.hooks.signing import read_secret
from hub.node.core import Shared
from hub.observe.log_levels import HTTP
from hub.settings import Settings
from hub.wire.payload import check_payload

if TYPE_CHECKING:
    from hub.hooks.asking import ApplicationHooks
    from hub.hooks.telling import EventSender
    from hub.hooks.watching import AskOthers, EventWatcher

_GRANTS = "grants"
# As long as an application may take to write a batch down. Guess.
_WEBHOOK_SECONDS = 10.0


def hooks_of(settings: Settings, shared: Shared, policy: Policy) -> "ApplicationHooks | None":
    """Make the object that asks the application; None where it is asked nothing.

    Raises `SettingsError` for a secret that cannot be read.
    """
    if not settings.hook_url:
        return None
    from hub.hooks.asking import ApplicationHooks, AskingRules, Judges  # noqa: PLC0415 - seldom
    from hub.hooks.calling import Caller  # noqa: PLC0415 - as above

    return ApplicationHooks(
        Caller(settings.hook_url, timeout_seconds=settings.hook_timeout_seconds),
        AskingRules(
            hooks=frozenset(settings.hooks),
            cache_seconds=settings.hook_cache_seconds,
            allows_when_down=settings.hook_when_down == "allow",
            secret=secret_of(settings),
        ),
        Judges(
            read_grants=_read_grants,
            check_data=lambda data: check_payload(data, limit=settings.max_message_bytes),
            check_standing=policy.check_standing,
            is_trusted=_is_trusted,
        ),
        clock=shared.clock,
        wall_clock=shared.wall_clock,
        counters=shared.counters,
        log=shared.log.bind(subsystem=HTTP),
    )


def watching_of(
    settings: Settings, shared: Shared, *, ask_others: "AskOthers | None"
) -> "tuple[EventSender | None, EventWatcher | None]":
    """Make the object that sends events to the application, and the one that sees them.

    None for both where no URL for events is set. Raises `SettingsError` as `hooks_of` does.
    """
    if not settings.webhook_url:
        return None, None
    from hub.hooks.calling import Caller  # noqa: PLC0415 - seldom
    from hub.hooks.spans import Spans  # noqa: PLC0415 - as above
    from hub.hooks.telling import EventSender  # noqa: PLC0415 - as above
    from hub.hooks.watching import EventWatcher  # noqa: PLC0415 - as above

    event_sender = EventSender(
        Caller(settings.webhook_url, timeout_seconds=_WEBHOOK_SECONDS, connections=1),
        events=frozenset(settings.webhook_events),
        secret=secret_of(settings),
        node=settings.node,
        wall_clock=shared.wall_clock,
        counters=shared.counters,
        log=shared.log.bind(subsystem=HTTP),
    )
    spans = Spans(shared.wall_clock)
    return event_sender, EventWatcher(
        event_sender, spans, spawn=shared.spawn, ask_others=ask_others
    )


def watched(roster: Roster, watching: "EventWatcher") -> Roster:
    """Return `roster` with `watching` seeing its changes."""
    from hub.hooks.watching import WatchedRoster  # noqa: PLC0415 - as above

    return WatchedRoster(roster, watching)


def secret_of(settings: Settings) -> bytes:
    """Return the key that signs questions and events; empty where no secret is set.

    Raises `SettingsError` for a secret of another form.
    """
    try:
        return read_secret(settings.webhook_secret.get_secret_value())
    except ValueError as error:
        raise SettingsError(f"HUB_WEBHOOK_SECRET: {error}") from None


# -- one node of several tells of a change ---------------------------------------------------------


class HeldAt(AdminRequest[list[bool]], frozen=True, tag="held_at"):
    """Asks whether this node had each name at its moment."""

    moments: list[tuple[str, float]]


def held_handlers(watching: "EventWatcher | None") -> Handlers:
    """Return the handler of `HeldAt` at this node."""

    async def held(asked: HeldAt) -> list[bool]:
        if watching is None:
            return [False] * len(asked.moments)
        return [watching.spans.held(name, at_seconds) for name, at_seconds in asked.moments]

    return {HeldAt: held}


async def held_elsewhere(admin: Admin, moments: Sequence[tuple[str, float]]) -> Sequence[bool]:
    """Return for each name whether a node had it at its moment; False without an answer.

    This node answers too: a span that begins or ends at a moment was not there before it.
    """
    try:
        answers = await admin.call(HeldAt(list(moments)), Everywhere())
    except HubError:
        return [False] * len(moments)
    if not answers.by_tag:
        return [False] * len(moments)
    return [any(held) for held in zip(*answers.by_tag.values(), strict=True)]


def _read_grants(
    grants: Mapping[str, Any], subject: str | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    read = read_grants({_GRANTS: grants}, claim=_GRANTS, default={}, subject=subject)
    return read.subscribe, read.publish


def _is_trusted(identity: Identity) -> bool:
    return identity.publisher == "ticket" or identity.publisher.startswith(KEY_PREFIX)
