"""The grants in a token: from which claim they come, and `{sub}` in them.

The claim is `hub` unless `HUB_TOKEN_GRANTS_CLAIM` names another: by its whole name, else as a path
of names with dots between (`app_metadata.hub`). The claim holds `{"subscribe": ["prices",
"user:{sub}:*"], "publish": ["chat:42"]}`, or the same as text, because some providers put nothing
but text into a claim. A token without it has the default grants (`HUB_TOKEN_DEFAULT_GRANTS`), which
are none unless they are set.

A grant is a channel, or a prefix ending in `*`. `{sub}` in it stands for the token's subject, made
fit for a channel: letters, digits and `_ - @ +` as they are, every other byte of its UTF-8 as `~`
and two hexadecimal digits. So no subject can widen a grant, and no two subjects share a channel:
`user:{sub}:*` is `user:ann:*` for `ann`, `user:~2A:*` for `*`, `user:auth0~7C42:*` for `auth0|42`
and `user:ann~3Abob:*` for `ann:bob`.
"""

import json
import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hub.core.publication import check_channel
from hub.errors import BadRequestError, UnauthorizedError

CLAIM = "hub"
SUBJECT = "{sub}"
_PLAIN = frozenset((string.ascii_letters + string.digits + "_-@+").encode())


@dataclass(frozen=True, slots=True)
class Grants:
    subscribe: tuple[str, ...] = ()
    publish: tuple[str, ...] = ()


def in_channel(subject: str) -> str:
    """Return a subject in the form for channels; different subjects stay different."""
    return "".join(
        chr(byte) if byte in _PLAIN else f"~{byte:02X}" for byte in subject.encode("utf-8")
    )


def read_grants(
    claims: Mapping[str, Any],
    *,
    claim: str = CLAIM,
    default: Mapping[str, Any] | None = None,
    subject: str | None,
) -> Grants:
    """Return the grants of the claims; raise `UnauthorizedError` where the claims are malformed."""
    found, given = _find(claims, claim)
    if not given:
        found = default or {}
    elif isinstance(found, str):
        found = _from_text(found, claim)
    if not isinstance(found, Mapping):
        raise _wrong(f"token claim {claim} must be an object")
    return Grants(
        _patterns(found, claim, "subscribe", subject), _patterns(found, claim, "publish", subject)
    )


def _find(claims: Mapping[str, Any], claim: str) -> tuple[Any, bool]:
    if claim in claims:
        return claims[claim], True
    at: Any = claims
    for name in claim.split("."):
        if not isinstance(at, Mapping) or name not in at:
            return None, False
        at = at[name]
    return at, True


def _from_text(text: str, claim: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise _wrong(f"token claim {claim} must be an object, or one as JSON text") from None


def _patterns(
    grants: Mapping[str, Any], claim: str, action: str, subject: str | None
) -> tuple[str, ...]:
    patterns = grants.get(action, [])
    if not isinstance(patterns, list | tuple):
        raise _wrong(f"token claim {claim}.{action} must be an array of channel patterns")
    return tuple(
        _pattern(pattern, f"token claim {claim}.{action}", subject) for pattern in patterns
    )


def _pattern(pattern: object, where: str, subject: str | None) -> str:
    if isinstance(pattern, str) and SUBJECT in pattern:
        if subject is None:
            raise _wrong(f"{where} names {SUBJECT}, and the token has no sub")
        pattern = pattern.replace(SUBJECT, in_channel(subject))
    try:
        return check_pattern(pattern)
    except BadRequestError as error:
        raise _wrong(f"{where}: {error.message}, or such a prefix and *") from None


def check_pattern(pattern: object) -> str:
    """Return a channel name or a prefix and `*`; a `*` elsewhere would silently match nothing.

    Raises `BadRequestError`.
    """
    if pattern != "*":
        check_channel(pattern.removesuffix("*") if isinstance(pattern, str) else pattern)
    return str(pattern)


def _wrong(message: str) -> UnauthorizedError:
    return UnauthorizedError(message, refusal="token_malformed")
