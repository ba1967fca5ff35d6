"""Tokens: JSON Web Tokens (RFC 7519), which carry a peer's identity and its grants.

Claims, all optional unless a setting asks for one:

- `sub`: the subject, 1 to 255 characters (the bound is OpenID Connect Core section 2's).
- `exp`: the end, seconds since 1970 UTC. A session ends with its token; a token without
  `exp` lasts as long as the session.
- `nbf`: the beginning. A token that has not begun is refused with an error that may be retried.
- `iat`: the time when it was made. Needed where `HUB_TOKEN_MAX_AGE_SECONDS` bounds a token's age,
  which ends it like `exp`.
- Clocks differ, so these are taken with a leeway (RFC 7519 sections 4.1.4 and 4.1.5). A session
  that begins within the leeway after `exp` lasts to the leeway's end: with 10 seconds of it, one
  that begins 4 seconds after `exp` ends 6 seconds later, one that begins before ends at `exp`.
- `iss`: the issuer. If `HUB_TOKEN_ISSUER` is set, it is needed, and has to be one of that setting.
- `aud`: the audience. If `HUB_TOKEN_AUDIENCE` is set, it has to be one of that setting. If not, a
  token with an audience is refused, because the hub has no name of its own (RFC 7519 section
  4.1.3). Cognito's access tokens (`"token_use": "access"`) have `client_id` in the place of `aud`.
- `jti`: its name, by which operators revoke it.
- the grants: `hub.auth.grants`.

`hub.auth.signatures` verifies the signature before the hub believes any claim. No message contains
a token or any part of its signature.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hub.auth.algorithms import HMAC
from hub.auth.grants import CLAIM, read_grants
from hub.auth.signatures import Signatures
from hub.core.identity import MAX_SUBJECT_LENGTH, Identity
from hub.errors import UnauthorizedError

if TYPE_CHECKING:
    from hub.auth.public_keys import PublicKey

ALGORITHM = HMAC
# A URL stays below 4 KB (clients/PROTOCOL.md), and a token has to fit in one.
MAX_TOKEN_BYTES = 4096
# The last second of the year 9999, the last year that RFC 3339 can write: a time beyond it is
# that one, so that no message and no timer has to carry numbers of 300 digits.
LAST_SECOND = 253_402_300_799.0
# Texts of a login page, of JSON, or of a whole line, pasted in the place of the token.
_FOREIGN = re.compile(r"[\s<{\[\"']")


@dataclass(frozen=True, slots=True)
class TokenRules:
    """The claims that a valid token has, beside its signature."""

    issuers: tuple[str, ...] = ()
    """The allowed issuers; without any, each issuer and none are allowed."""
    audiences: tuple[str, ...] = ()
    leeway_seconds: float = 0
    max_age_seconds: float = 0
    """The greatest age of a token; 0 for any."""
    grants_claim: str = CLAIM
    default_grants: Mapping[str, Any] = field(default_factory=dict)


class TokenVerifier:
    """Turn tokens into identities; several keys so that one can be replaced while both are
    valid."""

    __slots__ = ("_clock", "_rules", "_signatures")

    def __init__(
        self,
        keys: Iterable[str] | Signatures,
        *,
        clock: Callable[[], float],
        leeway_seconds: float = 0,
        rules: TokenRules | None = None,
        setting: str = "HUB_TOKEN_KEYS",
    ) -> None:
        """Take HMAC secrets or all kinds of keys, and a clock of seconds since 1970 UTC.

        Args:
            leeway_seconds: by how much that may differ from the clock of who signs, where `rules`
                do not say.

        Raises:
            SettingsError: a key is empty, or is an asymmetric key or JWK, which is no secret.
        """
        self._signatures = (
            keys if isinstance(keys, Signatures) else Signatures(keys, setting=setting)
        )
        self._clock = clock
        self._rules = rules or TokenRules(leeway_seconds=leeway_seconds)

    def __len__(self) -> int:
        return len(self._signatures)

    def take_public_keys(self, keys: "Iterable[PublicKey]") -> None:
        """Replace the public keys."""
        self._signatures.take_public_keys(keys)

    def verify(self, token: str) -> Identity:
        """Return the identity that the token names.

        Raises:
            UndecidedError: Its key has to be asked for; see `hub.core.ports`.
            UnauthorizedError: The token is not valid now.
        """
        if not self._signatures:
            raise UnauthorizedError(
                "this hub takes no tokens: HUB_TOKEN_KEYS is not set, nor HUB_TOKEN_PUBLIC_KEYS or"
                " HUB_TOKEN_JWKS_URL",
                refusal="no_tokens",
            )
        _check_shape(token)
        claims = _claims(self._signatures.payload(token))
        self._check_issuer(claims)
        self._check_audience(claims)
        issued_at = self._issued_at(claims)
        expires_at = self._check_times(claims, issued_at)
        subject = _name(claims, "sub")
        rules = self._rules
        grants = read_grants(
            claims, claim=rules.grants_claim, default=rules.default_grants, subject=subject
        )
        return Identity(
            subject=subject,
            publisher="token" if subject is None else f"sub:{subject}",
            subscribe=grants.subscribe,
            publish=grants.publish,
            expires_at=expires_at,
            token_id=_token_id(claims),
            issued_at=issued_at,
        )

    def _check_issuer(self, claims: Mapping[str, Any]) -> None:
        issuers = self._rules.issuers
        if issuers and claims.get("iss") not in issuers:
            raise UnauthorizedError(
                "token is not of an issuer (iss) that is taken here", refusal="token_issuer"
            )

    def _check_audience(self, claims: Mapping[str, Any]) -> None:
        given, audiences = claims.get("aud"), self._rules.audiences
        if not audiences:
            if given:
                raise _not_for_us(
                    "token is for an audience (aud), and the hub has none: see HUB_TOKEN_AUDIENCE"
                )
            return
        if given is None and claims.get("token_use") == "access":
            given = claims.get("client_id")
        named = given if isinstance(given, list) else [given]
        if not any(each in audiences for each in named if isinstance(each, str)):
            raise _not_for_us("token is for another audience (aud)")

    def _check_times(self, claims: Mapping[str, Any], issued_at: float | None) -> float | None:
        """Return when a session of the token ends; raise unless it has begun and not ended."""
        now, leeway = self._clock(), self._rules.leeway_seconds
        begins, ends = _seconds(claims, "nbf"), _seconds(claims, "exp")
        if ends is not None and ends + leeway <= now:
            raise UnauthorizedError(
                f"token expired {now - ends:.0f} seconds ago", refusal="token_expired"
            )
        if self._rules.max_age_seconds:
            ends = self._check_age(issued_at, ends, now)
        if begins is not None and begins > now + leeway:
            raise UnauthorizedError(
                f"token is not valid for another {begins - now:.0f} seconds",
                holds_in_seconds=begins - leeway - now,
                refusal="token_early",
            )
        return ends if ends is None or ends > now else ends + leeway

    def _issued_at(self, claims: Mapping[str, Any]) -> float | None:
        """Return `iat`; a value that is no number counts as absent, and is refused where the age is
        bounded."""
        try:
            return _seconds(claims, "iat")
        except UnauthorizedError:
            if self._rules.max_age_seconds:
                raise
            return None

    def _check_age(self, issued_at: float | None, ends: float | None, now: float) -> float:
        """Return when the token ends, also by its age."""
        longest, leeway = self._rules.max_age_seconds, self._rules.leeway_seconds
        if issued_at is None:
            raise UnauthorizedError(
                "token does not say when it was made (iat)", refusal="token_age"
            )
        if issued_at > now + leeway:
            raise UnauthorizedError(
                f"token was made in {issued_at - now:.0f} seconds from now (iat)",
                holds_in_seconds=issued_at - leeway - now,
                refusal="token_early",
            )
        if issued_at + longest + leeway <= now:
            raise UnauthorizedError(
                f"token is {now - issued_at:.0f} seconds old, limit is {longest:g}",
                refusal="token_age",
            )
        oldest = issued_at + longest
        return oldest if ends is None else min(ends, oldest)


def _check_shape(token: str) -> None:
    if not token:
        raise _malformed("token is empty")
    if len(token) > MAX_TOKEN_BYTES:
        raise _malformed(f"token is {len(token):,} bytes, limit is {MAX_TOKEN_BYTES:,}")
    if not token.isascii():
        raise _malformed("token is malformed")
    if (foreign := _FOREIGN.search(token)) is not None:
        raise _malformed(f"token is malformed: no JSON Web Token holds {foreign[0]!r}")


def _claims(payload: bytes) -> Mapping[str, Any]:
    try:
        claims = json.loads(payload)
    except (ValueError, RecursionError):
        raise _malformed("token payload is not JSON") from None
    if not isinstance(claims, dict):
        raise _malformed("token payload is not a JSON object")
    return claims


def _seconds(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    # JSON's true is an int in Python; Python's parser also takes NaN, Infinity and 1e999.
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            if math.isfinite(value):
                return min(max(float(value), -LAST_SECOND), LAST_SECOND)
        except OverflowError:
            pass
    raise _malformed(f"token claim {name} must be a number of seconds since 1970")


def _name(claims: Mapping[str, Any], claim: str) -> str | None:
    """Return a subject's or a token's name."""
    name = claims.get(claim)
    if name is None:
        return None
    if isinstance(name, str) and 0 < len(name) <= MAX_SUBJECT_LENGTH and _encodable(name):
        return name
    raise _malformed(f"token claim {claim} must be 1 to {MAX_SUBJECT_LENGTH} characters of text")


def _token_id(claims: Mapping[str, Any]) -> str | None:
    """Return the token's name; None for a value that cannot be one: its subject can still be
    revoked."""
    try:
        return _name(claims, "jti")
    except UnauthorizedError:
        return None


def _encodable(text: str) -> bool:
    """Return whether `text` is free of lone surrogates, which JSON escapes can spell and UTF-8
    cannot."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _malformed(message: str) -> UnauthorizedError:
    return UnauthorizedError(message, refusal="token_malformed")


def _not_for_us(message: str) -> UnauthorizedError:
    return UnauthorizedError(message, refusal="token_audience")
