"""Only a token signed with HS256 by one of the keys, in its time, is somebody."""

import base64
import hashlib
import hmac
import json
import string

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hub.auth.tokens import LAST_SECOND, MAX_TOKEN_BYTES, TokenVerifier
from hub.core.identity import Identity
from hub.errors import SettingsError, UnauthorizedError

NOW = 1_700_000_000.0
KEY = "a-key-of-at-least-32-bytes-for-tests"
OLD_KEY = "the-key-before-it-of-32-bytes-or-more"
# A throwaway public key: published by its nature, so it must never verify an HMAC.
PUBLIC_KEY = """-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEEVs/o5+uQbTjL3chynL4wXgUg2R9
q9UU8I5mEovUf86QZ7kOBIjJwqnzD1omageEHWwHdBO6B+dFabmdT9POxg==
-----END PUBLIC KEY-----
"""
HASHES = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}


def encode64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def sign(claims: object, key: str = KEY, **header: object) -> str:
    """A token made by hand, so that its header may say anything."""
    head = {"typ": "JWT", "alg": "HS256"} | header
    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    signed = f"{encode64(json.dumps(head).encode())}.{encode64(payload)}"
    digest = HASHES.get(str(head["alg"]), hashlib.sha256)
    return f"{signed}.{encode64(hmac.digest(key.encode(), signed.encode(), digest))}"


def verifier(*keys: str) -> TokenVerifier:
    return TokenVerifier(keys or (KEY,), clock=lambda: NOW)


def refusal(token: str, *keys: str) -> str:
    with pytest.raises(UnauthorizedError) as caught:
        verifier(*keys).verify(token)
    # Nothing of what is said makes a log line or a close reason long.
    assert len(caught.value.message) < 300
    # Shorter texts stand in any sentence.
    assert len(token) < 10 or token not in caught.value.message
    return caught.value.message


def test_a_token_becomes_the_identity_its_claims_describe() -> None:
    """Subject, grants and end come from the claims; the publisher is the subject's."""
    claims = {
        "sub": "ada",
        "exp": NOW + 60,
        "hub": {"subscribe": ["prices", "chat:*"], "publish": ["chat:42"]},
    }

    assert verifier().verify(sign(claims)) == Identity(
        subject="ada",
        publisher="sub:ada",
        subscribe=("prices", "chat:*"),
        publish=("chat:42",),
        expires_at=NOW + 60,
    )


def test_a_token_without_claims_is_valid_and_grants_nothing() -> None:
    """All claims are optional; without `exp` the identity lasts as long as the session."""
    assert verifier().verify(sign({})) == Identity(publisher="token")


def test_every_key_verifies_while_keys_are_rotated() -> None:
    """A token of the old key holds until that key is taken out."""
    token = sign({"sub": "ada"}, OLD_KEY)

    assert verifier(KEY, OLD_KEY).verify(token).subject == "ada"
    assert refusal(token, KEY) == "token signature matches no key"


@pytest.mark.parametrize("end", [NOW, NOW - 1, 0, -1, -1e300])
def test_a_token_ends_at_its_exp_where_no_leeway_is_given(end: float) -> None:
    """A session ends with its token, so it cannot begin after that."""
    assert "token expired" in refusal(sign({"exp": end}))


@pytest.mark.parametrize(("end", "session_ends"), [(1, 1), (0, 10), (-4, 6), (-9.5, 0.5)])
def test_a_session_that_begins_within_the_leeway_ends_with_it(
    end: float, session_ends: float
) -> None:
    """One that begins before the token's end ends at it: a leeway makes no token longer."""
    lenient = TokenVerifier((KEY,), clock=lambda: NOW, leeway_seconds=10)
    assert lenient.verify(sign({"exp": NOW + end})).expires_at == NOW + session_ends


