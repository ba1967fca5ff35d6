"""The publisher, against an HTTP server played by a function."""

import asyncio
from collections.abc import Iterator

import pytest

from hub_client import (
    BreakerPolicy,
    NotPublishedError,
    OutcomeUnknownError,
    Outgoing,
    Position,
    Published,
    Publisher,
    PublisherOptions,
    PublishRefusedError,
    PublishRetry,
    Retrying,
)
from tests.clients.python.fakes import HttpAnswer, HttpRequest, http_hub, json_answer, problem

QUICK = PublisherOptions(PublishRetry(for_seconds=5, base_seconds=0.01, cap_seconds=0.02))
BRIEF = PublisherOptions(PublishRetry(for_seconds=0.05, base_seconds=0.01, cap_seconds=0.02))
NOT_PUBLISHED = {"status": 503, "code": "not_published", "detail": "no broker", "retryable": True}


def published(offset: int, *, duplicate: bool = False) -> dict[str, object]:
    fields: dict[str, object] = {"channel": "a", "epoch": "e1", "offset": offset}
    return {**fields, "duplicate": True} if duplicate else fields


async def test_a_publication_says_where_it_stands_and_carries_key_and_bytes() -> None:
    """The request holds the key, the payload and an idempotency key; the answer a position."""
    async with (
        http_hub(lambda _: json_answer([published(7)])) as (url, requests),
        Publisher(url, key="k3y") as publisher,
    ):
        result = await publisher.publish("a", {"n": 10**22}, key="EURUSD")
    (item,) = requests[0].json
    assert result == Published("a", Position("e1", 7))
    assert (item["channel"], item["key"], item["data"]) == ("a", "EURUSD", {"n": 10**22})
    assert item["idempotency_key"]
    assert requests[0].headers["authorization"] == "Bearer k3y"


async def test_a_retry_repeats_the_idempotency_key() -> None:
    """The first answer was lost, the second attempt is recognised as a duplicate."""
    answers = iter([HttpAnswer(drop=True), json_answer([published(7, duplicate=True)])])
    async with (
        http_hub(lambda _: next(answers)) as (url, requests),
        Publisher(url, options=QUICK) as publisher,
    ):
        result = await publisher.publish("a", 1)
    keys = [request.json[0]["idempotency_key"] for request in requests]
    assert result.duplicate
    assert len(keys) == 2
    assert len(set(keys)) == 1


async def test_only_the_publications_that_failed_are_tried_again() -> None:
    """In a batch of three the broker did not take the second."""
    first = json_answer([published(1), NOT_PUBLISHED, published(2)], status=207)
    answers = iter([first, json_answer([published(3)])])
    items = [Outgoing("a", str(number).encode()) for number in range(3)]
    async with (
        http_hub(lambda _: next(answers)) as (url, requests),
        Publisher(url, options=QUICK) as publisher,
    ):
        outcomes = await publisher.publish_many(items)
    offsets = [item.position.offset for item in outcomes if isinstance(item, Published)]
    assert offsets == [1, 3, 2]
    assert [[item["data"] for item in request.json] for request in requests] == [[0, 1, 2], [1]]


async def test_a_publication_that_the_hub_refuses_is_not_tried_again() -> None:
    """A missing grant stays missing: one attempt, one error with the hub's code."""
    async with (
        http_hub(lambda _: problem(403, "forbidden")) as (url, requests),
        Publisher(url, options=QUICK) as publisher,
    ):
        with pytest.raises(PublishRefusedError) as raised:
            await publisher.publish("a", 1)
    assert (raised.value.code, raised.value.retryable, len(requests)) == ("forbidden", False, 1)


async def test_a_hub_that_is_away_means_it_surely_did_not_happen() -> None:
    """Nobody listens on the port: no attempt can have reached a broker."""
    async with http_hub(lambda _: HttpAnswer()) as (url, _):
        pass
    async with Publisher(url, options=BRIEF) as publisher:
        with pytest.raises(NotPublishedError):
            await publisher.publish("a", 1)


