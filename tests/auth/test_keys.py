"""Keys are found whatever their place, and compared in constant time."""

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.auth.keys import KeyRing
from hub.errors import SettingsError

KEYS = ("first-key", "second-key", "third-key")


@pytest.mark.parametrize("key", KEYS)
def test_each_key_of_a_ring_is_found(key: str) -> None:
    """Every key works, so that one can be replaced while both are valid."""
    digest = hashlib.sha256(key.encode()).hexdigest()

    assert KeyRing(KEYS, setting="X").find(key) == f"key:{digest[:8]}"


@given(st.text(st.characters()))
def test_no_other_text_is_a_key(candidate: str) -> None:
    """Any text, lone surrogates included, is only refused and never raises."""
    ring = KeyRing(KEYS, setting="X")

    assert (ring.find(candidate) is not None) == (candidate in KEYS)


def test_an_empty_ring_finds_nothing() -> None:
    """Without a key in the settings, the empty text is no key either."""
    assert KeyRing((), setting="X").find("") is None


@pytest.mark.parametrize("candidate", ["first-key", "third-key", "none-of-them", ""])
def test_every_key_is_compared_by_digest_in_constant_time(
    candidate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`hmac.compare_digest` sees all digests, also after a match, and never a key itself."""
    compared: list[tuple[bytes, bytes]] = []
    genuine = hmac.compare_digest

    def spy(known: bytes, given_digest: bytes) -> bool:
        compared.append((known, given_digest))
        return genuine(known, given_digest)

    monkeypatch.setattr(hmac, "compare_digest", spy)
    KeyRing(KEYS, setting="X").find(candidate)

    wanted = hashlib.sha256(candidate.encode()).digest()
    assert compared == [(hashlib.sha256(key.encode()).digest(), wanted) for key in KEYS]


@pytest.mark.parametrize("empty", ["", "  "])
def test_an_empty_key_is_refused_at_the_start(empty: str) -> None:
    """A stray comma must not let everybody in; the message names the setting and the place."""
    with pytest.raises(SettingsError, match="HUB_PUBLISH_KEYS: key 2 of 2 is empty"):
        KeyRing(["good-key", empty], setting="HUB_PUBLISH_KEYS")
