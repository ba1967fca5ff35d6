"""`hub token` makes a subscriber's token, or says why a token is refused.

The command reads the settings of the hub. It signs a token with the first of `HUB_TOKEN_KEYS`, or
with a private key in a PEM file. The token has the issuer and the audience that the hub expects,
and a name (`jti`) by which it can be revoked. `--check` judges as a node would, but does not know
revocations and bans, which only running nodes hold.

The command ends with 0 when the token is made or valid, 1 when it is refused, 2 when the call
itself is wrong.
"""

import re
import secrets
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hub.cli.ending import WRONG_USE, fail, say
from hub.cli.flags import ConfigFile, SettingsCommand, refused, settings_of
from hub.observe.terminal import to_json

if TYPE_CHECKING:
    from hub.auth.provider import ProviderKeys
    from hub.core.identity import Identity
    from hub.settings import Settings

REFUSED = 1
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600}
_DURATION = re.compile(r"([0-9]{1,9})([smhd]?)", re.ASCII)
_NEVER = "never"


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("token", cls=SettingsCommand)(token)


def token(
    ctx: typer.Context,
    sub: Annotated[
        str | None, typer.Argument(metavar="SUB", help="The subject (sub) of the token.")
    ] = None,
    subscribe: Annotated[
        list[str] | None,
        typer.Option(help="A channel, or a prefix ending in *, to read; may be repeated."),
    ] = None,
    publish: Annotated[
        list[str] | None, typer.Option(help="The same, to publish on; may be repeated.")
    ] = None,
    expires: Annotated[
        str, typer.Option(help="The time of validity: 90s, 15m, 1h, 30d, or never.")
    ] = "1h",
    check: Annotated[
        str | None,
        typer.Option(metavar="TOKEN", help="Check this token instead; - reads it from stdin."),
    ] = None,
    private_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Sign with this private key (PEM).")
    ] = None,
    kid: Annotated[str | None, typer.Option(help="The key's name, for the token's header.")] = None,
    config_file: ConfigFile = None,
) -> None:
    """Make a token for SUB, or with --check say whether a token is valid, and why not."""
    settings = settings_of(ctx, config_file)
    if check is not None:
        if sub is not None or subscribe or publish:
            raise fail(WRONG_USE, "--check takes a token and nothing else")
        _check(settings, sys.stdin.read().strip() if check == "-" else check)
        return
    if sub is None:
        raise fail(WRONG_USE, "SUB is missing: the subject of the token")
    claims = _claims(settings, sub, _patterns(subscribe), _patterns(publish), expires)
    typer.echo(_sign(settings, claims, private_key, kid))
    if not subscribe and not publish:
        say("this token may read and publish nothing; --subscribe and --publish name channels")


def _patterns(given: Sequence[str] | None) -> list[str]:
    return [pattern for each in given or () for pattern in each.split(",")]


# -- making ----------------------------------------------------------------------------------------


def _claims(
    settings: "Settings", sub: str, subscribe: Sequence[str], publish: Sequence[str], expires: str
) -> dict[str, Any]:
    from hub.auth.grants import SUBJECT, check_pattern
    from hub.core.identity import MAX_SUBJECT_LENGTH
    from hub.errors import BadRequestError

    if not 0 < len(sub) <= MAX_SUBJECT_LENGTH:
        raise fail(
            WRONG_USE, f"SUB is {len(sub)} characters, allowed are 1 to {MAX_SUBJECT_LENGTH}"
        )
    for pattern in (*subscribe, *publish):
        try:
            check_pattern(pattern.replace(SUBJECT, "sub"))
        except BadRequestError as error:
            raise fail(WRONG_USE, f"{error.message}, or such a prefix and *") from None
    now = int(time.time())
    claims: dict[str, Any] = {"sub": sub, "iat": now, "jti": secrets.token_urlsafe(12)}
    if (seconds := seconds_of(expires, "--expires")) is not None:
        claims["exp"] = now + seconds
    if settings.token_issuer:
        claims["iss"] = settings.token_issuer[0]
    if settings.token_audience:
        claims["aud"] = settings.token_audience[0]
    _put(claims, settings.token_grants_claim, {"subscribe": [*subscribe], "publish": [*publish]})
    return claims


def _put(claims: dict[str, Any], claim: str, grants: dict[str, Any]) -> None:
    """Set a claim where the hub looks for it: a name that is a URL is one claim."""
    if "/" in claim or ":" in claim:
        claims[claim] = grants
        return
    *above, last = claim.split(".")
    at = claims
    for name in above:
        at = at.setdefault(name, {})
    at[last] = grants