@pytest.mark.parametrize(
    "answer",
    [
        HttpAnswer(drop=True),
        problem(503, "outcome_unknown", retryable=True),
        HttpAnswer(502, b"<html>bad gateway</html>"),
        HttpAnswer(200, b"<html>welcome to the hotel</html>"),
    ],
    ids=["cut", "outcome_unknown", "proxy", "captive portal"],
)
async def test_a_publication_that_may_have_happened_is_reported_as_unknown(
    answer: HttpAnswer,
) -> None:
    """The error carries the idempotency key with which a repeat is harmless."""
    async with (
        http_hub(lambda _: answer) as (url, requests),
        Publisher(url, options=BRIEF) as publisher,
    ):
        with pytest.raises(OutcomeUnknownError) as raised:
            await publisher.publish("a", 1)
    assert raised.value.idempotency_key == requests[0].json[0]["idempotency_key"]


async def test_a_hub_that_does_not_answer_in_time_leaves_the_outcome_unknown() -> None:
    """Every request has a limit."""

    async def silent(_: HttpRequest) -> HttpAnswer:
        await asyncio.Event().wait()
        raise AssertionError

    options = PublisherOptions(PublishRetry(for_seconds=0, request_timeout_seconds=2))
    async with http_hub(silent) as (url, _), Publisher(url, options=options) as publisher:
        with pytest.raises(OutcomeUnknownError, match="no answer in time"):
            await publisher.publish("a", 1)


async def test_a_refusal_after_an_unknown_attempt_is_still_unknown() -> None:
    """The key was revoked between two attempts; the first may have been published."""
    answers: Iterator[HttpAnswer] = iter([HttpAnswer(drop=True), problem(401, "unauthorized")])

    def answer(_: HttpRequest) -> HttpAnswer:
        return next(answers)

    async with http_hub(answer) as (url, _), Publisher(url, options=QUICK) as publisher:
        with pytest.raises(OutcomeUnknownError) as raised:
            await publisher.publish("a", 1)
    assert raised.value.code == "unauthorized"


async def test_retry_after_is_honoured_and_longer_than_the_call_ends_it() -> None:
    """Asked for 60 seconds, a call that tries for 5 says at once that it did not happen."""
    answer = problem(503, "not_published", retryable=True)
    later = HttpAnswer(503, answer.body, {**answer.headers, "Retry-After": "60"})
    async with (
        http_hub(lambda _: later) as (url, requests),
        Publisher(url, options=QUICK) as publisher,
    ):
        named = rf"\(1 attempt in \d+\.\d s at {url}\)$"
        with pytest.raises(NotPublishedError, match=named):
            await publisher.publish("a", 1)
    assert len(requests) == 1


async def test_every_retry_is_told_with_its_reason() -> None:
    """A log or a status line can say why a call takes long."""
    told: list[Retrying] = []
    answers = iter([problem(503, "not_published", retryable=True), json_answer([published(1)])])
    options = PublisherOptions(retry=QUICK.retry, on_retry=told.append)
    async with (
        http_hub(lambda _: next(answers)) as (url, _),
        Publisher(url, options=options) as publisher,
    ):
        await publisher.publish("a", 1)
    assert [(each.attempt, each.pending) for each in told] == [(1, 1)]
    assert "not_published" in told[0].why


async def test_a_hub_that_keeps_failing_is_left_alone_and_new_calls_fail_at_once() -> None:
    """The breaker opens; the next call makes no request and says that nothing happened."""
    options = PublisherOptions(
        retry=BRIEF.retry, breaker=BreakerPolicy(failures=1, over_seconds=0, open_seconds=60)
    )
    async with (
        http_hub(lambda _: problem(503, "not_published", retryable=True)) as (url, requests),
        Publisher(url, options=options) as publisher,
    ):
        with pytest.raises(NotPublishedError):
            await publisher.publish("a", 1)
        asked = len(requests)
        with pytest.raises(NotPublishedError, match="not_published it is") as raised:
            await publisher.publish("a", 2)
    assert raised.value.code == "circuit_open"
    assert len(requests) == asked
