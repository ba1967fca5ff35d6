"""A token is verified by keys that are bound to algorithms, whatever its header says."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from jwt.algorithms import HMACAlgorithm

from hub.auth.public_keys import MAX_KEYS, read_pem, read_set
from hub.auth.signatures import Signatures
from hub.auth.tokens import TokenRules, TokenVerifier
from hub.errors import SettingsError, UnauthorizedError
from hub.node.access import policy_of, verifier_of
from hub.settings import Settings
from tests.auth.test_tokens import sign as sign_by_hand
from tests.support.golden import golden
from tests.support.identity_provider import (
    make_key,
    private_pem,
    public_jwk,
    public_pem,
    sign,
)

NOW = 1_700_000_000.0
SECRET = "a-secret-of-at-least-32-bytes-for-tests"
ASYMMETRIC = ["RS256", "PS256", "ES256", "EdDSA"]


def payload(token: str, *keys: str, **more: Any) -> bytes:
    public = [key for pem in keys for key in read_pem(pem)]
    return Signatures([SECRET], public, **more).payload(token)


def refusal(token: str, *keys: str, **more: Any) -> tuple[str, str]:
    with pytest.raises(UnauthorizedError) as caught:
        payload(token, *keys, **more)
    return caught.value.message, caught.value.refusal


@pytest.mark.parametrize("algorithm", ASYMMETRIC)
def test_a_token_of_each_algorithm_is_verified_by_its_public_key(algorithm: str) -> None:
    """Any other key of the same algorithm refuses the token."""
    key, other = make_key(algorithm), make_key(algorithm, "other")
    token = sign(key, algorithm, {"sub": "ann"})
    assert json.loads(payload(token, public_pem(other), public_pem(key))) == {"sub": "ann"}
    assert refusal(token, public_pem(other))[1] == "token_signature"


@pytest.mark.parametrize("algorithm", ASYMMETRIC)
@pytest.mark.parametrize("confused", ["HS256", "HS384", "none"])
def test_a_public_key_never_serves_as_a_secret(algorithm: str, confused: str) -> None:
    """Anybody has a public key and could otherwise sign tokens with it (RFC 8725 section 2.1)."""
    pem = public_pem(make_key(algorithm))
    for secret in (pem, pem.strip(), "".join(pem.splitlines()[1:-1])):
        forged = sign_by_hand({"sub": "mallory"}, secret, alg=confused)
        assert refusal(forged, pem)[1] in {"token_signature", "token_algorithm"}


def test_each_algorithm_is_pinned_to_the_kind_of_its_key() -> None:
    """A header that names another one finds no key."""
    keys = [public_pem(make_key(name)) for name in ("RS256", "ES256", "EdDSA")]
    ours = sign(make_key("ES256"), "ES256", {})
    head = {"alg": "RS256", "typ": "JWT"}
    crossed = f"{sign_by_hand({}, alg='RS256').split('.')[0]}.{ours.split('.', 1)[1]}"
    assert head["alg"] == "RS256"
    assert refusal(crossed, *keys)[1] == "token_signature"


def test_only_the_algorithms_of_the_setting_are_taken() -> None:
    """Both ways round: a secret with HS256 left out, and a public key that is not named."""
    rsa_key = make_key("RS256")
    pem = public_pem(rsa_key)
    assert payload(sign(rsa_key, "PS256", {}), pem, algorithms=("PS256",))
    assert refusal(sign(rsa_key, "RS256", {}), pem, algorithms=("PS256",)) == (
        "token is not signed with PS256",
        "token_algorithm",
    )
    assert refusal(sign_by_hand({}, SECRET), pem, algorithms=("PS256",))[1] == "token_algorithm"


def test_a_key_that_is_no_public_key_for_tokens_is_refused_by_name(tmp_path: Path) -> None:
    """A start with a key that would never verify anything helps nobody."""
    small = rsa.generate_private_key(65537, 1024)
    texts = {
        "private key": private_pem(make_key("ES256")),
        "2,048 to 8,192 bits": public_pem(small),
        "curve P-256": public_pem(ec.generate_private_key(ec.SECP384R1())),
        "Ed25519": public_pem(ed448.Ed448PrivateKey.generate()),  # type: ignore[arg-type]
        "no PEM block": "nonsense",
        "cannot be read": "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
    }
    for expected, text in texts.items():
        (tmp_path / "key.pem").write_text(text)
        with pytest.raises(SettingsError, match=f"HUB_TOKEN_PUBLIC_KEYS.*key.pem.*{expected}"):
            policy_of(Settings(token_public_keys=str(tmp_path / "key.pem")))
    with pytest.raises(SettingsError, match=r"missing\.pem cannot be read: No such file"):
        policy_of(Settings(token_public_keys=str(tmp_path / "missing.pem")))


def test_a_file_may_hold_several_keys_and_certificates(tmp_path: Path) -> None:
    """Bundles are such files."""
    key = make_key("RS256")
    assert isinstance(key, rsa.RSAPrivateKey)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "id.example")])
    began = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, began, began + timedelta(days=1))
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.PEM)
        .decode()
    )
    path = tmp_path / "bundle.pem"
    path.write_text(public_pem(make_key("EdDSA")) + certificate)
    verifier = verifier_of(Settings(token_public_keys=str(path)))
    for algorithm in ("RS256", "EdDSA"):
        assert (
            verifier.verify(sign(make_key(algorithm), algorithm, {"sub": "ann"})).subject == "ann"
        )


def test_a_set_gives_its_public_signing_keys_and_nothing_else() -> None:
    """Secrets, private members, keys to encrypt with and what is broken are passed over."""
    good = public_jwk(make_key("RS256"), kid="rsa")
    entries: list[object] = [
        good | {"kid": "pinned", "alg": "PS256"},
        public_jwk(make_key("ES256"), kid="ec"),
        good | {"kid": "for encryption", "use": "enc"},
        good | {"kid": "to sign with", "key_ops": ["sign"]},
        good | {"kid": "another algorithm", "alg": "RS512"},
        good | {"kid": 7},
        good | {"kid": "broken", "n": "!"},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "secret"},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "off the curve"},
        {"kty": ["RSA"]}, {}, None, 7, "text",
    ]  # fmt: skip
    found = read_set(json.dumps({"keys": entries}).encode())
    assert [(key.kid, key.algorithms) for key in found] == [
        ("pinned", ("PS256",)),
        ("ec", ("ES256",)),
    ]


def test_a_set_is_bounded_and_rubbish_is_none() -> None:
    """A provider's answer is not trusted: a set has at most `MAX_KEYS` keys, and what
    is no key set is refused."""
    many = [public_jwk(make_key("ES256"), kid=str(number)) for number in range(500)]
    assert len(read_set(json.dumps({"keys": many}).encode())) == MAX_KEYS
    for raw in (b"", b"<html>", b"[]", b'{"keys":{}}', b'{"keys":[]}', b"[" * 100_000, b"\xff"):
        with pytest.raises(ValueError, match=r"^(it is no|none of its)"):
            read_set(raw)


def verifier(**rules: Any) -> TokenVerifier:
    return TokenVerifier([SECRET], clock=lambda: NOW, rules=TokenRules(**rules))


def hs256(**claims: object) -> str:
    return sign_by_hand(claims, SECRET)


@pytest.mark.parametrize(
    ("rules", "claims", "reason"),
    [
        ({"issuers": ("https://id",)}, {"iss": "https://id"}, ""),
        ({"issuers": ("https://id",)}, {"iss": "https://id/"}, "token_issuer"),
        ({"issuers": ("https://id",)}, {}, "token_issuer"),
        ({"issuers": ("https://id",)}, {"iss": ["https://id"]}, "token_issuer"),
        ({}, {"iss": "anybody"}, ""),
        ({"audiences": ("hub",)}, {"aud": "hub"}, ""),
        ({"audiences": ("hub",)}, {"aud": ["other", "hub"]}, ""),
        ({"audiences": ("hub",)}, {"aud": "other"}, "token_audience"),
        ({"audiences": ("hub",)}, {"aud": {"hub": 1}}, "token_audience"),
        ({"audiences": ("hub",)}, {"aud": [["hub"]]}, "token_audience"),
        ({"audiences": ("hub",)}, {}, "token_audience"),
        ({"audiences": ("hub",)}, {"client_id": "hub"}, "token_audience"),
        ({"audiences": ("hub",)}, {"client_id": "hub", "token_use": "access"}, ""),
        ({}, {"aud": "hub"}, "token_audience"),
        ({"leeway_seconds": 10}, {"exp": NOW - 9}, ""),
        ({"leeway_seconds": 10}, {"exp": NOW - 10}, "token_expired"),
        ({"leeway_seconds": 10}, {"nbf": NOW + 10}, ""),
        ({"leeway_seconds": 10}, {"nbf": NOW + 11}, "token_early"),
        ({"max_age_seconds": 60, "leeway_seconds": 10}, {"iat": NOW - 69}, ""),
        ({"max_age_seconds": 60, "leeway_seconds": 10}, {"iat": NOW - 70}, "token_age"),
        ({"max_age_seconds": 60, "leeway_seconds": 10}, {"iat": NOW + 11}, "token_early"),
        ({"max_age_seconds": 60}, {}, "token_age"),
        ({"max_age_seconds": 60}, {"iat": "today"}, "token_malformed"),
        ({}, {"iat": "today", "jti": 7}, ""),
    ],
)
def test_issuer_audience_times_and_age_are_judged(
    rules: dict[str, Any], claims: dict[str, Any], reason: str
) -> None:
    """Each refusal has a reason of its own for the metric."""
    if not reason:
        assert verifier(**rules).verify(hs256(**claims)).subscribe == ()
        return
    with pytest.raises(UnauthorizedError) as caught:
        verifier(**rules).verify(hs256(**claims))
    assert caught.value.refusal == reason


def test_a_bounded_age_ends_a_session_as_exp_does() -> None:
    """Whichever is earlier."""
    bounded = verifier(max_age_seconds=60)
    assert bounded.verify(hs256(iat=NOW - 20)).expires_at == NOW + 40
    assert bounded.verify(hs256(iat=NOW - 20, exp=NOW + 30)).expires_at == NOW + 30
    assert bounded.verify(hs256(iat=NOW - 20, exp=NOW + 300)).expires_at == NOW + 40


@pytest.mark.parametrize("case", golden("provider_tokens"), ids=lambda case: case["name"])
def test_tokens_of_known_providers_say_who_and_what(case: dict[str, Any]) -> None:
    """Their documented shapes, with the settings that read them."""
    algorithm = case["header"]["alg"]
    if algorithm == "HS256":
        settings = Settings(token_keys=SECRET, **case["settings"])
        token = jwt.encode(case["claims"], SECRET, algorithm="HS256", headers=case["header"])
    else:
        settings = Settings(
            token_public_keys=(public_pem(make_key(algorithm)),), **case["settings"]
        )
        token = sign(make_key(algorithm), algorithm, case["claims"], **case["header"])
    identity = verifier_of(settings, clock=lambda: NOW).verify(token)
    assert identity.subject == case["subject"]
    assert list(identity.subscribe) == case["subscribe"]
    assert list(identity.publish) == case["publish"]
    assert identity.token_id == case["claims"].get("jti")
    assert identity.expires_at == case["claims"]["exp"]


def test_a_secret_is_prepared_once_and_a_forged_token_costs_a_digest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing of what a forged token says is read; one that holds is read by the library."""
    signatures = Signatures(["s" * 32])
    read: list[str] = []
    decode = jwt.PyJWS.decode

    def counted(self: Any, token: str, *rest: Any, **more: Any) -> Any:
        read.append(token)
        return decode(self, token, *rest, **more)

    good = jwt.encode({"sub": "ann"}, "s" * 32, algorithm="HS256")
    monkeypatch.setattr(jwt.PyJWS, "decode", counted)
    monkeypatch.setattr(HMACAlgorithm, "prepare_key", None)
    assert json.loads(signatures.payload(good)) == {"sub": "ann"}
    forged = good.rpartition(".")[0] + "." + "A" * 43
    with pytest.raises(UnauthorizedError, match="matches no key"):
        signatures.payload(forged)
    assert read == [good]
