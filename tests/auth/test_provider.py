"""A provider's keys are asked for seldom, kept when it fails, and waited for by all at once."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import structlog

from hub.auth.fetching import MAX_SET_BYTES, KeySetSource
from hub.auth.provider import UNKNOWN_KEY_SECONDS, FetchError, ProviderKeys
from hub.auth.signatures import Signatures
from hub.core.counters import Counters
from hub.core.ports import UndecidedError
from hub.errors import UnauthorizedError
from tests.support.identity_provider import IdentityProvider, make_key, public_jwk, sign
from tests.support.waiting import eventually


class Fake:
    """A provider without a network, on a clock of its own."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.kids: tuple[str, ...] = ("first",)
        self.nameless = False
        self.fails: FetchError | None = None
        self.requests = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.counters = Counters()
        self.logged = structlog.testing.CapturingLogger()
        self.keys = ProviderKeys(
            self.fetch,
            clock=lambda: self.now,
            counters=self.counters,
            log=structlog.wrap_logger(self.logged, processors=[]),
        )
        self.signatures = Signatures(provider=self.keys)

    async def fetch(self) -> bytes:
        self.requests += 1
        await self.may_answer.wait()
        if self.fails is not None:
            raise self.fails
        entries = [public_jwk(make_key("ES256", kid), kid=kid) for kid in self.kids]
        if self.nameless:
            entries = [public_jwk(make_key("ES256", kid)) for kid in self.kids]
        return json.dumps({"keys": entries}).encode()

    def judge(self, kid: str | None, *, signed_by: str = "") -> UnauthorizedError | None:
        """Why a token of that kid is refused."""
        header = {} if kid is None else {"kid": kid}
        key = make_key("ES256", signed_by or kid or "first")
        try:
            self.signatures.payload(sign(key, "ES256", {}, **header))
        except UnauthorizedError as error:
            return error
        return None

    async def judge_twice(self, kid: str, *, signed_by: str = "") -> UnauthorizedError | None:
        """As a handshake does: it waits once."""
        error = self.judge(kid, signed_by=signed_by)
        if isinstance(error, UndecidedError):
            await error.wait()
            return self.judge(kid, signed_by=signed_by)
        return error


@asynccontextmanager
async def running(fake: Fake) -> AsyncIterator[Fake]:
    task = asyncio.create_task(fake.keys.run())
    try:
        yield fake
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def fake() -> AsyncIterator[Fake]:
    async with running(Fake()) as fake:
        yield fake


async def test_a_token_that_comes_before_the_first_keys_waits_for_them(fake: Fake) -> None:
    assert await fake.judge_twice("first") is None
    assert (fake.requests, fake.counters.token_key_fetches["fetched"]) == (1, 1)


async def test_a_new_key_is_fetched_when_a_token_names_it(fake: Fake) -> None:
    """A token that names the former key is refused from then on."""
    assert await fake.judge_twice("first") is None
    fake.kids = ("second",)
    assert await fake.judge_twice("second") is None
    assert fake.requests == 2
    error = fake.judge("first")
    assert error is not None
    assert error.refusal == "token_key"


async def test_a_flood_of_unknown_keys_costs_one_request_in_30_seconds(fake: Fake) -> None:
    """Those that come meanwhile wait for the same one; what it does not bring is refused for good,
    what was not looked for is refused as a thing to try again."""
    assert await fake.judge_twice("first") is None
    fake.may_answer.clear()
    flood = [
        asyncio.create_task(fake.judge_twice(f"unknown-{n}", signed_by="stranger"))
        for n in range(200)
    ]
    await eventually(lambda: fake.requests == 2)
    fake.may_answer.set()
    errors = await asyncio.gather(*flood)
    assert {(error and error.refusal, error and error.retryable) for error in errors} == {
        ("token_key", False)
    }
    fake.now += 1
    later = fake.judge("yet another")
    assert later is not None
    assert (later.retryable, later.retry_after_seconds) == (True, UNKNOWN_KEY_SECONDS - 1)
    assert not isinstance(later, UndecidedError)
    assert fake.judge("first") is None
    assert fake.requests == 2
    fake.now += UNKNOWN_KEY_SECONDS
    assert isinstance(fake.judge("yet another"), UndecidedError)
    await eventually(lambda: fake.requests == 3)


