"""Tokens: JSON Web Tokens (RFC 7519) signed with HS256, which carry a peer's grants.

Claims, all optional:

- `sub`: who it is, 1 to 255 characters (the bound is OpenID Connect Core section 2's).
- `exp`: when it ends, seconds since 1970 UTC. A session ends with its token; a token without
  `exp` lasts as long as the session.
- `nbf`: when it begins. A token that has not begun is refused as one that may hold later.
- Clocks differ, so both are taken with a leeway (RFC 7519 sections 4.1.4 and 4.1.5). A session
  that begins within the leeway after `exp` lasts to the leeway's end: with 10 seconds of it, one
  that begins 4 seconds after `exp` ends 6 seconds later, one that begins before ends at `exp`.
- `hub`: the grants, `{"subscribe": ["prices", "chat:*"], "publish": ["chat:42"]}`. A grant is
  a channel, or a prefix ending in `*`. What is not granted is forbidden.

The algorithm is pinned: a token's own header never chooses it (RFC 8725 section 3.1), so
neither `none` nor an RSA public key used as an HMAC secret passes. A token for a named
audience (`aud`) is refused, since the hub has no name of its own (RFC 7519 section 4.1.3).
No message contains a token or any part of its signature.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping

from jwt import InvalidAlgorithmError, InvalidSignatureError, PyJWS, PyJWTError
from jwt.algorithms import HMACAlgorithm

from hub.core.identity import Identity
from hub.core.publication import check_channel
from hub.errors import BadRequestError, SettingsError, UnauthorizedError

ALGORITHM = "HS256"
# A URL stays below 4 KB (clients/PROTOCOL.md), and a token has to fit in one.
MAX_TOKEN_BYTES = 4096
# The last second of the year 9999, the last year that RFC 3339 can write: a time beyond it is
# that one, so that no message and no timer has to carry numbers of 300 digits.
LAST_SECOND = 253_402_300_799.0
MAX_SUBJECT_LENGTH = 255


class _Hs256(HMACAlgorithm):
    """HS256 that leaves telling about short keys to the settings (`hub.settings`)."""

    def check_key_length(self, key: bytes) -> None:
        """PyJWT warns at every use; the operator needs to hear it once."""


class TokenVerifier:
    """Turns tokens into identities; several keys so that one can be replaced while both hold."""

    __slots__ = ("_clock", "_jws", "_keys", "_leeway_seconds")

    def __init__(
        self,
        keys: Iterable[str],
        *,
        clock: Callable[[], float],
        leeway_seconds: float = 0,
        setting: str = "HUB_TOKEN_KEYS",
    ) -> None:
        """Take HMAC secrets, a clock of seconds since 1970 UTC, and by how much it may differ
        from the clock of who signs.

        Raises:
            SettingsError: a key is empty, or is an asymmetric key or JWK, which is no secret.
        """
        algorithm = _Hs256(HMACAlgorithm.SHA256)
        self._jws = PyJWS(algorithms=[])
        self._jws.register_algorithm(ALGORITHM, algorithm)
        self._keys = tuple(_prepared(algorithm, key, setting) for key in keys)
        self._clock = clock
        self._leeway_seconds = leeway_seconds

    def __len__(self) -> int:
        return len(self._keys)

    def verify(self, token: str) -> Identity:
        """Who the token says it is; raise `UnauthorizedError` unless it holds now."""
        if not self._keys:
            raise UnauthorizedError("this hub takes no tokens: HUB_TOKEN_KEYS is not set")
        _check_shape(token)
        claims = _claims(self._payload(token))
        if claims.get("aud"):
            raise UnauthorizedError("token is for an audience (aud), and the hub has none")
        expires_at = self._check_times(claims)
        subject = _subject(claims)
        return Identity(
            subject=subject,
            publisher="token" if subject is None else f"sub:{subject}",
            subscribe=_grants(claims, "subscribe"),
            publish=_grants(claims, "publish"),
            expires_at=expires_at,
        )

    def _payload(self, token: str) -> bytes:
        """The signed bytes, once a key's signature matches."""
        for key in self._keys:
            try:
                payload: bytes = self._jws.decode(token, key, algorithms=[ALGORITHM])
            except InvalidSignatureError:
                continue
            except InvalidAlgorithmError:
                raise UnauthorizedError(f"token is not signed with {ALGORITHM}") from None
            except PyJWTError:
                raise UnauthorizedError("token is malformed") from None
            return payload
        raise UnauthorizedError("token signature matches no key")

    def _check_times(self, claims: Mapping[str, object]) -> float | None:
        """Return when a session of the token ends; raise unless it has begun and not ended."""
        now, leeway = self._clock(), self._leeway_seconds
        begins, ends = _seconds(claims, "nbf"), _seconds(claims, "exp")
        if ends is not None and ends + leeway <= now:
            raise UnauthorizedError(f"token expired {now - ends:.0f} seconds ago")
        if begins is not None and begins > now + leeway:
            raise UnauthorizedError(
                f"token is not valid for another {begins - now:.0f} seconds",
                holds_in_seconds=begins - leeway - now,
            )
        return ends if ends is None or ends > now else ends + leeway


