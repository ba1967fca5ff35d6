"""Public keys that verify tokens: read from PEM files and from JSON Web Key sets (RFC 7517).

Each key is bound to the algorithms that its kind allows, or to the one that its `alg` names: a
token's header cannot have it used for another. A key that is no public signing key (a private key,
a secret, a key to encrypt with) is left out of a set and refused in a file. Pure functions.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt import PyJWTError
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

# NIST SP 800-131A: shorter ones are broken; longer ones cost a millisecond for each forgery.
RSA_BITS = range(2048, 8193)
# Of a set: providers have two or three, while they rotate some more.
MAX_KEYS = 32
MAX_KID_CHARACTERS = 256
_PEM = re.compile(
    r"-----BEGIN (?P<kind>[A-Z0-9 ]+)-----.*?-----END (?P=kind)-----", re.DOTALL | re.ASCII
)
# The members of a public key; what else a set says of one, such as `d`, is not looked at.
_MEMBERS = ("kty", "crv", "n", "e", "x", "y")

_READERS: Mapping[str, Callable[[dict[str, Any]], Any]] = {
    "RSA": RSAAlgorithm.from_jwk,
    "EC": ECAlgorithm.from_jwk,
    "OKP": OKPAlgorithm.from_jwk,
}

Key = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey


@dataclass(frozen=True, slots=True)
class PublicKey:
    key: Key
    algorithms: tuple[str, ...]
    """The algorithms of `PUBLIC` that the key may verify."""
    kid: str | None = None
    """The name by which tokens refer to the key; None for a key that any token may mean."""


def read_pem(text: str) -> list[PublicKey]:
    """Return the keys of a PEM text: public keys, and those of certificates.

    Raises:
        ValueError: There is none, or one that cannot verify tokens; the message says why.
    """
    blocks = list(_PEM.finditer(text))
    if not blocks:
        raise ValueError("there is no PEM block (-----BEGIN PUBLIC KEY-----)")
    return [_of_block(block["kind"], block[0].encode()) for block in blocks]


def _of_block(kind: str, block: bytes) -> PublicKey:
    if "PRIVATE" in kind:
        raise ValueError(
            "there is a private key, which the hub must not have: give it the public one"
        )
    try:
        if kind == "CERTIFICATE":
            key: Any = x509.load_pem_x509_certificate(block).public_key()
        else:
            key = load_pem_public_key(block)
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(f"a {kind} block cannot be read") from None
    if not (algorithms := fitting(key)):
        raise ValueError(
            f"a {kind} block is no key of RSA (2,048 to 8,192 bits), of the curve P-256, or Ed25519"
        )
    return PublicKey(key, algorithms)


def read_set(raw: bytes) -> list[PublicKey]:
    """Return the usable keys of a JSON Web Key set, at most `MAX_KEYS`.

    Raises:
        ValueError: The text is no such set, or none of its keys can verify tokens.
    """
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):
        raise ValueError("it is no JSON") from None
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        why = "it is no JSON Web Key set: an object with an array `keys`"
        raise ValueError(why)  # noqa: TRY004 - what was read is wrong, not what was passed
    found = [key for key in _usable(listed) if key is not None]
    if not found:
        raise ValueError("none of its keys can verify tokens")
    return found[:MAX_KEYS]


def _usable(listed: list[Any]) -> Iterable[PublicKey | None]:
    # Twice as many are looked at: a set lists keys to encrypt with too.
    return (_of_jwk(entry) for entry in listed[: 2 * MAX_KEYS] if isinstance(entry, dict))


def _of_jwk(entry: Mapping[str, Any]) -> PublicKey | None:
    kid, use, operations = entry.get("kid"), entry.get("use", "sig"), entry.get("key_ops")
    if not (kid is None or (isinstance(kid, str) and len(kid) <= MAX_KID_CHARACTERS)):
        return None
    if use != "sig" or (isinstance(operations, list) and "verify" not in operations):
        return None
    public = {name: entry[name] for name in _MEMBERS if isinstance(entry.get(name), str)}
    read = _READERS.get(public.get("kty", ""))
    if read is None:
        return None
    try:
        key = read(public)
    except (PyJWTError, ValueError, TypeError, KeyError, UnsupportedAlgorithm):
        return None
    algorithms = fitting(key)
    if (named := entry.get("alg")) is not None:
        algorithms = tuple(each for each in algorithms if each == named)
    return PublicKey(key, algorithms, kid) if algorithms else None


def fitting(key: object) -> tuple[str, ...]:
    """Return the algorithms that a public key may verify; none for a key of another kind."""
    if isinstance(key, RSAPublicKey):
        return ("RS256", "PS256") if key.key_size in RSA_BITS else ()
    if isinstance(key, EllipticCurvePublicKey):
        return ("ES256",) if isinstance(key.curve, SECP256R1) else ()
    return ("EdDSA",) if isinstance(key, Ed25519PublicKey) else ()
