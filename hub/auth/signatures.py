"""Whether a token was signed with one of the hub's keys.

Every key is bound to the algorithms it may verify, before any token comes: secrets to HS256,
public keys to what their kind allows (`hub.auth.public_keys`), and both to `HUB_TOKEN_ALGORITHMS`
where that is set. A token's `alg` picks among these pairs and never makes one (RFC 8725 section
3.1), so neither `none` nor a public key used as an HMAC secret passes. Its `kid` picks among the
provider's keys; secrets and PEM files have no names and are all tried.

No message contains a token or any part of its signature.
"""

import json
from base64 import urlsafe_b64decode
from collections.abc import Iterable, Mapping
from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from jwt import InvalidSignatureError, PyJWS, PyJWTError
from jwt.algorithms import (
    Algorithm,
    ECAlgorithm,
    HMACAlgorithm,
    OKPAlgorithm,
    RSAAlgorithm,
    RSAPSSAlgorithm,
)

from hub.auth.provider import ProviderKeys
from hub.auth.public_keys import ALGORITHMS, HMAC, PUBLIC, Key, PublicKey
from hub.errors import SettingsError, UnauthorizedError


class _Hs256(HMACAlgorithm):
    """HS256 that leaves telling about short keys to the settings (`hub.settings`)."""

    def check_key_length(self, key: bytes) -> None:
        """PyJWT warns at every use; the operator needs to hear it once."""


def _algorithms() -> Mapping[str, Algorithm]:
    return {
        HMAC: _Hs256(HMACAlgorithm.SHA256),
        "RS256": RSAAlgorithm(RSAAlgorithm.SHA256),
        "PS256": RSAPSSAlgorithm(RSAPSSAlgorithm.SHA256),
        "ES256": ECAlgorithm(ECAlgorithm.SHA256, SECP256R1),
        "EdDSA": OKPAlgorithm(),
    }


class Signatures:
    """The keys of the settings, and those of a provider."""

    __slots__ = ("_jws", "_keys", "_provider", "algorithms")

    def __init__(
        self,
        secrets: Iterable[str] = (),
        public_keys: Iterable[PublicKey] = (),
        *,
        provider: ProviderKeys | None = None,
        algorithms: Iterable[str] = (),
        setting: str = "HUB_TOKEN_KEYS",
    ) -> None:
        """Take HMAC secrets, public keys, and by which algorithms they may be used; empty: by all.

        Raises:
            SettingsError: a secret is empty, or is an asymmetric key or JWK, which is no secret.
        """
        known = _algorithms()
        self._jws = PyJWS(algorithms=[])
        for name, algorithm in known.items():
            self._jws.register_algorithm(name, algorithm)
        allowed = tuple(algorithms) or ALGORITHMS
        keys: dict[str, list[bytes | Key]] = {name: [] for name in allowed}
        prepared = [_prepared(known[HMAC], secret, setting) for secret in secrets]
        if HMAC in keys:
            keys[HMAC].extend(prepared)
        for public in public_keys:
            for name in public.algorithms:
                if name in keys:
                    keys[name].append(public.key)
        self._provider = provider
        self._keys = keys
        self.algorithms = tuple(
            name for name in allowed if keys[name] or (provider is not None and name in PUBLIC)
        )
        """Those that some key may be used with."""

    def __len__(self) -> int:
        """How many there are, a provider counted as one."""
        return sum(map(len, self._keys.values())) + (self._provider is not None)

    def payload(self, token: str) -> bytes:
        """The signed bytes of `token`, once a key's signature matches.

        Raises:
            UndecidedError: the provider is being asked for the key.
            UnauthorizedError: no key signed it, or it is no token.
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

    def _verified(self, token: str, key: bytes | Key, algorithm: str) -> bytes | None:
        try:
            payload: bytes = self._jws.decode(token, key, algorithms=[algorithm])
        except InvalidSignatureError:
            return None
        except PyJWTError:
            raise _malformed() from None
        return payload


# Tokens of one key have the same first part. What a stranger sends of it is bounded like a token.
@lru_cache(maxsize=64)
def _header(part: str) -> tuple[str, str | None]:
    """The `alg` and `kid` of a token's first part, by which its key is found.

    Nothing else is believed of it: the library reads it again, strictly, with the signature.
    Raises `UnauthorizedError` where it is no header.
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


def _prepared(algorithm: Algorithm, key: str, setting: str) -> bytes:
    if not key.strip():
        raise SettingsError(f"{setting}: a key is empty")
    try:
        secret: bytes = algorithm.prepare_key(key)
    except PyJWTError as error:
        raise SettingsError(f"{setting}: a key cannot serve as an HMAC secret: {error}") from None
    return secret