@pytest.mark.parametrize("outcome", ["unreachable", "timeout", "too_large"])
async def test_the_last_good_keys_stay_while_the_provider_fails(fake: Fake, outcome: str) -> None:
    assert await fake.judge_twice("first") is None
    fake.fails = FetchError(outcome, "it is on fire")
    error = await fake.judge_twice("second")
    assert error is not None
    assert (error.refusal, error.retryable) == ("token_key", True)
    assert fake.judge("first") is None
    assert fake.counters.token_key_fetches[outcome] == 1
    [call] = [call for call in fake.logged.calls if call.method_name == "warning"]
    assert call.kwargs["outcome"] == outcome
    assert call.kwargs["keys"] == 1


async def test_a_provider_is_asked_again_soon_after_a_failure() -> None:
    """A provider that starts together with the hub is there a second later."""
    fake = Fake()
    fake.fails = FetchError("unreachable", "not yet")
    async with running(fake):
        await eventually(lambda: fake.requests == 1)
        fake.fails = None
        await eventually(lambda: fake.judge("first") is None)


async def test_a_token_without_kid_may_mean_any_key() -> None:
    fake = Fake()
    fake.kids = ("first", "second")
    async with running(fake):
        assert await fake.judge_twice("first") is None
        assert fake.judge(None, signed_by="second") is None
        error = fake.judge(None, signed_by="third")
    assert error is not None
    assert (error.refusal, fake.requests) == ("token_signature", 1)


async def test_a_key_without_a_name_may_be_meant_by_any_token() -> None:
    fake = Fake()
    fake.nameless = True
    async with running(fake):
        assert await fake.judge_twice("whatever", signed_by="first") is None
        error = await fake.judge_twice("whatever", signed_by="stranger")
    assert error is not None
    assert error.refusal == "token_key"


async def test_a_waiter_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait has an end however long the provider takes."""
    monkeypatch.setattr("hub.auth.provider.WAIT_SECONDS", 0.01)
    fake = Fake()
    fake.may_answer.clear()
    async with running(fake):
        error = await fake.judge_twice("first")
    assert isinstance(error, UndecidedError)
    assert error.retryable


# -- over the network ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trouble", "outcome"),
    [
        ("status", "refused"),
        ("huge", "too_large"),
        ("crumbs", "too_large"),
        ("reset", "unreachable"),
    ],
)
async def test_faults_of_a_provider_are_told_apart(trouble: str, outcome: str) -> None:
    async with IdentityProvider() as provider:
        provider.trouble = trouble
        with pytest.raises(FetchError) as caught:
            await KeySetSource(provider.jwks_url)()
        assert caught.value.outcome == outcome


@pytest.mark.parametrize("trouble", ["", "drip"], ids=["silent", "byte by byte"])
async def test_a_slow_provider_is_given_up(monkeypatch: pytest.MonkeyPatch, trouble: str) -> None:
    """The deadline is for the whole answer, not for the pause between two bytes."""
    monkeypatch.setattr("hub.auth.fetching.FETCH_SECONDS", 0.5)
    async with IdentityProvider() as provider:
        provider.trouble = trouble
        if not trouble:
            provider.may_answer.clear()
        with pytest.raises(FetchError) as caught:
            await KeySetSource(provider.jwks_url)()
        assert caught.value.outcome == "timeout"


async def test_a_provider_that_is_down_is_unreachable() -> None:
    async with IdentityProvider() as provider:
        url = provider.jwks_url
    with pytest.raises(FetchError) as caught:
        await KeySetSource(url)()
    assert caught.value.outcome == "unreachable"


async def test_a_good_set_comes_as_it_is() -> None:
    async with IdentityProvider() as provider:
        raw = await KeySetSource(provider.jwks_url)()
    assert [key["kid"] for key in json.loads(raw)["keys"]] == ["first"]
    assert len(raw) < MAX_SET_BYTES
