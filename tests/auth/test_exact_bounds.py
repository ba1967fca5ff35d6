"""Each bound of access: what comes up to it is taken, and what is one beyond is refused."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

from hub.auth import fetching
from hub.auth.bans import Standing, StandingKind, Standings
from hub.auth.hosts import HostList
from hub.auth.origins import OriginList
from hub.auth.provider import FetchError
from hub.auth.proxies import TrustedProxies
from hub.auth.public_keys import fitting, read_set
from hub.auth.tickets import Tickets
from hub.auth.tokens import TokenRules, TokenVerifier
from hub.core.identity import Identity
from hub.core.ports import UndecidedError
from hub.errors import ForbiddenError, MisdirectedRequestError, UnauthorizedError
from tests.auth.test_provider import Fake, running
from tests.auth.test_tokens import KEY, NOW, sign
from tests.support.identity_provider import make_key, public_jwk
from tests.support.waiting import eventually


def verify(claims: object, **rules: Any) -> Identity:
    return TokenVerifier((KEY,), clock=lambda: NOW, rules=TokenRules(**rules)).verify(sign(claims))


def token_of(size: int) -> str:
    """A good token of that many bytes."""
    made = (
        sign({"x": "x" * more}, more="x" * few) for few in range(4) for more in range(2900, 3000)
    )
    return next(token for token in made if len(token) == size)


def test_a_token_has_up_to_4096_bytes() -> None:
    judge = TokenVerifier((KEY,), clock=lambda: NOW)
    judge.verify(token_of(4096))
    with pytest.raises(UnauthorizedError, match=r"token is 4,097 bytes, limit is 4,096"):
        judge.verify(token_of(4097))


def test_a_subject_has_1_to_255_characters() -> None:
    assert verify({"sub": "é" * 255}).subject == "é" * 255
    for sub in ("", "é" * 256):
        with pytest.raises(UnauthorizedError, match="claim sub must be 1 to 255 characters"):
            verify({"sub": sub})


def test_a_tokens_own_name_counts_up_to_255_characters() -> None:
    assert verify({"jti": "t" * 255}).token_id == "t" * 255
    assert verify({"jti": "t" * 256}).token_id is None


@pytest.mark.parametrize(
    ("issued", "refusal"),
    [(-109.9, ""), (-110, "token_age"), (0, ""), (10, ""), (10.1, "token_early")],
)
def test_a_tokens_age_is_judged_by_the_leeway_at_both_ends(issued: float, refusal: str) -> None:
    claims = {"iat": NOW + issued}
    if not refusal:
        assert verify(claims, leeway_seconds=10, max_age_seconds=100).issued_at == NOW + issued
        return
    with pytest.raises(UnauthorizedError) as refused:
        verify(claims, leeway_seconds=10, max_age_seconds=100)
    assert refused.value.refusal == refusal


def test_a_ticket_lasts_ten_minutes() -> None:
    now = NOW
    tickets = Tickets(["o" * 32], clock=lambda: now)
    ticket = tickets.issue()
    assert ticket is not None
    now = NOW + 599.9
    assert tickets.verify(ticket).operator
    now = NOW + 600
    with pytest.raises(UnauthorizedError):
        tickets.verify(ticket)


def test_a_ban_holds_until_its_end_and_not_at_it() -> None:
    ban = Standing(StandingKind.BAN, "ann", at_ms=0, until_ms=1000)
    table = Standings()
    assert not table.merge(ban, 1000)
    assert table.merge(ban, 999)
    assert table.all_in_force(999) == [ban]
    with pytest.raises(ForbiddenError):
        table.check(Identity(subject="ann"), 999)
    table.check(Identity(subject="ann"), 1000)
    assert table.all_in_force(1000) == []
    assert table.forget(999) == []
    assert table.forget(1000) == [ban]


# -- keys of a provider ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bits", "fits"), [(2047, False), (2048, True), (8192, True), (8193, False)]
)
def test_a_key_of_rsa_has_2048_to_8192_bits(bits: int, fits: bool) -> None:
    key = RSAPublicNumbers(65_537, (1 << (bits - 1)) | 1).public_key()
    assert fitting(key) == (("RS256", "PS256") if fits else ())


def key_set(kids: Sequence[str], *, before: Sequence[object] = ()) -> list[str | None]:
    """The names of the keys that are taken from such a set."""
    jwk = public_jwk(make_key("ES256"))
    entries = [*before, *({**jwk, "kid": kid} for kid in kids)]
    return [key.kid for key in read_set(json.dumps({"keys": entries}).encode())]


def test_of_a_set_32_keys_are_taken_and_64_entries_are_looked_at() -> None:
    kids = [f"k{number}" for number in range(33)]
    assert key_set(kids[:32]) == kids[:32]
    assert key_set(kids) == kids[:32]
    assert key_set(kids[:1], before=[{}] * 63) == kids[:1]
    with pytest.raises(ValueError, match="none of its keys"):
        key_set(kids[:1], before=[{}] * 64)


def test_a_keys_name_has_up_to_256_characters() -> None:
    assert key_set(["k" * 256, "k" * 257]) == ["k" * 256]


class ProvidersAnswer:
    status_code = 200

    def __init__(self, *parts: bytes) -> None:
        self._parts = parts

    async def aiter_raw(self) -> AsyncIterator[bytes]:
        for part in self._parts:
            yield part


async def read(*parts: bytes) -> bytes:
    return await fetching._read(cast("Any", ProvidersAnswer(*parts)))


async def test_a_set_is_read_up_to_256_kib_and_a_thousand_parts() -> None:
    limit = 256 * 1024
    assert len(await read(b"x" * (limit - 1), b"x")) == limit
    with pytest.raises(FetchError, match="longer than 262,144 bytes"):
        await read(b"x" * limit, b"x")
    assert len(await read(*[b"x"] * 1000)) == 1000
    with pytest.raises(FetchError, match="in more than 1,000 parts"):
        await read(*[b"x"] * 1001)


async def test_a_key_that_is_not_known_is_asked_for_once_in_30_seconds() -> None:
    async with running(Fake()) as fake:
        assert await fake.judge_twice("first") is None
        assert await fake.judge_twice("absent") is not None
        assert fake.requests == 2
        fake.now += 29.9
        error = fake.judge("absent")
        assert not isinstance(error, UndecidedError)
        fake.now += 0.1
        assert isinstance(fake.judge("absent"), UndecidedError)
        await eventually(lambda: fake.requests == 3)


async def test_of_keys_that_are_asked_for_1024_names_are_kept() -> None:
    """A name beyond is refused as one to try again, not as one that there is not."""
    fake = Fake()
    for number in range(1025):
        assert isinstance(fake.keys.unknown(f"k{number}"), UndecidedError)
    async with running(fake):
        await eventually(lambda: fake.requests == 1)
        await asyncio.sleep(0)
        fake.keys._asked_at = fake.now
        assert not fake.keys.unknown("k1023").retryable
        assert fake.keys.unknown("k1024").retryable


# -- headers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("proxies", "client"), [(31, "203.0.113.9"), (32, "10.0.0.1")])
def test_a_client_is_found_behind_31_proxies(proxies: int, client: str) -> None:
    """Only the last 32 hops count."""
    trusted = TrustedProxies(["10.0.0.0/8"])
    hops = ["203.0.113.9", *(f"10.0.0.{number + 1}" for number in range(proxies))]
    assert trusted.client("10.1.1.1", {"x-forwarded-for": ", ".join(hops)}) == client


def test_an_address_names_a_port_of_five_digits() -> None:
    trusted = TrustedProxies(["10.0.0.0/8"])
    for text, client in (("203.0.113.9:65535", "203.0.113.9"), ("203.0.113.9:123456", "10.1.1.1")):
        assert trusted.client("10.1.1.1", {"x-forwarded-for": text}) == client


def test_an_origin_names_a_port_up_to_65535() -> None:
    pages = OriginList(["https://a.example:65535"])
    pages.check("https://a.example:65535", "hub.example")
    with pytest.raises(ForbiddenError):
        pages.check("https://a.example:65536", "hub.example")


def judged_hosts(count: int, length: int) -> int:
    hosts = HostList(["*.example"], any_by_default=False, addresses_by_default=False)
    for number in range(count):
        name = f"{number:04}".rjust(length - len(".example"), "a") + ".example"
        hosts.check(name)
        with pytest.raises(MisdirectedRequestError):
            hosts.check(name.replace("example", "invalid"))
    assert len(hosts._refused) <= 256
    return len(hosts._seen)


def judged_pages(count: int, length: int) -> int:
    pages = OriginList([])
    for number in range(count):
        host = f"{number:04}".rjust(length, "a")
        with pytest.raises(ForbiddenError):
            pages.check("null", host)
    return len(pages._known)


def judged_peers(count: int, length: int) -> int:
    proxies = TrustedProxies(["10.0.0.0/8"])
    for number in range(count):
        proxies.trusts(f"192.0.2.{number}".ljust(length))
    return len(proxies._seen)


@pytest.mark.parametrize(
    ("judged", "short", "longer"),
    [(judged_hosts, 100, 101), (judged_pages, 400 - len("null"), 401 - len("null"))],
)
def test_judgements_of_texts_are_kept_for_256_short_ones(
    judged: Any, short: int, longer: int
) -> None:
    """Strangers choose them."""
    assert [judged(1, short), judged(1, longer)] == [1, 0]
    assert judged(256, 30) == 256
    assert judged(257, 30) <= 256


def test_judgements_of_peers_are_kept_for_256() -> None:
    assert [judged_peers(256, 0), judged_peers(257, 0)] == [256, 1]


def test_pages_that_were_judged_are_forgotten_at_the_257th() -> None:
    assert [judged_pages(count, 30) for count in (256, 257)] == [256, 1]


def test_of_an_origin_that_is_refused_100_characters_are_told() -> None:
    origin = "https://" + "a" * 93
    with pytest.raises(ForbiddenError) as refused:
        OriginList([]).check(origin, "hub.example")
    assert f"origin {origin[:100]!r} is not allowed" in refused.value.message


def test_a_token_without_the_name_of_a_key_is_tried_with_8_keys() -> None:
    fake = Fake()
    key = read_set(json.dumps({"keys": [public_jwk(make_key("ES256"), kid="one")]}).encode())[0]
    for count in (8, 9):
        fake.keys._keys = (key,) * count
        assert len(tuple(fake.keys.find("ES256", None))) == 8
        assert len(tuple(fake.keys.find("ES256", "one"))) == 8
