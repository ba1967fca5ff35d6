"""Verify signatures of JSON Web Tokens (RFC 7515) with PyJWT; the module is imported where keys are
set."""

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
    """HS256 without PyJWT's warning about short keys, which `hub.settings` gives."""

    def check_key_length(self, key: bytes) -> None:
        """Say nothing: PyJWT would warn at every use, and the operator needs one warning."""

    def prepare_key(self, key: Any) -> bytes:
        """Return the bytes, which `Jws.secret` has prepared. PyJWT would check for each token
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
        """Return an HMAC secret; raise `ValueError` for an asymmetric key or JWK, which is none."""
        try:
            return self._hmac.prepare_key(text)
        except PyJWTError as error:
            raise ValueError(str(error)) from None

    def payload(self, token: str, key: bytes | Key, algorithm: str) -> bytes | None:
        """Return the signed bytes where `key` has signed them by `algorithm`; None where it has
        not.

        Raises `ValueError` where the text is no token, or names another algorithm.
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
    """Return whether a whole HS256 signature differs from that of `secret`.

    This check only refuses early: PyJWT judges all else, strictly. A forged token then costs a
    digest, and not the reading of its content.
    """
    signed, _, signature = token.rpartition(".")
    try:
        given = urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
        made = hmac.digest(secret, signed.encode("ascii"), "sha256")
    except ValueError:
        return False
    return len(given) == len(made) and not hmac.compare_digest(given, made)
