"""The check of a token's signature against the hub's keys.

Every key is bound to the algorithms it may verify, before any token comes: secrets to HS256, public
keys to what their kind allows (`hub.auth.public_keys`), and both to `HUB_TOKEN_ALGORITHMS` where
that is set. A token's `alg` picks among these pairs and never makes one (RFC 8725 section 3.1), so
neither `none` nor a public key used as an HMAC secret passes. Its `kid` picks among the provider's
keys; secrets and PEM files have no names and are all tried.

No message contains a token or any part of its signature.
"""

import json
from base64 import urlsafe_b64decode
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

from hub.auth.algorithms import ALGORITHMS, HMAC, PUBLIC
from hub.errors import SettingsError, UnauthorizedError

if TYPE_CHECKING:
    from hub.auth.jws import Jws
    from hub.auth.provider import ProviderKeys
    from hub.auth.public_keys import Key, PublicKey


class Signatures:
    """The keys of the settings, and those of a provider."""

    __slots__ = ("_allowed", "_jws", "_keys", "_provider", "_secrets", "algorithms")

    def __init__(
        self,
        secrets: Iterable[str] = (),
        public_keys: "Iterable[PublicKey]" = (),
        *,
        provider: "ProviderKeys | None" = None,
        algorithms: Iterable[str] = (),
        setting: str = "HUB_TOKEN_KEYS",
    ) -> None:
        """Take HMAC secrets, public keys, and by which algorithms they may be used; empty: by all.

        Raises:
            SettingsError: a secret is empty, or is an asymmetric key or JWK, which is no secret.
        """
        allowed = tuple(algorithms) or ALGORITHMS
        secrets, public_keys = tuple(secrets), tuple(public_keys)
        self._jws: Jws | None = None
        if secrets or public_keys or provider is not None:
            from hub.auth import jws  # noqa: PLC0415 - see `hub.auth.algorithms`

            self._jws = jws.Jws()
            prepared = [_prepared(self._jws, secret, setting) for secret in secrets]
        else:
            prepared = []
        self._provider = provider
        self._allowed = allowed
        self._secrets = prepared
        self._keys: dict[str, list[bytes | Key]] = {}
        self.algorithms: tuple[str, ...] = ()
        """The algorithms that some key may be used with."""
        self.take_public_keys(public_keys)

    def take_public_keys(self, public_keys: "Iterable[PublicKey]") -> None:
        """Replace the public keys; secrets and the provider stay."""
        keys: dict[str, list[bytes | Key]] = {name: [] for name in self._allowed}
        if HMAC in keys:
            keys[HMAC].extend(self._secrets)
        for public in public_keys:
            for name in public.algorithms:
                if name in keys:
                    keys[name].append(public.key)
        provides = self._provider is not None
        self._keys = keys
        self.algorithms = tuple(
            name for name in self._allowed if keys[name] or (provides and name in PUBLIC)
        )

    def __len__(self) -> int:
        """Return the number of keys, with a provider counted as one."""
        return sum(map(len, self._keys.values())) + (self._provider is not None)

    def payload(self, token: str) -> bytes:
        """Return the signed bytes of `token`, once a key's signature matches.

        Raises:
            UndecidedError: The provider is being asked for the key.
            UnauthorizedError: No key signed it, or it is no token.
        """
        algorithm, kid = _header(token.partition(".")[0])
        if algorithm not in self.algorithms:
            expected = " or ".join(self.algorithms)
            raise UnauthorizedError(
                f"token is not signed with {expected}", refusal="token_algorithm"
            )
        for key in self._keys[algorithm]:
            if (payload := self._verified(token, key, algorithm)) is not None:
                return payload
        if self._provider is not None and algorithm in PUBLIC:
            for public in self._provider.find(algorithm, kid):
                if (payload := self._verified(token, public.key, algorithm)) is not None:
                    return payload
            if not self._provider.knows(kid):
                raise self._provider.unknown(kid)
        raise UnauthorizedError("token signature matches no key", refusal="token_signature")

    def _verified(self, token: str, key: "bytes | Key", algorithm: str) -> bytes | None:
        assert self._jws is not None  # noqa: S101 - there is a key
        try:
            return self._jws.payload(token, key, algorithm)
        except ValueError:
            raise _malformed() from None


# Tokens of one key have the same first part. What a stranger sends of it is bounded like a token.
@lru_cache(maxsize=64)
def _header(part: str) -> tuple[str, str | None]:
    """Return the `alg` and `kid` of a token's first part, by which its key is found.

    Nothing else of it is trusted: the library reads it again, strictly, with the signature. Raises
    `UnauthorizedError` where it is no header.
    """
    try:
        header = json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, RecursionError):
        raise _malformed() from None
    if not isinstance(header, dict):
        raise _malformed()
    algorithm, kid = header.get("alg", ""), header.get("kid")
    if not isinstance(algorithm, str) or not (kid is None or isinstance(kid, str)):
        raise _malformed()
    return algorithm, kid


def _malformed() -> UnauthorizedError:
    return UnauthorizedError("token is malformed", refusal="token_malformed")


def _prepared(jws: "Jws", key: str, setting: str) -> bytes:
    if not key.strip():
        raise SettingsError(f"{setting}: a key is empty")
    try:
        return jws.secret(key)
    except ValueError as error:
        raise SettingsError(f"{setting}: a key cannot serve as an HMAC secret: {error}") from None
