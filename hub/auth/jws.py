"""Signatures of JSON Web Tokens (RFC 7515), as PyJWT verifies them; imported where keys are set."""

import hmac
from base64 import urlsafe_b64decode
from typing import Any

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

from hub.auth.algorithms import HMAC
from hub.auth.public_keys import Key


class _Hs256(HMACAlgorithm):
    """HS256 that leaves telling about short keys to the settings (`hub.settings`)."""

    def check_key_length(self, key: bytes) -> None:
        """PyJWT warns at every use; the operator needs to hear it once."""

    def prepare_key(self, key: Any) -> bytes:
        """Bytes were prepared at the start (`Jws.secret`). PyJWT would try again for each token
        whether they are a public key, which costs more than the signature."""
        return key if isinstance(key, bytes) else super().prepare_key(key)


class Jws:
    """The library with the algorithms of `hub.auth.algorithms` and no others."""

    __slots__ = ("_hmac", "_jws")

    def __init__(self) -> None:
        self._hmac = _Hs256(HMACAlgorithm.SHA256)
        known: dict[str, Algorithm] = {
            HMAC: self._hmac,
            "RS256": RSAAlgorithm(RSAAlgorithm.SHA256),
            "PS256": RSAPSSAlgorithm(RSAPSSAlgorithm.SHA256),
            "ES256": ECAlgorithm(ECAlgorithm.SHA256, SECP256R1),
            "EdDSA": OKPAlgorithm(),
        }
        self._jws = PyJWS(algorithms=[])
        for name, algorithm in known.items():
            self._jws.register_algorithm(name, algorithm)

    def secret(self, text: str) -> bytes:
        """An HMAC secret; raise `ValueError` for an asymmetric key or JWK, which is none."""
        try:
            return self._hmac.prepare_key(text)
        except PyJWTError as error:
            raise ValueError(str(error)) from None

    def payload(self, token: str, key: bytes | Key, algorithm: str) -> bytes | None:
        """The signed bytes where `key` has signed them by `algorithm`; None where it has not.

        Raises `ValueError` where it is no token, or says that it is signed by another algorithm.
        """
        if isinstance(key, bytes) and _is_forged(token, key):
            return None
        try:
            payload: bytes = self._jws.decode(token, key, algorithms=[algorithm])
        except InvalidSignatureError:
            return None
        except PyJWTError as error:
            raise ValueError(str(error)) from None
        return payload


def _is_forged(token: str, secret: bytes) -> bool:
    """Whether a whole HS256 signature is another than that of `secret`.

    This look refuses early and lets nobody in: what it does not know PyJWT finds out, strictly. A
    forged token then costs a digest, and not the reading of all that it says.
    """
    signed, _, signature = token.rpartition(".")
    try:
        given = urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
        made = hmac.digest(secret, signed.encode("ascii"), "sha256")
    except ValueError:
        return False
    return len(given) == len(made) and not hmac.compare_digest(given, made)
