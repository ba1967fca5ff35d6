"""Access to a node, as the settings describe it: policy, keys and provider."""

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from hub.auth.algorithms import HMAC
from hub.auth.keys import HeldKey, read_publish_key
from hub.auth.policy import Policy
from hub.auth.signatures import Signatures
from hub.auth.tokens import TokenRules, TokenVerifier
from hub.core.each_session import each_session
from hub.core.identity import Identity
from hub.core.registry import SessionRegistry
from hub.core.session.session import Session
from hub.errors import SettingsError, UnauthorizedError
from hub.node.core import Shared
from hub.observe.log_levels import HTTP
from hub.settings import Settings

if TYPE_CHECKING:
    from hub.auth.provider import ProviderKeys
    from hub.auth.public_keys import PublicKey

PEM = "-----BEGIN"


def provider_of(settings: Settings, shared: Shared) -> "ProviderKeys | None":
    """Make the keys of the identity provider that the settings name; the caller runs its `run`."""
    if not settings.token_jwks_url:
        return None
    from hub.auth.fetching import KeySetSource  # noqa: PLC0415 - see `hub.auth.algorithms`
    from hub.auth.provider import ProviderKeys  # noqa: PLC0415

    return ProviderKeys(
        KeySetSource(settings.token_jwks_url),
        clock=shared.clock,
        counters=shared.counters,
        log=shared.log.bind(subsystem=HTTP),
    )


async def end_without_key(registry: SessionRegistry, policy: Policy) -> int:
    """End the sessions of keys that were taken out; return how many."""

    def close(session: Session) -> bool:
        if taken := not policy.still_holds(session.identity):
            session.close_error(UnauthorizedError("the key has been taken out"))
        return taken

    return await each_session(registry, close)


def policy_of(
    settings: Settings,
    *,
    provider: "ProviderKeys | None" = None,
    check_token: Callable[[Identity], None] = lambda _: None,
    refusals: Counter[str] | None = None,
) -> Policy:
    """Make the policy; raise `SettingsError` where a key or a file cannot be used."""
    return Policy(
        publish_keys=publish_keys_of(settings),
        operator_keys=[key.get_secret_value() for key in settings.operator_keys],
        tokens=verifier_of(settings, provider=provider),
        token_cookie=settings.token_cookie,
        check_token=check_token,
        refusals=refusals,
        origins=settings.origins,
        hosts=settings.hosts,
        leeway_seconds=settings.token_leeway_seconds,
        on_loopback_only=settings.listens_on_loopback_only and not settings.insecure,
        anonymous=settings.strangers_may_read,
        outsiders=settings.outsiders_are_as_others,
    )


def publish_keys_of(settings: Settings) -> list[HeldKey]:
    return [read_publish_key(key.get_secret_value()) for key in settings.publish_keys]


def verifier_of(
    settings: Settings,
    *,
    provider: "ProviderKeys | None" = None,
    clock: Callable[[], float] = time.time,
) -> TokenVerifier:
    """Make the verifier of tokens, as the settings say."""
    signatures = Signatures(
        [key.get_secret_value() for key in settings.token_keys],
        public_keys_of(settings),
        provider=provider,
        algorithms=settings.token_algorithms,
    )
    rules = TokenRules(
        issuers=settings.token_issuer,
        audiences=settings.token_audience,
        leeway_seconds=settings.token_leeway_seconds,
        max_age_seconds=settings.token_max_age_seconds,
        grants_claim=settings.token_grants_claim,
        default_grants=settings.token_default_grants.model_dump(),
    )
    return TokenVerifier(signatures, clock=clock, rules=rules)


def public_keys_of(settings: Settings) -> "list[PublicKey]":
    """Return the keys in PEM files, or in PEM text that stands in place of a file's name.

    Raises `SettingsError` for a file that cannot be read, for text that is no public key, and where
    no other key verifies tokens and `HUB_TOKEN_ALGORITHMS` allows none of these.
    """
    if not (files := settings.token_public_keys):
        return []
    from hub.auth.public_keys import read_pem  # noqa: PLC0415 - see `hub.auth.algorithms`

    keys: list[PublicKey] = []
    for number, named in enumerate(files, start=1):
        shown = f"entry {number}" if named.startswith(PEM) else named
        try:
            text = named if named.startswith(PEM) else Path(named).read_text(encoding="utf-8")
            keys += read_pem(text)
        except OSError as error:
            why = error.strerror or type(error).__name__
            raise SettingsError(f"HUB_TOKEN_PUBLIC_KEYS: {shown} cannot be read: {why}") from None
        except ValueError as error:
            raise SettingsError(f"HUB_TOKEN_PUBLIC_KEYS: {shown}: {error}") from None
    fitting = dict.fromkeys(each for key in keys for each in key.algorithms)
    allowed = settings.token_algorithms
    others = settings.token_jwks_url or (settings.token_keys and HMAC in allowed)
    if allowed and not others and fitting.keys().isdisjoint(allowed):
        raise SettingsError(
            f"HUB_TOKEN_PUBLIC_KEYS: the keys are for {', '.join(fitting)}, and "
            f"HUB_TOKEN_ALGORITHMS allows {', '.join(allowed)}, so no token would be taken"
        )
    return keys
