"""PEM files of public keys are read again when they change."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import structlog

from hub import Settings
from hub.auth.public_keys import PublicKey
from hub.auth.signatures import Signatures
from hub.core.counters import Counters
from hub.errors import SettingsError
from hub.node.access import public_keys_of
from hub.node.file_watch import TokenKeyWatch, key_files
from tests.support.identity_provider import make_key, public_pem


class Watched:
    def __init__(self, *files: Path | str, algorithms: Sequence[str] = ()) -> None:
        self.taken: list[list[PublicKey]] = []
        self.counters = Counters()
        self.logged = structlog.testing.CapturingLogger()
        self.watch = TokenKeyWatch(
            Settings(token_public_keys=tuple(map(str, files)), token_algorithms=algorithms),
            replace=self.taken.append,
            counters=self.counters,
            log=structlog.wrap_logger(self.logged, processors=[]),
        )

    async def look(self, times: int = 3) -> None:
        for _ in range(times):
            await self.watch.look()

    @property
    def events(self) -> list[str]:
        return [call.kwargs["event"] for call in self.logged.calls]


async def test_all_files_are_read_again_when_one_has_changed(tmp_path: Path) -> None:
    """Files are read once they have stopped changing, so that half a file is
    not taken for a whole one."""
    one, other = tmp_path / "a.pem", tmp_path / "b.pem"
    one.write_text(public_pem(make_key("EdDSA")))
    other.write_text(public_pem(make_key("ES256")))
    watched = Watched(one, other)
    await watched.look()
    assert watched.taken == []
    other.write_text(public_pem(make_key("RS256")))
    await watched.look(1)
    assert watched.taken == []
    await watched.look()
    [keys] = watched.taken
    assert [key.algorithms for key in keys] == [("EdDSA",), ("RS256", "PS256")]
    assert watched.counters.token_key_reloads == {"read": 1}


async def test_a_file_that_cannot_be_read_keeps_the_keys_before_it(tmp_path: Path) -> None:
    """One line and one count for each state of the file, however often it is looked at."""
    file = tmp_path / "a.pem"
    good = public_pem(make_key("EdDSA"))
    file.write_text(good)
    watched = Watched(file)
    for text in ("rubbish", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"):
        file.write_text(text)
        await watched.look(10)
    file.unlink()
    await watched.look(10)
    assert watched.taken == []
    assert watched.counters.token_key_reloads == {"failed": 3}
    assert watched.events == ["token_public_keys_not_read"] * 3
    file.write_text(good)
    await watched.look()
    assert len(watched.taken) == 1
    assert watched.events[-1] == "token_public_keys_read"


async def test_a_new_key_of_a_kind_that_is_not_allowed_keeps_the_key_before_it(
    tmp_path: Path,
) -> None:
    """With such a key the hub would take no token, and a start with it is refused."""
    file = tmp_path / "a.pem"
    file.write_text(public_pem(make_key("RS256")))
    watched = Watched(file, algorithms=("RS256",))
    file.write_text(public_pem(make_key("ES256")))
    await watched.look()
    assert watched.taken == []
    assert watched.events == ["token_public_keys_not_read"]
    allowed = {"token_public_keys": (str(file),), "token_algorithms": ("RS256", "PS256")}
    why = "the keys are for ES256, and HUB_TOKEN_ALGORITHMS allows RS256, PS256"
    with pytest.raises(SettingsError, match=why):
        public_keys_of(Settings(**allowed))
    assert public_keys_of(Settings(**allowed, token_jwks_url="https://id.example/keys"))
    secret = {"token_keys": ("s" * 32,), "token_algorithms": ("RS256", "HS256")}
    assert public_keys_of(Settings(**{**allowed, **secret}))


def test_text_in_place_of_a_file_is_not_watched() -> None:
    assert key_files(Settings(token_public_keys=(public_pem(make_key("EdDSA")),))) == []


def test_secrets_and_their_algorithm_stay(tmp_path: Path) -> None:
    file = tmp_path / "a.pem"
    file.write_text(public_pem(make_key("EdDSA")))
    settings = Settings(token_public_keys=(str(file),))
    signatures = Signatures(["s" * 32], public_keys_of(settings))
    assert set(signatures.algorithms) == {"HS256", "EdDSA"}
    file.write_text(public_pem(make_key("ES256")))
    signatures.take_public_keys(public_keys_of(settings))
    assert set(signatures.algorithms) == {"HS256", "ES256"}
    assert len(signatures) == 2