def test_a_token_may_be_as_early_and_as_late_as_the_leeway_and_no_more() -> None:
    """Clocks differ a little between the issuer and the hub."""
    lenient = TokenVerifier((KEY,), clock=lambda: NOW, leeway_seconds=10)
    assert lenient.verify(sign({"nbf": NOW + 10})).expires_at is None
    for claims in ({"nbf": NOW + 10.5}, {"exp": NOW - 10}):
        with pytest.raises(UnauthorizedError):
            lenient.verify(sign(claims))


@pytest.mark.parametrize(("begins", "wait"), [(10.5, 1), (13, 3), (1e300, 300)])
def test_a_token_that_has_not_begun_may_be_tried_again(begins: float, wait: int) -> None:
    """The very same one will hold, which is not so of any other that is refused."""
    lenient = TokenVerifier((KEY,), clock=lambda: NOW, leeway_seconds=10)
    for claims, retryable, after in (
        ({"nbf": NOW + begins}, True, wait),
        ({"exp": NOW - 11}, False, None),
        ({"nbf": NOW + begins, "exp": NOW - 11}, False, None),
    ):
        with pytest.raises(UnauthorizedError) as caught:
            lenient.verify(sign(claims))
        assert (caught.value.retryable, caught.value.retry_after_seconds) == (retryable, after)
        assert len(caught.value.message) < 300


@pytest.mark.parametrize("end", [1e16, 1e300, 1.7976931348623157e308, 2**70])
def test_a_time_too_far_off_is_the_last_second_of_the_year_9999(end: float) -> None:
    """No timer and no message has to carry numbers of 300 digits."""
    assert verifier().verify(sign({"exp": end})).expires_at == LAST_SECOND
    assert verifier().verify(sign({"nbf": -end})).expires_at is None


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", ""])
def test_an_unsigned_token_is_refused(algorithm: str) -> None:
    """`alg: none` is the oldest forgery of all."""
    head, payload, _ = sign({"sub": "mallory"}, alg=algorithm).split(".")

    assert refusal(f"{head}.{payload}.") == "token is not signed with HS256"


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "HS384", "HS512", "hs256"])
def test_the_header_cannot_choose_another_algorithm(algorithm: str) -> None:
    """Another algorithm is refused even if the signature would match the right key under it."""
    assert refusal(sign({"sub": "mallory"}, alg=algorithm)) == "token is not signed with HS256"


def test_a_public_key_cannot_serve_as_a_secret() -> None:
    """Else everybody who has the public key could sign: RS256 to HS256 confusion."""
    with pytest.raises(SettingsError, match="HUB_TOKEN_KEYS: a key cannot serve"):
        verifier(PUBLIC_KEY)

    assert refusal(sign({"sub": "mallory"}, PUBLIC_KEY)) == "token signature matches no key"


def test_a_token_up_to_4_kib_is_read_and_a_longer_one_is_not() -> None:
    """The limit is that of a URL; the message gives both values."""
    whole = next(
        token
        for padding in range(2900, 3100)
        if len(token := sign({"sub": "ada", "pad": "x" * padding})) >= MAX_TOKEN_BYTES - 1
    )
    assert len(whole) <= MAX_TOKEN_BYTES
    assert verifier().verify(whole).subject == "ada"

    longer = sign({"sub": "ada", "pad": "x" * 3100})
    assert refusal(longer) == f"token is {len(longer):,} bytes, limit is 4,096"


@pytest.mark.parametrize(
    "token", ["", "x", "a.b", "a.b.c", "a.b.c.d", "..", "\ud800", "\u043a.\u043b.\u044e"]
)
def test_a_text_that_is_no_token_is_refused(token: str) -> None:
    """The answer is a clean 401, whatever the text is."""
    assert refusal(token) in {"token is empty", "token is malformed"}


