"""The identity of a session or publisher, with its grants. `hub.auth` makes identities."""

from dataclasses import dataclass

from hub.core.options import ACCESS_CHANNEL, RESERVED_PREFIX, is_reserved
from hub.core.patterns import literal_prefix, names_reserved
from hub.errors import ForbiddenError, UnauthorizedError


def matches(pattern: str, channel: str) -> bool:
    """Return whether the grant `pattern`, a name or a prefix ending in `*`, covers `channel`."""
    if pattern.endswith("*"):
        return channel.startswith(pattern[:-1])
    return pattern == channel


def _covers(patterns: tuple[str, ...], channel: str) -> bool:
    # Called for every publication, at half the cost of `any`. Most identities have only `*`.
    for pattern in patterns:  # noqa: SIM110
        if pattern == "*" or matches(pattern, channel):
            return True
    return False


# Characters of a subject's name, as of a `sub` of OpenID Connect (Core 1.0, section 2).
MAX_SUBJECT_LENGTH = 255
# Publishers' names that many share: of peers without a key, of tokens without `sub`.
_SHARED = frozenset({"anonymous", "token", "ticket"})


@dataclass(frozen=True, slots=True)
class Identity:
    """An immutable identity. A refreshed token makes a new one."""

    subject: str | None = None
    """The token's `sub`; None for an anonymous peer or a key."""
    publisher: str = "anonymous"
    """The scope of this peer's idempotency keys. Never a secret: keys appear as a digest."""
    subscribe: tuple[str, ...] = ()
    publish: tuple[str, ...] = ()
    operator: bool = False
    observer: bool = False
    """Whether it is an operator that only looks, and so is never present in a channel."""
    expires_at: float | None = None
    """Seconds since 1970 UTC; None lasts as long as the session."""
    token_id: str | None = None
    """The token's `jti`."""
    issued_at: float | None = None
    """The token's `iat`, seconds since 1970 UTC."""
    awaits_token: bool = False
    """Whether credentials are still missing, so that the first command must be `authenticate`."""

    def publisher_or(self, other: str) -> str:
        """Return the publisher's name; `other` where many share it."""
        shared = self.subject is None and self.publisher in _SHARED
        return other if shared else self.publisher

    def may_subscribe(self, channel: str) -> bool:
        """Return whether a grant covers `channel`. The hub's own channels are for operators."""
        if is_reserved(channel):
            return self.operator and channel != ACCESS_CHANNEL
        return _covers(self.subscribe, channel)

    def check_subscribe(self, channel: str) -> None:
        """Raise `ForbiddenError` unless it may subscribe to `channel`."""
        self.check_known()
        if not self.may_subscribe(channel):
            raise ForbiddenError(f"no grant to subscribe to {channel!r}")

    def check_pattern(self, pattern: str) -> None:
        """Raise `ForbiddenError` unless one grant covers every channel that `pattern` matches."""
        self.check_known()
        if names_reserved(pattern):
            covered = self.operator
        else:
            prefix = literal_prefix(pattern)
            covered = any(
                prefix.startswith(grant[:-1]) if grant.endswith("*") else grant == pattern
                for grant in self.subscribe
            )
        if not covered:
            raise ForbiddenError(f"no grant to subscribe to all that {pattern!r} matches")

    def check_publish(self, channel: str) -> None:
        """Raise `ForbiddenError` unless a grant covers publishing on `channel`."""
        if self.awaits_token:
            self.check_known()
        # `is_reserved` inlined: it would be one call more for each publication.
        if channel.startswith(RESERVED_PREFIX):
            raise ForbiddenError(f"only the hub itself publishes on {channel!r}")
        # Most identities have only `*`.
        if "*" not in self.publish and not _covers(self.publish, channel):
            raise ForbiddenError(f"no grant to publish on {channel!r}")

    def check_known(self) -> None:
        """Raise `UnauthorizedError` where a token must come first."""
        if self.awaits_token:
            raise UnauthorizedError(
                "a token is needed: ?token= or Authorization: Bearer, or authenticate first"
            )
