"""The operators' decisions about subjects and tokens: bans and revocations.

A `Standing` is one decision about one name. Nodes receive the same decisions, in any order and more
than once, and agree all the same: of two decisions about one name the later one counts (`at_ms`),
and a lifting decision stays known as long as the lifted one would have lasted, so that no node
brings that one back. No I/O and no clock; `hub.admin.bans` carries and keeps the decisions.

Worked example: `ann` is banned at 12:00 for an hour and let in again at 12:10. A node that knows
only of the ban, because it was cut off, tells it again at 12:20: the decision of 12:10 is the later
one, so nothing changes. At 13:00 both are forgotten.
"""

from collections.abc import Iterator, Sequence
from enum import StrEnum

import msgspec

from hub.core.identity import Identity
from hub.errors import ForbiddenError, HubError, UnauthorizedError

# Words that are in force, or stand against an earlier one. A table of as many takes 5 MB.
MAX_STANDINGS = 10_000
MAX_REASON_CHARACTERS = 200


class StandingKind(StrEnum):
    BAN = "ban"
    """A subject is refused."""
    TOKEN = "token"  # noqa: S105 - a word, not one
    """A token is revoked, by its `jti`."""
    SUBJECT = "subject"
    """A subject's tokens are revoked that were made (`iat`) before a time, or have no `iat`."""


class Standing(msgspec.Struct, frozen=True, omit_defaults=True):
    """A decision. Nodes exchange it as JSON, to which fields are only ever added."""

    kind: StandingKind
    name: str
    """The subject, or the token's `jti`."""
    at_ms: int
    """The time of the decision, in milliseconds since 1970 UTC."""
    until_ms: int
    """The end of the decision's force, in milliseconds since 1970 UTC."""
    reason: str = ""
    before: float = 0.0
    """With `SUBJECT`: seconds since 1970 UTC."""
    lifted: bool = False
    """Whether the decision lifts an earlier one."""

    @property
    def key(self) -> tuple[str, str]:
        return self.kind, self.name

    @property
    def order(self) -> tuple[int, bool, int, float, str]:
        """Return the sort key of two decisions with one key: the greater one counts, on every
        node."""
        return self.at_ms, self.lifted, self.until_ms, self.before, self.reason

    def refusal(self, identity: Identity) -> HubError | None:
        """Return why a token's holder is refused, if this decision concerns the holder; it is in
        force."""
        match self.kind:
            case StandingKind.BAN if identity.subject == self.name:
                return ForbiddenError(self.reason or "banned", refusal="banned")
            case StandingKind.TOKEN if identity.token_id == self.name:
                return _revoked()
            case StandingKind.SUBJECT if identity.subject == self.name and (
                identity.issued_at is None or identity.issued_at < self.before
            ):
                return _revoked()
        return None


def _revoked() -> UnauthorizedError:
    return UnauthorizedError("the token has been revoked", refusal="token_revoked")


class Standings:
    """All known decisions; one per node."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Standing] = {}

    def __len__(self) -> int:
        return len(self._known)

    def __iter__(self) -> Iterator[Standing]:
        return iter(tuple(self._known.values()))

    def find(self, kind: StandingKind, name: str) -> Standing | None:
        """Return the decision about `name`, also a lifting one."""
        return self._known.get((kind, name))

    def in_force(self, kind: StandingKind, name: str, now_ms: int) -> Standing | None:
        found = self._known.get((kind, name))
        return None if found is None or found.lifted or found.until_ms <= now_ms else found

    def all_in_force(self, now_ms: int) -> Sequence[Standing]:
        return [each for each in self if not each.lifted and each.until_ms > now_ms]

    def merge(self, said: Standing, now_ms: int) -> bool:
        """Take a decision; return whether it changes anything."""
        if said.until_ms <= now_ms:
            return False
        known = self._known.get(said.key)
        if known is not None and known.order >= said.order:
            return False
        self._known[said.key] = said
        return True

    def forget(self, now_ms: int) -> Sequence[Standing]:
        """Remove the decisions that have ended, and return them."""
        ended = [each for each in self if each.until_ms <= now_ms]
        for each in ended:
            del self._known[each.key]
        return ended

    def check(self, identity: Identity, now_ms: int) -> None:
        """Raise `ForbiddenError` or `UnauthorizedError` where a token's holder is banned or
        revoked."""
        if not self._known:
            return
        subject, token = identity.subject, identity.token_id
        for kind, name in (
            (StandingKind.BAN, subject),
            (StandingKind.TOKEN, token),
            (StandingKind.SUBJECT, subject),
        ):
            if name is None or (said := self.in_force(kind, name, now_ms)) is None:
                continue
            if (error := said.refusal(identity)) is not None:
                raise error