def seconds_of(text: str, option: str, *, may_be_never: bool = True) -> int | None:
    """Return a duration such as 15m in seconds; None for `never`, where that is allowed."""
    if text == _NEVER and may_be_never:
        return None
    match = _DURATION.fullmatch(text.strip())
    if match is None or not int(match[1]):
        allowed = "90s, 15m, 1h, 30d" + (", never" if may_be_never else "")
        raise fail(WRONG_USE, f"{option} is {text!r}: allowed are such as {allowed}")
    return int(match[1]) * _UNITS[match[2] or "s"]


def _sign(
    settings: "Settings", claims: dict[str, Any], private_key: Path | None, kid: str | None
) -> str:
    import jwt

    from hub.auth.algorithms import HMAC

    header = {} if kid is None else {"kid": kid}
    if private_key is None:
        if not settings.token_keys:
            raise fail(WRONG_USE, "nothing to sign with: set HUB_TOKEN_KEYS or give --private-key")
        _allowed(settings, (HMAC,))
        return _hs256(settings.token_keys[0].get_secret_value(), claims, header)
    key, algorithms = _private_key(private_key)
    algorithm = _allowed(settings, algorithms)
    return jwt.encode(claims, key, algorithm=algorithm, headers=header)


def _allowed(settings: "Settings", algorithms: Sequence[str]) -> str:
    """Return the first algorithm of the key that the hub takes."""
    allowed = settings.token_algorithms or algorithms
    for name in algorithms:
        if name in allowed:
            return name
    fits, takes = " or ".join(algorithms), " or ".join(allowed)
    raise fail(WRONG_USE, f"this key signs by {fits}, and HUB_TOKEN_ALGORITHMS allows {takes}")


def _hs256(secret: str, claims: dict[str, Any], header: dict[str, str]) -> str:
    import warnings

    import jwt

    with warnings.catch_warnings():
        # The hub says at its start that a key is short; here it would be a line on stderr.
        warnings.simplefilter("ignore")
        return jwt.encode(claims, secret, algorithm="HS256", headers=header)


def _private_key(path: Path) -> tuple[Any, tuple[str, ...]]:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    from hub.auth.public_keys import fitting

    try:
        key: Any = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise fail(WRONG_USE, f"{path} cannot be read: {error.strerror or error}") from None
    except (ValueError, TypeError) as error:
        raise fail(WRONG_USE, f"{path} is no private key without a password: {error}") from None
    algorithms = fitting(key.public_key()) if hasattr(key, "public_key") else ()
    if not algorithms:
        raise fail(WRONG_USE, f"{path} is no key of RSA, of the curve P-256, or Ed25519")
    return key, algorithms


# -- checking --------------------------------------------------------------------------------------


def _check(settings: "Settings", text: str) -> None:
    from hub.core.ports import UndecidedError
    from hub.errors import SettingsError, UnauthorizedError
    from hub.node.access import verifier_of

    provider = _asked_provider(settings)
    try:
        verifier = verifier_of(settings, provider=provider)
    except SettingsError as error:
        raise refused(error) from None
    try:
        identity = verifier.verify(text)
    except UndecidedError:
        raise fail(REFUSED, "refused: the provider of the keys does not answer") from None
    except UnauthorizedError as error:
        raise fail(REFUSED, f"refused: {error.message}") from None
    typer.echo(to_json(_claims_of(identity)))
    say("the token holds; whether it is revoked, or its subject banned, running nodes know")


def _asked_provider(settings: "Settings") -> "ProviderKeys | None":
    """Fetch the provider's keys once."""
    if not settings.token_jwks_url:
        return None
    import asyncio

    import structlog

    from hub.auth.fetching import KeySetSource
    from hub.auth.provider import ProviderKeys
    from hub.core.counters import Counters

    provider = ProviderKeys(
        KeySetSource(settings.token_jwks_url),
        clock=time.monotonic,
        counters=Counters(),
        log=structlog.wrap_logger(None, processors=[structlog.processors.JSONRenderer()]),
    )
    if (why := asyncio.run(provider.fetch_once())) is not None:
        say(f"the keys of {settings.token_jwks_url} cannot be had: {why}")
    return provider


def _claims_of(identity: "Identity") -> dict[str, object]:
    return {
        "sub": identity.subject,
        "subscribe": list(identity.subscribe),
        "publish": list(identity.publish),
        "jti": identity.token_id,
        "expires_at": identity.expires_at,
        "expires_in_seconds": (
            None if identity.expires_at is None else round(identity.expires_at - time.time())
        ),
    }