def _prepared(algorithm: HMACAlgorithm, key: str, setting: str) -> bytes:
    if not key.strip():
        raise SettingsError(f"{setting}: a key is empty")
    try:
        return algorithm.prepare_key(key)
    except PyJWTError as error:
        raise SettingsError(f"{setting}: a key cannot serve as an HMAC secret: {error}") from None


def _check_shape(token: str) -> None:
    if not token:
        raise UnauthorizedError("token is empty")
    if len(token) > MAX_TOKEN_BYTES:
        raise UnauthorizedError(f"token is {len(token):,} bytes, limit is {MAX_TOKEN_BYTES:,}")
    if not token.isascii():
        raise UnauthorizedError("token is malformed")


def _claims(payload: bytes) -> Mapping[str, object]:
    try:
        claims = json.loads(payload)
    except (ValueError, RecursionError):
        raise UnauthorizedError("token payload is not JSON") from None
    if not isinstance(claims, dict):
        raise UnauthorizedError("token payload is not a JSON object")
    return claims


def _seconds(claims: Mapping[str, object], name: str) -> float | None:
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
    raise UnauthorizedError(f"token claim {name} must be a number of seconds since 1970")


def _subject(claims: Mapping[str, object]) -> str | None:
    subject = claims.get("sub")
    if subject is None:
        return None
    if isinstance(subject, str) and 0 < len(subject) <= MAX_SUBJECT_LENGTH and _encodable(subject):
        return subject
    raise UnauthorizedError(f"token claim sub must be 1 to {MAX_SUBJECT_LENGTH} characters of text")


def _encodable(text: str) -> bool:
    """Whether `text` is free of lone surrogates, which JSON escapes can spell and UTF-8 cannot."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _grants(claims: Mapping[str, object], action: str) -> tuple[str, ...]:
    hub = claims.get("hub", {})
    if not isinstance(hub, dict):
        raise UnauthorizedError("token claim hub must be an object")
    patterns = hub.get(action, [])
    if not isinstance(patterns, list):
        raise UnauthorizedError(f"token claim hub.{action} must be an array of channel patterns")
    return tuple(_pattern(pattern, action) for pattern in patterns)


def _pattern(pattern: object, action: str) -> str:
    """Return a channel name or a prefix and `*`; elsewhere `*` would silently match nothing."""
    if pattern == "*":
        return "*"
    try:
        check_channel(pattern.removesuffix("*") if isinstance(pattern, str) else pattern)
    except BadRequestError as error:
        raise UnauthorizedError(
            f"token claim hub.{action}: {error.message}, or such a prefix and *"
        ) from None
    return str(pattern)