@pytest.mark.parametrize(
    ("given", "held"),
    [
        ("Bearer {}", "' '"),
        ("{}\n", r"'\n'"),
        ("<!doctype html><p>{}", "'<'"),
        ('{{"token": "{}"}}', "'{'"),
        ("[object Object]", "'['"),
        ('"{}"', "'\"'"),
    ],
    ids=["prefix", "line", "page", "json", "object", "quotes"],
)
def test_text_that_stands_around_a_token_is_named(given: str, held: str) -> None:
    """A login page, or JSON, in place of the token that an application meant to pass on."""
    token = given.format(sign({"sub": "ada"}))
    assert refusal(token) == f"token is malformed: no JSON Web Token holds {held}"


@pytest.mark.parametrize(
    "claims",
    [
        b"not json",
        b"\xff",
        b"[" * 2_900,
        [],
        "text",
        None,
        {"exp": "soon"},
        {"exp": True},
        {"exp": float("nan")},
        {"exp": float("inf")},
        b'{"exp": 1' + b"0" * 400 + b"}",
        {"nbf": []},
        {"sub": 7},
        {"sub": ""},
        {"sub": "x" * 256},
        {"sub": "\ud800"},
        {"aud": "somebody else"},
        {"hub": None},
        {"hub": []},
        {"hub": {"subscribe": "prices"}},
        {"hub": {"subscribe": None}},
        {"hub": {"subscribe": [1]}},
        {"hub": {"subscribe": ["a b"]}},
        {"hub": {"subscribe": [""]}},
        {"hub": {"subscribe": ["a*b"]}},
        {"hub": {"subscribe": ["**"]}},
        {"hub": {"publish": ["ok", "not ok"]}},
        {"hub": {"publish": ["x" * 201]}},
    ],
)
def test_malformed_claims_are_refused_although_the_signature_holds(claims: object) -> None:
    """The message says which claim is wrong and how it should be."""
    assert refusal(sign(claims)).startswith("token ")


@given(st.text(max_size=300))
def test_random_text_never_authenticates(token: str) -> None:
    """Nothing but a signed token is somebody, and nothing raises anything else."""
    refusal(token)


BASE64URL = string.ascii_letters + string.digits + "-_"


@given(st.data())
def test_a_token_with_any_character_changed_never_authenticates(data: st.DataObject) -> None:
    """Header, payload and signature are covered, down to the last bits of each part."""
    token = sign({"sub": "ada", "hub": {"subscribe": ["prices"]}})
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from(BASE64URL + ".=+/ "))
    assume(other != token[place])

    refusal(token[:place] + other + token[place + 1 :])


@given(st.text(min_size=1).filter(lambda key: key != KEY and "\ud800" not in key))
def test_a_token_signed_with_any_other_key_never_authenticates(key: str) -> None:
    """Guessing the claims is not enough."""
    assert refusal(sign({"sub": "ada"}, key)) == "token signature matches no key"


CHANNELS = st.text(string.ascii_letters + string.digits + "_.:@~+-", min_size=1, max_size=30)


@given(st.lists(CHANNELS | CHANNELS.map(lambda name: name + "*") | st.just("*"), max_size=20))
def test_every_well_formed_pattern_survives_as_it_was(patterns: list[str]) -> None:
    """A channel, a prefix and `*`, or `*` alone."""
    assert verifier().verify(sign({"hub": {"publish": patterns}})).publish == tuple(patterns)


def test_short_keys_work() -> None:
    """RFC 7518 asks for 32 bytes; the settings warn, the tokens hold (warnings are errors here)."""
    keys = verifier("secret", KEY)

    assert keys.verify(sign({"sub": "ada"}, "secret")).subject == "ada"


def test_without_keys_no_token_holds() -> None:
    """The message names the setting."""
    with pytest.raises(UnauthorizedError, match="HUB_TOKEN_KEYS is not set"):
        TokenVerifier((), clock=lambda: NOW).verify(sign({}))


def test_an_empty_key_is_refused() -> None:
    """An empty secret would let everybody sign."""
    with pytest.raises(SettingsError, match="HUB_TOKEN_KEYS: a key is empty"):
        verifier(KEY, "")
