"""`hub token` makes tokens that a hub takes, and says why one is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from hub.cli import build
from tests.support.identity_provider import IdentityProvider, make_key, private_pem, public_pem

KEY = "a-signing-key-of-more-than-32-bytes!"
Invoke = Callable[..., Result]


@pytest.fixture
def hub() -> Invoke:
    def invoke(*arguments: str, **environ: str) -> Result:
        return CliRunner().invoke(build(), ["token", *arguments], env=environ, prog_name="hub")

    return invoke


def test_a_token_that_is_made_holds(hub: Invoke) -> None:
    made = hub(
        "ann", "--subscribe", "user:{sub}:*", "--subscribe", "news", "--publish", "chat:42",
        "--expires", "90s", HUB_TOKEN_KEYS=KEY,
    )  # fmt: skip
    assert made.exit_code == 0
    checked = hub("--check", made.stdout.strip(), HUB_TOKEN_KEYS=KEY)
    assert checked.exit_code == 0
    told = json.loads(checked.stdout)
    assert told["sub"] == "ann"
    assert told["subscribe"] == ["user:ann:*", "news"]
    assert told["publish"] == ["chat:42"]
    assert 80 < told["expires_in_seconds"] <= 90
    assert told["jti"]


def test_a_token_without_grants_is_made_and_named(hub: Invoke) -> None:
    """Else its holder learns only from the refusal of a hub that something was forgotten."""
    bare = hub("ann", HUB_TOKEN_KEYS=KEY)
    assert bare.exit_code == 0
    assert bare.stdout.count(".") == 2
    assert bare.stderr == (
        "hub: this token may read and publish nothing; --subscribe and --publish name channels\n"
    )
    assert hub("ann", "--publish", "news", HUB_TOKEN_KEYS=KEY).stderr == ""


def test_check_says_why_a_token_is_refused(hub: Invoke) -> None:
    token = hub("ann", HUB_TOKEN_KEYS=KEY).stdout.strip()
    for environ, why in (
        ({"HUB_TOKEN_KEYS": "x" * 32}, "token signature matches no key"),
        ({"HUB_TOKEN_KEYS": KEY, "HUB_TOKEN_ISSUER": "https://id"}, "not of an issuer"),
        ({"HUB_TOKEN_KEYS": KEY, "HUB_TOKEN_AUDIENCE": "hub"}, "another audience"),
        ({}, "this hub takes no tokens"),
    ):
        refused = hub("--check", token, **environ)
        assert refused.exit_code == 1
        assert why in refused.stderr
        assert token not in refused.output


def test_a_token_has_what_the_hub_asks_for(hub: Invoke) -> None:
    """Issuer, audience, age, and the claim that holds the grants."""
    environ = {
        "HUB_TOKEN_KEYS": KEY,
        "HUB_TOKEN_ISSUER": "https://id",
        "HUB_TOKEN_AUDIENCE": "hub",
        "HUB_TOKEN_MAX_AGE_SECONDS": "60",
        "HUB_TOKEN_GRANTS_CLAIM": "app.hub",
    }
    token = hub("ann", "--publish", "a,b", "--expires", "never", **environ).stdout.strip()
    checked = hub("--check", token, **environ)
    assert json.loads(checked.stdout)["publish"] == ["a", "b"]


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_a_private_key_signs_for_its_public_one(
    hub: Invoke, tmp_path: Path, algorithm: str
) -> None:
    key = make_key(algorithm)
    (tmp_path / "private.pem").write_text(private_pem(key))
    (tmp_path / "public.pem").write_text(public_pem(key))
    made = hub("ann", "--private-key", str(tmp_path / "private.pem"))
    environ = {"HUB_TOKEN_PUBLIC_KEYS": str(tmp_path / "public.pem")}
    assert hub("--check", made.stdout.strip(), **environ).exit_code == 0


def test_a_token_is_signed_by_an_algorithm_that_the_hub_takes(hub: Invoke, tmp_path: Path) -> None:
    """An RSA key can sign by two; a key that fits none is said to."""
    key, private = make_key("PS256"), tmp_path / "private.pem"
    private.write_text(private_pem(key))
    (tmp_path / "public.pem").write_text(public_pem(key))
    environ = {
        "HUB_TOKEN_PUBLIC_KEYS": str(tmp_path / "public.pem"),
        "HUB_TOKEN_KEYS": KEY,
        "HUB_TOKEN_ALGORITHMS": "PS256,EdDSA",
    }
    made = hub("ann", "--private-key", str(private), **environ)
    assert made.exit_code == 0
    assert hub("--check", made.stdout.strip(), **environ).exit_code == 0
    refused = hub("ann", **environ)
    assert refused.exit_code == 2
    assert "signs by HS256, and HUB_TOKEN_ALGORITHMS allows PS256 or EdDSA" in refused.stderr
    environ["HUB_TOKEN_ALGORITHMS"] = "HS256"
    assert hub("ann", "--private-key", str(private), **environ).exit_code == 2
    assert hub("ann", **environ).exit_code == 0


async def test_check_asks_the_provider(tmp_path: Path) -> None:
    """In a thread: the command has a loop of its own."""
    import asyncio

    def check(token: str, url: str) -> Result:
        environ = {"HUB_TOKEN_JWKS_URL": url}
        return CliRunner().invoke(build(), ["token", "--check", token], env=environ)

    async with IdentityProvider() as provider:
        token = provider.token()
        held = await asyncio.to_thread(check, token, provider.jwks_url)
        assert held.exit_code == 0
        unknown = await asyncio.to_thread(check, provider.token(kid="nobody"), provider.jwks_url)
        assert "no key of the provider has the token's kid" in unknown.stderr
        provider.trouble = "status"
        away = await asyncio.to_thread(check, token, provider.jwks_url)
        assert away.exit_code == 1
        assert "the provider answered 500" in away.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("ann", "--expires", "soon"),
        ("ann", "--expires", "0s"),
        ("ann", "--publish", "a b"),
        ("ann", "--private-key", "/nowhere.pem"),
        ("ann", "--check", "x.y.z"),
        ("",),
    ],
)
def test_a_wrong_call_ends_with_2(hub: Invoke, arguments: tuple[str, ...]) -> None:
    assert hub(*arguments, HUB_TOKEN_KEYS=KEY).exit_code == 2


def test_without_a_key_nothing_is_signed(hub: Invoke) -> None:
    made = hub("ann")
    assert made.exit_code == 2
    assert "HUB_TOKEN_KEYS" in made.stderr
